"""The page that lists every log record is complete, and records say what they are about.

The page is docs/reference/log_records.rst. A failure says which row is missing, and where a
record lacks its thread.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from flask import Flask, Response, g

import flask_agentuity
from flask_agentuity import StoreError, ThreadManager, log_context
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Conflict, Write, Written

PACKAGE = Path(flask_agentuity.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "log_records.rst"

#: Methods of loggers, and of what logs through a logger, each with the level on the page.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "warn": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
    "log": "",
}
#: Modules whose own calls pass on what their callers log.
PASSING_ON = {"service/limited_log.py"}

#: Words before a placeholder that stands for a thread's id.
_NAMES_A_THREAD = re.compile(r"\bthread %s", re.IGNORECASE)
_ROW = re.compile(
    r"^    \* - (?P<level>[a-z, ]+)\n      - ``(?P<message>.+)``\n"
    r"      - (?P<rest>.+(?:\n        .+)*)",
    re.MULTILINE,
)
_SECTION = re.compile(r"^(?P<name>flask_agentuity[a-z._]*)\n-+$", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """A call that logs. The level is empty where it depends on what happened."""

    logger: str
    level: str
    message: str
    where: str
    has_thread: bool


@cache
def records() -> list[Record]:
    return [record for path in sorted(PACKAGE.rglob("*.py")) for record in _records_of(path)]


def _records_of(path: Path) -> Iterator[Record]:
    name = path.relative_to(PACKAGE).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if name in PASSING_ON:
        return
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        method, owner = node.func.attr, ast.unparse(node.func.value)
        place = 1 if method == "log" else 0
        if method not in LEVELS or len(node.args) <= place or owner == "warnings":
            continue
        # Besides loggers, there are objects that log now and then, such as ``logs.denied``.
        if method != "warn" and "log" not in owner.lower():
            continue
        where = f"flask_agentuity/{name}:{node.lineno}"
        message = node.args[place]
        if not (isinstance(message, ast.Constant) and isinstance(message.value, str)):
            assert not owner.lower().endswith("logger"), (
                f"{where}: the message is put together before it is logged. Pass a literal text"
                " with placeholders, and the values as arguments."
            )
            continue
        has_thread = any(keyword.arg == "extra" for keyword in node.keywords)
        level = LEVELS[method]
        if method == "log" and isinstance(node.args[0], ast.Attribute):
            level = node.args[0].attr.lower()
        yield Record(_logger_of(tree, where), level, message.value, where, has_thread)


def _logger_of(tree: ast.Module, where: str) -> str:
    names = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "logging.getLogger"
        and node.args
    }
    assert len(names) <= 1, f"{where}: its module has {len(names)} loggers; one is expected."
    # Without one, the module logs with that of its part of the package.
    return str(names.pop()) if names else f"flask_agentuity.{where.split('/')[1]}"


@cache
def page() -> dict[tuple[str, str], tuple[str, str]]:
    """Return the level and the remarks of each row, by its logger and message."""
    if not PAGE.exists():
        pytest.skip("the tests run without the rest of the repository")
    text = PAGE.read_text(encoding="utf-8")
    sections = [*_SECTION.finditer(text)]
    ends = [*(each.start() for each in sections[1:]), len(text)]
    return {
        (section["name"], row["message"]): (row["level"], row["rest"])
        for section, end in zip(sections, ends, strict=True)
        for row in _ROW.finditer(text, section.end(), end)
    }


def test_the_page_lists_every_record() -> None:
    missing = {
        f"    * - {record.level or 'info, warning, error (what can occur)'}\n"
        f"      - ``{record.message}``\n"
        f"      - What it means. What to do.\n"
        f"    (under {record.logger}; logged at {record.where})"
        for record in records()
        if (record.logger, record.message) not in page()
    }
    assert not missing, (
        f"{PAGE.name} in docs/reference lacks {len(missing)} records. Add these rows, each with"
        " its meaning and remedy, under the heading that is the logger's name:\n"
        + "\n".join(sorted(missing))
    )


def test_the_page_lists_only_what_is_logged() -> None:
    logged = {(record.logger, record.message) for record in records()}
    gone = [f"{message!r} under {logger}" for logger, message in page().keys() - logged]
    assert not gone, f"Nothing logs this any more; remove it from {PAGE.name}:\n" + "\n".join(gone)


def test_the_levels_on_the_page_are_right() -> None:
    wrong = [
        f"{record.message!r} is logged with the level {record.level} at {record.where}, not"
        f" {level}. Correct the row in {PAGE.name}."
        for record in records()
        if (level := page().get((record.logger, record.message), (record.level, ""))[0])
        not in (record.level, "")
        and record.level
    ]
    assert not wrong, "\n".join(wrong)


def test_every_record_has_a_meaning_and_a_remedy() -> None:
    short = [message for (_, message), (_, remarks) in page().items() if len(remarks.split()) < 6]
    assert not short, f"Say in {PAGE.name} what these mean and what to do: {short}"


def test_every_message_says_something_itself() -> None:
    empty = [
        f"{record.where}: {record.message!r}. Say what happened before the placeholder."
        for record in records()
        if not re.search("[A-Za-z]{3}", re.sub(r"%[a-z.0-9]*", "", record.message))
    ]
    assert not empty, "\n".join(empty)


def test_what_the_page_on_troubleshooting_quotes_is_a_message() -> None:
    page = PAGE.parents[1] / "howto" / "troubleshooting.rst"
    if not page.exists():
        pytest.skip("the tests run without the rest of the repository")
    titles = [line for line in page.read_text("utf-8").splitlines() if re.match(r'\S.*"', line)]
    quoted = [text for line in titles for text in re.findall(r'"([^"]+)"', line)]
    assert len(quoted) > 5, "the page has changed its form"
    for text in quoted:
        # What varies is written "..." there, as in <thread:...>.
        parts = [re.escape(part.strip()) for part in text.split("...") if part.strip()]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        assert any(pattern.search(message) for message in _texts()), (
            f"{page.name} quotes {text!r}, which nothing in the package says."
        )


@cache
def _texts() -> list[str]:
    """Return the texts in the package, with ``%s`` for what is put into them."""
    texts = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    each.value if isinstance(each, ast.Constant) else "%s" for each in node.values
                )
                texts.append("".join(map(str, parts)))
    return texts


def test_records_about_a_thread_carry_its_id() -> None:
    lacking = [
        f'{record.where}: pass extra={{"thread_id": ...}}, because the message names a thread.'
        for record in records()
        if _NAMES_A_THREAD.search(record.message) and not record.has_thread
    ]
    assert not lacking, "\n".join(lacking)


def test_every_logger_carries_the_attributes() -> None:
    unknown = {record.logger for record in records()} - set(log_context.LOGGERS)
    assert not unknown, (
        f"Add {sorted(unknown)} to LOGGERS in flask_agentuity/log_context.py, so that their"
        " records carry thread_id and session_id."
    )


@pytest.mark.parametrize("name", log_context.LOGGERS)
def test_records_always_have_both_attributes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(name)
    logger.error("Without a thread.")
    logger.error("With one.", extra={"thread_id": "thrd_a"})
    found = [vars(record) for record in caplog.records]
    attributes = [(record["thread_id"], record["session_id"]) for record in found]
    assert attributes == [(None, None), ("thrd_a", None)]


@pytest.fixture
def app() -> Flask:
    app = Flask("logging")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    ThreadManager(app)
    return app


def test_records_of_a_request_that_used_its_thread_carry_its_ids(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("flask_agentuity.stores")

    @app.get("/")
    def view() -> dict[str, str]:
        logger.warning("Before.")
        ids = {"thread_id": str(g.thread.id), "session_id": str(g.session.id)}
        logger.warning("After.")
        logger.warning("Another.", extra={"thread_id": "thrd_other"})
        return ids

    response = app.test_client().get("/")
    before, after, another = (vars(record) for record in caplog.records)
    assert before["thread_id"] is before["session_id"] is None
    assert {name: after[name] for name in ("thread_id", "session_id")} == response.json
    assert (another["thread_id"], another["session_id"]) == ("thrd_other", after["session_id"])


def test_a_record_does_not_use_the_thread(app: Flask) -> None:
    @app.get("/")
    def view() -> str:
        logging.getLogger("flask_agentuity").warning("Here.")
        return "untouched"

    assert "Set-Cookie" not in app.test_client().get("/").headers


class FullStore(MemoryStore):
    edits = True

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        raise StoreError("The disk is full.")


def test_records_after_a_stream_carry_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("logging")
    app.secret_key = "tested"
    ThreadManager(app, store=FullStore())
    ids: dict[str, str] = {}

    @app.get("/")
    def view() -> Response:
        thread = g.thread
        ids.update(thread_id=thread.id, session_id=g.session.id)

        def generate() -> Iterator[str]:
            yield "answer"
            thread.state["key"] = "value"

        return Response(generate())

    assert app.test_client().get("/").text == "answer"
    (record,) = (vars(each) for each in caplog.records if each.name == "flask_agentuity")
    assert {name: record[name] for name in ids} == ids
