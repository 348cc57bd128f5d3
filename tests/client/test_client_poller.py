"""Waiting for a socket, a time, or another thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from flask_agentuity.client.poller import Poller


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_input_and_room_for_output_end_the_wait(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    poller.add(ours)
    assert not poller.wait(lambda: 0)
    theirs.send(b"x")
    assert poller.wait(lambda: 60)
    ours.recv(1)
    poller.watch_output(ours, True)
    assert poller.wait(lambda: 60)
    poller.watch_output(ours, False)
    assert not poller.wait(lambda: 0)
    poller.remove(ours)
    theirs.send(b"x")
    assert not poller.wait(lambda: 0)


def test_work_that_is_added_after_the_look_wakes_the_poller(poller: Poller) -> None:
    work: list[int] = []

    def look() -> float:
        assert not work
        # Another thread comes between the look and the wait.
        adding = threading.Thread(target=add)
        adding.start()
        adding.join()
        return 60

    def add() -> None:
        work.append(1)
        poller.wake()

    begin = time.monotonic()
    assert not poller.wait(look)
    assert time.monotonic() - begin < 30


def test_an_unneeded_wake_up_has_no_effect(poller: Poller) -> None:
    poller.wake()
    begin = time.monotonic()
    poller.wait(lambda: 0.05)
    assert time.monotonic() - begin >= 0.045


def test_a_closed_poller_cannot_be_woken() -> None:
    poller = Poller()
    poller.close()
    poller.wake()
