"""What the log of a run contains: text, server-sent events, or a UI message stream.

The log has the bytes that readers get, so an offset in the log is an offset in what was received.
The end, which depends on how the run ended, is not in the log; :meth:`Format.end` makes it.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ...document import codec
from ...stores.runs import RunStatus

FormatName = Literal["text", "sse", "ui"]

#: What readers are told about a failed run; the reason is only logged.
FAILURE = "The answer failed."
INTERRUPTION = "The answer was interrupted."
#: The offset after the ``end`` event: nothing follows it.
END = "end"

_REFUSED = (
    "A run yields str, bytes or dict, and None is left out; this one has yielded {kind}."
    " Convert it, for example with str()."
)


class Encoder(ABC):
    """Makes the log of one run from what its generator yields. One thread uses it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        # A character of several bytes may be split between items.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @abstractmethod
    def encode(self, item: Any, at: int) -> bytes:
        """Return the bytes for *item* at this offset of the log; they may be empty.

        :raises TypeError: if it is not a str, bytes, dict or None.
        :raises StateNotSerializable: if a dict is not JSON.
        """

    @abstractmethod
    def close(self, status: RunStatus, at: int) -> bytes:
        """Return the last bytes of the log, after the generator has ended."""

    @abstractmethod
    def truncate(self, at: int) -> bytes:
        """Return the bytes that tell readers that the rest is not kept."""

    def _text_of(self, item: Any) -> str | None:
        """Return the text of an item; None for a dict."""
        match item:
            case str():
                return item if item.isascii() else _well_formed(item)
            case bytes() | bytearray() | memoryview():
                return self._decoder.decode(bytes(item))
            case None:
                return ""
            case Mapping():
                return None
        raise TypeError(_REFUSED.format(kind=type(item).__name__))


class Format(ABC):
    """A format of logs: how they are made and read."""

    name: ClassVar[FormatName]
    mimetype: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}
    #: What a reader gets first, and while there is no output.
    beginning: ClassVar[bytes] = b""
    heartbeat: ClassVar[bytes] = b""

    @abstractmethod
    def encoder(self, run_id: str) -> Encoder:
        """Return an encoder for the log of a run."""

    @abstractmethod
    def end(self, run_id: str, status: RunStatus) -> bytes:
        """Return what a reader gets after the log of a run that ended with this status."""

    @abstractmethod
    def text(self, log: bytes) -> str:
        """Return the text that was yielded."""

    @abstractmethod
    def is_boundary(self, before: bytes) -> bool:
        """Return whether reading may begin after *before*, the last bytes that were received."""


class _TextEncoder(Encoder):
    def encode(self, item: Any, at: int) -> bytes:
        if isinstance(item, bytes):
            return item
        text = self._text_of(item)
        return _json(item) + b"\n" if text is None else text.encode()

    def close(self, status: RunStatus, at: int) -> bytes:
        return b""

    def truncate(self, at: int) -> bytes:
        return b""


class TextFormat(Format):
    """Text as it is yielded; each dict is a line of JSON."""

    name = "text"
    mimetype = "text/plain"

    def encoder(self, run_id: str) -> Encoder:
        return _TextEncoder(run_id)

    def end(self, run_id: str, status: RunStatus) -> bytes:
        return b""

    def text(self, log: bytes) -> str:
        return log.decode(errors="replace")

    def is_boundary(self, before: bytes) -> bool:
        return True


class _EventEncoder(Encoder):
    def encode(self, item: Any, at: int) -> bytes:
        text = self._text_of(item)
        if text == "":
            return b""
        return make_event(self.run_id, at, _json(item if text is None else text))

    def close(self, status: RunStatus, at: int) -> bytes:
        rest = self._decoder.decode(b"", final=True)
        return make_event(self.run_id, at, _json(rest)) if rest else b""

    def truncate(self, at: int) -> bytes:
        return make_event(self.run_id, at, b"{}", "truncated")


class EventFormat(Format):
    """Server-sent events. The data is JSON: a string for text, an object for a dict."""

    name = "sse"
    mimetype = "text/event-stream"
    beginning = b"retry: 1000\n\n"
    heartbeat = b":\n\n"

    def encoder(self, run_id: str) -> Encoder:
        return _EventEncoder(run_id)

    def end(self, run_id: str, status: RunStatus) -> bytes:
        # Only the last event has the id, so that no other event is missed.
        last = b'event: end\nid: %b.%b\ndata: {"status":"%b"}\n\n' % (
            run_id.encode(),
            END.encode(),
            status.encode(),
        )
        if message := _message_of(status):
            return b"event: error\ndata: %b\n\n" % _json({"message": message}) + last
        return last

    def text(self, log: bytes) -> str:
        items = (codec.decode(data) for data in read_events(log))
        return "".join(item for item in items if isinstance(item, str))

    def is_boundary(self, before: bytes) -> bool:
        return before.endswith(b"\n\n")


