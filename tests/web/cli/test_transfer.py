"""Threads that go from one store to another, through ``export`` and ``import``."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Set
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import PATIENCE, contents, new_id, runner_of, started, stored_at

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=3),
    max_leaves=10,
)
times = st.floats(0, 1_700_000_000) | st.integers(0, 1_700_000_000)
exported_threads = st.tuples(
    st.dictionaries(texts | st.sampled_from(["", "state", "metadata", "__proto__"]), values),
    st.dictionaries(texts, values, max_size=4),
    times,
    times,
)


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(exported_threads, min_size=1, max_size=4))
def test_nothing_is_lost_on_the_way(made: list[Any]) -> None:
    first = MemoryStore(ttl=None)
    for state, metadata, created, updated in made:
        document = codec.join_document({key: codec.encode(value) for key, value in state.items()})
        first.import_thread(ListedThread(new_id(), metadata, created, updated, 0), document)
    with tempfile.TemporaryDirectory() as folder:
        way: list[MemoryStore | SQLiteStore] = [first]
        for name in ("second", "third"):
            way.append(SQLiteStore(Path(folder) / f"{name}.db", ttl=None))
        way.append(MemoryStore(ttl=None))
        for source, target in pairwise(way):
            file = Path(folder) / f"{len(list(Path(folder).iterdir()))}.jsonl"
            assert runner_of(source)("export", file).exit_code == 0
            for again in (False, True):
                result = runner_of(target)("import", file, "--json")
                count = len(contents(first))
                assert result.exit_code == 0
                assert json.loads(result.stdout) == {
                    "imported": 0 if again else count,
                    "skipped": count if again else 0,
                    "damaged_lines": [],
                }
                assert contents(target) == contents(first)
        for store in way:
            store.close()


def test_the_largest_and_the_deepest_are_not_lost(tmp_path: Path) -> None:
    source = MemoryStore()
    deep: Any = []
    for _ in range(codec.MAX_DEPTH - 1):
        deep = [deep]
    source.merge(new_id(), [Set("deep", codec.encode(deep))], {"deep": deep[0]})
    rest = codec.MAX_DOCUMENT_BYTES - len('{"state":{"a":""}}')
    for text in ("x" * rest, "\0" * (rest // 6) + "x" * (rest % 6), "é" * (rest // 2)):
        source.merge(new_id(), [Set("a", codec.encode(text))])
    sizes = [thread.size for thread in source.list().threads]
    assert sizes.count(codec.MAX_DOCUMENT_BYTES) >= 2
    file = tmp_path / "threads.jsonl"
    assert runner_of(source)("export", file).exit_code == 0
    with closing(SQLiteStore(tmp_path / "threads.db")) as target:
        assert runner_of(target)("import", file).exit_code == 0
        assert contents(target) == contents(source)


def test_export_and_import_in_a_pipe(place: Path, tmp_path: Path) -> None:
    with closing(stored_at(place)) as source:
        for number in range(50):
            source.merge(new_id(), [Set("n", b"%d" % number)], {"owner": "Zoë"})
        url = f"sqlite:///{tmp_path / 'target.db'}"
        with (
            started(place, "export", "-", stdout=subprocess.PIPE) as exporting,
            started(
                place,
                *("import", "-", "--json"),
                stdin=exporting.stdout,
                stdout=subprocess.PIPE,
                env={"AGENTUITY_THREAD_STORE": url},
            ) as importing,
        ):
            output, _ = importing.communicate(timeout=PATIENCE)
            assert exporting.wait(PATIENCE) == 0
            assert importing.returncode == 0
        assert json.loads(output) == {"imported": 50, "skipped": 0, "damaged_lines": []}
        with closing(SQLiteStore(tmp_path / "target.db")) as target:
            assert contents(target) == contents(source)
