"""Conversations that belong to a person, and in which nothing was said yet."""

from __future__ import annotations

from typing import Any

from flask import g, jsonify

from .owned_app import OwnedApp


def test_they_are_not_listed_and_are_erased(owned: OwnedApp) -> None:
    @owned.app.post("/start")
    def start() -> Any:
        owned.threads.new()
        return jsonify(owned.threads.claim().id)

    @owned.app.post("/title")
    def title() -> Any:
        g.thread.metadata["title"] = "Holidays"
        return jsonify(g.thread.id)

    client = owned.client("ada")
    said = owned.begin(client, "hello")
    begun = [client.post("/start").get_json() for _ in range(3)]
    store = owned.store
    for thread_id in begun:
        # It is there for its owner, who may go on with it.
        snapshot = store.read(thread_id, ())
        assert snapshot is not None
        assert snapshot.owner == "ada"
        assert store.describe(thread_id) is None
    assert client.get("/mine").get_json() == [said]
    page = store.list(owner="ada", limit=1)
    assert [thread.id for thread in page.threads] == [said]
    if page.cursor is not None:
        assert store.list(owner="ada", limit=1, cursor=page.cursor).threads == []
    assert [thread.id for thread in store.scan()] == [said]
    named = client.post("/title").get_json()
    assert named == begun[-1]
    assert client.get("/mine").get_json() == [named, said]
    assert owned.threads.erase("ada") == 4
    for thread_id in (*begun, said):
        assert store.read(thread_id, ()) is None
