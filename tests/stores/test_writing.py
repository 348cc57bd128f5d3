"""How a write is merged, and how stores that know no edits are written to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.minimal import MinimalStore

from flask_agentuity.document import codec
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
)
from flask_agentuity.stores import ThreadStore, writing
from flask_agentuity.stores.base import KeyedStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import ATTEMPTS, Conflict, Write, Written, write_merged
from flask_agentuity.testing.conformance.requests import edit

ID = "thrd_0123456789abcdef0123456789abcdef"
NEVER = 2**62


class BusyStore(MemoryStore):
    """Others write between the calls of a request, and some operations are not understood."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[Callable[[], object]] = []
        self.writes: list[Sequence[Operation]] = []
        self.reads = 0
        self.refuses: Callable[[Operation], bool] = lambda operation: False

    def read(self, thread_id: str, keys: Any = None) -> Any:
        self.reads += 1
        return super().read(thread_id, keys)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        if self.others:
            self.others.pop(0)()
        self.writes.append(write.operations)
        refused = {each.key for each in write.operations if self.refuses(each)}  # type: ignore[union-attr]
        return Conflict(refused) if refused else super().write(thread_id, write)

    def by_another(self, *operations: Operation) -> None:
        MemoryStore.write(self, ID, Write(operations))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> BusyStore:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return BusyStore()


def put(store: ThreadStore, document: bytes) -> int:
    store.save(ID, document)
    snapshot = store.read(ID)
    assert snapshot is not None
    if isinstance(store, BusyStore):
        store.writes.clear()
        store.reads = 0
    return snapshot.version


# Merging


def test_operations_without_edits_are_handed_on_as_they_are(store: BusyStore) -> None:
    given: list[Write] = []

    class Handed(BusyStore):
        def write(self, thread_id: str, write: Write) -> Written | Conflict:
            given.append(write)
            return super().write(thread_id, write)

    write = Write([Push("l", b"1"), Set("n", b"1"), SetMetadata(b'{"m":1}')], counted=["l"])
    assert write_merged(Handed(), ID, write).preceding == {"l": 0}
    assert given == [write]
    assert given[0] is write


def test_an_edit_that_fits_is_one_write_and_no_read(store: BusyStore) -> None:
    version = put(store, b'{"l":[1,2,3],"n":1}')
    edits = [edit("l", b"[1,2,3]", [1, 9, 3, 4], version), edit("n", b"1", 2, version)]
    written = write_merged(store, ID, Write([*edits, EditMetadata(b"{}", b'{"m":1}')], version))
    assert store.reads == 0
    assert store.writes == [
        [
            Splice("l", (Change(1, (b"2",), (b"9",)),), version),
            Push("l", b"4"),
            Replace("n", b"1", b"2", version),
            ReplaceMetadata(b"{}", b'{"m":1}'),
        ]
    ]
    assert written.merged == {}


def test_what_others_append_between_reading_and_writing_moves_my_items(store: BusyStore) -> None:
    """Equal placeholders: a wrong place would lead the next edit into another's answer."""
    version = put(store, b'{"l":["a","b"]}')
    mine = edit("l", b'["a","b"]', ["A", "b", ""], version)
    store.others = [
        lambda: store.by_another(edit("l", b'["a","b"]', ["z", "a", "b"], NEVER)),
        lambda: store.by_another(Push("l", b'""'), Push("l", b'"x"')),
    ]
    written = write_merged(store, ID, Write([mine], version))
    assert store.restore(ID) == b'{"state":{"l":["z","A","b","","x",""]}}'
    assert written.merged["l"].places == (1, 2, 5)
    assert written.preceding == {}


def test_what_others_remove_between_reading_and_writing_moves_my_items(store: BusyStore) -> None:
    version = put(store, b'{"l":["a","b","c"]}')
    mine = edit("l", b'["a","b","c"]', ["a", "c", "new"], version)
    store.others = [
        lambda: store.by_another(edit("l", b'["a","b","c"]', ["a", "c"], NEVER)),
        lambda: store.by_another(PopLast("l")),
    ]
    written = write_merged(store, ID, Write([mine], version))
    assert store.restore(ID) == b'{"state":{"l":["a","new"]}}'
    assert written.merged["l"].places == (0, None, 1)


