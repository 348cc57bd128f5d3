"""``flask threads list``."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Set
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ListedThread, ThreadStore, open_store
from flask_agentuity.stores.memory import MemoryStore

from .running import ID, Runner, export_lines, new_id, runner_of, stored_at


def test_list(threads: Runner, store: ThreadStore) -> None:
    with freeze_time("2030-01-01 12:00:00"):
        store.merge(ID, [Set("a", b'"%b"' % (b"x" * 5_000))], {"owner": "Zoë", "n": 1})
        other = new_id()
    with freeze_time("2030-01-01 12:00:01"):
        store.merge(other, [Set("a", b"1")])
        result = threads("list")
        described = threads("list", "--json")
    assert result.exit_code == 0
    size = len(store.restore(ID) or b"")
    assert result.stdout == (
        "ID                                     AGE  UPDATED  EXPIRES    SIZE      METADATA\n"
        f"{other}  0 s  0 s ago  in 7 days  17 bytes\n"
        f'{ID}  1 s  1 s ago  in 7 days  5.1 KB    {{"owner": "Zoë", "n": 1}}\n'
    )
    assert json.loads(described.stdout) == {
        "threads": [
            {
                "id": other,
                "owner": None,
                "metadata": {},
                "created": "2030-01-01T12:00:01+00:00",
                "updated": "2030-01-01T12:00:01+00:00",
                "expires": "2030-01-08T12:00:01+00:00",
                "size": 17,
            },
            {
                "id": ID,
                "owner": None,
                "metadata": {"owner": "Zoë", "n": 1},
                "created": "2030-01-01T12:00:00+00:00",
                "updated": "2030-01-01T12:00:00+00:00",
                "expires": "2030-01-08T12:00:00+00:00",
                "size": size,
            },
        ],
        "cursor": None,
    }


def test_list_in_pages(threads: Runner, store: ThreadStore) -> None:
    ids = [new_id() for _ in range(7)]
    for number, thread_id in enumerate(ids):
        store.import_thread(ListedThread(thread_id, {}, 1.0, time.time() - number, 0), b'{"a":1}')
    found: list[str] = []
    arguments: list[str] = []
    for _ in range(3):
        result = threads("list", "--limit", "3", *arguments)
        found += re.findall("thrd_[0-9a-f]{32}", result.stdout)
        more = re.search(r"More threads: (--cursor) (\S+)\n$", result.stdout)
        arguments = list(more.groups()) if more else []
    assert found == ids
    assert not arguments
    page = json.loads(threads("list", "--json", "--limit", "5").stdout)
    rest = json.loads(threads("list", "--json", "--cursor", page["cursor"]).stdout)
    assert [thread["id"] for thread in page["threads"] + rest["threads"]] == ids
    assert rest["cursor"] is None


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("v=1", 1),
        ("v=1.0", 1.0),
        ("v=true", True),
        ('v="1"', "1"),
        ("v=null", None),
        ("v=", ""),
        ("v=Zoë", "Zoë"),
        ("v=a=b", "a=b"),
        ('v="true"', "true"),
        ("v=True", "True"),
        ("v=NaN", "NaN"),
    ],
)
def test_list_by_metadata(threads: Runner, store: ThreadStore, condition: str, value: Any) -> None:
    for other in (1, 1.0, True, "1", None, "", "Zoë", "a=b", "true", "True", "NaN", "a"):
        if codec.encode(other) != codec.encode(value):
            store.merge(new_id(), [Set("a", b"1")], {"v": other, "w": 1})
    store.merge(ID, [Set("a", b"1")], {"v": value, "w": 1})
    found = json.loads(threads("list", "--json", "--where", condition, "--where", "w=1").stdout)
    assert [thread["id"] for thread in found["threads"]] == [ID]
    lines = export_lines(threads, "--where", condition)
    assert [line["id"] for line in lines] == [ID]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cursor", "nonsense"], "'nonsense' is not the cursor of a listing"),
        (["--cursor", "WyJuYW4iLCJ4Il0"], "is not the cursor of a listing"),
        (["--where", "owner"], "'owner' is not KEY=VALUE"),
        (["--where", "tags=[1]"], "not by a list (key 'tags')"),
        (["--where", 'tags={"a":1}'], "not by a dict (key 'tags')"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_option_is_a_usage_error(threads: Runner, arguments: list[str], words: str) -> None:
    result = threads("list", "--json", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr


@pytest.mark.parametrize(
    ("value", "shown"),
    [("'soon'", "9999"), ("1e300", "20"), ("9e999", "9999"), ("-1e300", "1970")],
)
def test_a_damaged_time_does_not_hide_other_threads(place: Path, value: str, shown: str) -> None:
    other = new_id()
    with closing(stored_at(place)) as store:
        for thread_id in (ID, other):
            store.merge(thread_id, [Set("a", b"1")])
        with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
            for column in ("created", "updated", "used"):
                connection.execute(f"UPDATE threads SET {column} = {value} WHERE id = ?", (ID,))
        runner = runner_of(store)
        ids: list[str] = []
        cursor: list[str] = []
        while True:
            page = json.loads(runner("list", "--json", "--limit", "1", *cursor).stdout)
            ids += [thread["id"] for thread in page["threads"]]
            if page["cursor"] is None:
                break
            cursor = ["--cursor", page["cursor"]]
        assert runner("list").exit_code == 0
        if shown == "1970":
            # It expired long ago.
            assert ids == [other]
            return
        assert sorted(ids) == sorted([ID, other])
        (damaged,) = (
            each
            for each in json.loads(runner("list", "--json").stdout)["threads"]
            if each["id"] == ID
        )
        assert damaged["updated"].startswith(shown)
        # An export can be imported again.
        exported = runner("export", "-")
        assert exported.exit_code == (value == "'soon'")
        result = runner_of(MemoryStore())("import", "-", input=exported.stdout)
        assert result.exit_code == 0
        assert "skipped 0" in result.stdout


def test_a_missing_package_is_no_wrong_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = runner_of("ws://127.0.0.1:1", AGENTUITY_SDK_KEY="a-key-of-16-chars")
    for arguments in (["list"], ["export", "-"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert 'pip install "flask-agentuity[reports]"' in result.stderr
        assert "Invalid value" not in result.stderr


def test_a_service_does_not_tell_when_threads_expire() -> None:
    key = "a-key-of-16-chars"
    with ThreadService(MemoryStore(ttl=60), keys=[key]) as service:
        run = runner_of(service.url, AGENTUITY_SDK_KEY=key)
        with closing(open_store(service.url, key=key)) as client:
            client.merge(ID, [Set("a", b"1")])
            header, row = run("list").stdout.splitlines()
    assert header.split() == ["ID", "AGE", "UPDATED", "SIZE", "METADATA"]
    assert row.startswith(ID)
