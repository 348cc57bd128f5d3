"""Encoding and decoding JSON, and the documents of threads. Pure functions.

A *document* is JSON text, ``{"state": {...}, "metadata": {...}}`` with either part left
out when it is empty. Inside the package a state travels as one encoded value for each
key, so that keys that are not used are never decoded, and unchanged ones never encoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..errors import StateNotSerializable, StateTooLarge, StoreError
from .envelope import MOST_PUNCTUATION as MOST_PUNCTUATION
from .envelope import document_size as document_size
from .envelope import entry_size as entry_size
from .envelope import join_document as join_document
from .envelope import unwrap_document
from .keys import decode_key as decode_key
from .keys import decode_key_once as decode_key_once
from .keys import encode_key as encode_key
from .keys import encode_key_once as encode_key_once
from .keys import require_key as require_key
from .refusal import MAX_DEPTH as MAX_DEPTH
from .refusal import child_path as child_path
from .refusal import find_refused
from .splitting import split_many_keys
from .unusual import Unusual, may_hold_large_integer, parse, write
from .well_formed import make_well_formed

#: The largest document, in UTF-8 bytes, that Agentuity's thread service takes (its
#: JavaScript runtime does not send a larger one).
MAX_DOCUMENT_BYTES = 1_048_576

EMPTY_LIST = b"[]"
EMPTY_OBJECT = b"{}"

# Stands for a stored value that is deeply nested and has large integers.
_UNUSUAL = Unusual(b"null")

# Values that orjson would convert (dates, dataclasses) are refused: otherwise the next request
# would be surprised to read another type.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(value: Any, path: str = "state") -> bytes:
    """Return *value* as compact JSON in UTF-8.

    What is read back from the result equals *value*, with two exceptions: a tuple comes back as a
    list, and an unpaired surrogate as U+FFFD. Errors name the value by *path*.

    :raises StateNotSerializable: for anything that is not JSON: NaN and the infinities, integers
        beyond 64 bits, keys that are not strings, objects, nesting deeper than
        :data:`MAX_DEPTH`.
    """
    encoded = encode_unchecked(value, path)
    check(value, encoded, path)
    return encoded


def encode_item(value: Any, path: str = "state") -> bytes:
    """Like :func:`encode`, for a value that becomes the last item of the list at *path*."""
    where = f"{path}[-1]"
    try:
        # It is checked inside a list: an item at the depth limit would exceed it there.
        encoded = orjson.dumps([value], option=_OPTIONS)[1:-1]
    except TypeError as error:
        if (refused := find_refused(value, where)) is not None:
            raise refused from None
        try:
            encoded = orjson.dumps([make_well_formed(value)], option=_OPTIONS)[1:-1]
        except TypeError:
            raise StateNotSerializable(where, str(error)) from None
    check(value, encoded, where)
    return encoded


def encode_unchecked(value: Any, path: str = "state") -> bytes:
    """Encode *value* without checking that it comes back equal.

    For comparing with what was stored: NaN is written as ``null`` and enum members as
    their values, and the result is :class:`Unusual` if the value is too deeply nested or has too
    large integers. So it must not be stored unless :func:`check` has seen it.
    """
    encoded = encode_plain(value)
    if encoded is not None:
        return encoded
    try:
        return _dumps(value)
    except TypeError as error:
        raise find_refused(value, path) or StateNotSerializable(path, str(error)) from None


def encode_plain(value: Any) -> bytes | None:
    """Like :func:`encode_unchecked`, but return None for a value that orjson cannot write."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        return None


def encode_again(value: Any, path: str, stored: bytes | None) -> bytes:
    """Like :func:`encode`, for a value that replaces the *stored* one (None: nothing)."""
    encoded = encode_unchecked(value, path)
    check_again(value, encoded, path, stored)
    return encoded


def encode_stored(value: Any, path: str) -> bytes:
    """Like :func:`encode`, for a value of which parts may have been stored by other software."""
    return encode_again(value, path, _UNUSUAL)


def is_unusual(encoded: bytes) -> bool:
    """Return whether an encoded value has too deep nesting, or too large integers, for orjson."""
    return isinstance(encoded, Unusual) or find_refused(parse(encoded), "") is not None


def check(value: Any, encoded: bytes, path: str = "state") -> None:
    """Refuse *value* if *encoded*, which was made from it, would not come back equal.

    :raises StateNotSerializable: with the path of the first part that would not.
    """
    # Comparing in C costs a fraction of walking through the value here. Only a value that does not
    # come back equal is walked through, to name the place or to accept a tuple.
    try:
        equal = encoded.__class__ is bytes and bool(orjson.loads(encoded) == value)
    except (ValueError, TypeError, RecursionError):
        equal = False
    if not equal and (error := find_refused(value, path)):
        raise error


def check_again(value: Any, encoded: bytes, path: str, stored: bytes | None) -> None:
    """Like :func:`check`, for a value that replaces the *stored* one (None: nothing).

    What other software has stored may be stored again: the value may nest too deep and hold
    integers too large if the stored value does.
    """
    try:
        check(value, encoded, path)
    except StateNotSerializable:
        if stored is None or not is_unusual(stored):
            raise
        if (error := find_refused(value, path, unusual=True)) is not None:
            raise error from None


def decode(encoded: bytes | str) -> Any:
    """Return the value that JSON text stands for.

    :raises ValueError: when *encoded* is not JSON (orjson's own error, which says where).
    """
    try:
        if encoded.__class__ is not Unusual:
            return orjson.loads(encoded)
    except ValueError as error:
        try:
            return parse(encoded)
        except ValueError:
            raise error from None
    return parse(encoded)


def decode_metadata(encoded: bytes) -> dict[str, Any]:
    """Return the metadata that JSON text stands for.

    :raises ValueError: when *encoded* is not a JSON object.
    """
    metadata = decode(encoded)
    if not isinstance(metadata, dict):
        raise ValueError("it is not a JSON object")
    return metadata


def decode_exactly(encoded: bytes) -> Any:
    """Decode JSON text, with exact integers of any size.

    :raises ValueError: when *encoded* is not JSON.
    """
    # orjson reads an integer beyond 64 bits as a floating-point number.
    return parse(encoded) if may_hold_large_integer(encoded) else decode(encoded)


def respell(encoded: bytes) -> bytes:
    """Return JSON text as this version of the encoder writes it."""
    return _dumps(decode(encoded))


def items_of(encoded: bytes) -> list[bytes]:
    """Return the items of an encoded list, each encoded."""
    return encode_each(decode(encoded))


def encode_each(values: Collection[Any]) -> list[bytes]:
    """Return each of *values* encoded, unchecked."""
    dumps = orjson.dumps
    # orjson gives each result a kilobyte, which shrinking it does not return. A copy is compact,
    # and in a long list even faster.
    try:
        return [memoryview(dumps(value, option=_OPTIONS)).tobytes() for value in values]
    except TypeError:
        return [_dumps(value) for value in values]


def is_same(first: Any, second: Any) -> bool:
    """Return whether two values have the same encoding: 1, 1.0 and True are different."""
    # Comparing the values would recurse as deep as they nest.
    try:
        return orjson.dumps(first, option=_OPTIONS) == orjson.dumps(second, option=_OPTIONS)
    except TypeError:
        return _dumps(first) == _dumps(second)


def run_length(values: Sequence[Any]) -> int:
    """Return the length of encoded items as a run, joined by commas; 0 without items."""
    return len(_dumps(values)) - 2


def _dumps(value: Any) -> bytes:
    """Encode *value* with well-formed text. The result may be :class:`Unusual`.

    :raises TypeError: if it is not JSON.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        text = write(value)
    try:
        # Usually an unpaired surrogate was the reason.
        return orjson.dumps(make_well_formed(value), option=_OPTIONS)
    except TypeError:
        return text


def common_prefix(first: bytes, second: bytes) -> int:
    """Return the length of the common prefix of two texts."""
    view = memoryview(first)
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        # startswith() compares memory; slices of bytes would be copied first.
        if second.startswith(view[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(first: bytes, second: bytes, limit: int) -> int:
    """Return the length of the common suffix of two texts, at most *limit*."""
    view = memoryview(first)
    size, other_size = len(first), len(second)
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if second.endswith(view[size - middle : size - low], 0, other_size - low):
            low = middle
        else:
            high = middle - 1
    return low


def is_list(encoded: bytes) -> bool:
    return encoded.startswith(b"[")


def is_integer(value: int) -> bool:
    """Return whether JSON, as this package writes it, holds the integer: 64 bits."""
    return -(2**63) <= value < 2**64


def may_hold_null(encoded: bytes) -> bool:
    """Return False if an encoded value has no null. True is only a guess: text may contain it."""
    # From the end: CPython searches twice as fast in that direction.
    return encoded.rfind(b"null") >= 0


def join_list(items: Iterable[bytes]) -> bytes:
    """Return the encoded list of encoded items (or of runs of items, joined by commas)."""
    parts = list(items)
    if not parts:
        return EMPTY_LIST
    # One copy of a long list, not three.
    parts[0] = b"[" + parts[0]
    parts[-1] += b"]"
    return b",".join(parts)


def appended(before: bytes, after: bytes) -> list[bytes] | None:
    """Return the items that *after* has beyond *before*; None if they were not only appended.

    Both are encoded lists. An empty result means that they are equal.
    """
    tail = appended_list(before, after)
    return None if tail is None else items_of(tail)


def appended_list(before: bytes, after: bytes) -> bytes | None:
    """Return the items that *after* has beyond *before* as an encoded list, as :func:`appended`."""
    head = len(before) - 1
    if not after.startswith(memoryview(before)[:head]) or not is_list(after):
        return None
    if head == 1:
        return after
    tail = after[head:-1]
    if not tail:
        return EMPTY_LIST
    return b"[%b]" % tail[1:] if tail.startswith(b",") else None


@dataclass(slots=True)
class Snapshot:
    """What a store has of a thread at one moment, key by key.

    ``encoded`` has every key of the state in its order; the value is None for a key that
    is there but was not fetched. With many keys, it is a :class:`.packed.PackedState`. ``decoded``
    holds values that had to be decoded anyway, for the first reader. ``without_null`` are keys
    whose values are known to hold no null, so that no check has to look for one.

    ``version`` rises with every write and is 0 where a store has none. ``seen`` is what the
    store wants to be told at the next write of the same request; only that store reads it,
    except for its attribute ``entries_size``, the size of all keys and values in the document.
    ``owner`` is to whom the thread belongs, None if it has no owner.
    """

    encoded: Mapping[str, bytes | None]
    metadata: bytes = b"{}"
    decoded: dict[str, Any] = field(default_factory=dict)
    without_null: Set[str] = field(default=frozenset(), compare=False)
    version: int = field(default=0, compare=False)
    seen: Any = field(default=None, compare=False)
    owner: str | None = None


def split_document(document: bytes | str | None, thread_id: str) -> Snapshot | None:
    """Split a stored document; None if it is empty.

    Both stored forms are read: the envelope, and the older flat state. It is an envelope
    when those of ``state`` and ``metadata`` that are there are objects or null; other keys
    beside them were added by an old runtime, and belong to the state.

    :raises StoreError: when *document* is not a JSON object, or holds what cannot be
        written again: it is damaged, and must not be overwritten.
    """
    if not document:
        return None
    if isinstance(document, bytes) and (found := split_many_keys(document)) is not None:
        return Snapshot(*found)
    try:
        snapshot = _split(decode(document), thread_id)
        if snapshot is not None and _differs(snapshot, document):
            # orjson reads an integer beyond 64 bits as a floating-point number.
            snapshot = _split(parse(document), thread_id)
    except (ValueError, TypeError) as error:
        raise damaged(thread_id, str(error)) from None
    return snapshot


def _split(root: Any, thread_id: str) -> Snapshot | None:
    if root is None:
        return None
    if not isinstance(root, dict):
        raise damaged(thread_id, f"it is not a JSON object but {type(root).__name__}")
    state, metadata = unwrap_document(root)
    if not state and not metadata:
        return None
    values: list[bytes | None] = [*encode_each(state.values())]
    return Snapshot(dict(zip(state, values, strict=True)), _dumps(metadata), state)


def _differs(snapshot: Snapshot, document: bytes | str) -> bool:
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    text = document.encode(errors="replace") if isinstance(document, str) else document
    return text != join_document(state, snapshot.metadata) and may_hold_large_integer(text)


def require_size(size: int, limit: int, thread_id: str, before: int = 0) -> None:
    """Refuse a document over the limit, unless it shrinks one that already was.

    :raises StateTooLarge: when *size* is over *limit* and not below *before*.
    """
    if size > limit and size >= before:
        raise StateTooLarge(size, limit, thread_id)


def damaged(thread_id: str, reason: str) -> StoreError:
    """Return the error for stored data that cannot be understood."""
    return StoreError(
        f"The stored data of thread {thread_id} is damaged ({reason}). It was not changed."
    )
