"""Many clients of one address that come back at once, after a restart of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from flask_agentuity.client import ThreadClient
from flask_agentuity.errors import StoreError
from flask_agentuity.service import ThreadService

from .peers import KEY, PATIENCE, THREAD

Serve = Callable[..., ThreadService]

CLIENTS = 100


@pytest.fixture
def clients() -> Iterator[Callable[[str], list[ThreadClient]]]:
    with ExitStack() as opened:

        def make(url: str) -> list[ThreadClient]:
            return [
                opened.enter_context(closing(ThreadClient(url, KEY, reconnect_base=0.05)))
                for _ in range(CLIENTS)
            ]

        yield make


def connected(clients: list[ThreadClient]) -> bool:
    """Wait until all clients are connected; they try again by themselves."""
    until = time.monotonic() + PATIENCE
    waiting = list(clients)
    while waiting and time.monotonic() < until:
        waiting = [each for each in waiting if each.stats()["state"] != "ready"]
        time.sleep(0.01)
    return not waiting


def begin(clients: list[ThreadClient]) -> None:
    for each in clients:
        with suppress(StoreError):
            each.submit_restore(THREAD)


@pytest.mark.parametrize("options", [{}, {"trusted_addresses": ()}], ids=["trusted", "limited"])
def test_all_get_in_again(
    serve: Serve,
    clients: Callable[[str], list[ThreadClient]],
    options: dict[str, tuple[str, ...]],
) -> None:
    service = serve(**options)
    started = clients(service.url)
    begin(started)
    assert connected(started)
    service.stop()
    port = int(service.url.rpartition(":")[2].partition("/")[0])
    serve(port=port, **options)
    begin(started)
    assert connected(started)
    lost = [each.stats()["lost"] for each in started]
    if not options:
        # Attempts failed while nothing listened, but none was refused.
        assert not any(each.get("denied") for each in lost)
