"""The conformance tests with packed states: what is read of threads with many keys.

See :mod:`flask_agentuity.document.packed`. Here any number of keys counts as many.
"""

from __future__ import annotations

import pytest

from flask_agentuity.document import packed

from . import test_sqlite_conformance


@pytest.fixture(autouse=True)
def _any_number_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MANY_KEYS", 0)


class TestPackedSQLite(test_sqlite_conformance.TestSQLiteStore):
    pass
