"""What a request does whose turn was taken over by another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g
from support.leasing import ID, Leasing

from flask_agentuity import Thread, ThreadManager, TurnLost, thread_save_failed
from flask_agentuity.testing.client import ThreadTestClient


def test_a_save_under_a_lost_turn_changes_nothing(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Leasing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[Any] = []

    def note(sender: Flask, error: Exception, **more: Any) -> None:
        failures.append((type(error), more["thread"].id))

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        g.thread.state.push("l", 2)
        store.take_over("another")
        return "view"

    with thread_save_failed.connected_to(note):
        answer = client.get("/")
    assert answer.text == "view"
    assert failures == [(TurnLost, ID)]
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert (
        logging.ERROR,
        f"Thread {ID} could not be saved: The turn on thread {ID} was taken over by another"
        " request, or ended, before this request saved its changes. They were dropped.",
    ) in said
    assert store.restore(ID) == b'{"state":{"l":[1]}}'
    # The other still has its turn.
    assert not store.is_free
    store.end_turn(ID, "another")


def test_the_policy_for_failed_saves_applies_to_a_lost_turn(store: Leasing, tmp_path: Path) -> None:
    app = Flask("turns", instance_path=str(tmp_path))
    app.config.update(SECRET_KEY="turns", AGENTUITY_THREAD_ON_SAVE_ERROR="raise")
    threads = ThreadManager(app, store=store)
    app.test_client_class = ThreadTestClient

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        g.thread.state.push("l", 2)
        store.take_over("another")
        return "view"

    answer = app.test_client(thread_id=ID).get("/")
    assert answer.status_code == 409
    assert "has taken over this conversation" in answer.text
    assert store.restore(ID) is None
    store.end_turn(ID, "another")


def test_an_explicit_save_under_a_lost_turn_raises(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    caught: list[TurnLost] = []

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Response:
        g.thread.state.push("l", 2)
        g.thread.save()
        thread = g.thread

        def generate() -> Iterator[str]:
            yield "said"
            store.take_over("another")
            thread.state.push("l", 3)
            try:
                thread.save()
            except TurnLost as error:
                caught.append(error)
            yield " more"

        return Response(generate())

    assert client.get("/").text == "said more"
    assert [error.thread_id for error in caught] == [ID]
    # What was saved while the turn was held stays.
    assert store.restore(ID) == b'{"state":{"l":[1,2]}}'
    store.end_turn(ID, "another")


def test_a_turn_that_has_ended_does_not_affect_later_saves(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    kept: list[Thread] = []

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        kept.append(g.thread)
        return "view"

    assert client.get("/").text == "view"
    kept[0].state.push("l", 2)
    kept[0].save()
    assert store.restore(ID) == b'{"state":{"l":[1,2]}}'


def test_a_lost_turn_deletes_nothing_and_gives_no_new_id(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    """The thread belongs to the work of another request, which would lose it."""

    @app.get("/<way>")
    @threads.one_at_a_time()
    def view(way: str) -> str:
        len(g.thread.state)
        store.take_over("another")
        with pytest.raises(TurnLost):
            g.thread.destroy() if way == "destroy" else threads.rotate()
        assert g.thread.id == ID
        return "view"

    for way in ("destroy", "rotate"):
        answer = client.get(f"/{way}")
        assert (answer.status_code, answer.text) == (200, "view")
        assert store.restore(ID) == b'{"state":{"l":[1]}}'
        store.end_turn(ID, "another")
