"""The two ends of a connection: first the authorization, then everything else."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import assert_never

from .limits import MAX_AUTHORIZATION_BYTES, MAX_FRAME_BYTES, MAX_OPERATIONS
from .parsing import parse_authorization, parse_request
from .replies import (
    FEATURES,
    Denied,
    Failure,
    Granted,
    Malformed,
    Reply,
    Success,
    encode_denied,
    encode_granted,
    parse_reply,
)
from .requests import Frame, Refusal, ThreadRequest, encode_authorization


class Phase(enum.Enum):
    """How far the authorization of a connection has come."""

    WAITING = "waiting"
    GRANTED = "granted"
    DENIED = "denied"


class ClientProtocol:
    """The client's end of one connection."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.phase = Phase.WAITING
        self.max_frame_bytes = max_frame_bytes

    @staticmethod
    def opening(key: str) -> bytes:
        """Return the frame to send first."""
        return encode_authorization(key)

    def receive(self, frame: Frame) -> Reply:
        """Take the service's next frame. An unexpected one gives :class:`Malformed`."""
        if len(frame) > self.max_frame_bytes:
            return Malformed(f"over {self.max_frame_bytes:,} bytes")
        reply = parse_reply(frame)
        match self.phase, reply:
            case Phase.WAITING, Granted():
                self.phase = Phase.GRANTED
            case Phase.WAITING, Denied():
                self.phase = Phase.DENIED
            case Phase.WAITING, Success() | Failure():
                return Malformed("a reply before the authorization was answered")
            case ((Phase.GRANTED | Phase.DENIED), Granted() | Denied()):
                return Malformed("the authorization was answered twice")
            case Phase.DENIED, Success() | Failure():
                return Malformed("a reply after the key was denied")
        return reply


class ServiceEnd:
    """The service's end of one connection.

    *accepts* returns whether a key is accepted. It must compare in constant time.
    """

    def __init__(
        self,
        accepts: Callable[[str], bool],
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_operations: int = MAX_OPERATIONS,
    ) -> None:
        self.phase = Phase.WAITING
        #: The client's key, after it was accepted.
        self.key: str | None = None
        self.max_frame_bytes = max_frame_bytes
        self._max_operations = max_operations
        self._accepts = accepts

    def receive(self, frame: Frame) -> Granted | Denied | ThreadRequest | Refusal:
        """Take the client's next frame.

        The first gives :class:`Granted` or :class:`Denied` (send :meth:`answer`, and close
        with 1008 after a denial), every later one a request or a :class:`Refusal`.
        """
        waiting = self.phase is Phase.WAITING
        limit = min(MAX_AUTHORIZATION_BYTES if waiting else math.inf, self.max_frame_bytes)
        if len(frame) > limit:
            words = f"The frame is over {limit:,} bytes."
            return self._deny(words) if waiting else Refusal(None, words)
        match self.phase:
            case Phase.GRANTED:
                return parse_request(frame, self._max_operations)
            case Phase.DENIED:
                return Refusal(None, "The key was denied.")
        authorization = parse_authorization(frame)
        if isinstance(authorization, Refusal):
            return self._deny(authorization.error)
        if not self._accepts(authorization.key):
            return self._deny("The key is not known here.")
        self.phase = Phase.GRANTED
        self.key = authorization.key
        return Granted(FEATURES)

    @staticmethod
    def answer(decision: Granted | Denied) -> bytes:
        """Return the frame that says whether the client's key was accepted."""
        match decision:
            case Granted(features):
                return encode_granted(features)
            case Denied(error):
                return encode_denied(error)
            case _:
                assert_never(decision)

    def _deny(self, error: str) -> Denied:
        self.phase = Phase.DENIED
        return Denied(error)
