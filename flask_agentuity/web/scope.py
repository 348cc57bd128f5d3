"""One request's way: its thread and session, its saves, and what its response says."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from threading import get_ident
from typing import Any, Protocol

from blinker import NamedSignal
from flask import Flask, Request, Response

from ..errors import AgentuityError, StateTooLarge, StoreError
from ..stores import ThreadStore
from ..thread.session import Session
from ..thread.thread import Thread
from ..thread.turns import Turn, take_turn
from . import events as signals
from .config import Settings
from .provider import ThreadIDProvider, require_thread_id

logger = logging.getLogger("flask_agentuity")


class AppThreads(Protocol):
    """What an exchange needs to know of the app that it belongs to."""

    settings: Settings
    store: ThreadStore

    @property
    def app(self) -> Flask:
        """The app."""

    @property
    def provider(self) -> ThreadIDProvider:
        """Who says which thread a request belongs to."""

    @property
    def has_own_provider(self) -> bool:
        """Whether that is one of the app's own."""

    def send(
        self,
        signal: NamedSignal,
        thread: Thread | None,
        session: Session | None,
        error: BaseException | None = None,
    ) -> None:
        """Send *signal* with the app as its sender."""


class Observer:
    """Tells of what happens to a thread, by signals and the log.

    A thread holds its observer, which holds neither the thread nor the request: what a
    request has read is freed when it ends, and not when the garbage collector comes by.
    """

    def __init__(self, threads: AppThreads) -> None:
        self._threads = threads

    @property
    def session(self) -> Session | None:
        """The session of the request, if there is one."""
        return None

    def tell(self, signal: NamedSignal, thread: Thread, error: BaseException | None = None) -> None:
        """Send *signal*, if somebody listens."""
        if signal.receivers:
            self._threads.send(signal, thread, self.session, error)

    def thread_touched(self, thread: Thread) -> None:
        if thread.is_new:
            self.tell(signals.thread_created, thread)

    def thread_restored(self, thread: Thread) -> None:
        self.tell(signals.thread_restored, thread)

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        logger.error("Thread %s could not be read: %s", thread.id, error)
        self.tell(signals.thread_restore_failed, thread, error)
        raise error

    def thread_saved(self, thread: Thread) -> None:
        self.tell(signals.thread_saved, thread)

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        logger.error("Thread %s could not be saved: %s", thread.id, error)
        self.tell(signals.thread_save_failed, thread, error)

    def thread_destroyed(self, thread: Thread) -> None:
        self.tell(signals.thread_destroyed, thread)

    def call_listener(self, listener: Callable[..., Any], *arguments: Any) -> None:
        signals.call(self._threads.app, listener, *arguments)


class _RequestObserver(Observer):
    """Tells of a thread in a request, where the app's policy stands and a cookie can be late."""

    def __init__(self, threads: AppThreads, exchange: Exchange, *, answered: bool) -> None:
        self._threads = threads
        self._exchange = weakref.ref(exchange)
        #: Whether the response has its headers.
        self.answered = answered

    @property
    def session(self) -> Session | None:
        exchange = self._exchange()
        return exchange.session if exchange else None

    def thread_touched(self, thread: Thread) -> None:
        super().thread_touched(thread)
        if self.answered and thread.is_new:
            logger.warning(
                "Thread %s was first touched after its response had begun: too late for its"
                " cookie, so the client will not find it again. Use g.thread.id in the view,"
                " before the response begins.",
                thread.id,
            )

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        try:
            super().thread_restore_failed(thread, error)
        except StoreError:
            if self._threads.settings.on_restore_error == "raise":
                raise

    def thread_saved(self, thread: Thread) -> None:
        if thread.was_missing and self._threads.has_own_provider and not thread.is_new:
            # Only now it is known that the id, which came from elsewhere, begins a thread.
            thread.was_missing = False
            self.tell(signals.thread_created, thread)
        super().thread_saved(thread)


