"""What a request does to the store, and the reply to it. Blocking: not for the event loop."""

from __future__ import annotations

import logging

from .. import wire
from ..document import codec
from ..errors import AgentuityError, StoreError
from ..stores.base import ThreadStore
from .keys import stored_id

logger = logging.getLogger("flask_agentuity.service")


def answer(store: ThreadStore, namespace: str, request: wire.Request) -> bytes:
    """Do what *request* asks for and return the frame to send; there always is one.

    The words for a document that is too large are those of
    :exc:`~flask_agentuity.errors.StateTooLarge`: clients read both sizes out of them.
    """
    inside = stored_id(namespace, request.thread_id)
    action = type(request).__name__.lower()
    try:
        return _do(store, inside, request)
    except AgentuityError as error:
        # Clients know the thread by their own name for it.
        words = str(error).replace(inside, request.thread_id)
        logger.warning("The %s of thread %s failed: %s", action, inside, error)
    except Exception:
        # Only this request must suffer from what a store did not foresee.
        logger.exception("The %s of thread %s failed.", action, inside)
        words = f"The {action} failed inside the service; its log says why."
    return wire.encode_failure(request.id, words)


def _do(store: ThreadStore, inside: str, request: wire.Request) -> bytes:
    match request:
        case wire.Restore(id):
            return wire.encode_document(id, store.restore(inside))
        case wire.Save(id, thread_id, document, metadata):
            try:
                store.save(inside, document, metadata)
            except StoreError:
                _require_document(document, thread_id)
                raise
        case wire.Merge(id, _, operations, metadata):
            store.merge(inside, operations, metadata)
        case wire.Delete(id):
            store.delete(inside)
    return wire.encode_success(request.id)


def _require_document(document: bytes, thread_id: str) -> None:
    """Tell a document that cannot be read from one that cannot be stored."""
    try:
        codec.split_document(document, thread_id)
    except StoreError:
        raise StoreError(
            f"The user_data of the save of thread {thread_id} is not a JSON object."
            " What was stored is as it was."
        ) from None
