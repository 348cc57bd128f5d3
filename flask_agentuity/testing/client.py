"""A test client for apps that use threads.

::

    app.test_client_class = ThreadTestClient

    def test_it_remembers(app):
        client = app.test_client(state={"name": "Ada"})
        assert "Ada" in client.get("/").text
        with client.thread() as thread:
            assert thread.state["visits"] == 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ..thread.thread import Thread
from ..web.app_threads import threads_of
from ..web.manager import ThreadManager
from ..web.runs.reading import RUN_HEADER
from ..web.thread_ids import make_thread_id
from .runs import Received, receive


class ThreadTestClient(FlaskClient):
    """A test client that knows its thread.

    Set ``app.test_client_class = ThreadTestClient``, and pass the arguments to
    ``app.test_client()``. Without them, the client is a new visitor.
    """

    def __init__(
        self,
        *args: Any,
        thread_id: str | None = None,
        state: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the client, and store its thread if *state* or *metadata* is given.

        :param thread_id: the id of the thread; by default, a new one.
        :param state: the state to store.
        :param metadata: the metadata to store.
        :param owner: the owner of the thread. The client has to log in before it can use it.
        """
        super().__init__(*args, **kwargs)
        if thread_id is None and state is None and metadata is None:
            if owner is not None:
                raise TypeError("owner= is for a new thread: pass state= or metadata= as well.")
            return
        thread_id = thread_id or make_thread_id()
        provider = threads_of(self.application).signed_provider
        self.set_cookie(
            provider.cookie.name,
            provider.cookie_value(thread_id),
            path=provider.cookie.path,
        )
        if state is not None or metadata is not None:
            with self._open(thread_id, owner=owner) as thread:
                thread.state.update(state or {})
                if metadata is not None:
                    thread.metadata = dict(metadata)

    @property
    def thread_id(self) -> str | None:
        """The thread id in the client's cookie; None before a response has set it."""
        provider = threads_of(self.application).signed_provider
        cookie = self.get_cookie(provider.cookie.name, path=provider.cookie.path)
        return None if cookie is None else provider.read_cookie_value(cookie.value)

    @contextmanager
    def thread(self) -> Iterator[Thread]:
        """Open the thread of the client's cookie, to read or change it between two requests.

        :raises LookupError: if no response has set the cookie yet.
        """
        thread_id = self.thread_id
        if thread_id is None:
            raise LookupError("This client has no thread yet: no response has set its cookie.")
        with self._open(thread_id) as thread:
            yield thread

    def run_to_end(self, response: TestResponse, timeout: float = 30.0) -> bytes:
        """Read a response of ``threads.stream()``, wait until the run has ended, return the body.

        Then the thread is saved, and the receivers of ``thread_run_finished`` were called::

            body = client.run_to_end(client.post("/chat", json={"text": "Hello"}))

        :param timeout: how long to wait, in seconds.
        :raises TimeoutError: if the run has not ended.
        """
        with response:
            data = response.get_data()
        self._finish(timeout, response.headers.get(RUN_HEADER))
        return data

    def finish_runs(self, timeout: float = 30.0) -> None:
        """Wait until all runs of the app have ended.

        :raises TimeoutError: if some have not.
        """
        self._finish(timeout, None)

    def cut(self, response: TestResponse, chunks: int) -> Received:
        """Read *chunks* chunks of a response of ``threads.stream()``, and disconnect.

        The run continues, see :meth:`resume`. A chunk may contain several items.

        :raises ValueError: if the response is not that of a run.
        """
        return receive(response, chunks)

    def resume(self, received: Received, path: str) -> TestResponse:
        """Request the rest of the output, as a client does that reconnects.

        ::

            response = client.post("/chat", json={"text": "Hello"}, buffered=False)
            received = client.cut(response, 2)
            rest = client.resume(received, "/chat/stream")
            assert received.data + rest.data == expected

        :param path: the path of the blueprint's route ``stream``.
        """
        return self.get(path, query_string=received.query, headers=received.headers)

    def _finish(self, timeout: float, run_id: str | None) -> None:
        if not threads_of(self.application).runs.here.wait_for_end(timeout, run_id):
            raise TimeoutError(f"A run has not ended within {timeout:g} s.")

    @contextmanager
    def _open(self, thread_id: str, owner: str | int | None = None) -> Iterator[Thread]:
        manager: ThreadManager = self.application.extensions["agentuity"]
        # In the app's context, because the manager may serve several apps.
        with self.application.app_context(), manager.open(thread_id, owner=owner) as thread:
            yield thread
