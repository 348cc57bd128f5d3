"""``flask threads show``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write
from flask_agentuity.web.cli.conversation import Conversation

from .running import ID, PATIENCE, Reader, Runner, run, runner_of, started, stored_at


def test_show_prints_a_conversation(threads: Runner, store: ThreadStore) -> None:
    store.save(
        ID,
        codec.join_document(
            {
                "title": b'"Holidays"',
                "messages": codec.encode(
                    [
                        {"role": "user", "content": "Where to?\nuser: fake"},
                        {"role": "assistant", "content": "Zoë says: 😀", "model": "m-1"},
                        {"role": "user", "content": [{"type": "text"}]},
                        "a note",
                        7,
                    ]
                ),
                "empty": b"[]",
                "profile": b'{"name":"Ada"}',
            }
        ),
        {"owner": "ada"},
    )
    result = threads("show", ID)
    assert result.exit_code == 0
    assert (
        result.stdout
        == f"""{ID}
metadata: {{"owner": "ada"}}
title: "Holidays"

messages
  user: Where to?
    user: fake
  assistant: Zoë says: 😀
    {{"model": "m-1"}}
  {{"role": "user", "content": [{{"type": "text"}}]}}
  "a note"
  7
empty: []
profile: {{"name": "Ada"}}
"""
    )
    assert json.loads(threads("show", ID, "--json").stdout) == {
        "id": ID,
        "owner": None,
        "metadata": {"owner": "ada"},
        "state": json.loads(store.restore(ID) or b"")["state"],
    }


def test_show_names_the_owner(threads: Runner, store: ThreadStore) -> None:
    store.write(ID, Write([Set("n", b"1")], owner="a\nb"))
    assert threads("show", ID).stdout == f"{ID}\nowner: a\\nb\nn: 1\n"
    assert json.loads(threads("show", ID, "--json").stdout)["owner"] == "a\nb"


CONTROL_CHARACTERS = "\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x7f\x00\u202eevil\u2066\u2028\x85"


def test_stored_text_cannot_control_the_terminal(threads: Runner, store: ThreadStore) -> None:
    evil = CONTROL_CHARACTERS
    store.save(
        ID,
        codec.join_document(
            {
                evil: b"1",
                "list" + evil: codec.encode([evil, {"role": evil, "content": evil, evil: evil}]),
                "text": codec.encode(evil),
            }
        ),
        {"owner" + evil: evil},
    )
    for arguments in (["show", ID], ["list"], ["show", ID, "--json"], ["list", "--json"]):
        result = threads(*arguments, color=True)
        assert result.exit_code == 0
        # Only the command's own bold text may control the terminal.
        said = re.sub("\x1b\\[(0|1)m", "", result.output)
        assert not set(said) & {each for each in evil if not each.isprintable()}
        assert "u001b" in said
    assert json.loads(threads("show", ID, "--json").stdout)["state"]["text"] == evil


def test_harmless_characters_are_printed_as_they_are(threads: Runner, store: ThreadStore) -> None:
    text = "tab\there, Zoë, 👩\u200d👩\u200d👧, שלום, zero\u200bwidth"
    store.merge(ID, [Push("l", codec.encode({"role": "user", "content": text}))])
    assert f"  user: {text}\n" in threads("show", ID).stdout


def test_what_the_encoding_cannot_represent_is_escaped(place: Path) -> None:
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("name", codec.encode("Zoë 😀"))])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    shown = run(place, "show", ID, env=environment)
    assert shown.returncode == 0
    assert b'name: "Zo\\xeb \\U0001f600"' in shown.stdout
    shown = run(place, "show", ID, "--json", env=environment)
    assert json.loads(shown.stdout)["state"] == {"name": "Zoë 😀"}


def test_show_a_long_thread(threads: Runner, store: ThreadStore) -> None:
    store.merge(
        ID,
        [
            Push("messages", codec.encode({"role": "user", "content": f"message {number}"}))
            for number in range(10_000)
        ],
    )
    lines = threads("show", ID).stdout.splitlines()
    assert lines[3:] == [f"  user: message {number}" for number in range(10_000)]


def test_show_a_thread_with_many_keys(threads: Runner, store: ThreadStore) -> None:
    state = {f"key {number}": number for number in range(1_000)}
    store.merge(ID, [Set(key, codec.encode(value)) for key, value in state.items()])
    result = threads("show", ID, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["state"] == state


def test_a_deleted_key_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Conversation()

    def printed(**state: Any) -> list[str]:
        shown.update({"metadata": {}, "state": state})
        return capsys.readouterr().out.splitlines()

    assert printed(a=1, l=[1], e=[]) == ["a: 1", "", "l", "  1", "e: []"]
    assert printed(l=[1], e=[2]) == ["", "e", "  2", "a was deleted."]
    assert printed(e=[2]) == ["l was deleted."]
    assert printed(a=1, l=[1], e=[2]) == ["a: 1", "", "l", "  1"]


def test_follow_and_json_exclude_each_other(threads: Runner, store: ThreadStore) -> None:
    store.merge(ID, [Set("a", b"1")])
    assert threads("show", ID, "--follow", "--json").exit_code == 2


def say(store: ThreadStore, text: str, max_records: int | None = None) -> None:
    message = codec.encode({"role": "user", "content": text})
    store.merge(ID, [Push("messages", message, max_records)])


def test_follow_shows_what_another_process_adds(place: Path) -> None:
    follow = ("show", ID, "--follow", "--interval", "0.02")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with closing(stored_at(place)) as store:
        say(store, "first")
        with started(place, *follow, **pipes) as one, started(place, *follow, **pipes) as two:
            outputs = [Reader(one.stdout), Reader(two.stdout)]
            errors = [Reader(one.stderr), Reader(two.stderr)]
            for output in outputs:
                output.wait_for("user: first\n")
            for text in ("second", "third"):
                say(store, text)
                for output in outputs:
                    output.wait_for(f"user: {text}\n")
            # A sliding window: the list does not grow, but has a new item.
            for number in range(5):
                say(store, f"in a window {number}", max_records=2)
                for output in outputs:
                    output.wait_for(f"user: in a window {number}\n")
            store.merge(ID, [Set("title", b'"Later"'), Set("messages", b'["anew"]')])
            for output in outputs:
                output.wait_for('title: "Later"\n')
                output.wait_for('  "anew"\n')
            one.send_signal(signal.SIGINT)
            assert one.wait(PATIENCE) == 0
            assert errors[0].join().strip() == ""
            store.delete(ID)
            assert two.wait(PATIENCE) == 0
            assert errors[1].join() == "The thread was deleted or has expired.\n"
            for output in outputs:
                said = output.join()
                assert [said.count(f"user: {text}\n") for text in ("first", "second")] == [1, 1]
                assert said.count("in a window") == 5


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_beginning_of_an_id_is_enough(tmp_path: Path, kind: str) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "threads.db")
    ids = [f"thrd_ab{digit}{'0' * 29}" for digit in "0123456789"]
    with closing(store):
        for thread_id in (*ids, ID, f"{ID}-2"):
            store.merge(thread_id, [Set("a", b"1")])
        runner = runner_of(store)
        for given, found in (
            ("thrd_ab7", ids[7]),
            ("ab7", ids[7]),
            (ID, ID),
        ):
            assert json.loads(runner("show", given, "--json").stdout)["id"] == found
        result = runner("show", "thrd_ab")
        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            result.stderr.splitlines()
            == [
                "Error: Several threads have an id that begins with thrd_ab:",
                *(f"  {thread_id}" for thread_id in ids[:5]),
                "  ...",
            ]
            or len(result.stderr.splitlines()) == 7
        )
        result = runner("show", "thrd_ff")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "No thread has an id that begins with thrd_ff" in result.stderr
        result = runner("show", "thrd_")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Every thread id begins with thrd_. Give more characters." in result.stderr
        for wrong in ("", "thrd_a%", "thrd_" + "a" * 80, "a b"):
            result = runner("show", "--", wrong)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "is not a thread id" in result.stderr
        assert runner("delete", "ab7", "-y").stdout == f"Deleted {ids[7]}.\n"
        assert store.restore(ids[7]) is None


def test_no_key_can_look_like_other_lines(threads: Runner, store: ThreadStore) -> None:
    forged = "x\n\nmessages\n  user: forged\t"
    store.merge(ID, [Set(forged, b"1"), Push(f"{forged}2", b'"a"')])
    result = threads("show", ID)
    assert result.stdout == (
        f"{ID}\n"
        "x\\n\\nmessages\\n  user: forged\\t: 1\n"
        "\n"
        "x\\n\\nmessages\\n  user: forged\\t2\n"
        '  "a"\n'
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_value_that_nests_very_deep(
    threads: Runner, store: ThreadStore, options: list[str]
) -> None:
    deep = "[" * 3000 + "]" * 3000
    store.save(ID, f'{{"state":{{"a":1,"deep":{deep}}}}}'.encode())
    # As text, each item of a list has its own line.
    assert deep[1:-1] in threads("show", ID, *options).stdout
