"""What a save has to send for one key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

from ..document import codec
from ..document.apply import apply_operations
from ..document.diff import diff_list
from ..document.operations import Change, Delete, Edit, Operation, Push, Set
from .entry import Entry, Status, encode_value
from .queued import Queued, QueuedPush, Watched


class KeyChange:
    """The operations for one key, and what they were found from."""

    #: The value in memory as it was encoded.
    encoded: bytes | None = None
    #: The length of the list in memory; None if the value is no list.
    length: int | None = None
    #: How many items at the end of the list are sent as pushes.
    pushed: int = 0
    #: The encodings of what was queued without reading.
    queued: Sequence[bytes | None] = ()
    #: The encodings of the watched items, where any has changed.
    watched: list[bytes] | None = None

    def __init__(self, encoded: bytes | None = None) -> None:
        self.operations: list[Operation] = []
        if encoded is not None:
            self.encoded = encoded


def find_change(entry: Entry) -> KeyChange:
    """Return the changes of a key.

    :raises StateNotSerializable: if its value was changed to something that is not JSON.
    """
    match entry.status:
        case Status.IDLE | Status.QUEUED:
            return _find_queued(entry)
        case Status.ASSIGNED:
            return _find_assigned(entry)
        case Status.HELD:
            return _find_queue_in_memory(entry) if entry.queue else _find_held(entry)
        case _:
            assert_never(entry.status)


def encode_queue(entry: Entry) -> list[Operation]:
    """Return the queue as operations."""
    return [_encode(entry.key, one) for one in entry.queue]


def _encode(key: str, queued: Queued) -> Operation:
    return queued.encode(key) if isinstance(queued, QueuedPush) else queued


def _find_queued(entry: Entry) -> KeyChange:
    change = KeyChange()
    if entry.removed:
        change.operations.append(Delete(entry.key))
    if entry.changed_watched():
        assert entry.watched is not None
        path = entry.path
        change.watched = [codec.encode_item(item, path) for item in entry.watched.items]
        change.operations.append(_edit_watched(entry, entry.watched, change.watched))
    queue = encode_queue(entry)
    change.operations.extend(queue)
    change.queued = [one.value if isinstance(one, Push) else None for one in queue]
    return change


def _edit_watched(entry: Entry, watched: Watched, now: Sequence[bytes]) -> Edit:
    changes = tuple(
        Change(index, (before,), (after,))
        for index, (before, after) in enumerate(zip(watched.encoded, now, strict=True))
        if before != after
    )
    return Edit(
        entry.key,
        codec.join_list(watched.encoded),
        codec.join_list(now),
        changes,
        since=watched.since,
        places=tuple(watched.places),
        uncertain=None in watched.places,
        partial=True,
    )


def _find_assigned(entry: Entry) -> KeyChange:
    encoded = encode_value(entry)
    change = KeyChange(encoded)
    if encoded != entry.stored:
        change.operations.append(Set(entry.key, encoded))
    _check(entry, change)
    return change


def _find_held(entry: Entry) -> KeyChange:
    key, base = entry.key, entry.base
    encoded = encode_value(entry)
    if encoded == base:
        # Keep the existing one: the encoder allocates some kilobytes for each new one.
        encoded = base
    change = KeyChange(encoded)
    if encoded.__class__ is not bytes:
        _find_unusual(entry, encoded, change)
        return change
    if base is not None and _find_appended(entry, base, encoded, change):
        return change
    if base is None:
        _find_created(entry, encoded, change)
    elif encoded != base and codec.is_list(base) and codec.is_list(encoded):
        _find_list_change(entry, base, encoded, change)
    elif encoded != base and encoded != codec.respell(base):
        change.operations.append(_edit(entry, base, encoded))
    _check(entry, change)
    if change.operations and entry.functions and encoded == entry.function_result:
        change.operations = [Edit(key, base, encoded, since=entry.since, function=_compose(entry))]
        change.pushed = 0
    return change


def _find_unusual(entry: Entry, encoded: bytes, change: KeyChange) -> None:
    """Replace a value that orjson cannot write, if it has changed."""
    base = entry.base
    if base is None or encoded not in (base, codec.respell(base)):
        change.operations.append(_edit(entry, base, encoded))
        _check(entry, change)


def _find_appended(entry: Entry, base: bytes, encoded: bytes, change: KeyChange) -> bool:
    """Find what was appended to a list.

    Return whether that is the only change, and known to be JSON.
    """
    tail = codec.appended_list(base, encoded) if codec.is_list(base) else None
    if tail is None or (not entry.without_null and codec.may_hold_null(encoded)):
        return False
    items = codec.decode(tail)
    value, count = entry.value, len(items)
    # It equals what it is decoded as, so it has nothing that is not JSON.
    if not isinstance(value, list) or (count and items != value[-count:]):
        return False
    key = entry.key
    change.operations = [Push(key, item) for item in codec.encode_each(items)]
    change.pushed = count
    if count:
        entry.without_null = False
    entry.checked = encoded
    return True


def _find_created(entry: Entry, encoded: bytes, change: KeyChange) -> None:
    """Find what stores the value of a key that was missing when it was read."""
    key, default = entry.key, entry.default
    appended: list[bytes] | None = None
    if default is not None and codec.is_list(default):
        appended = codec.appended(default, encoded)
    if encoded == default or (appended is not None and default != codec.EMPTY_LIST):
        assert default is not None
        change.operations.append(Set(key, default, only_if_missing=True))
    if appended is not None:
        change.operations.extend(Push(key, item) for item in appended)
        change.pushed = len(appended)
    elif encoded != default:
        change.operations.append(_edit(entry, None, encoded))


def _find_list_change(entry: Entry, base: bytes, encoded: bytes, change: KeyChange) -> None:
    key = entry.key
    appended: Sequence[bytes] | None = codec.appended(base, encoded)
    if appended is None:
        difference = diff_list(base, entry.value, encoded)
        appended = difference.appended
        if difference.changes:
            change.operations.append(
                _edit(entry, base, encoded, difference.changes, difference.appended)
            )
            change.pushed = len(appended)
            return
    change.operations += [Push(key, item) for item in appended]
    change.pushed = len(appended)


def _edit(
    entry: Entry,
    base: bytes | None,
    encoded: bytes,
    changes: tuple[Change, ...] | None = None,
    appended: tuple[bytes, ...] = (),
) -> Edit:
    return Edit(
        entry.key,
        base,
        encoded,
        changes,
        appended,
        entry.since,
        entry.places,
        entry.uncertain,
    )


def _find_queue_in_memory(entry: Entry) -> KeyChange:
    """Find the difference from the base, besides operations that a difference cannot express."""
    key, base = entry.key, entry.base
    encoded = encode_value(entry)
    change = KeyChange(encoded)
    if encoded.__class__ is not bytes:
        _find_unusual(entry, encoded, change)
        return change
    queue = encode_queue(entry)
    expected = {} if base is None else {key: base}
    apply_operations(expected, queue)
    reference = expected.get(key)
    if encoded == reference:
        change.operations.extend(queue)
    elif (
        reference is not None
        and codec.is_list(reference)
        and codec.is_list(encoded)
        and (appended := codec.appended(reference, encoded)) is not None
    ):
        change.operations.extend([*queue, *(Push(key, item) for item in appended)])
    elif edited := _edit_below_queue(entry, encoded, reference, queue):
        change.operations.extend(edited)
    elif base is not None and codec.is_list(base) and codec.is_list(encoded):
        _find_list_change(entry, base, encoded, change)
    elif base is None and codec.is_list(encoded):
        entry.default = codec.EMPTY_LIST
        _find_created(entry, encoded, change)
    else:
        change.operations.append(_edit(entry, base, encoded))
    _check(entry, change)
    return change


def _edit_below_queue(
    entry: Entry, encoded: bytes, reference: bytes | None, queue: Sequence[Operation]
) -> list[Operation] | None:
    """Return an edit of the base's items, and then the queue; None if that gives another value."""
    base = entry.base
    if base is None or reference is None:
        return None
    if not (codec.is_list(base) and codec.is_list(reference) and codec.is_list(encoded)):
        return None
    difference = diff_list(reference, entry.value, encoded)
    origins = _origins(entry)
    changes = []
    for one in difference.changes:
        places = origins[one.place : one.place + len(one.gone)]
        first = places[0]
        if first is None or places != list(range(first, first + len(places))):
            return None
        changes.append(Change(first, one.gone, one.new))
    items = codec.items_of(base)
    for one in reversed(changes):
        items[one.place : one.place + len(one.gone)] = one.new
    edited = codec.join_list(items)
    above = [*queue, *(Push(entry.key, item) for item in difference.appended)]
    # If the edit changes the length of the list, a window may drop other items.
    value = {entry.key: edited}
    apply_operations(value, above)
    if encoded not in (value[entry.key], codec.respell(value[entry.key])):
        return None
    return [_edit(entry, base, edited, tuple(changes)), *above]


