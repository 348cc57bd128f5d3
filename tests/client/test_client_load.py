"""Many threads, mixed sizes, and a service that is restarted again and again.

Short by default. With FLASK_AGENTUITY_LONG_TESTS=1 there are 50,000 operations.
"""

from __future__ import annotations

import itertools
import os
import random
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.waiting import eventually

from flask_agentuity.client import ThreadClient
from flask_agentuity.document.operations import Push
from flask_agentuity.errors import OutcomeUnknown, RequestTimeout, StoreError

from .scripted_service import Service

LONG = bool(os.environ.get("FLASK_AGENTUITY_LONG_TESTS"))
OPERATIONS = 50_000 if LONG else 3_000
CALLERS = 64
RESTARTS = 10
SIZES = [100, 100, 100, 1_000, 1_000, 10_000, 100_000, 1_000_000]


def has_connected(client: ThreadClient, number: int) -> bool:
    return client.connection_number == number


@pytest.mark.parametrize("tls", [False, True])
def test_nothing_is_lost_or_mixed_up(
    connect: Callable[..., ThreadClient], server_context: ssl.SSLContext, ca_file: str, tls: bool
) -> None:
    options: dict[str, Any] = {"context": server_context} if tls else {}
    service = Service(**options)
    client = connect(
        service.url,
        ca_file=ca_file if tls else None,
        grace=10,
        request_timeout=30.0,
        max_queued_bytes=256 * 1024 * 1024,
    )
    wrong: list[str] = []
    unsettled = 0
    unknown = 0
    done = 0
    overdue = 0
    lock = threading.Lock()
    restarted = threading.Event()

    def is_done(enough: int) -> bool:
        return done >= enough

    def work(number: int) -> None:
        nonlocal unsettled, unknown, done, overdue
        dice = random.Random(number)
        thread_id = str(number)
        stored: set[bytes | None] = {None}
        for turn in itertools.count():
            if turn >= OPERATIONS // CALLERS and restarted.is_set():
                return
            begin = time.monotonic()
            try:
                if turn % 3 == 1:
                    found = client.restore(thread_id)
                    if found not in stored:
                        wrong.append(f"{thread_id}: {found!r:.60}")
                    stored = {found}
                elif turn % 3 == 2:
                    item = b'"%d-%d"' % (number, turn)
                    client.merge(thread_id, [Push("log", item)])
                else:
                    size = dice.choice(SIZES)
                    document = b'{"state":{"n":%d,"turn":%d,"a":"%b"}}' % (
                        number,
                        turn,
                        bytes([97 + turn % 26]) * size,
                    )
                    stored.add(document)
                    client.save(thread_id, document)
                    stored = {document}
            except OutcomeUnknown:
                with lock:
                    unknown += 1
            except RequestTimeout:
                with lock:
                    unsettled += 1
            except StoreError as error:
                wrong.append(repr(error))
            with lock:
                done += 1
                overdue += time.monotonic() - begin > 31

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CALLERS)]
    total = OPERATIONS // CALLERS * CALLERS
    try:
        for thread in threads:
            thread.start()
        for restart in range(1, RESTARTS + 1):
            # Counted from here, because this thread may be far behind the callers.
            enough = done + total // (RESTARTS + 2)
            eventually(partial(is_done, enough), seconds=600)
            port, documents, merges = service.port, service.documents, service.merges
            service.close()
            service = Service(port=port, **options)
            service.documents, service.merges = documents, merges
            # An earlier restart would not cost the client a connection.
            eventually(partial(has_connected, client, restart + 1), seconds=60)
        restarted.set()
        for thread in threads:
            thread.join(600)
            assert not thread.is_alive()
        stats = client.stats()
    finally:
        restarted.set()
        client.close(timeout=0)
        service.close()
    assert not wrong, wrong[:3]
    assert not overdue
    # Merges that were sent once, and other calls that were sent twice, may fail.
    assert unknown + unsettled <= CALLERS * RESTARTS
    pushed = [change["operations"][0]["value"] for change in service.merges]
    assert len(pushed) == len(set(pushed)), "a push was done twice"
    acknowledged = stats["requests"]["merge ok"]
    assert acknowledged <= len(pushed) <= acknowledged + unknown
    assert client.connection_number == RESTARTS + 1
    assert stats["pending"] == stats["queued_bytes"] == 0