class _UIEncoder(Encoder):
    """Makes a UI message stream of the Vercel AI SDK, version 5 and later."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self._has_begun = False
        self._has_finished = False
        self._text_is_open = False
        self._texts = 0

    def encode(self, item: Any, at: int) -> bytes:
        text = self._text_of(item)
        if text == "":
            return b""
        return self._events(self._parts_of(item, text), at)

    def close(self, status: RunStatus, at: int) -> bytes:
        rest = self._decoder.decode(b"", final=True)
        parts = self._parts_of(rest, rest) if rest else []
        if not self._has_begun:
            parts.append(self._start())
        if self._text_is_open:
            parts.append(self._end_of_text())
        if not self._has_finished and status == "done":
            parts.append({"type": "finish"})
        return self._events(parts, at)

    def truncate(self, at: int) -> bytes:
        return self._events([{"type": "data-truncated", "data": {}}], at)

    def _parts_of(self, item: Any, text: str | None) -> list[Mapping[str, Any]]:
        """Return the parts of the stream for an item, and those that must come before it."""
        kind = item.get("type") if text is None else None
        parts: list[Mapping[str, Any]] = []
        if kind == "start":
            self._has_begun = True
        elif not self._has_begun:
            parts.append(self._start())
        if text is not None:
            if not self._text_is_open:
                self._text_is_open = True
                self._texts += 1
                parts.append({"type": "text-start", "id": self._text_id})
            parts.append({"type": "text-delta", "id": self._text_id, "delta": text})
            return parts
        if self._text_is_open and not _is_aside(kind):
            # Text after a tool call, for example, is another part of the message.
            parts.append(self._end_of_text())
        self._has_finished = self._has_finished or kind in ("finish", "abort", "error")
        return [*parts, item]

    def _start(self) -> Mapping[str, Any]:
        self._has_begun = True
        return {"type": "start", "messageId": self.run_id}

    def _end_of_text(self) -> Mapping[str, Any]:
        self._text_is_open = False
        return {"type": "text-end", "id": self._text_id}

    @property
    def _text_id(self) -> str:
        return f"text-{self._texts}"

    def _events(self, parts: list[Mapping[str, Any]], at: int) -> bytes:
        events = b""
        for part in parts:
            events += make_event(self.run_id, at + len(events), _json(part))
        return events


class UIFormat(Format):
    """The UI message stream that ``useChat`` of the Vercel AI SDK reads."""

    name = "ui"
    mimetype = "text/event-stream"
    headers = {"x-vercel-ai-ui-message-stream": "v1"}
    heartbeat = b":\n\n"

    def encoder(self, run_id: str) -> Encoder:
        return _UIEncoder(run_id)

    def end(self, run_id: str, status: RunStatus) -> bytes:
        last = b"id: %b.%b\ndata: [DONE]\n\n" % (run_id.encode(), END.encode())
        if message := _message_of(status):
            return b"data: %b\n\n" % _json({"type": "error", "errorText": message}) + last
        if status == "stopped":
            return b'data: {"type":"abort"}\n\n' + last
        return last

    def text(self, log: bytes) -> str:
        parts = (codec.decode(data) for data in read_events(log))
        return "".join(part["delta"] for part in parts if part.get("type") == "text-delta")

    def is_boundary(self, before: bytes) -> bool:
        return before.endswith(b"\n\n")


FORMATS: Mapping[str, Format] = {
    each.name: each for each in (TextFormat(), EventFormat(), UIFormat())
}


def make_event(run_id: str, at: int, data: bytes, event: str = "") -> bytes:
    """Return the event at offset *at* of the log, with the offset that follows it.

    :param data: JSON, which has no line breaks.
    :param event: the event's type; a message if it is empty.
    """
    kind = f"event: {event}\n" if event else ""
    fixed = len(kind) + len(f"id: {run_id}.\n") + len(data) + len("data: \n\n")
    following = at + fixed
    # The offset is part of what it counts.
    while following != at + fixed + len(str(following)):
        following = at + fixed + len(str(following))
    return f"{kind}id: {run_id}.{following}\n".encode() + b"data: " + data + b"\n\n"


def read_events(log: bytes) -> list[bytes]:
    """Return the data of the messages in a log, without events of other types."""
    return [
        event.partition(b"data: ")[2]
        for event in log.split(b"\n\n")
        if event and not event.startswith(b"event: ")
    ]


def _is_aside(kind: object) -> bool:
    """Return whether a part of this type can occur in the middle of a text."""
    return isinstance(kind, str) and (kind.startswith("data-") or kind == "message-metadata")


def _json(value: Any) -> bytes:
    return codec.encode(value, "the item")


def _message_of(status: RunStatus) -> str | None:
    match status:
        case "failed":
            return FAILURE
        case "interrupted":
            return INTERRUPTION
        case _:
            return None


def _well_formed(text: str) -> str:
    """Replace unpaired surrogates, as JavaScript's ``toWellFormed()`` does."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
