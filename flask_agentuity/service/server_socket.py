"""A WebSocket of the service that counts what arrives, and parses it in small pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import OPEN, Event

from ..wire.limits import MAX_AUTHORIZATION_BYTES
from .buffers import Held
from .transports import control

#: What a client may send before its key was accepted: a handshake, with cookies and headers of
#: proxies, and the first frame.
MAX_UNAUTHORIZED_BYTES = 24 * 1024 + MAX_AUTHORIZATION_BYTES

# Since version 15 of websockets.
_SENDS_BYTES_AS_TEXT = "text" in signature(ServerConnection.send).parameters

#: How many bytes are parsed at once: of small frames, and of a large one.
_SMALLEST_PIECE = 1024
_LARGEST_PIECE = 64 * 1024

#: A piece that took longer, in seconds, had many frames.
_LONG = 0.0001

#: Seconds after which other connections are served.
_LONGEST_TURN = 0.0002

#: The data of an idle socket.
_NOTHING = memoryview(b"")


class ServerSocket(ServerConnection):
    """Accepts little data from a client until :meth:`authorize` is called, and counts it.

    A socket returns up to 256 KiB at once. To parse ten thousand frames in one step would stop
    all other connections.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Called once if the client sends too much before it was authorized.
        self.on_overrun: Callable[[], object] | None = None
        self.is_overrun = False
        #: The file number of the socket, also when it is closed already.
        self.socket_number = -1
        self._left = MAX_UNAUTHORIZED_BYTES
        self._held: Held | None = None
        self._on_lost: Callable[[], object] | None = None
        self._abort_later: asyncio.TimerHandle | None = None
        # It is made when the socket was accepted, before the TLS handshake.
        self._accepted = self.loop.time()
        self._unparsed = _NOTHING
        self._is_parsing = False
        self._piece = _SMALLEST_PIECE
        # Bytes of messages that were handed over in this step.
        self._handed_over = 0

    def authorize(self, held: Held) -> None:
        """Accept frames of every size from now on, and count them as *held*."""
        self._held = held

    def seconds_left(self, timeout: float) -> float:
        """Return how much of *timeout* is left since the socket was accepted."""
        return max(0.0, self._accepted + timeout - self.loop.time())

    async def send_text(self, frame: bytes) -> None:
        """Send text in UTF-8, without copying it if this version of websockets can."""
        if _SENDS_BYTES_AS_TEXT:
            await self.send(frame, text=True)
        else:
            await self.send(frame.decode())

    def send_within(self, seconds: float, on_lost: Callable[[], object]) -> None:
        """Abort the connection unless it has ended in time. Call *on_lost* when it has ended."""
        self._on_lost = on_lost
        self._abort_later = self.loop.call_later(seconds, self.transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the WebSocket a transport that considers the data which was not parsed yet."""
        opened = transport.get_extra_info("socket")
        self.socket_number = -1 if opened is None else int(opened.fileno())
        self._controlled = control(cast(asyncio.Transport, transport), self._parse)
        super().connection_made(cast(asyncio.Transport, self._controlled))

    def data_received(self, data: bytes) -> None:
        """Count what arrived, and parse it unless it is too much."""
        if self._held is not None:
            self._held.add(len(data))
        elif self.is_overrun:
            return
        else:
            self._left -= len(data)
            if self._left < 0:
                self._overrun()
                return
        if len(data) <= _SMALLEST_PIECE and not self._unparsed:
            self._parse_piece(data)
            return
        # While reading is paused, at most one more piece of data comes, from a TLS connection.
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._controlled.hold()
        self._parse()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection has ended, and forget what was not parsed."""
        self._unparsed = _NOTHING
        super().connection_lost(exc)
        # Everything here should be freed at once, not when the garbage collector finds it.
        self.on_overrun = self._held = None
        self._controlled.end()
        if self._abort_later is not None:
            self._abort_later.cancel()
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        """Make senders wait."""
        self._controlled.is_full = True
        if not self.paused:
            super().pause_writing()

    def resume_writing(self) -> None:
        """Send the data that had to wait. If none is left, let senders go on."""
        self._controlled.is_full = False
        self._controlled.flush()
        if self.paused and not self._controlled.is_full:
            super().resume_writing()

    def process_event(self, event: Event) -> None:
        """Hand a frame to its receiver."""
        if isinstance(event, Frame):
            if event.opcode in DATA_OPCODES:
                self._handed_over += len(event.data)
            if len(event.data) > _SMALLEST_PIECE:
                # The parser keeps its last frame until the next one comes.
                remembered, event = event, replace(event)
                remembered.data = b""
        super().process_event(event)

    def _parse(self) -> None:
        """Parse for a short time, and schedule the rest."""
        if self._is_parsing:
            return
        now = time.perf_counter()
        until = now + _LONGEST_TURN
        self._is_parsing = True
        try:
            while self._unparsed and not self._controlled.is_paused:
                size = self._piece
                piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
                self._parse_piece(bytes(piece))
                before, now = now, time.perf_counter()
                self._piece = (
                    _SMALLEST_PIECE if now - before > _LONG else min(2 * size, _LARGEST_PIECE)
                )
                if now >= until:
                    break
        finally:
            self._is_parsing = False
        if not self._unparsed:
            # An empty view would keep all of the data.
            self._unparsed = _NOTHING
            self._controlled.release()
        elif not self._controlled.is_paused:
            self.loop.call_soon(self._parse)

    def _parse_piece(self, piece: bytes) -> None:
        """Parse *piece*, and hold no longer what is not part of a message."""
        before = len(self.protocol.reader.buffer) + len(piece)
        self._handed_over = 0
        super().data_received(piece)
        if self._held is not None:
            # The headers of frames, and whole control frames.
            self._held.remove(before - len(self.protocol.reader.buffer) - self._handed_over)

    def _overrun(self) -> None:
        # The rest is read and discarded, so that the client can read why.
        self.is_overrun = True
        if self.protocol.state is OPEN and self.on_overrun is not None:
            self.on_overrun()
        else:
            self.transport.abort()
