"""The methods of a manager that are about streamed answers."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from flask import Blueprint, Response, has_request_context

from ...thread.runs.run import Run
from ...thread.runs.runner import Output
from ...thread.thread import Thread
from ..flask_internals import current_app_object, current_request
from ..served_apps import ServedApps
from ..switching import may_name
from .finding import find_thread_id
from .routes import make_blueprint
from .starting import plan_run


class StreamedRuns(ServedApps):
    """Streams answers that continue without their client."""

    def stream(self, output: Output, format: Literal["text", "sse", "ui"] = "text") -> Response:
        """Return a response that streams a generator, which continues if the client disconnects.

        The generator is a run: it runs in a Python thread of this process, in a copy of the
        request's context. Other requests can read its output from any position, see
        :attr:`blueprint`. The thread is saved before a client can see the end::

            @app.post("/chat")
            @threads.one_at_a_time(on_busy="reject")
            def chat():
                g.thread.state.push("messages", {"role": "user", "content": request.json["text"]})
                return threads.stream(answer(g.thread.state), format="sse")

        The run has the turn of the thread (see :meth:`one_at_a_time`) until it ends. If the view
        has not taken the turn, this method does, as with ``on_busy="reject"``. The generator
        starts after the changes of the view are saved; if the view raises or returns another
        response, it does not start.

        If the generator raises, its changes are not saved, and the status of the run is
        ``failed``.

        :param output: a generator, an asynchronous generator or another iterable. It yields
            ``str``, ``bytes`` or dicts, which are sent as JSON; None is ignored.
        :param format: ``"text"``, ``"sse"`` for server-sent events, or ``"ui"`` for the UI message
            stream of the Vercel AI SDK.
        :raises Conflict: of Werkzeug (409), if another request has the turn.
        :raises ServiceUnavailable: of Werkzeug (503), if the process has
            ``AGENTUITY_RUN_MAX_PER_PROCESS`` runs.
        :raises TypeError: if *output* cannot be run.
        :raises ValueError: for another format.
        :raises StoreError: if the store cannot be reached.
        """
        return plan_run(self._threads_of(current_app_object()), output, format)

    def run(self, thread: Thread | str | None = None) -> Run | None:
        """Return the latest run of a thread; None if there is none, or it is no longer kept.

        A run is kept for ``AGENTUITY_RUN_KEEP`` seconds after its end::

            last = threads.run()
            if last and last.status in ("failed", "interrupted"):
                ...  # offer to try again

        :param thread: a thread or its id; None: the thread of the request, which this does not
            use. With an owner loader, there is no run of another user's thread in a request.
        :raises StoreError: if the store cannot be reached.
        """
        threads = self._threads_at_work()
        thread_id = self._id_of(thread)
        stored = None if thread_id is None else threads.runs.find_settled(thread_id)
        return None if stored is None else threads.runs.as_run(stored)

    def stop(self, thread: Thread | str | None = None) -> bool:
        """Ask the run of a thread to stop, in any process. Return whether there is one.

        A generator is closed when it yields the next time; an asynchronous one is cancelled at
        once. Its changes are saved, and the status of the run is ``stopped``.

        :param thread: as for :meth:`run`.
        :raises StoreError: if the store cannot be reached.
        """
        runs = self._threads_at_work().runs
        thread_id = self._id_of(thread)
        stored = None if thread_id is None else runs.find_settled(thread_id)
        return stored is not None and runs.here.stop(stored.key)

    @cached_property
    def blueprint(self) -> Blueprint:
        """The routes with which clients read and stop the runs of their own thread.

        ``GET stream`` reads a run from the position given by ``Last-Event-ID`` or
        ``?run=&after=``; 204 if no run is under way, or everything was read. ``GET status``
        returns the latest run as JSON. ``POST stop`` stops it::

            app.register_blueprint(threads.blueprint, url_prefix="/chat")
        """
        return make_blueprint()

    def _id_of(self, thread: Thread | str | None) -> str | None:
        if thread is None:
            return find_thread_id(self._threads_of(current_app_object()), current_request())
        if not isinstance(thread, str):
            return thread.id
        if has_request_context():
            threads = self._threads_of(current_app_object())
            if threads.owner_loader is not None and not may_name(threads, thread):
                return None
        return thread