def _origins(entry: Entry) -> list[int | None]:
    """Return, for each item that base and queue make, its index in base."""
    origins: list[int | None] = list(range(entry.base_length))
    for queued in entry.queue:
        if isinstance(queued, QueuedPush):
            # The lists are in step: a push that is unique was not queued if it changed nothing.
            QueuedPush(None, queued.max_records, queued.keep_first).apply(origins)
    return origins


def _compose(entry: Entry) -> Callable[[bytes | None], bytes]:
    functions, path = list(entry.functions), entry.path

    def apply_again(stored: bytes | None) -> bytes:
        value = None if stored is None else codec.decode(stored)
        for function in functions:
            value = function(value)
        return codec.encode(value, path)

    return apply_again


def _check(entry: Entry, change: KeyChange) -> None:
    """Refuse values that are not JSON; check only the parts of the value that may be new."""
    encoded, path = change.encoded, entry.path
    assert encoded is not None
    # NaN is encoded as null. If the stored value has no null, only new parts can have NaN.
    nullable = not entry.without_null and codec.may_hold_null(encoded)
    if change.operations:
        entry.without_null = False
    if entry.checked == encoded and not nullable:
        return
    fresh = None if nullable else _fresh_items(entry.value, change)
    if fresh is None:
        codec.check_again(entry.value, encoded, path, entry.read_as)
    else:
        for index, item in fresh:
            codec.check(entry.value[index], item, f"{path}[{index}]")
    entry.checked = encoded


def _fresh_items(value: Any, change: KeyChange) -> list[tuple[int, bytes]] | None:
    """Return the index and the encoding of each new item; None if everything must be checked."""
    pushes = [one.value for one in change.operations if isinstance(one, Push)]
    if len(pushes) == len(change.operations) == change.pushed:
        return list(enumerate(pushes, len(value) - len(pushes))) if pushes else []
    fresh: list[tuple[int, bytes]] = []
    for operation in change.operations:
        match operation:
            case Edit(changes=changes, appended=appended) if changes is not None:
                shift = 0
                for one in changes:
                    first = one.place + shift
                    fresh.extend((first + at, item) for at, item in enumerate(one.new))
                    shift += len(one.new) - len(one.gone)
                pushes = [*appended, *pushes]
            case Push():
                pass
            case _:
                return None
    if fresh and len(pushes) != change.pushed:
        # A queue in memory: windows have moved the items.
        return None
    if pushes:
        first = len(value) - len(pushes)
        # A window may have taken an item away again.
        fresh.extend((at, item) for at, item in enumerate(pushes, first) if at >= 0)
    return fresh