class Exchange:
    """One request's way, from before the view to the last byte of its response."""

    def __init__(self, threads: AppThreads, current: Request, *, answered: bool) -> None:
        """Begin the exchange of a request.

        :param answered: whether its response was made already: it begins late, at the
            request's teardown.
        """
        self._of_app = threads
        self._observer = _RequestObserver(threads, self, answered=answered)
        self.thread = Thread(threads.store, _identification(threads, current), self._observer)
        self._session: Session | None = None
        self.error: BaseException | None = None
        self._worker = get_ident()
        self._earlier: list[Thread] = []
        self._alone: Turn | None = None
        self._streaming = False
        self._body: weakref.ref[SavingBody] | None = None
        self._failed = False
        #: Whether the request and its response have ended.
        self.over = False

    @property
    def session(self) -> Session:
        """The request and its response; made when somebody asks for it."""
        if self._session is None:
            # Atomic: copied contexts may ask at once.
            made = Session(self.thread, self._observer)
            self._session = vars(self).setdefault("_made_session", made)
        return self._session

    def be_alone(self, timeout: float) -> bool:
        """Keep other requests off the thread until this one has ended; False if in vain."""
        if self._alone is None:
            if self.thread.loaded:
                logger.warning(
                    "Thread %s was read before its turn was taken, so that may be old. Decorate"
                    " the function that reads it first with one_at_a_time() too.",
                    self.thread.id,
                )
            self._alone = take_turn(self._of_app.store, self.thread.id, timeout)
        return self._alone is not None

    def start_another(self, current: Request) -> Thread:
        """Put a new thread in the place of the request's; the earlier one is saved as well."""
        provider = self._of_app.provider
        thread_id = require_thread_id(provider.new_thread_id(self._of_app.app, current))
        thread = Thread(self._of_app.store, lambda: (thread_id, True), self._observer)
        self._earlier.append(self.thread)
        self.thread = thread
        if self._session is not None:
            self._session.thread = thread
        thread.id  # noqa: B018 - its cookie takes the place of the earlier one's
        return thread

    def answer(self, response: Response) -> Response:
        """Save, and mark the response of a request that touched its thread."""
        if self.error is not None and self._body and (replaced := self._body()):
            # Nobody else closes what an error page takes the place of, and its generator may
            # hold the request's context.
            self._streaming = False
            replaced.close()
        self._failed = self.error is not None or response.status_code >= 500
        if self._touched():
            if not self._failed:
                response = self._save_before(response)
            self._mark(response)
        # A file goes to the server as it is, which has faster ways for it.
        self._streaming = response.is_streamed and (
            not response.direct_passthrough or isinstance(response.response, Generator)
        )
        self._observer.answered = True
        if self._streaming:
            body = SavingBody(response.response, self._finish_stream, response.content_length)
            self._body = weakref.ref(body)
            response.response = body
        return response

    def tear_down(self, error: BaseException | None) -> None:
        """End the request, unless a stream goes on or it is a copied context that ends."""
        if self._streaming:
            return
        # What ends a copied context in the middle of the view was not noted as the request's;
        # nor is what ends the worker (SystemExit, a timeout of gevent), but only in its thread.
        interrupted = (
            error is not None and not isinstance(error, Exception) and get_ident() == self._worker
        )
        if self._observer.answered or self.error is not None or interrupted:
            self._end(self.error or error)

    def _threads(self) -> Iterator[Thread]:
        yield from self._earlier
        yield self.thread

    def _touched(self) -> bool:
        return self.thread.touched or bool(self._earlier)

    def _save(self) -> None:
        failure: Exception | None = None
        for thread in self._threads():
            try:
                thread.save()
            except (StoreError, StateTooLarge) as error:
                # The others are saved all the same.
                failure = failure or error
        if failure is not None:
            raise failure

    def _save_before(self, response: Response) -> Response:
        try:
            self._save()
        except (StoreError, StateTooLarge) as error:
            if self._of_app.settings.on_save_error == "raise":
                self._failed = True
                response.close()
                app = self._of_app.app
                return app.make_response(app.handle_user_exception(error))
        return response

    def _mark(self, response: Response) -> None:
        provider, app, thread = self._of_app.provider, self._of_app.app, self.thread
        headers = response.headers
        # Asking the headers for one that is missing costs an exception each.
        names = [name.lower() for name, _ in headers]
        if "vary" in names:
            response.vary.update(provider.vary)
        else:
            headers.add("Vary", ", ".join(provider.vary))
        if "cache-control" not in names:
            headers.add("Cache-Control", "private")
        if thread.destroyed:
            provider.end_thread_id(app, response, thread.id)
        elif thread.saved or not self._failed:
            provider.set_thread_id(app, response, thread.id)

    def _finish_stream(self, error: BaseException | None) -> None:
        if not self._streaming:
            return
        try:
            if error is None and not self._failed:
                self._save()
        except (StoreError, StateTooLarge):
            if self._of_app.settings.on_save_error == "raise":
                raise
        finally:
            self._streaming = False
            self._end(error or self.error)

    def _end(self, error: BaseException | None) -> None:
        ended_before, self.over = self.over, True
        self._failed = self._failed or error is not None
        # Its traceback leads back to the request, and so to this.
        self.error = None
        if not ended_before:
            if self._session is not None:
                self._session.complete()
            if self._alone is not None:
                self._alone.end()
            if signals.session_completed.receivers:
                self._of_app.send(signals.session_completed, self.thread, self.session, error)
        # A copied context may end later, with changes of its own.
        if not self._failed:
            for thread in self._threads():
                thread.warn_of_unsaved()


class SavingBody:
    """A streamed body that saves the thread before the client can see that it has ended."""

    def __init__(
        self,
        body: Iterable[Any],
        finish: Callable[[BaseException | None], None],
        length: int | None,
    ) -> None:
        self._body = body
        self._iterator: Iterator[Any] | None = None
        self._finish = finish
        # With a Content-Length the last byte is the end; else it is the end of the iteration.
        self._left = length
        self._held: list[Any] = []

    def __iter__(self) -> SavingBody:
        return self

    def __next__(self) -> Any:
        if self._held:
            return self._held.pop()
        chunk = self._following()
        if self._left is not None:
            self._left -= len(chunk.encode() if isinstance(chunk, str) else chunk)
            if self._left <= 0:
                self._hold_until_the_end()
        return chunk

    def close(self) -> None:
        """Close the body; the client may have gone in the middle of it."""
        try:
            if close := getattr(self._body, "close", None):
                close()
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)

    def _following(self) -> Any:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        except StopIteration:
            self._finish(None)
            raise
        except BaseException as error:
            self._finish(error)
            raise

    def _hold_until_the_end(self) -> None:
        try:
            while not self._held:
                if following := self._following():
                    self._held.append(following)
        except StopIteration:
            return


def _identification(threads: AppThreads, current: Request) -> Callable[[], tuple[str, bool]]:
    def identify() -> tuple[str, bool]:
        provider = threads.provider
        thread_id = require_thread_id(provider.get_thread_id(threads.app, current))
        return thread_id, provider.is_made_now(thread_id, current)

    return identify
