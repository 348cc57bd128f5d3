"""Clients that edit one thread at the same time, in threads and in processes."""

from __future__ import annotations

import json
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from flask_agentuity.document.operations import Push
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from .support import ID, items_of, require_consistent, splice

CLIENTS = 8
GROWTHS = 15


def grow(store: SQLiteStore, number: int) -> int:
    """Append an own message and let it grow, word by word; return the number of conflicts."""
    item = json.dumps({"id": number, "text": ""}, separators=(",", ":")).encode()
    outcome = store.write(ID, Write([Push("messages", item)], counted=["messages"]))
    assert isinstance(outcome, Written)
    place, seen = outcome.preceding["messages"], outcome.seen
    conflicts = 0
    for word in range(GROWTHS):
        longer = item[:-2] + b' word %d of a longer answer"}' % word
        outcome = store.write(ID, Write([splice(place, [item], [longer])], seen=seen))
        if isinstance(outcome, Conflict):
            conflicts += 1
        else:
            item, seen = longer, outcome.seen
    return conflicts


def require_complete(path: Path) -> None:
    text = "".join(f" word {word} of a longer answer" for word in range(GROWTHS))
    with closing(SQLiteStore(path)) as store:
        found = [json.loads(item) for item in items_of(store)]
    assert sorted(item["id"] for item in found) == list(range(CLIENTS))
    assert {item["text"] for item in found} == {text}
    require_consistent(path)


def test_threads_that_each_let_their_own_message_grow(path: Path) -> None:
    with closing(SQLiteStore(path, timeout=60)) as store, ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(lambda number: grow(store, number), range(CLIENTS))) == 0
    require_complete(path)


def grow_in_process(path: str, number: int, begin: Any, conflicts: Any) -> None:
    with closing(SQLiteStore(path, timeout=60)) as store:
        store.read(ID)
        begin.wait(120)
        conflicts.put(grow(store, number))


def test_processes_that_each_let_their_own_message_grow(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin, conflicts = context.Barrier(CLIENTS), context.Queue()
    processes = [
        context.Process(target=grow_in_process, args=(str(path), number, begin, conflicts))
        for number in range(CLIENTS)
    ]
    for process in processes:
        process.start()
    assert sum(conflicts.get(timeout=120) for _ in processes) == 0
    for process in processes:
        process.join(120)
    require_complete(path)


def test_a_reader_sees_one_moment_of_a_list_that_is_rewritten(path: Path) -> None:
    """Rows that are split, moved and deleted never show up twice, or not at all."""
    with closing(SQLiteStore(path, timeout=60)) as store:
        items = [b'"%d %b"' % (number, b"x" * 300) for number in range(60)]
        store.merge(ID, [Push("messages", item) for item in items])
        done, lengths = threading.Event(), set()

        def look() -> None:
            while not done.is_set():
                lengths.add(len(items_of(store)))

        reader = threading.Thread(target=look)
        reader.start()
        for _ in range(40):
            store.write(ID, Write([splice(20, items[20:40], items[20:40] * 2)]))
            store.write(ID, Write([splice(20, items[20:40] * 2, items[20:40])]))
        done.set()
        reader.join(60)
        assert lengths <= {60, 80}
        assert items_of(store) == items
    require_consistent(path)