def test_an_assignment_between_a_conflict_and_the_reading_wins(store: BusyStore) -> None:
    version = put(store, b'{"l":[1,2,3]}')
    store.others = [
        lambda: store.by_another(Replace("l", b"[1,2,3]", b"[1,5,3]", NEVER)),
        lambda: store.by_another(Set("l", b"[1,5,3]")),
    ]
    written = write_merged(store, ID, Write([edit("l", b"[1,2,3]", [1, 9, 3], version)], version))
    assert store.restore(ID) == b'{"state":{"l":[1,5,3]}}'
    assert written.merged["l"].dropped == ('state["l"]',)


def test_an_assignment_before_the_first_reading_wins(store: BusyStore) -> None:
    """An edit whose places are unknown is read before its first attempt."""
    version = put(store, b'{"l":[1,2,3]}')
    store.by_another(Set("l", b"[1,2,3]"))
    plain = edit("l", b"[1,2,3]", [1, 9, 3], version)
    uncertain = Edit("l", b"[1,2,3]", plain.value, plain.changes, (), version, None, True)
    written = write_merged(store, ID, Write([uncertain], version))
    assert store.restore(ID) == b'{"state":{"l":[1,2,3]}}'
    assert written.merged["l"].dropped == ('state["l"]',)


def test_the_store_gets_the_edit_at_last(store: BusyStore) -> None:
    version = put(store, b'{"l":[0,"x"],"n":0}')
    values = iter(range(1, 100))

    def change() -> None:
        value = next(values)
        store.by_another(Set("n", b"%d" % value), Increment("count"))
        store.by_another(edit("l", b'[%d,"x"]' % (value - 1), [value, "x"], NEVER))

    store.others = [change] * 20
    mine: list[Operation] = [
        edit("l", b'[0,"x"]', [0, "y"], version),
        EditMetadata(b"{}", b'{"mine":1}'),
    ]
    store.refuses = lambda each: isinstance(each, Splice)
    written = write_merged(store, ID, Write(mine, version))
    assert len(store.writes) == ATTEMPTS
    assert store.writes[-1] == mine
    assert store.reads == ATTEMPTS - 2
    assert store.restore(ID) == (b'{"state":{"l":[4,"y"],"n":4,"count":4},"metadata":{"mine":1}}')
    assert written.merged["l"].places == (0, 1)


def test_a_function_is_applied_again_and_never_under_the_lock(store: BusyStore) -> None:
    version = put(store, b'{"n":1,"o":{"a":1}}')
    calls: list[bytes | None] = []

    def double(stored: bytes | None) -> bytes:
        calls.append(stored)
        # Would block indefinitely if the store held its lock.
        assert store.restore_without_renewing(ID) is not None
        return b"%d" % (2 * int(stored or b"0"))

    store.others = [lambda: store.by_another(Increment("n"))] * 6
    change = Edit("n", b"1", b"2", since=version, function=double)
    other = edit("o", b'{"a":1}', {"a": 1, "b": 2}, version)
    write_merged(store, ID, Write([change, other], version))
    assert calls == [b"2", b"3", b"4", b"5", b"6", b"7"]
    assert store.restore(ID) == b'{"state":{"n":14,"o":{"a":1,"b":2}}}'


