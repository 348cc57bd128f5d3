"""Random interleavings of three requests: every store must make the same of them.

``INTERLEAVINGS=10000 python -m pytest tests/stores/test_interleavings.py`` runs that many in
all; without the variable it is a few hundred. A failure names the seed; to repeat it::

    INTERLEAVING_SEEDS=123 python -m pytest tests/stores/test_interleavings.py

``INTERLEAVING_FIRST`` (default 0) is the first seed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.redis_server import RedisServer

from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite import schema
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.testing.conformance.stored import new_id

from .interleaved import Family, Program, Run, difference, without_ids

KEY = "the key of the tests"
COUNT = int(os.environ.get("INTERLEAVINGS", "240"))
FIRST = int(os.environ.get("INTERLEAVING_FIRST", "0"))
SEEDS = [int(seed) for seed in os.environ.get("INTERLEAVING_SEEDS", "").split(",") if seed]


@dataclass
class Stores:
    """Each store, and for each the one that can list its threads."""

    named: dict[str, tuple[ThreadStore, ThreadStore]]

    def run(self, program: Program, *, ids: bool) -> Run:
        """Run *program* on every store, and check that all make the same of it."""
        repeat = f"INTERLEAVING_SEEDS={program.seed}, {program.family}, ids={ids}"
        runs: dict[str, Run] = {}
        for name, (store, listing) in self.named.items():
            thread_id = new_id()
            run = runs[name] = Run(program, store, thread_id, ids=ids)
            listed = {thread.size for thread in listing.scan()}
            assert listed == ({len(run.document)} if run.document else set()), (name, repeat)
            store.delete(thread_id)
        reference = runs["memory"]
        for name, run in runs.items():
            assert run.result == reference.result, (name, repeat)
        return reference


@pytest.fixture
def stores(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stores]:
    # So that a list of a few messages has several segments.
    monkeypatch.setattr(schema, "SEGMENT_BYTES", 150)
    with ExitStack() as stack:

        def opened(store: ThreadStore) -> ThreadStore:
            return stack.enter_context(closing(store))

        def served(store: ThreadStore) -> ThreadStore:
            service = ThreadService(store, [KEY])
            service.start()
            stack.callback(service.stop)
            return opened(RemoteStore.from_url(service.url, key=KEY))

        memory = opened(MemoryStore())
        sqlite = opened(SQLiteStore(tmp_path / "threads.db"))
        redis = opened(RedisStore.from_url(redis_server.url))
        behind_memory = opened(MemoryStore())
        behind_sqlite = opened(SQLiteStore(tmp_path / "service.db"))
        yield Stores(
            {
                "memory": (memory, memory),
                "SQLite": (sqlite, sqlite),
                "Redis": (redis, redis),
                "service on memory": (served(behind_memory), opened(behind_memory.for_tenants())),
                "service on SQLite": (served(behind_sqlite), opened(behind_sqlite.for_tenants())),
            }
        )


def seeds(share: float) -> list[int]:
    return SEEDS or [FIRST + number for number in range(max(1, round(COUNT * share)))]


def test_nothing_is_lost_or_doubled(stores: Stores) -> None:
    """Items have ids; what no two requests contest must be there once, on every store."""
    for seed in seeds(0.4):
        run = stores.run(Program.of(seed, "careful", ids=True), ids=True)
        assert run.faults() == [], f"INTERLEAVING_SEEDS={seed}"
        assert not run.events, (run.events, f"INTERLEAVING_SEEDS={seed}")


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without ids"])
def test_anything_gives_the_same_everywhere(stores: Stores, ids: bool) -> None:
    for seed in seeds(0.2):
        stores.run(Program.of(seed, "anything", ids=ids), ids=ids)


def test_items_without_ids(stores: Stores) -> None:
    """What the same programs do without ids: equal on every store, but not always ideal.

    An item in the place of another, between the same neighbours, counts as the same item. So a
    request that removes one and adds another there has edited it; if another request edits or
    removes the item at the same time, one of the two changes gives way.
    """
    found: Counter[str] = Counter()
    examples: dict[str, int] = {}
    for seed in seeds(0.2):
        plain = stores.run(Program.of(seed, "careful", ids=False), ids=False)
        ideal = Run(Program.of(seed, "careful", ids=True), MemoryStore(), new_id(), ids=True)
        kind = difference(plain.state, without_ids(ideal.state))
        found[kind] += 1
        examples.setdefault(kind, seed)
    print(f"\nDifferences without ids: {dict(found)}; examples: {examples}")
    assert "doubled" not in found, examples
    assert found["lost"] <= 0.12 * found.total() + 2, (found, examples)
    assert found["nothing"] >= 0.65 * found.total() - 2, (found, examples)


def test_the_programs_are_worth_running() -> None:
    """They conflict, interrupt each other, and use every step."""
    events: Counter[str] = Counter()
    families: list[Family] = ["careful", "anything"]
    for family in families:
        for seed in range(60):
            program = Program.of(seed, family, ids=True)
            events.update(step.kind for steps in program.steps for step in steps)
            run = Run(program, MemoryStore(), new_id(), ids=True)
            events.update(kind for _, _, kind in run.events)
            events["documents"] += run.document is not None
    assert events["ThreadGone"] >= 1
    assert events["documents"] > 90
    assert events["save"] > 300
