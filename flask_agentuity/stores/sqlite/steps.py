"""Operations prepared for the tables, so that little JSON is handled under the write lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as copy_with
from typing import assert_never

from ...document import codec
from ...document.operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    MetadataOperation,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Scalars,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from .. import listing
from ..joining import Joined, JoinedPushes, ListOperations, join
from ..segments import pack
from . import schema
from .packing import Packed

#: What an index keeps of the metadata: keys with the JSON text of scalars.
IndexTerms = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PushRun:
    """Pushes to one key with one window; ``unique`` is a field and its value."""

    key: str
    pushes: Sequence[Push]
    nulls: bool
    max_records: int | None
    keep_first: int
    unique: tuple[str, bytes] | None


@dataclass(frozen=True, slots=True)
class Value:
    """A value, packed for its rows."""

    kind: int
    nulls: bool
    inline: bytes | None
    segments: Sequence[Packed]
    size: int


@dataclass(frozen=True, slots=True)
class SetValue:
    """A set, or a replacement, whose condition is :attr:`replaces`."""

    key: str
    value: Value
    only_if_missing: bool = False
    replaces: Replace | None = None


@dataclass(frozen=True, slots=True)
class SpliceList:
    """A splice; ``nulls`` says whether a new item may hold a null."""

    splice: Splice
    nulls: bool

    @property
    def key(self) -> str:
        return self.splice.key


@dataclass(frozen=True, slots=True)
class SetMetadataValue:
    """New metadata with its index terms; ``old`` and its index terms where that is a condition."""

    value: bytes
    terms: IndexTerms
    old: bytes | None = None
    old_terms: IndexTerms | None = None


MetadataStep = SetMetadataValue | EditMetadata
KeyStep = (
    PushRun
    | ListOperations
    | SetValue
    | SpliceList
    | Delete
    | Increment
    | Truncate
    | PopLast
    | Edit
)
Step = KeyStep | Clear | MetadataStep


def prepare(operations: Sequence[Operation]) -> list[Step]:
    """Do everything that handles JSON, except for edits, which need what is stored."""
    if sum(isinstance(each, MetadataOperation) for each in operations) > 1:
        # The terms that change from one step to the next do not tell what changes in total.
        operations = [
            copy_with(each, scalars=None) if isinstance(each, MetadataOperation) else each
            for each in operations
        ]
    return [_prepare(operation) for operation in join(operations)]


def keys_of(steps: Sequence[Step]) -> set[str]:
    """Return the keys whose entries *steps* need."""
    return {
        step.key for step in steps if not isinstance(step, Clear | SetMetadataValue | EditMetadata)
    }


def _prepare_metadata(value: bytes, scalars: Scalars | None) -> SetMetadataValue:
    if scalars is None:
        return prepare_metadata(value)
    return SetMetadataValue(value, frozenset(listing.index_terms(scalars)))


def _replace_metadata(old: bytes, new: bytes, before: Scalars, after: Scalars) -> SetMetadataValue:
    """Return the step to new metadata with those terms only that change."""
    gone, added = map(frozenset, listing.changed_terms(before, after))
    return SetMetadataValue(new, added, old, gone)


def prepare_metadata(value: bytes, old: bytes | None = None) -> SetMetadataValue:
    """Return the step to new metadata, under the condition that they are *old* (None: none)."""
    old_terms = None
    if old is not None:
        try:
            old_terms = _terms_of(old)
        except (ValueError, AttributeError):
            # What is stored is damaged, and so its index terms have to be looked up.
            old_terms = None
    return SetMetadataValue(value, _terms_of(value), old, old_terms)


def _prepare(operation: Joined) -> Step:
    match operation:
        case JoinedPushes(pushes, max_records, keep_first):
            nulls = any(codec.may_hold_null(push.value) for push in pushes)
            return PushRun(pushes[0].key, pushes, nulls, max_records, keep_first, None)
        case ListOperations():
            return operation
        case Push():
            return _prepare_push(operation)
        case Set(key, value, only_if_missing):
            return SetValue(key, pack_value(value), only_if_missing)
        case Replace(key, _, new) as replace:
            return SetValue(key, pack_value(new), replaces=replace)
        case Splice(_, changes) as splice:
            items = (item for change in changes for item in change.new)
            return SpliceList(splice, any(map(codec.may_hold_null, items)))
        case SetMetadata(value, scalars):
            return _prepare_metadata(value, scalars)
        case ReplaceMetadata(old, new, known):
            if known is None:
                return prepare_metadata(new, old)
            return _replace_metadata(old, new, *known)
        case (
            Delete() | Clear() | Increment() | Truncate() | PopLast() | Edit() | EditMetadata()
        ) as operation:
            return operation
        case _ as other:
            assert_never(other)


def _prepare_push(push: Push) -> PushRun:
    nulls, unique = codec.may_hold_null(push.value), None
    if push.unique is not None:
        item = codec.decode(push.value)
        if isinstance(item, dict) and push.unique in item:
            unique = push.unique, codec.encode_unchecked(item[push.unique])
    return PushRun(push.key, [push], nulls, push.max_records, push.keep_first, unique)


def _terms_of(metadata: bytes) -> IndexTerms:
    return frozenset(listing.index_terms(codec.decode(metadata)))


def pack_value(value: bytes) -> Value:
    """Pack an encoded value for its rows."""
    size, nulls = len(value), codec.may_hold_null(value)
    if codec.is_list(value):
        items = codec.items_of(value) if size > 2 else []
        return Value(schema.LIST, nulls, None, pack(items, b",", schema.SEGMENT_BYTES), size)
    if size > schema.INLINE_BYTES:
        return Value(schema.LARGE, nulls, None, [(1, value)], size)
    return Value(schema.INLINE, nulls, value, (), size)
