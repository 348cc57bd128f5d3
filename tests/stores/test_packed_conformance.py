"""The conformance tests with packed states, as stores have them of threads with many keys.

See :mod:`flask_agentuity.document.packed`. Here any number of keys counts as many.
"""

from __future__ import annotations

import pytest

from flask_agentuity.document import packed
from flask_agentuity.stores.redis import line, script_reading
from flask_agentuity.testing.conformance import StoreConformance

from . import test_redis_conformance, test_sqlite_conformance


@pytest.fixture(autouse=True)
def _any_number_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MANY_KEYS", 0)
    monkeypatch.setattr(script_reading, "MANY_FIELDS", -1)
    # Lists of any length.
    monkeypatch.setattr(line, "_LONG", 1)


class TestPackedSQLite(test_sqlite_conformance.TestSQLiteStore):
    pass


class TestPackedRedis(test_redis_conformance.OnRedis, StoreConformance):
    pass
