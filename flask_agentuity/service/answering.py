"""What a request does to the store, and the reply to it. It blocks, so the event loop must not call
it.

Clients that use the extension ``edits`` merge by themselves, and say when their own requests began.
Others, such as the JavaScript runtime, do not. For them, the service keeps what it has sent in
reply to restores:

* A ``save`` is applied as the difference to the restore that it is based on (see
  :mod:`~flask_agentuity.service.full_saves`), and counts as begun then. Without such a
  restore it replaces the document.
* Any other write counts as begun at the last restore of its thread over the same connection.
  If there was none, it counts as older than any deletion that the store remembers: a thread
  that was deleted is not created again by a client that does not know of it. A client that
  restores the thread after its deletion can create a new one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import assert_never

from .. import wire
from ..document import codec
from ..document.codec import Snapshot
from ..document.foreign_text import printable
from ..document.operations import Clear, Operation, Set, SetMetadata
from ..errors import AgentuityError, StoreError, ThreadGone
from ..stores.applying import compose_document, require_complete
from ..stores.base import TOMBSTONE_SECONDS
from ..stores.expected import Expected
from ..stores.writing import Conflict, Write, Written, write_merged
from .full_saves import choose_view, find_changes
from .logs import Logs
from .tenants import Tenant
from .views import View, Views


class Answering:
    """Answers the requests of one connection, each in any thread.

    Requests for one thread must come one after another.
    """

    def __init__(self, tenant: Tenant, views: Views, logs: Logs) -> None:
        self._tenant = tenant
        self._store = tenant.store
        self._owner = tenant.owner
        self._views = views
        self._logs = logs

    def answer(self, request: wire.ThreadRequest, began: float) -> bytes:
        """Do what *request* asks for, and return the frame to send. It always returns one.

        The error for a document that is too large has the text of
        :exc:`~flask_agentuity.errors.StateTooLarge`, because clients read both sizes out of
        them.

        :param began: when the client's own request began, by :func:`time.monotonic`, if the
            client says so; otherwise when this one came.
        """
        inside = self._tenant.stored_id(request.thread_id)
        action = type(request).__name__.removesuffix("Request").lower()
        shown, failed = printable(inside), self._logs.failed
        extra = {"thread_id": shown}
        try:
            return self._do(inside, request, began)
        except ThreadGone as error:
            failed.warn(
                "The %s of thread %s was dropped, because the thread was deleted.",
                action,
                shown,
                extra=extra,
            )
            # The client knows the thread by its own id.
            return wire.encode_gone(request.id, str(error).replace(inside, request.thread_id))
        except AgentuityError as error:
            words = str(error).replace(inside, request.thread_id)
            reason = printable(str(error))
            failed.warn("The %s of thread %s failed: %s", action, shown, reason, extra=extra)
        except Exception as error:  # noqa: BLE001 - it is logged
            # An unexpected error of the store must fail only this request.
            self._logs.crashed.log(
                logging.ERROR,
                "The %s of thread %s failed.",
                action,
                shown,
                error=error,
                extra=extra,
            )
            words = f"The {action} failed inside the service; its log says why."
        return wire.encode_failure(request.id, words)

    def _do(self, inside: str, request: wire.ThreadRequest, began: float) -> bytes:
        match request:
            case wire.RestoreRequest():
                return self._restore(inside, request)
            case wire.SaveRequest():
                self._save(inside, request, began)
            case wire.MergeRequest():
                if request.began is not None:
                    return self._merge_edits(inside, request, began)
                self._merge(inside, request)
            case wire.DeleteRequest():
                self._store.delete_for(inside, Expected(request.version))
            case _:
                assert_never(request)
        return wire.encode_success(request.id)

    def _restore(self, inside: str, request: wire.RestoreRequest) -> bytes:
        # A deletion during the read must count as later than the restore.
        now = time.monotonic()
        if not self._store.edits:
            document = self._store.restore(inside)
            if request.began is None:
                snapshot = codec.split_document(document, inside) or Snapshot({})
                self._remember(request.thread_id, snapshot, inside, now)
            return wire.encode_document(request.id, document)
        snapshot = self._store.read(inside) or Snapshot({})
        document = compose_document(snapshot, inside)
        if request.began is None:
            self._remember(request.thread_id, snapshot, inside, now)
        version = snapshot.version
        # Only the document is needed: its parts must not take memory while the reply is made.
        del snapshot
        return wire.encode_document(request.id, document, version)

    def _remember(self, thread_id: str, snapshot: Snapshot, inside: str, now: float) -> None:
        state = require_complete(snapshot, inside)
        self._views.add(thread_id, View(state, snapshot.metadata, snapshot.version, now))

    def _save(self, inside: str, request: wire.SaveRequest, began: float) -> None:
        snapshot = _parse_saved(request.document, request.thread_id)
        state = require_complete(snapshot, inside)
        metadata = None if request.metadata is None else codec.encode(request.metadata, "metadata")
        if request.began is not None:
            self._replace(inside, request, state, metadata, began)
            return
        views = self._views.of(request.thread_id, began)
        view = choose_view(views, state, metadata)
        if view is None:
            began = self._last_restore(request.thread_id)
            self._replace(inside, request, state, metadata, began)
            return
        operations = find_changes(view, state, metadata)
        write = Write(operations, view.version, None, view.at, owner=self._owner)
        written = write_merged(self._store, inside, write)
        self._views.remove(view)
        kept = view.metadata if metadata is None else metadata
        saved = View(state, kept, written.version, view.at, saved=True)
        self._views.add(request.thread_id, saved)

    def _replace(
        self,
        inside: str,
        request: wire.SaveRequest,
        state: Mapping[str, bytes],
        metadata: bytes | None,
        began: float,
    ) -> None:
        if not self._store.edits:
            self._store.save(inside, request.document, request.metadata)
            return
        operations: list[Operation] = [Clear(), *(Set(key, value) for key, value in state.items())]
        if metadata is not None:
            operations.append(SetMetadata(metadata))
        self._store.write(inside, Write(operations, began=began, owner=self._owner))

    def _merge(self, inside: str, request: wire.MergeRequest) -> None:
        if not self._store.edits:
            self._store.merge(inside, request.operations, request.metadata)
            return
        operations = request.operations
        if request.metadata is not None:
            metadata = codec.encode(request.metadata, "metadata")
            operations = [*operations, SetMetadata(metadata)]
        began = self._last_restore(request.thread_id)
        self._store.write(inside, Write(operations, began=began, owner=self._owner))

    def _merge_edits(self, inside: str, request: wire.MergeRequest, began: float) -> bytes:
        write = Write(
            request.operations, request.version, None, began, request.counted, self._owner
        )
        outcome = self._store.write(inside, write)
        match outcome:
            case Written(version, _, preceding, merged):
                return wire.encode_applied(request.id, wire.Applied(version, preceding, merged))
            case Conflict(keys, assigned, metadata):
                conflict = wire.Conflicting(tuple(keys), tuple(assigned), metadata)
                words = "Another request has changed what this one replaces. Nothing was applied."
                return wire.encode_conflict(request.id, words, conflict)
            case _:
                assert_never(outcome)

    def _last_restore(self, thread_id: str) -> float:
        """Return when the connection last restored a thread; before any deletion if never."""
        restored = self._views.last_restore(thread_id)
        return time.monotonic() - 2 * TOMBSTONE_SECONDS if restored is None else restored


def _parse_saved(document: bytes, thread_id: str) -> Snapshot:
    """Read the document of a save.

    :raises StoreError: if it is not a JSON object.
    """
    try:
        return codec.split_document(document, thread_id) or Snapshot({})
    except StoreError:
        raise StoreError(
            f"The user_data of the save of thread {thread_id} is not a JSON object."
            " What was stored has not changed."
        ) from None
