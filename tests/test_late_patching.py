"""Modules that are imported before gevent replaces the functions of the standard library.

``gunicorn --preload -k gevent`` and ``uwsgi --gevent-monkey-patch`` import the app first. What
the package has taken out of :mod:`threading`, :mod:`time` or :mod:`socket` by then would block
the whole worker. So the package looks these functions up when it calls them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_agentuity

PACKAGE = Path(flask_agentuity.__file__).parent

#: What gevent replaces, and what would block or know nothing of greenlets otherwise.
REPLACED = {
    "time": {"sleep"},
    "threading": {
        *("Condition", "Event", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Thread"),
        *("Timer", "Barrier", "local", "get_ident", "current_thread", "get_native_id"),
    },
    "socket": {"socket", "socketpair", "create_connection", "getaddrinfo"},
    "select": {"select", "poll", "epoll"},
    "selectors": {"DefaultSelector"},
    "queue": {"Queue", "SimpleQueue"},
    "ssl": {"SSLSocket", "SSLContext"},
    "subprocess": {"Popen", "run"},
    "os": {"fork", "read", "write", "waitpid"},
}
#: Where an early binding does no harm, and why.
HARMLESS = {
    # Held only while a process forks, in which nothing yields.
    ("stores/sqlite/connections.py", "threading.Lock"),
}


def early_bindings(tree: ast.Module) -> Iterator[str]:
    """Yield what a module takes out of these modules when it is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in REPLACED and not node.level:
            yield from (
                f"{node.module}.{each.name}"
                for each in node.names
                if each.name in REPLACED[node.module]
            )
    yield from _evaluated(tree.body)


def _evaluated(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                # The body runs later, default values do not.
                for default in (*statement.args.defaults, *statement.args.kw_defaults):
                    if default is not None:
                        yield from _named(default)
                yield from _evaluated_inside(statement)
            case ast.ClassDef():
                yield from _evaluated(statement.body)
            case ast.AnnAssign():
                if statement.value is not None:
                    yield from _named(statement.value)
            case _:
                yield from _named(statement)


def _evaluated_inside(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield what is passed on without being called, which may be kept until later."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            arguments = [*node.args, *(each.value for each in node.keywords)]
            if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
                continue
            for argument in arguments:
                if isinstance(argument, ast.Attribute):
                    yield from _named(argument)


def _named(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.Lambda):
        return
    if (
        isinstance(tree, ast.Attribute)
        and isinstance(tree.value, ast.Name)
        and tree.attr in REPLACED.get(tree.value.id, ())
    ):
        yield f"{tree.value.id}.{tree.attr}"
    for child in ast.iter_child_nodes(tree):
        yield from _named(child)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from time import sleep", ["time.sleep"]),
        ("def f(sleep=time.sleep): pass", ["time.sleep"]),
        ("def f(*, sleep=time.sleep): pass", ["time.sleep"]),
        ("class A:\n    lock = field(default_factory=threading.Lock)", ["threading.Lock"]),
        ("class A:\n    def f(self):\n        self.a = B(threading.Lock)", ["threading.Lock"]),
        ("lock = PerProcess(threading.Lock)", ["threading.Lock"]),
        ("lock: Lock = threading.Lock()", ["threading.Lock"]),
        ("lock = PerProcess(lambda: threading.Lock())", []),
        ("def f():\n    time.sleep(1)\n    lock = threading.Lock()", []),
        ("def f(lock: threading.Lock) -> None: isinstance(lock, threading.Lock)", []),
        ("lock: threading.Lock", []),
    ],
)
def test_early_bindings_are_found(code: str, found: list[str]) -> None:
    assert list(early_bindings(ast.parse(code))) == found


def test_the_package_binds_nothing_early() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "testing"
        for name in early_bindings(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - HARMLESS == set()


LATE = """
import sys, time, threading
sys.path[:0] = {paths!r}
from support.minimal import MinimalStore
from flask import Flask, g
from flask_agentuity import ThreadManager
from flask_agentuity.document.operations import Push

class Slow(MinimalStore):
    def restore(self, thread_id):
        # Other greenlets run meanwhile, as they do while a socket is read.
        time.sleep(0.05)
        return super().restore(thread_id)

from pathlib import Path
app = Flask("late", instance_path={folder!r})
app.config["SECRET_KEY"] = "late"
store = Slow(Path({folder!r}))
threads = ThreadManager(app, store=store)

@app.get("/<name>")
@threads.one_at_a_time(timeout=60, max_waiting=10)
def view(name):
    g.session.state["name"] = name
    g.thread.state.push("l", name)
    time.sleep(0.02)
    return list(g.thread.state["l"])

from gevent import monkey
monkey.patch_all()
import gevent

client = app.test_client()
client.get("/0")
cookie = client.get_cookie("atid").value

def ask(name):
    client = app.test_client()
    client.set_cookie("atid", cookie)
    return client.get(name).json

def merge(name):
    store.merge("thrd_" + "a" * 32, [Push("l", b"1")])

ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.005)

ticking = gevent.spawn(tick)
tasks = [gevent.spawn(ask, str(number)) for number in range(1, 5)]
tasks += [gevent.spawn(merge, number) for number in range(4)]
gevent.joinall(tasks, timeout=40, raise_error=True)
assert all(task.successful() for task in tasks), tasks
longest = max(map(len, (task.value for task in tasks[:4])))
assert longest == 5, longest
assert store.restore("thrd_" + "a" * 32) == b'{{"state":{{"l":[1,1,1,1]}}}}'
# Nothing has blocked the other greenlets.
assert len(ticks) > 20, len(ticks)
print("good")
"""


def test_turns_and_merges_after_late_patching(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    tests = Path(__file__).parent
    script = textwrap.dedent(LATE).format(
        paths=[str(tests), str(tests.parent)], folder=str(tmp_path)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("good\n"), done.stderr
