"""Documents of other software that orjson does not read or write, in every store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.minimal import MinimalStore
from support.recording import THREAD_ID, begin

from flask_agentuity import StateNotSerializable, StoreError, ThreadStore
from flask_agentuity.service import ThreadService
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.redis import RedisStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite import SQLiteStore

KEY = "a key of the test"
LARGE = 123456789012345678901234567890


class RawStore(MinimalStore):
    """A store of an app, whose documents other software writes as well."""

    def put(self, document: bytes) -> None:
        (self._folder / THREAD_ID).write_bytes(document)

    def raw(self) -> bytes:
        return (self._folder / THREAD_ID).read_bytes()


class Stores:
    """A store, and a way to put a document into it as other software does."""

    def __init__(self, store: ThreadStore) -> None:
        self.store = store

    def put(self, document: str) -> None:
        if isinstance(self.store, RawStore):
            self.store.put(document.encode())
        elif isinstance(self.store, RemoteStore):
            self.store.client.save(THREAD_ID, document.encode(), {"m": 1})
        else:
            self.store.save(THREAD_ID, document.encode(), {"m": 1})

    def document(self) -> bytes:
        if isinstance(self.store, RawStore):
            return self.store.raw()
        return self.store.restore(THREAD_ID) or b""


@pytest.fixture(params=["memory", "sqlite", "redis", "remote", "own"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    match request.param:
        case "memory":
            yield Stores(MemoryStore())
        case "sqlite":
            with closing(SQLiteStore(tmp_path / "threads.db")) as sqlite:
                yield Stores(sqlite)
        case "redis":
            server = request.getfixturevalue("redis_server")
            with closing(RedisStore.from_url(server.url)) as redis:
                yield Stores(redis)
        case "remote":
            service = ThreadService(MemoryStore(), [KEY])
            service.start()
            with closing(RemoteStore.from_url(service.url, key=KEY)) as remote:
                yield Stores(remote)
            service.stop()
        case _:
            yield Stores(RawStore(tmp_path))


def deep(levels: int, kind: str, inner: str) -> str:
    if kind == "list":
        return "[" * levels + inner + "]" * levels
    return '{"k":' * levels + inner + "}" * levels


def innermost(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = value[0] if isinstance(value, list) else value["k"]
    return value


def assert_only_read(stores: Stores) -> None:
    before = stores.document()
    thread = begin(stores.store)
    assert set(dict(thread.state)) >= {"a"}
    assert thread.metadata["m"]
    assert not thread.dirty
    thread.save()
    assert stores.document() == before


@pytest.mark.parametrize("spelled", [r"half \ud83d", r"half \ude00"])
def test_half_a_surrogate_pair(stores: Stores, spelled: str) -> None:
    stores.put(
        f'{{"state":{{"a":1,"text":"{spelled}","messages":[{{"content":"{spelled}"}}],'
        f'"{spelled}":["{spelled}"]}},"metadata":{{"m":"{spelled}"}}}}'
    )
    whole = "half \ufffd"
    expected = {"a": 1, "text": whole, "messages": [{"content": whole}], whole: [whole]}
    assert_only_read(stores)
    thread = begin(stores.store)
    assert dict(thread.state) == thread.state.copy() == expected
    assert thread.state["half \ud83d"] == [whole]
    assert "half \ud83d" in thread.state
    thread.state["messages"].append({"content": "more"})
    thread.metadata["title"] = "t"
    thread.save()
    thread = begin(stores.store)
    expected["messages"].append({"content": "more"})  # type: ignore[attr-defined]
    assert dict(thread.state) == expected
    assert thread.metadata["title"] == "t"
    json.loads(stores.document())


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("levels", [253, 300, 1100, 3000])
def test_deep_nesting(stores: Stores, kind: str, levels: int) -> None:
    text = deep(levels, kind, '{"n":1}')
    stores.put(f'{{"state":{{"a":1,"deep":{text},"b":[1]}},"metadata":{{"m":1}}}}')
    assert_only_read(stores)
    thread = begin(stores.store)
    assert innermost(thread.state["deep"], levels) == {"n": 1}
    assert text in thread.get_serialized_state()
    # Another key.
    thread.state["b"].append(2)
    thread.state["a"] += 1
    thread.save()
    assert text.encode() in stores.document()
    thread = begin(stores.store)
    assert (thread.state["a"], thread.state["b"]) == (2, [1, 2])


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("levels", [300, 1100, 3000])
def test_a_change_deep_inside(stores: Stores, kind: str, levels: int) -> None:
    text = deep(levels, kind, '{"n":1}')
    stores.put(f'{{"state":{{"a":1,"deep":{text}}},"metadata":{{"m":1}}}}')
    changed = deep(levels, kind, '{"n":2}').encode()
    thread = begin(stores.store)
    value = thread.state["deep"]
    innermost(value, levels)["n"] = 2
    if isinstance(stores.store, RemoteStore) and levels > 1000:
        # The frames of the protocol do not nest that deep.
        with pytest.raises(StoreError, match="too deeply nested"):
            thread.save()
        return
    thread.save()
    assert changed in stores.document()
    # Assigning it is no different.
    innermost(value, levels)["n"] = 3
    thread.state["deep"] = value
    thread.save()
    assert deep(levels, kind, '{"n":3}').encode() in stores.document()


def test_large_integers(stores: Stores) -> None:
    stores.put(
        f'{{"state":{{"a":1,"n":{LARGE},"list":[1,{LARGE}],"in":{{"x":{{"n":{LARGE}}}}}}},'
        f'"metadata":{{"m":1}}}}'
    )
    before = stores.document()
    assert before.count(str(LARGE).encode()) == 3
    assert_only_read(stores)
    thread = begin(stores.store)
    # A store that keeps keys or items by themselves reads them as JavaScript does.
    assert thread.state["n"] in (LARGE, float(LARGE))
    assert thread.state["list"] in ([1, LARGE], [1, float(LARGE)])
    thread.state["a"] = 2
    thread.save()
    assert stores.document().count(str(LARGE).encode()) == 3
    thread = begin(stores.store)
    thread.state["in"]["y"] = "added"
    thread.state["list"].append(3)
    thread.save()
    thread = begin(stores.store)
    assert thread.state["in"] in [{"x": {"n": kind(LARGE)}, "y": "added"} for kind in (int, float)]
    assert thread.state["list"] in ([1, LARGE, 3], [1, float(LARGE), 3])
    if isinstance(stores.store, RawStore):
        assert stores.document().count(str(LARGE).encode()) == 3


def test_what_is_new_is_still_refused(stores: Stores) -> None:
    stores.put(f'{{"state":{{"a":1,"n":[{LARGE}],"b":[]}},"metadata":{{"m":1}}}}')
    for bad in (2**64, [[2**64]], float("nan")):
        thread = begin(stores.store)
        with pytest.raises(StateNotSerializable):
            thread.state["b"] = bad
        thread.state["b"].append(bad)
        with pytest.raises(StateNotSerializable):
            thread.save()
        # Beside a large integer that was there, NaN is refused nevertheless.
        if bad != bad:
            thread = begin(stores.store)
            thread.state["n"].append(bad)
            with pytest.raises(StateNotSerializable, match=r'state\["n"\]'):
                thread.save()


def test_unusual_metadata(tmp_path: Path) -> None:
    store = RawStore(tmp_path)
    metadata = f'{{"m":1,"n":{LARGE},"deep":{deep(300, "list", "1")},"t":"\\ud83d"}}'
    store.put(f'{{"state":{{"a":1}},"metadata":{metadata}}}'.encode())
    assert_only_read(Stores(store))
    thread = begin(store)
    assert thread.metadata["n"] == LARGE
    assert str(LARGE) in thread.get_serialized_state()
    thread.metadata["title"] = "t"
    thread.save()
    thread = begin(store)
    assert (thread.metadata["n"], thread.metadata["title"]) == (LARGE, "t")
    assert innermost(thread.metadata["deep"], 300) == 1
    assert thread.metadata["t"] == "\ufffd"
    with pytest.raises(StateNotSerializable):
        thread.metadata["new"] = 2**64


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_threads_are_found_by_texts_with_half_a_pair(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    with closing(
        MemoryStore()
        if kind == "memory"
        else SQLiteStore(tmp_path / "threads.db")
        if kind == "sqlite"
        else RedisStore.from_url(request.getfixturevalue("redis_server").url)
    ) as store:
        thread = begin(store)
        thread.metadata["half \ud83d"] = "\ud83d"
        thread.save()
        for key in ("half \ud83d", "half \ufffd"):
            for value in ("\ud83d", "\ufffd", "\ude00"):
                assert len(store.list({key: value}).threads) == 1
        assert store.list({"half": "\ud83d"}).threads == []


@pytest.mark.parametrize("text", ["[1,", '{"state":{"a":NaN}}', '{"state":{"a":1e400}}', '"text"'])
def test_what_is_not_json_is_damaged_and_left_alone(tmp_path: Path, text: str) -> None:
    store = RawStore(tmp_path)
    store.put(text.encode())
    thread = begin(store)
    assert dict(thread.state) == {}
    assert thread.degraded
    thread.state["a"] = 1
    with pytest.raises(StoreError):
        thread.save()
    assert store.raw() == text.encode()
