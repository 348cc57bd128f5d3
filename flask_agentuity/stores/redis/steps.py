"""Encode operations as arguments of the script that applies them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import assert_never

from ...document import codec
from ...document.operations import (
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
    Scalars,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from .. import listing
from ..joining import JoinedPushes
from ..listing import ListedThread
from .keys import encode_owner, encode_term, owner_term

#: Values up to this size, in bytes, are read with every thread; larger ones only if requested.
INLINE_BYTES = 1000
#: A value that a script compares is sent as its length and SHA-1 if it is longer, in bytes.
_COMPARED_BYTES = 100


@dataclass(slots=True)
class Run:
    """Pushes to one key in one step. The first *edited* of them belong to an edit.

    ``arguments`` are the key, the numbers and the items, as the script takes them.
    """

    key: str
    arguments: tuple[bytes, bytes, bytes]
    count: int
    nulls: bool
    edited: int = 0

    @property
    def encoded_key(self) -> bytes:
        return self.arguments[0]


@dataclass(slots=True)
class Steps:
    """The steps of one write, as arguments of the script.

    ``operations`` has the operations of each step, ``runs`` those of each step that pushes.
    ``terms`` are the index terms of new metadata. ``nulls`` says whether a value may contain a
    null.

    ``place_of`` returns the offset of an item in the string of its list, if it is known, for an
    encoded key and an index.
    """

    arguments: list[bytes] = field(default_factory=list)
    keys: dict[bytes, None] = field(default_factory=dict)
    terms: list[bytes] = field(default_factory=list)
    operations: list[Sequence[Operation]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    nulls: bool = False
    place_of: Callable[[bytes, int], int | None] | None = None

    def add(self, operation: Operation) -> None:
        """Add a step for one operation.

        :raises TypeError: for an edit, which must be merged first.
        """
        if isinstance(operation, Push):
            self.add_run(_run_of(JoinedPushes(operation)), [operation])
            return
        self.operations.append([operation])
        match operation:
            case Set(key, value, only_if_missing):
                name = b"default" if only_if_missing else b"set"
                self.arguments += (name, self._key(key), *self._value(value))
            case Replace(key, old, new, since):
                expected = b"" if old is None else _compared(old)
                self.arguments += (b"replace", self._key(key), b"%d" % since, expected)
                self.arguments += self._value(new)
            case Splice():
                self._splice(operation)
            case Delete(key):
                self.arguments += (b"delete", self._key(key))
            case Truncate(key, keep):
                self.arguments += (b"truncate", self._key(key), b"%d" % max(0, keep))
            case PopLast(key):
                self.arguments += (b"pop", self._key(key))
            case Increment(key, by):
                self.arguments += (b"increment", self._key(key), codec.encode_unchecked(by))
            case Clear():
                self.arguments.append(b"clear")
            case SetMetadata(value, scalars):
                self.arguments += (b"metadata", self._with_terms(value, scalars))
            case ReplaceMetadata(old, new, known):
                text = self._with_terms(new, known[1] if known else None)
                self.arguments += (b"replace_metadata", text, _compared(old))
            case Edit() | EditMetadata():
                raise TypeError("an edit must be merged before it is written")
            case _:
                assert_never(operation)

    def add_run(self, run: Run, pushes: Sequence[Operation]) -> None:
        """Add a step for pushes to one key with the window of *run*."""
        first = pushes[0]
        assert isinstance(first, Push)
        self.keys[run.encoded_key] = None
        self.nulls = self.nulls or run.nulls
        if (unique := _field_of(first)) is None:
            self.arguments += (b"push", *run.arguments)
        else:
            self.arguments += (b"unique", *unique, *run.arguments)
        self.operations.append(pushes)
        self.runs.append(run)

    def import_thread(self, thread: ListedThread) -> None:
        """Add a step that replaces the thread if it was updated earlier."""
        self.operations.append([])
        owner = encode_owner(thread.owner)
        times = repr(thread.created).encode(), repr(thread.updated).encode()
        self.arguments += (b"import", *times, owner)
        if owner:
            self.terms.append(owner_term(owner))

    def _splice(self, splice: Splice) -> None:
        arguments = [b"splice", self._key(splice.key), b"%d" % splice.since]
        arguments.append(b"%d" % len(splice.changes))
        place_of = self.place_of
        for change in splice.changes:
            new = _lines(change.new)
            self.nulls = self.nulls or codec.may_hold_null(new)
            # Redis finds the items of the other changes from there.
            place = place_of(arguments[1], change.place) if place_of else None
            place_of = None
            arguments += (b"%d" % change.place, b"" if place is None else b"%d" % place)
            arguments.append(b"%d" % len(change.gone))
            arguments += (_compared(b"\n".join(change.gone)), b"%d" % len(change.new), new)
        self.arguments += arguments

    def _with_terms(self, metadata: bytes, scalars: Scalars | None) -> bytes:
        """Return metadata followed by its index terms, as it is stored."""
        terms = listing.index_terms(codec.decode(metadata) if scalars is None else scalars)
        encoded = [encode_term(*term) for term in terms]
        self.terms += encoded
        return b"\n".join([metadata, *encoded])

    def _key(self, key: str) -> bytes:
        encoded = codec.encode_key(key)
        self.keys[encoded] = None
        return encoded

    def _value(self, value: bytes) -> tuple[bytes, bytes, bytes]:
        self.nulls = self.nulls or codec.may_hold_null(value)
        if value == codec.EMPTY_LIST:
            return b"|", b"0", b""
        if codec.is_list(value):
            items = codec.items_of(value)
            return b"|", b"%d" % len(items), b"\n".join(items)
        return b"*" if len(value) > INLINE_BYTES else b"=", b"0", value


def encode_steps(
    operations: Iterable[Operation],
    edited: Collection[int] = (),
    place_of: Callable[[bytes, int], int | None] | None = None,
) -> Steps:
    """Return the steps of *operations*. Consecutive pushes become one step if possible.

    :param edited: the ids (see :func:`id`) of pushes that belong to an edit.
    :param place_of: see :class:`Steps`.
    """
    steps = Steps(place_of=place_of)
    joined: JoinedPushes | None = None
    for operation in operations:
        if joined is not None:
            if isinstance(operation, Push) and _joins(joined, operation):
                continue
            steps.add_run(_run_of(joined, edited), joined.pushes)
            joined = None
        if isinstance(operation, Push):
            joined = JoinedPushes(operation)
        else:
            steps.add(operation)
    if joined is not None:
        steps.add_run(_run_of(joined, edited), joined.pushes)
    return steps


def single_run(operations: Sequence[Operation]) -> Run | None:
    """Return *operations* as one run if they only append to one list, without a window."""
    if not operations or type(operations[0]) is not Push:
        return None
    key, values = operations[0].key, []
    for operation in operations:
        if (
            type(operation) is not Push
            or operation.key != key
            or operation.max_records is not None
            or operation.unique is not None
        ):
            return None
        values.append(operation.value)
    items = _lines(values)
    arguments = codec.encode_key(key), b"%d" % len(values), items
    return Run(key, arguments, len(values), codec.may_hold_null(items))


def _run_of(joined: JoinedPushes, edited: Collection[int] = ()) -> Run:
    pushes, first = joined.pushes, joined.pushes[0]
    items = _lines([push.value for push in pushes])
    numbers = b"%d" % len(pushes)
    if joined.max_records is not None:
        numbers += b" %d %d" % (joined.max_records, joined.keep_first)
    return Run(
        first.key,
        (codec.encode_key(first.key), numbers, items),
        len(pushes),
        codec.may_hold_null(items),
        sum(id(push) in edited for push in pushes) if edited else 0,
    )


def _joins(joined: JoinedPushes, push: Push) -> bool:
    first = joined.pushes[0]
    is_alike = push.key == first.key and push.unique is None and first.unique is None
    return is_alike and joined.take(push)


def _field_of(push: Push) -> tuple[bytes, bytes] | None:
    """Return the unique field of a push and its value, encoded as in an object."""
    name = push.unique
    if name is None or not push.value.startswith(b"{"):
        return None
    item = codec.decode(push.value)
    if name not in item:
        return None
    return codec.encode_key(name) + b":", codec.encode_unchecked(item[name])


def _lines(items: Sequence[bytes]) -> bytes:
    """Join items with line feeds. The items must not contain any."""
    joined = b"\n".join(items)
    if joined.count(b"\n") != max(0, len(items) - 1):
        joined = b"\n".join(map(codec.respell, items))
    return joined


def _compared(value: bytes) -> bytes:
    if len(value) <= _COMPARED_BYTES:
        return value
    return b"#%d %b" % (len(value), sha1(value, usedforsecurity=False).hexdigest().encode())
