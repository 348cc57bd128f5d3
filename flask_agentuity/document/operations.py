"""The operations that change a thread.

Values are encoded (see :mod:`~flask_agentuity.document.codec`), so operations can be compared, sent
and applied without decoding them. They are never changed after they were created, but are not
frozen, because creating frozen ones takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: Values of metadata that are neither lists nor objects, by their keys.
Scalars = Mapping[str, str | int | float | bool | None]


@dataclass(slots=True, unsafe_hash=True)
class Set:
    """Assign one key unconditionally.

    With ``only_if_missing``, an existing key is not changed. It is for a default value, which must
    not replace what another request wrote.
    """

    key: str
    value: bytes
    only_if_missing: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Delete:
    """Remove one key. A missing key is not an error."""

    key: str


@dataclass(slots=True, unsafe_hash=True)
class Clear:
    """Remove every key of the state. The metadata stays."""


@dataclass(slots=True, unsafe_hash=True)
class Push:
    """Append one item to the list at a key. A missing list is created.

    A value that is not a list is not changed.

    ``max_records``: the list then keeps at most that many items; 0 empties it. The first
    ``keep_first`` items stay, and the oldest of the others go: a list of N items keeps its
    first ``min(keep_first, max_records)`` and its last ``max_records - keep_first``.

    ``unique``: the name of a field. Nothing is appended if the list already has an object
    whose field of that name has the same value. The item must be an object with that field.
    """

    key: str
    value: bytes
    max_records: int | None = None
    keep_first: int = 0
    unique: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class Increment:
    """Add a number to the number at a key. A missing key counts as 0.

    A value that is not a number is not changed.
    """

    key: str
    by: int | float = 1


@dataclass(slots=True, unsafe_hash=True)
class Truncate:
    """Keep the first ``keep`` items of the list at a key. Anything but a list is not changed."""

    key: str
    keep: int


@dataclass(slots=True, unsafe_hash=True)
class PopLast:
    """Remove the last item of the list at a key. Anything but a non-empty list is not changed."""

    key: str


@dataclass(slots=True, unsafe_hash=True)
class Change:
    """One replaced part of a list: at index ``place``, the items ``gone`` become ``new``.

    ``gone`` is never empty. An insertion has its neighbours in both ``gone`` and ``new``, so a
    store can check whether the place is still the same.
    """

    place: int
    gone: tuple[bytes, ...]
    new: tuple[bytes, ...]


@dataclass(slots=True, unsafe_hash=True)
class Splice:
    """Replace parts of the list at a key, if the items to replace are still there.

    All places are indexes into the list as it was before the splice. The changes ascend
    and do not overlap. If the key is missing, holds something else, was assigned after
    version ``since``, or has other items at one of the places, it is a conflict and
    nothing of the whole write is applied.

    ``whole`` is the resulting list as the request sees it, for stores that cannot splice.
    """

    key: str
    changes: tuple[Change, ...]
    since: int = 0
    whole: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True, unsafe_hash=True)
class Replace:
    """Replace the value at a key if it is still ``old`` (None: if the key is missing).

    Anything else, or an assignment after version ``since``, is a conflict and nothing of
    the whole write is applied.
    """

    key: str
    old: bytes | None
    new: bytes
    since: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Edit:
    """A change to a value that was read: ``base`` (None: missing) became ``value``.

    An edit always succeeds: it is merged with what is stored (see
    :mod:`~flask_agentuity.document.merge`). :meth:`optimistic` gives the cheap form that
    succeeds if nothing has changed at the places that the edit touches. A store that gets
    the edit itself merges it under its lock.

    ``changes`` and ``appended`` are the difference between two lists; ``changes`` is None
    where either value is not a list. ``places`` says at which index of the stored list
    each item of ``base`` is, None for an item that is no longer stored; without it the
    list is stored as ``base`` has it, perhaps with more items behind. ``uncertain``: where
    the items are is not known, so the value has to be read before it is edited. ``partial``:
    both lists are only those items of the stored one that the request knows.

    ``function`` makes the new value from what is stored (None: a missing key), both encoded.
    Where it is given, it is called again on a conflict instead of merging.
    """

    key: str
    base: bytes | None
    value: bytes
    changes: tuple[Change, ...] | None = None
    appended: tuple[bytes, ...] = ()
    since: int = 0
    places: tuple[int | None, ...] | None = None
    uncertain: bool = False
    partial: bool = False
    function: Callable[[bytes | None], bytes] | None = field(default=None, compare=False)


@dataclass(slots=True, unsafe_hash=True)
class SetMetadata:
    """Replace the whole metadata unconditionally.

    ``scalars`` are its values that are not containers, if they are known without decoding.
    """

    value: bytes
    scalars: Scalars | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True, unsafe_hash=True)
class ReplaceMetadata:
    """Replace the metadata if it is still ``old``; otherwise it is a conflict.

    ``scalars`` are those of ``old`` and of ``new``, as for :class:`SetMetadata`.
    """

    old: bytes
    new: bytes
    scalars: tuple[Scalars, Scalars] | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True, unsafe_hash=True)
class EditMetadata:
    """A change to metadata that was read. Like :class:`Edit`, it is merged key by key.

    ``scalars`` are those of ``base`` and of ``value``, as for :class:`SetMetadata`.
    """

    base: bytes
    value: bytes
    scalars: tuple[Scalars, Scalars] | None = field(default=None, compare=False, repr=False)


#: The operations that change the value at one key.
KeyOperation = Set | Delete | Push | Increment | Truncate | PopLast | Splice | Replace | Edit
MetadataOperation = SetMetadata | ReplaceMetadata | EditMetadata
Operation = KeyOperation | Clear | MetadataOperation
