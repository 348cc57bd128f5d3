"""The ``--store`` option, as the author of a store uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)


def test_a_named_store_is_run_through_the_clauses() -> None:
    result = conformance(
        "tests/stores/test_third_party.py",
        "--store=support.minimal:MinimalStore",
        "-k=unknown or metadata or test_nothing_is_listed_of_nothing",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "does not claim 'lists'" in result.stdout


def test_a_store_that_forgets_the_metadata_fails(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(
        "from support.minimal import MinimalStore\n"
        "class Forgetful(MinimalStore):\n"
        "    def save(self, thread_id, document, metadata=None):\n"
        "        super().save(thread_id, document, metadata or {})\n"
    )
    result = conformance(
        "tests/stores/test_third_party.py",
        "--store=forgetful:Forgetful",
        f"--override-ini=pythonpath={tmp_path}",
        "-k=metadata or unknown",
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "test_save_keeps_or_replaces_the_metadata" in result.stdout


def test_the_store_tells_what_it_claims(tmp_path: Path) -> None:
    (tmp_path / "listing_store.py").write_text(
        "from flask_agentuity.stores.memory import MemoryStore\n"
        "def make(folder, **options):\n"
        "    return MemoryStore(**options)\n"
    )
    result = conformance(
        "tests/stores/test_third_party.py",
        "--store=listing_store:make",
        f"--override-ini=pythonpath={tmp_path}",
        "-k=test_nothing_is_listed_of_nothing or test_one_at_a_time",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout
