"""JSON in and out, and the document that a thread is stored as. Pure functions.

A *document* is JSON text, ``{"state": {...}, "metadata": {...}}`` with either part left
out when it is empty. Inside the package a state travels as one encoded value for each
key, so that keys that are not used are never decoded, and unchanged ones never encoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..errors import StateNotSerializable, StateTooLarge, StoreError
from .keys import decode_key as decode_key
from .keys import encode_key as encode_key
from .keys import require_key as require_key

#: The largest document, in UTF-8 bytes, that Agentuity's thread service takes (its
#: JavaScript runtime does not send a larger one).
MAX_DOCUMENT_BYTES = 1_048_576

#: How deep a value may nest: what orjson encodes, from 3.12 on.
MAX_DEPTH = 254

EMPTY_LIST = b"[]"
EMPTY_OBJECT = b"{}"

# What orjson would convert on its own (dates, dataclasses) is refused instead: a value
# that comes back as something else is a surprise in the next request.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_STATE = b'"state":'
_METADATA = b'"metadata":'


def encode(value: Any, path: str = "state") -> bytes:
    """Return *value* as compact JSON in UTF-8.

    What is read back from the result equals *value*, with one exception: a tuple comes
    back as a list. *path* is how an error names the value.

    :raises StateNotSerializable: for anything JSON cannot hold: NaN and the infinities,
        integers beyond 64 bits, lone surrogates, keys that are not strings, objects,
        nesting deeper than :data:`MAX_DEPTH`.
    """
    encoded = encode_unchecked(value, path)
    check(value, encoded, path)
    return encoded


def encode_item(value: Any, path: str = "state") -> bytes:
    """Like :func:`encode`, for a value that becomes the last item of the list at *path*."""
    where = f"{path}[-1]"
    try:
        # Inside a list from the start: an item at the depth limit would be over it there.
        encoded = orjson.dumps([value], option=_OPTIONS)[1:-1]
    except TypeError as error:
        raise _explain(value, where) or StateNotSerializable(where, str(error)) from None
    check(value, encoded, where)
    return encoded


def encode_unchecked(value: Any, path: str = "state") -> bytes:
    """Encode *value* without proving that it comes back equal.

    For comparing with what was stored: NaN is written as ``null`` and enum members as
    their values, so the result must not be stored unless :func:`check` has seen it.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        raise _explain(value, path) or StateNotSerializable(path, str(error)) from None


def check(value: Any, encoded: bytes, path: str = "state") -> None:
    """Refuse *value* if *encoded*, which was made from it, would not come back equal.

    :raises StateNotSerializable: with the path of the first part that would not.
    """
    # Comparing in C costs a fraction of walking the value here; only what does not
    # come back equal is walked, to name the place or to let a tuple pass.
    try:
        equal = bool(orjson.loads(encoded) == value)
    except (ValueError, TypeError, RecursionError):
        equal = False
    if not equal and (error := _explain(value, path)):
        raise error


def decode(encoded: bytes | str) -> Any:
    """Return the value that JSON text stands for.

    :raises ValueError: when *encoded* is not JSON (orjson's own error, which says where).
    """
    return orjson.loads(encoded)


def respell(encoded: bytes) -> bytes:
    """Return JSON text as this version of the encoder spells it."""
    return orjson.dumps(orjson.loads(encoded))


def items_of(encoded: bytes) -> list[bytes]:
    """Return the items of an encoded list, each encoded."""
    return encode_each(orjson.loads(encoded))


def encode_each(values: Iterable[Any]) -> list[bytes]:
    """Return each of *values* encoded, unchecked."""
    dumps = orjson.dumps
    # orjson gives each result a kilobyte, which shrinking it does not return. A copy is compact,
    # and in a long list even faster.
    return [memoryview(dumps(value, option=_OPTIONS)).tobytes() for value in values]


def is_same(first: Any, second: Any) -> bool:
    """Return whether two values have the same encoding: 1, 1.0 and True are different."""
    # Comparing the values would recurse as deep as they nest.
    return orjson.dumps(first, option=_OPTIONS) == orjson.dumps(second, option=_OPTIONS)


def run_length(values: Sequence[Any]) -> int:
    """Return the length of encoded items as a run, joined by commas; 0 without items."""
    return len(orjson.dumps(values, option=_OPTIONS)) - 2


