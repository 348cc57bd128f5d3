"""WebSocket frames, without I/O: bytes are fed in pieces of any size.

websocket-client parses them. They are written by the package websockets if it is installed (the
extra ``service``), because websocket-client masks in Python.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from websocket import ABNF, WebSocketException, frame_buffer

try:
    # It masks in C: a frame of 100 KB takes a tenth of the time.
    from websockets.frames import Frame, Opcode
except ImportError:
    _has_websockets = False
else:
    _has_websockets = True

TEXT = ABNF.OPCODE_TEXT
BINARY = ABNF.OPCODE_BINARY
CLOSE = ABNF.OPCODE_CLOSE
PING = ABNF.OPCODE_PING
PONG = ABNF.OPCODE_PONG

_FINAL = 0x80
_MASKED = 0x80

#: The number of fragments that a message may have: enough for the largest in parts of 1 KiB.
MAX_FRAGMENTS = 16_384

NORMAL = 1000
PROTOCOL_ERROR = 1002
TOO_LARGE = 1009


class FrameError(Exception):
    """The data violates the WebSocket protocol or a limit. ``code`` is the close code to send."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Starved(Exception):
    """The parser needs bytes that have not arrived yet."""


class Message(NamedTuple):
    """A complete message, joined from its fragments, or a control frame."""

    opcode: int
    data: bytes


def text_frame(payload: bytes) -> bytes:
    """Return the masked frame of a text message."""
    return _masked_frame(TEXT, payload)


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return the masked frame of a ping, a pong or a close. *payload* is cut to 125 bytes."""
    return _masked_frame(opcode, payload[:125])


def _masked_frame(opcode: int, payload: bytes) -> bytes:
    if _has_websockets:
        return bytes(Frame(Opcode(opcode), payload).serialize(mask=True))
    # websocket-client's own function copies the payload once more and checks constants.
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", _FINAL | opcode, _MASKED | length)
    elif length < 65_536:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | 126, length)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | 127, length)
    key = os.urandom(4)
    return b"".join((head, key, ABNF.mask(key, payload)))


def close_frame(code: int) -> bytes:
    """Return the masked frame that closes the connection."""
    return control_frame(CLOSE, struct.pack("!H", code))


def close_reason(data: bytes) -> tuple[int | None, str]:
    """Return the code (None if there is none) and the reason of a close frame."""
    if len(data) < 2:
        return None, ""
    return struct.unpack("!H", data[:2])[0], data[2:].decode(errors="replace")


class FrameReader:
    """Parses messages from a stream of bytes, in bounded memory."""

    def __init__(self, max_message_bytes: int) -> None:
        """*max_message_bytes* is the limit for a message with all its fragments."""
        self._limit = max_message_bytes
        # The JSON parser validates UTF-8, in C instead of in Python.
        self._frames = frame_buffer(self._take, skip_utf8_validation=True)
        self._fed = memoryview(b"")
        self._fragments = bytearray()
        self._fragment_count = 0
        self._opcode: int | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Add bytes that arrived. :meth:`next` must have returned None before."""
        self._fed = memoryview(data)

    def next(self) -> Message | None:
        """Return the next message, or None if more bytes are needed.

        :raises FrameError: if the data is invalid. The connection is then unusable.
        """
        while True:
            try:
                frame = self._frames.recv_frame()
            except _Starved:
                return None
            except WebSocketException as error:
                raise FrameError(PROTOCOL_ERROR, str(error)) from None
            data = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
            if frame.opcode >= CLOSE:
                if not frame.fin or len(data) > 125:
                    raise FrameError(PROTOCOL_ERROR, "a control frame is too long or fragmented")
                return Message(frame.opcode, data)
            message = self._join(frame.opcode, bool(frame.fin), data)
            if message is not None:
                return message

    def _join(self, opcode: int, final: bool, data: bytes) -> Message | None:
        if (opcode == ABNF.OPCODE_CONT) == (self._opcode is None):
            raise FrameError(PROTOCOL_ERROR, "a fragment out of order")
        if self._opcode is None and final:
            return Message(opcode, data)
        if self._opcode is None:
            self._opcode = opcode
        self._fragments += data
        self._fragment_count += 1
        if self._fragment_count > MAX_FRAGMENTS:
            raise FrameError(TOO_LARGE, f"a message of more than {MAX_FRAGMENTS:,} fragments")
        if not final:
            return None
        message = Message(self._opcode, bytes(self._fragments))
        self._opcode = None
        self._fragments = bytearray()
        self._fragment_count = 0
        return message

    def _take(self, size: int) -> bytes:
        # The parser knows a frame's length before it asks for the frame's content.
        length = self._frames.length
        if length is not None and length + len(self._fragments) > self._limit:
            raise FrameError(TOO_LARGE, f"a message of more than {self._limit:,} bytes")
        if not self._fed:
            raise _Starved
        taken = bytes(self._fed[:size])
        self._fed = self._fed[size:]
        return taken
