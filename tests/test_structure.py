"""The rules of the package's layout: sizes, who imports whom, and wording."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

import flask_agentuity

PACKAGE = Path(flask_agentuity.__file__).parent
TESTS = Path(__file__).parent

LONGEST_FILE = 400
LONGEST_CLASS = 250
#: Without its docstring.
LONGEST_FUNCTION = 40
LONGEST_TEST_FILE = 500

#: What each part of the package may import besides itself. ``durations``, ``errors``,
#: ``log_context`` and ``per_process`` may be imported by all parts, and import none.
MAY_IMPORT = {
    "durations": set[str](),
    "errors": set[str](),
    "log_context": set[str](),
    "per_process": set[str](),
    "document": set[str](),
    "wire": {"document"},
    "client": {"wire", "document"},
    "stores": {"document"},
    "thread": {"stores", "document"},
    "service": {"stores", "wire", "document"},
    "web": {"thread", "stores", "document"},
    "integrations": {"web", "thread", "stores", "document"},
    "testing": {"web", "thread", "service", "stores", "client", "wire", "document"},
    "__init__": {"web", "thread", "stores"},
}
FOR_ALL = {"durations", "errors", "log_context", "per_process"}
#: Modules that may import one part more.
EXCEPTIONS = {
    "stores/remote.py": "client",
    "stores/basic_service.py": "client",
    "stores/remote_listing.py": "client",
    "web/cli/serve.py": "service",
    "web/reporting.py": "client",
}

FLASK_GLOBALS = {"current_app", "g", "request", "session"}
MAY_USE_FLASK_GLOBALS = {"web", "integrations", "testing"}

#: Words for which plain English has more usual ones.
ODD_WORDS = re.compile(
    r"\b(whoever|nobody|somebody|for ever|of its own|all the same|at one go|in vain|misspelled)\b",
    re.IGNORECASE,
)
# A line break, the quotes of adjacent strings, and the mark of a comment.
_BETWEEN_LINES = re.compile(r"[\"']?\s*\n\s*(?:#:?|--|f?[\"'])?\s*")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the subpackage that a module belongs to, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    if isinstance(node, ast.ClassDef) or ast.get_docstring(node) is None:
        return lines
    docstring = node.body[0]
    assert docstring.end_lineno is not None
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield what is imported as absolute names, each with the imported name at its end."""
    base = ("flask_agentuity", *path.relative_to(PACKAGE).with_suffix("").parts)[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(each.name.split(".")) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            yield from ((*above, *module, each.name) for each in node.names)


def module_of(name: tuple[str, ...]) -> Path | None:
    """Return the module that an imported name is or is defined in; None for other packages."""
    if name[0] != "flask_agentuity":
        return None
    path = PACKAGE.joinpath(*name[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent / "__init__.py"):
        if candidate.is_file():
            return candidate
    return path.parent.with_suffix(".py")


def test_files_are_short() -> None:
    long = {name_of(path): line_count(path) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_files_of_tests_are_short() -> None:
    lengths = {path.relative_to(TESTS).as_posix(): line_count(path) for path in TESTS.rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_TEST_FILE} == {}


def test_classes_and_functions_are_short() -> None:
    long = []
    for path in sources():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                limit = LONGEST_CLASS
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = LONGEST_FUNCTION
            else:
                continue
            if length(node) > limit:
                long.append((name_of(path), node.name, length(node)))
    assert long == []


def test_parts_import_only_what_is_below_them() -> None:
    wrong = []
    for path in sources():
        part = part_of(path)
        allowed = MAY_IMPORT[part] | {part, EXCEPTIONS.get(name_of(path), part)}
        if part not in FOR_ALL:
            allowed |= FOR_ALL
        for name in imports(path, parse(path)):
            imported = module_of(name)
            if imported is not None and part_of(imported) not in allowed:
                wrong.append((name_of(path), ".".join(name)))
    assert wrong == []


def test_imports_have_no_cycle() -> None:
    graph: dict[Path, set[Path]] = {}
    for path in sources():
        # Imports inside functions run later, so they may close a cycle.
        body = [node for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = chain.from_iterable(imports(path, node) for node in body)
        found = {module_of(name) for name in names}
        graph[path] = {each for each in found if each is not None and each != path}
    TopologicalSorter(graph).prepare()


def test_only_documents_are_handled_with_orjson() -> None:
    users = {
        name_of(path)
        for path in sources()
        if any(name[0] == "orjson" for name in imports(path, parse(path)))
    }
    assert {name for name in users if not name.startswith("document/")} == set()
    assert users


def test_only_what_runs_in_a_request_uses_the_globals_of_flask() -> None:
    users = {
        part_of(path)
        for path in sources()
        for name in imports(path, parse(path))
        if name[0] == "flask" and (name[-1] in FLASK_GLOBALS or len(name) == 1)
    }
    assert users - MAY_USE_FLASK_GLOBALS == set()
    assert users


def test_the_wording_is_plain() -> None:
    odd = []
    for path in sorted({*sources(), *PACKAGE.rglob("*.lua")}):
        text = _BETWEEN_LINES.sub(" ", path.read_text(encoding="utf-8"))
        odd += [(name_of(path), found[0]) for found in ODD_WORDS.finditer(text)]
    assert odd == []


def test_the_wording_of_the_documentation_is_plain() -> None:
    root = TESTS.parent
    pages = sorted({*(root / "docs").rglob("*.rst"), *root.glob("*.md"), *root.glob("*.rst")})
    if not pages:
        pytest.skip("the tests run without the rest of the repository")
    odd = []
    for page in pages:
        text = " ".join(page.read_text(encoding="utf-8").split())
        odd += [(page.name, found[0]) for found in ODD_WORDS.finditer(text)]
    assert odd == []


def test_the_files_that_contributors_are_pointed_to_exist() -> None:
    root = TESTS.parent
    guide = root / "CONTRIBUTING.md"
    if not guide.exists():
        pytest.skip("the tests run without the rest of the repository")
    named = re.findall(
        r"`((?:flask_agentuity|tests|docs|benchmarks)/[^`]*)`", guide.read_text("utf-8")
    )
    assert len(named) > 20
    assert [name for name in named if "NAME" not in name and not (root / name).exists()] == []