def common_prefix(first: bytes, second: bytes) -> int:
    """Return how many bytes two texts have in common at their beginnings."""
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
    """Return how many bytes two texts have in common at their ends, *limit* at most."""
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
    """Return False where there is no null in an encoded value; a text may say null as well."""
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
    """Return the items that *after* has beyond *before*, or None where it is no append.

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
    """What a store knows of a thread at one moment, key by key.

    ``encoded`` has every key of the state in its order; the value is None for a key that
    is there but was not fetched. ``decoded`` holds values that had to be decoded on the
    way, for the first reader to take. ``without_null`` are keys whose values are known to
    hold no null, so that no check has to look for one.

    ``version`` rises with every write and is 0 where a store has none. ``seen`` is what the
    store wants to be told at the next write of the same request; only that store reads it,
    except for its attribute ``entries_size``, the size of all keys and values in the document.
    ``owner`` is to whom the thread belongs, None if it has no owner.
    """

    encoded: dict[str, bytes | None]
    metadata: bytes = b"{}"
    decoded: dict[str, Any] = field(default_factory=dict)
    without_null: Set[str] = field(default=frozenset(), compare=False)
    version: int = field(default=0, compare=False)
    seen: Any = field(default=None, compare=False)
    owner: str | None = None


def split_document(document: bytes | str | None, thread_id: str) -> Snapshot | None:
    """Take a stored document apart; None when nothing is left in it.

    Both stored forms are read: the envelope, and the older flat state. It is an envelope
    when those of ``state`` and ``metadata`` that are there are objects or null; other keys
    beside them were added by an old runtime, and belong to the state.

    :raises StoreError: when *document* is not a JSON object, or holds what cannot be
        written again: it is damaged, and must not be overwritten.
    """
    if not document:
        return None
    try:
        root = orjson.loads(document)
    except ValueError as error:
        raise damaged(thread_id, str(error)) from None
    if root is None:
        return None
    if not isinstance(root, dict):
        raise damaged(thread_id, f"it is not a JSON object but {type(root).__name__}")
    state, metadata = _unwrap(root)
    if not state and not metadata:
        return None
    try:
        values: list[bytes | None] = [*encode_each(state.values())]
        return Snapshot(dict(zip(state, values, strict=True)), orjson.dumps(metadata), state)
    except TypeError as error:
        raise damaged(thread_id, str(error)) from None


def _unwrap(root: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = [root[name] for name in ("state", "metadata") if name in root]
    if not parts or not all(part is None or isinstance(part, dict) for part in parts):
        return root, {}
    state = dict(root.pop("state", None) or {})
    metadata = root.pop("metadata", None) or {}
    state.update(root)
    return state, metadata


def join_document(state: Mapping[str, bytes], metadata: bytes = b"{}") -> bytes:
    """Return the document of an encoded state and metadata; ``b""`` when both are empty."""
    parts = []
    if state:
        pairs = (b"%b:%b" % (encode_key(key), value) for key, value in state.items())
        parts.append(b"%b{%b}" % (_STATE, b",".join(pairs)))
    if metadata != b"{}":
        parts.append(_METADATA + metadata)
    return b"{%b}" % b",".join(parts) if parts else b""


def entry_size(encoded_key: bytes, value_size: int) -> int:
    """Return the bytes that one key takes in the state, with its colon and its comma."""
    return len(encoded_key) + value_size + 2


def document_size(entries_size: int, metadata_size: int) -> int:
    """Return the exact size in bytes of the document that :func:`join_document` would make.

    *entries_size* is the sum of :func:`entry_size` over all keys, *metadata_size* the
    length of the encoded metadata (2 when it is empty).
    """
    state = len(_STATE) + 2 + entries_size - 1 if entries_size else 0
    metadata = len(_METADATA) + metadata_size if metadata_size > 2 else 0
    if not state and not metadata:
        return 0
    return 2 + state + metadata + (1 if state and metadata else 0)


def require_size(size: int, limit: int, thread_id: str, before: int = 0) -> None:
    """Refuse a document over the limit, unless it shrinks one that already was.

    :raises StateTooLarge: when *size* is over *limit* and not below *before*.
    """
    if size > limit and size >= before:
        raise StateTooLarge(size, limit, thread_id)


def damaged(thread_id: str, reason: str) -> StoreError:
    """Return the error for stored data that cannot be understood."""
    return StoreError(
        f"What is stored of thread {thread_id} is damaged ({reason}). It was left as it is."
    )


def child_path(path: str, key: object) -> str:
    """Return how an error names the part *key* of the value at *path*."""
    if path in ("state", "metadata"):
        return f"{path}[{_quoted(key)}]"
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}"
    return f"{path}[{_quoted(key)}]"


def _quoted(key: object) -> str:
    return f'"{key}"' if type(key) is str and key.isprintable() else repr(key)


def _explain(value: Any, path: str) -> StateNotSerializable | None:
    """Find the first part of *value* that JSON cannot hold; None when there is none."""
    waiting: list[tuple[Any, str, int]] = [(value, path, 1)]
    while waiting:
        part, where, depth = waiting.pop()
        if isinstance(part, dict | list | tuple) and depth > MAX_DEPTH:
            return StateNotSerializable(
                where if len(where) < 200 else where[:200] + "...",
                f"it nests deeper than {MAX_DEPTH} levels, or contains itself",
            )
        if isinstance(part, dict):
            for key in part:
                if type(key) is not str:
                    return StateNotSerializable(
                        child_path(where, key),
                        f"a key must be a string, not {type(key).__name__}",
                    )
                if reason := _refuse_text(key):
                    return StateNotSerializable(child_path(where, key), "the key " + reason)
            children = [(part[key], child_path(where, key), depth + 1) for key in part]
            waiting.extend(reversed(children))
        elif isinstance(part, list | tuple):
            waiting.extend(
                (item, f"{where}[{index}]", depth + 1)
                for index, item in reversed(list(enumerate(part)))
            )
        elif reason := _refuse_scalar(part):
            return StateNotSerializable(where, reason)
    return None


def _refuse_scalar(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        reason = _refuse_text(value)
        return f"the text {reason}" if reason else None
    if isinstance(value, int):
        return None if is_integer(value) else "the integer is beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"JSON has no {value!r}"
    return f"JSON has no {type(value).__name__}"


def _refuse_text(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate, which UTF-8 cannot hold"
    return None
