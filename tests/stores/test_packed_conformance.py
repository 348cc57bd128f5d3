"""The conformance tests with packed states, as stores have them of threads with many keys.

See :mod:`flask_agentuity.document.packed`. Here any number of keys counts as many, and documents
are split in short pieces.
"""

from __future__ import annotations

import pytest

from flask_agentuity.document import packed, splitting
from flask_agentuity.stores.redis import line, script_reading
from flask_agentuity.testing.conformance import (
    DocumentConformance,
    OperationConformance,
    ReadingConformance,
    StoreConformance,
    UnusualConformance,
)

from . import (
    test_minimal_conformance,
    test_redis_conformance,
    test_remote_conformance,
    test_sqlite_conformance,
)


@pytest.fixture(autouse=True)
def _any_number_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MANY_KEYS", 0)
    monkeypatch.setattr(splitting, "_PIECE", 3)
    monkeypatch.setattr(script_reading, "MANY_FIELDS", -1)
    # Lists of any length.
    monkeypatch.setattr(line, "_LONG", 1)


class TestPackedSQLite(test_sqlite_conformance.TestSQLiteStore):
    pass


class TestPackedRedis(test_redis_conformance.OnRedis, StoreConformance):
    pass


class TestPackedMinimal(test_minimal_conformance.TestMinimalStore):
    pass


class TestPackedRemote(
    DocumentConformance, OperationConformance, ReadingConformance, UnusualConformance
):
    """Those that are about what is read: each call is a round trip."""

    shared = True
    edits = True
    place = test_remote_conformance.TestRemoteStore.place
    open = test_remote_conformance.TestRemoteStore.open
    opener = test_remote_conformance.TestRemoteStore.opener
    damage = test_remote_conformance.TestRemoteStore.damage
