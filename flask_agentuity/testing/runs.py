"""Testing streamed answers, for :class:`.ThreadTestClient`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.test import TestResponse

from ..web.runs.reading import RUN_HEADER


@dataclass(frozen=True, slots=True)
class Received:
    """What a client has received of a run before it disconnected."""

    run_id: str
    data: bytes
    #: The identifier of the last event, if the run sends events.
    last_event_id: str | None

    @property
    def headers(self) -> dict[str, str]:
        """The headers with which a client of events asks for the rest."""
        return {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}

    @property
    def query(self) -> dict[str, str]:
        """The query with which another client asks for the rest."""
        if self.last_event_id:
            return {}
        return {"run": self.run_id, "after": str(len(self.data))}


def receive(response: TestResponse, chunks: int) -> Received:
    """Read *chunks* chunks of a streamed response, and disconnect.

    :raises ValueError: if the response is not that of a run.
    """
    run_id = response.headers.get(RUN_HEADER)
    if run_id is None:
        raise ValueError(f"The response {response.status} does not come from threads.stream().")
    data = b""
    # The first chunk of a text may be empty: it only causes the headers to be sent.
    body: Iterator[bytes] = filter(None, response.iter_encoded())
    for _, chunk in zip(range(chunks), body, strict=False):
        data += chunk
    response.close()
    return Received(run_id, data, last_event_id(data))


def last_event_id(data: bytes) -> str | None:
    """Return the identifier of the last complete event; None if there is none."""
    complete = data[: data.rfind(b"\n\n") + 1]
    ids = [line[4:].decode() for line in complete.split(b"\n") if line.startswith(b"id: ")]
    return ids[-1] if ids else None
