from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket import ABNF

from flask_agentuity.client import frames
from flask_agentuity.client.frames import FrameError, FrameReader, Message


def unmasked(payload: bytes, opcode: int = frames.TEXT, fin: int = 1) -> bytes:
    return ABNF(fin, 0, 0, 0, opcode, 0, payload).format()


def read(reader: FrameReader, data: bytes, step: int | None = None) -> list[Message]:
    messages = []
    step = step or max(1, len(data))
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (message := reader.next()) is not None:
            messages.append(message)
    return messages


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 4)), max_size=5),
    st.integers(1, 400),
)
def test_messages_are_joined_from_any_pieces(sent: list[tuple[bytes, int]], step: int) -> None:
    stream = b""
    for payload, parts in sent:
        cuts = [len(payload) * part // parts for part in range(parts + 1)]
        for part in range(parts):
            opcode = frames.TEXT if part == 0 else ABNF.OPCODE_CONT
            piece = payload[cuts[part] : cuts[part + 1]]
            stream += unmasked(piece, opcode, int(part == parts - 1))
            stream += unmasked(b"p", frames.PING)
    messages = read(FrameReader(1000), stream, step)
    assert [m.data for m in messages if m.opcode == frames.TEXT] == [each for each, _ in sent]
    assert sum(m.opcode == frames.PING for m in messages) == sum(parts for _, parts in sent)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20))
def test_random_bytes_give_messages_or_a_frame_error(pieces: list[bytes]) -> None:
    reader = FrameReader(500)
    try:
        for piece in pieces:
            reader.feed(piece)
            while (message := reader.next()) is not None:
                assert len(message.data) <= 500
                frames.close_reason(message.data)
    except FrameError as error:
        assert error.code in (frames.PROTOCOL_ERROR, frames.TOO_LARGE)


@pytest.mark.parametrize("length", [1 << 40, 1 << 62, 1001])
def test_an_announced_length_is_refused_before_its_bytes_come(length: int) -> None:
    reader = FrameReader(1000)
    with pytest.raises(FrameError, match="more than 1,000 bytes") as raised:
        read(reader, bytes([0x81, 127]) + struct.pack("!Q", length) + b"x" * 50)
    assert raised.value.code == frames.TOO_LARGE
    assert read(FrameReader(1000), unmasked(b"x" * 1000)) == [Message(frames.TEXT, b"x" * 1000)]


def test_endless_fragments_end_at_the_limit() -> None:
    reader = FrameReader(10_000)
    stream = unmasked(b"x" * 100, fin=0)
    with pytest.raises(FrameError, match="more than 10,000 bytes"):
        for _ in range(200):
            read(reader, stream)
            stream = unmasked(b"x" * 100, ABNF.OPCODE_CONT, 0)
    reader = FrameReader(10_000)
    read(reader, unmasked(b"", fin=0))
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="fragments"):
            read(reader, unmasked(b"", ABNF.OPCODE_CONT, 0) * (frames.MAX_FRAGMENTS + 1))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "stream",
    [
        unmasked(b"", ABNF.OPCODE_CONT),
        unmasked(b"a", fin=0) + unmasked(b"b"),
        unmasked(b"a", frames.PING, 0),
        unmasked(b"a", frames.CLOSE),
        unmasked(b"a" * 126, frames.PONG),
        b"\xf1\x00",
        b"\x83\x00",
    ],
)
def test_a_broken_protocol_is_named(stream: bytes) -> None:
    with pytest.raises(FrameError) as raised:
        read(FrameReader(1000), stream)
    assert raised.value.code == frames.PROTOCOL_ERROR


def test_what_is_sent_is_masked_with_a_new_key_each_time() -> None:
    first, second = frames.text_frame(b"hello"), frames.text_frame(b"hello")
    assert first != second
    assert first[1] & 0x80
    assert ABNF.mask(first[2:6], first[6:]) == b"hello"


def test_a_close_frame_is_read_and_written() -> None:
    assert frames.close_reason(struct.pack("!H", 1008) + b"b\xc3\xa4d\xff") == (1008, "bäd�")
    assert frames.close_reason(b"") == (None, "")
    assert len(frames.control_frame(frames.PONG, b"x" * 500)) == 2 + 4 + 125


@pytest.mark.parametrize("has_websockets", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_text_frame_is_masked_and_read_as_it_was_written(
    size: int, has_websockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_has_websockets", has_websockets)
    payload = b"abcde" * (size // 5 + 1)
    payload = payload[:size]
    frame = frames.text_frame(payload)
    assert frame[0] == 0x80 | frames.TEXT
    assert frame[1] & 0x80, "a client must mask its frames"
    assert size < 125 or payload not in frame
    assert read(FrameReader(1_000_000), frame) == [Message(frames.TEXT, payload)]
