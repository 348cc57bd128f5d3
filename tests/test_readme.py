"""The Python code of the README: type checkers read it in ``type_check/readme_app.py``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
CHECKED = Path(__file__).parent / "type_check" / "readme_app.py"


def statements(source: str) -> list[str]:
    return [ast.unparse(node) for node in ast.parse(source).body]


def test_the_code_is_the_one_that_is_checked() -> None:
    if not README.exists():
        pytest.skip("the tests run without the rest of the repository")
    checked = ast.parse(CHECKED.read_text(encoding="utf-8"))
    (function,) = (
        node
        for node in checked.body
        if isinstance(node, ast.FunctionDef) and node.name == "use_operations"
    )
    found = {ast.unparse(node) for node in (*checked.body, *function.body)}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert [each for each in statements(block) if each not in found] == []
