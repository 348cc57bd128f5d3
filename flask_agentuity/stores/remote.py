"""Threads in a thread service, over one WebSocket per process."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..client import FeatureMissing, ServiceRefusal, ThreadClient
from ..client.directory import NotOffered
from ..client.edits import (
    Conflicting,
    delete_document,
    read_document,
    replace_document,
    send_edits,
)
from ..document import codec
from ..document.apply import apply_operations
from ..document.codec import Snapshot
from ..document.operations import Clear, Delete, Operation, Push, Set, SetMetadata
from ..errors import ConfigurationError, StateTooLarge, TooManyChanges, TooManyKeys
from .applying import complete
from .base import ThreadStore
from .basic_service import BasicService
from .expected import Expected
from .owners import is_of_owner, with_owner, write_owned
from .remote_listing import RemoteFinding, directories_of
from .writing import Conflict, Write, Written, write_merged

T = TypeVar("T")

# How this package's services refuse a state, or changes, that are too large.
_TOO_LARGE = re.compile(
    r" (?:would be|would have|has) ([\d,]+) (bytes|keys|operations|lists and objects|values);"
    r" the limit is ([\d,]+)"
)


class RemoteStore(RemoteFinding, ThreadStore):
    """Keeps threads in a thread service.

    A service of this package merges edits: it announces the extension ``edits``. For other
    services (Agentuity's, or an older one of this package) see :class:`.BasicService`; with
    them a deleted thread can also come back. Threads are listed over HTTP, which needs
    ``flask-agentuity[reports]`` and a service that offers it.
    """

    shared_by_machines = True
    edits = True
    max_bytes = codec.MAX_DOCUMENT_BYTES

    def __init__(self, client: ThreadClient) -> None:
        """Use *client*, which is closed with the store."""
        self.client = client
        self._basic = BasicService(client)
        self._editing = _EditingService(client)
        self._directories = directories_of(client)

    @classmethod
    def from_url(cls, url: str, *, key: str, **options: Any) -> RemoteStore:
        """Return the store at a ws or wss *url*. Nothing is connected before the first use.

        :param key: the service's key.
        :param options: those of :class:`~flask_agentuity.client.ThreadClient`.
        :raises ConfigurationError: if one of them is wrong.
        """
        return cls(ThreadClient(url, key, **options))

    def restore(self, thread_id: str) -> bytes | None:
        return self._either(
            lambda: read_document(self.client, thread_id)[0],
            lambda: self._basic.restore(thread_id),
        )

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        return self._either(
            lambda: self._editing.read(thread_id), lambda: self._basic.read(thread_id)
        )

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        try:
            found = self._directories.get().get(thread_id)
        except (NotOffered, ConfigurationError):
            return self.restore(thread_id)
        if found is not None and found.document is None:
            return self.restore(thread_id)
        return None if found is None else found.document

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        with _with_sizes(thread_id):
            self._either(
                lambda: self._editing.save(thread_id, document, metadata),
                lambda: self._basic.save(thread_id, document, metadata),
            )

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        _require_possible_size(thread_id, operations)
        changed = (
            () if metadata is None else (SetMetadata(codec.encode(dict(metadata), "metadata")),)
        )
        write = Write([*operations, *changed])
        with _with_sizes(thread_id):
            self._either(
                lambda: write_merged(self._editing, thread_id, write),
                lambda: self._basic.write(thread_id, write),
            )

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        _require_possible_size(thread_id, write.operations)
        # A service has no turns, so they work within this process only.
        self._require_turn(thread_id, write.turn)
        with _with_sizes(thread_id):
            return write_owned(
                thread_id,
                write,
                lambda: self.read(thread_id, ()),
                lambda guarded: self._either(
                    lambda: self._editing.write(thread_id, guarded),
                    lambda: self._basic.write(thread_id, guarded),
                ),
            )

    def delete(self, thread_id: str) -> None:
        self.client.delete(thread_id)

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        # A service has no turns, so they work within this process only.
        self._require_turn(thread_id, expected.turn)
        if not is_of_owner(expected, lambda: self.read(thread_id, ())):
            return
        if not expected.version:
            self.delete(thread_id)
            return
        self._either(
            lambda: delete_document(self.client, thread_id, expected.version),
            lambda: self.delete(thread_id),
        )

    def close(self) -> None:
        self.client.close()
        if (directory := self._directories.made()) is not None:
            directory.close()

    def _either(self, with_edits: Callable[[], T], without: Callable[[], T]) -> T:
        """Call the function that suits the service to which the client is connected."""
        # Where there are no edits, callers need not turn theirs into splices, which would
        # become sets of whole lists here.
        self.edits = "edits" in self.client.features()
        if self.edits:
            try:
                return with_edits()
            except FeatureMissing:
                # The connection was lost, and the new one is to a service without edits.
                self.edits = False
        return without()


class _EditingService:
    """A service that announced ``edits``. With another one, FeatureMissing is raised."""

    edits = True

    def __init__(self, client: ThreadClient) -> None:
        self.client = client

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        document, version = read_document(self.client, thread_id)
        snapshot = codec.split_document(document, thread_id)
        if snapshot is not None:
            snapshot.version = version
        return with_owner(snapshot)

    def save(self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        text = codec.join_document(complete(snapshot, thread_id))
        replace_document(self.client, thread_id, text, metadata)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        answer = send_edits(
            self.client,
            thread_id,
            write.operations,
            began=write.began,
            version=write.version,
            counted=write.counted,
        )
        if isinstance(answer, Conflicting):
            return Conflict(answer.keys, answer.assigned, answer.metadata)
        return Written(answer.version, None, answer.preceding, answer.merged)


@contextmanager
def _with_sizes(thread_id: str) -> Iterator[None]:
    """Translate a refusal that contains a size and its limit into its error."""
    try:
        yield
    except ServiceRefusal as refusal:
        if (found := _TOO_LARGE.search(refusal.words)) is None:
            raise
        size, limit = (int(figure.replace(",", "")) for figure in found.group(1, 3))
        match found[2]:
            case "bytes":
                raise StateTooLarge(size, limit, thread_id) from refusal
            case "keys":
                raise TooManyKeys(size, limit, thread_id) from refusal
            case what:
                raise TooManyChanges(size, limit, thread_id, what) from refusal


def _require_possible_size(thread_id: str, operations: Sequence[Operation]) -> None:
    """Refuse *operations* that alone, on any thread, leave more than a service takes.

    :raises StateTooLarge: with the size that they would have on an empty thread.
    """
    limit = codec.MAX_DOCUMENT_BYTES
    values = (getattr(operation, "value", b"") for operation in operations)
    if sum(len(value) for value in values) <= limit:
        return
    certain: list[Operation] = []
    for operation in operations:
        match operation:
            # A smaller value may be stored where a default was meant.
            case Set(only_if_missing=False) | Push(unique=None) | Delete() | Clear():
                certain.append(operation)
            case Set() | Push() | SetMetadata():
                pass
            case _:
                # What is left depends on what is stored.
                return
    state: dict[str, bytes] = {}
    apply_operations(state, certain)
    codec.require_size(len(codec.join_document(state)), limit, thread_id)