@pytest.mark.parametrize(
    ("stored", "operations", "expected"),
    [
        (b'{"n":1}', [Increment("n", 0.5), Increment("n", 0.25)], b'{"n":1.75}'),
        (b'{"a":1}', [Increment("n", 0.5)], b'{"a":1,"n":0.5}'),
        (b'{"n":1}', [Set("n", b"5"), Increment("n", 0.5)], b'{"n":5.5}'),
        (b'{"n":1}', [Set("n", b"5", True), Increment("n", 0.5)], b'{"n":1.5}'),
        (b'{"a":1}', [Set("n", b"5", True), Increment("n", 0.5)], b'{"a":1,"n":5.5}'),
        (b'{"n":1}', [Delete("n"), Increment("n", 0.5), Increment("n")], b'{"n":1.5}'),
        (b'{"n":1}', [Clear(), Increment("n", 0.5), Set("a", b"1")], b'{"n":0.5,"a":1}'),
        (b'{"n":1}', [edit("n", b"1", 2, NEVER), Increment("n", 0.5)], b'{"n":2.5}'),
        (b'{"n":"x","a":1}', [Increment("n", 0.5), Set("a", b"2")], b'{"n":"x","a":2}'),
    ],
)
def test_increments_that_a_store_cannot_add(
    store: BusyStore,
    stored: bytes,
    operations: list[Operation],
    expected: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(store, stored)
    store.refuses = lambda each: isinstance(each, Increment)
    store.others = [lambda: store.by_another(Set("m", b"1")), lambda: None] * 2
    write_merged(store, ID, Write(operations))
    document = codec.decode(store.restore(ID) or b"")["state"]
    document.pop("m", None)
    assert codec.encode(document) == expected
    skipped = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(skipped) == (1 if b'"x"' in stored else 0)


def test_when_a_request_began_is_known_though_reading_the_clock_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = [100.0]
    readings: list[float] = []

    def clock() -> float:
        readings.append(moment[0] + 5_000)
        if len(readings) < 4:
            moment[0] += 0.05
        return readings[-1] + (0.05 if len(readings) < 4 else 0)

    monkeypatch.setattr(writing, "time", SimpleNamespace(monotonic=lambda: moment[0]))
    assert Write([], began=90.0).began_by(clock) == pytest.approx(5_090)
    assert len(readings) == 4


# Stores that know no edits


class VersionOneStore(MinimalStore):
    """Overrides merge(), as version 1 of the interface allowed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.merges: list[tuple[list[Operation], Mapping[str, Any] | None]] = []

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.merges.append((list(operations), metadata))
        super().merge(thread_id, operations, metadata)


@pytest.fixture
def old_store(tmp_path: Path) -> VersionOneStore:
    return VersionOneStore(tmp_path)


def test_what_version_one_can_express_goes_to_merge(old_store: VersionOneStore) -> None:
    operations: list[Operation] = [
        Set("a", b"1"),
        Set("b", b"2", only_if_missing=True),
        Push("l", b"1", max_records=3),
        Delete("c"),
    ]
    written = old_store.write(ID, Write([*operations, SetMetadata(b'{"m":1}')]))
    assert written == Written()
    old_store.write(ID, Write([Clear()]))
    assert old_store.merges == [(operations, {"m": 1}), ([Clear()], None)]


def test_what_it_cannot_express_becomes_a_difference(old_store: VersionOneStore) -> None:
    old_store.save(ID, b'{"a":1,"l":[1,2],"m":[1],"n":1,"gone":1}', {"k": 1, "x": 1})
    written = old_store.write(
        ID,
        Write(
            [
                edit("l", b"[1,2]", [1, 9]),
                Increment("n", 2),
                Push("m", b'{"id":1}', unique="id"),
                Push("m", b'{"id":1}', unique="id"),
                Delete("gone"),
                EditMetadata(b'{"k":1}', b'{"k":2}'),
            ],
            counted=["m"],
        ),
    )
    assert old_store.merges == [
        (
            [Delete("gone"), Set("l", b"[1,9]"), Push("m", b'{"id":1}'), Set("n", b"3")],
            {"k": 2, "x": 1},
        )
    ]
    assert isinstance(written, Written)
    assert written.preceding == {"m": 1}
    assert written.merged["l"].value == b"[1,9]"


def test_nothing_is_written_where_nothing_changes(old_store: VersionOneStore) -> None:
    old_store.save(ID, b'{"a":1,"l":[1,2]}', {"k": 1})
    old_store.write(ID, Write([PopLast("missing"), edit("l", b"[1,2]", [1, 2]), Increment("a", 0)]))
    assert old_store.merges == []


def test_keys_that_are_created_again_go_last(old_store: VersionOneStore) -> None:
    old_store.save(ID, b'{"a":1,"b":2,"c":3,"d":4}')
    again: list[Operation] = [
        Delete("c"),
        Increment("c", 5),
        Delete("a"),
        Push("new", b"1"),
        Set("a", b"1"),
    ]
    old_store.write(ID, Write([*again, Increment("b")]))
    assert old_store.restore(ID) == b'{"state":{"b":3,"d":4,"c":5,"new":[1],"a":1}}'


def test_it_reports_conflicts_and_is_merged(old_store: VersionOneStore) -> None:
    old_store.save(ID, b'{"l":[1,2,3]}', {"k": 1})
    splice = Splice("l", (Change(0, (b"2",), ()),))
    assert old_store.write(ID, Write([Set("n", b"1"), splice])) == Conflict({"l"}, set())
    outcome = old_store.write(ID, Write([ReplaceMetadata(b"{}", b'{"k":2}')]))
    assert outcome == Conflict(set(), set(), True)
    assert old_store.merges == []
    written = write_merged(
        old_store, ID, Write([edit("l", b"[2,3]", [2, 9]), EditMetadata(b"{}", b'{"j":1}')])
    )
    assert written.merged["l"].places == (1, 2)
    document = b'{"state":{"l":[1,2,9]},"metadata":{"k":1,"j":1}}'
    assert old_store.restore(ID) == document


def test_what_its_merges_gave_up_is_logged(
    old_store: VersionOneStore, caplog: pytest.LogCaptureFixture
) -> None:
    old_store.save(ID, b'{"n":2}')
    with caplog.at_level(logging.INFO, logger="flask_agentuity"):
        write_merged(old_store, ID, Write([edit("n", b"1", 3)]))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert ID in record.getMessage()


def test_a_plain_push_does_not_come_between_reading_and_merging(tmp_path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(MinimalStore):
        def read(self, thread_id: str, keys: Any = None) -> Any:
            snapshot = super().read(thread_id, keys)
            if threading.current_thread() is editor:
                reading.set()
                assert go_on.wait(60)
            return snapshot

    store = Slow(tmp_path)
    store.save(ID, b'{"l":["a","b"]}')
    mine = edit("l", b'["a","b"]', ["A", "b"])
    editor = threading.Thread(target=write_merged, args=(store, ID, Write([mine])))
    pusher = threading.Thread(target=write_merged, args=(store, ID, Write([Push("l", b'"c"')])))
    editor.start()
    assert reading.wait(60)
    pusher.start()
    pusher.join(0.2)
    go_on.set()
    editor.join(60)
    pusher.join(60)
    assert store.restore(ID) == b'{"state":{"l":["A","b","c"]}}'


# Subclasses of stores with edits


class Merging(MemoryStore):
    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        merged.append(list(operations))
        super().merge(thread_id, operations, metadata)


class Saving(MemoryStore):
    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        super().save(thread_id, document.replace(b"secret", b"hidden"), metadata)


class Mixin:
    merge = Merging.merge


class Mixed(Mixin, MemoryStore):
    pass


class Further(Merging):
    def delete(self, thread_id: str) -> None:
        super().delete(thread_id)


class Deleting(MemoryStore):
    def delete(self, thread_id: str) -> None:
        super().delete(thread_id)


class Knowing(Merging):
    """Says that it knows what it does."""

    edits = True

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        return MemoryStore.write(self, thread_id, write)


merged: list[list[Operation]] = []


@pytest.mark.parametrize(
    ("kind", "edits"),
    [
        (MemoryStore, True),
        (Merging, False),
        (Saving, False),
        (Mixed, False),
        (Further, False),
        (Deleting, True),
        (Knowing, True),
        (BusyStore, True),
        (MinimalStore, False),
    ],
)
def test_which_subclasses_keep_edits(kind: type[ThreadStore], edits: bool) -> None:
    assert kind.edits is edits
    assert (kind.write is ThreadStore.write) is (not edits)


@pytest.mark.parametrize("kind", [Merging, Further])
def test_an_overridden_merge_is_used(kind: type[MemoryStore]) -> None:
    merged.clear()
    store = kind()
    write_merged(store, ID, Write([Push("l", b"1"), SetMetadata(b'{"m":1}')]))
    write_merged(store, ID, Write([edit("l", b"[1]", [2]), Increment("n")]))
    store.save(ID, b'{"l":[2],"n":2}')
    assert merged == [
        [Push("l", b"1")],
        [Set("l", b"[2]"), Set("n", b"1")],
        [Clear(), Set("l", b"[2]"), Set("n", b"2")],
    ]
    assert store.restore(ID) == b'{"state":{"l":[2],"n":2},"metadata":{"m":1}}'


def test_a_keyed_store_merges_by_writing() -> None:
    assert KeyedStore.edits is False
    store = BusyStore()
    store.merge(ID, [edit("l", None, [1]), Increment("n")], {"m": 1})
    assert store.restore(ID) == b'{"state":{"l":[1],"n":1},"metadata":{"m":1}}'
    store.merge(ID, [Replace("n", b"1", b"2")], {})
    assert store.restore(ID) == b'{"state":{"l":[1],"n":2}}'
