"""The lines that clients of a service cause its store to log: few, short, and each on one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from flask_agentuity.service import ThreadService
from flask_agentuity.service.store_log import StoreLog

from .peers import Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

STORES = "flask_agentuity.stores"


def push(key: str) -> dict[str, object]:
    return {"op": "push", "key": key, "record": 1}


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == STORES]


def test_one_write_logs_one_line_for_a_key(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    peer = connect(serve())
    peer.call("merge", operations=[{"op": "set", "key": "k", "value": 1}])
    peer.call("merge", operations=[push("k")] * 1_000)
    (record,) = lines(caplog)
    assert record.getMessage().startswith('A push to state["k"] of thread thrd_')


@pytest.mark.parametrize("age", [{}, {"age": 0}])
def test_clients_cannot_fill_the_log(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, age: dict[str, Any]
) -> None:
    peer = connect(serve())
    operation = push("k") if not age else {"op": "push", "key": "k", "value": 1}
    peer.call("merge", operations=[{"op": "set", "key": "k", "value": 1}], **age)
    for _ in range(100):
        assert peer.call("merge", operations=[operation], **age)["success"]
    assert 1 <= len(lines(caplog)) <= 40


def test_a_line_is_short_and_cannot_forge_another(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    thread = "thrd_0\nCRITICAL forged\x1b[2J"
    key = "k" * 5_000
    peer = connect(serve())
    peer.call("merge", thread, operations=[{"op": "set", "key": key, "value": 1}])
    peer.call("merge", thread, operations=[push(key)])
    peer.call("save", thread, user_data="nothing")
    records = [each for each in caplog.records if "forged" in each.getMessage()]
    assert len(records) >= 2
    for record in records:
        assert len(record.getMessage()) < 2_500
        assert record.getMessage().isprintable()
        assert str(getattr(record, "thread_id", "")).isprintable()


def test_what_others_log_is_not_limited(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    serve()
    for number in range(100):
        logging.getLogger(STORES).warning("The app has a line of its store: %d.", number)
    assert len(lines(caplog)) == 100


def test_the_next_line_tells_how_many_were_left_out() -> None:
    now = 0.0
    log = StoreLog(lambda: now)
    kept = []
    for moment in [0.0] * 25 + [10.0] * 2:
        now = moment
        record = logging.makeLogRecord({"msg": "Thread %s.", "args": ("t",)})
        if log.admits(record):
            kept.append(record.getMessage())
    assert kept == ["Thread t."] * 20 + [
        "Thread t. (5 more since the last such line)",
        "Thread t.",
    ]
