"""What a run may cost, and output that is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.minimal import MinimalStore
from support.visitor import visitor
from support.waiting import eventually
from web.cli.running import runner_of

from flask_agentuity import ThreadManager
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.thread.runs import log as run_log

from .answers import Answer, Chat, events_of, spoken


@pytest.mark.parametrize("format", ["text", "sse", "ui"])
def test_output_beyond_the_limit_is_not_logged(format: str) -> None:
    chat = Chat(AGENTUITY_RUN_MAX_BYTES=1_000)
    answer = Answer().say(*["x" * 90] * 50).finish()
    data = chat.client.run_to_end(chat.ask(answer, format))
    assert 500 < len(data) < 1_400
    # The run itself continues, and all of it is saved.
    assert chat.messages() == ["hello", "x" * 4_500]
    status = chat.client.get("/chat/status").json
    assert status is not None
    assert (status["status"], status["truncated"]) == ("done", True)
    if format == "sse":
        assert [each.get("event") for each in events_of(data)][-2:] == ["truncated", "end"]
    if format == "ui":
        assert b'"type":"data-truncated"' in data
        assert b'"type":"finish"' in data and data.endswith(b"data: [DONE]\n\n")


def test_one_huge_item(chat: Chat) -> None:
    huge = "x" * 3_000_000
    response = chat.ask(Answer().say("a", huge, "b").finish())
    assert chat.client.run_to_end(response) == f"a{huge}b".encode()
    run_id = response.headers["X-Run-ID"]
    rest = chat.client.get(f"/chat/stream?run={run_id}&after=2999999").data
    assert rest == b"xxb"


def test_a_long_log_is_not_kept_in_memory(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "_KEPT_BYTES", 1_000)
    answer = Answer()
    parts = [f"{number:09d}\n" for number in range(2_000)]
    answer.say(parts[0])
    response = chat.ask(answer)
    stored = chat.runs.find(chat.client.thread_id or "")
    assert stored is not None
    live = chat.runs.here.find_live(stored.key)
    assert live is not None
    answer.say(*parts[1:])
    eventually(lambda: live.length == 20_000 and len(live._data) <= 2_000)
    # A late reader gets the beginning from the store.
    second = chat.client.get("/chat/stream", buffered=False)
    answer.say("end").finish()
    expected = "".join(parts).encode() + b"end"
    assert response.data == expected
    assert second.data == expected


def test_too_many_runs_in_a_process() -> None:
    chat = Chat(AGENTUITY_RUN_MAX_PER_PROCESS=2)
    answers = [Answer().say("a") for _ in range(2)]
    visitors = [chat.another_visitor() for _ in range(3)]
    responses = [
        chat.ask(answer, client=client) for answer, client in zip(answers, visitors, strict=False)
    ]
    refused = chat.ask(client=visitors[2])
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    answers[0].finish()
    responses[0].close()
    eventually(lambda: len(chat.runs.here._live) == 1)
    again = chat.ask(client=visitors[2])
    assert again.status_code == 200
    answers[1].finish()
    responses[1].close()
    chat.client.run_to_end(again)


@pytest.mark.parametrize("item", [5, 1.5, True, ["a"], object()])
def test_items_of_other_types_fail_the_run(
    chat: Chat, item: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = chat.client.run_to_end(chat.ask(Answer().say("a", item, "b").finish(), "sse"))
    assert events_of(data)[-1]["data"] == '{"status":"failed"}'
    assert "yields str, bytes or dict" in caplog.text


def test_a_dict_that_is_not_json_fails_the_run(chat: Chat) -> None:
    chat.client.run_to_end(chat.ask(Answer().say({"a": object()}).finish()))
    assert chat.status() == "failed"


@pytest.mark.parametrize("items", [[], [None], ["", b""], [None, "", {}]])
def test_nothing_at_all(chat: Chat, items: list[Any]) -> None:
    for format in ("text", "sse", "ui"):
        response = chat.ask(Answer().say(*items).finish(), format)
        data = chat.client.run_to_end(response)
        assert chat.status() == "done"
        assert format != "text" or data == (b"{}\n" if {} in items else b"")


def test_characters_that_are_divided_among_bytes(chat: Chat) -> None:
    letters = "aü😀".encode()
    for format in ("text", "sse", "ui"):
        pieces = [letters[place : place + 1] for place in range(len(letters))]
        response = chat.ask(Answer().say(*pieces).finish(), format)
        chat.client.run_to_end(response)
        assert chat.threads.run(chat.client.thread_id).text() == "aü😀"  # type: ignore[union-attr]
    chat.client.run_to_end(chat.ask(Answer().say(letters[:-1]).finish(), "sse"))
    assert chat.threads.run(chat.client.thread_id).text() == "aü\ufffd"  # type: ignore[union-attr]


def test_lone_surrogates(chat: Chat) -> None:
    for format in ("text", "sse", "ui"):
        response = chat.ask(lambda: iter(["a\ud83d", "ü"]), format)
        chat.client.run_to_end(response)
        assert chat.threads.run(chat.client.thread_id).text() == "a\ufffdü"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("text", "not str"),
        (b"bytes", "not bytes"),
        (5, "not int"),
        (None, "not NoneType"),
        (spoken, "not its generator"),
    ],
)
def test_what_is_not_a_generator_is_refused(chat: Chat, output: Any, message: str) -> None:
    @chat.app.post("/odd")
    def odd() -> Any:
        with pytest.raises(TypeError, match=message):
            chat.threads.stream(output)
        with pytest.raises(ValueError, match="Allowed: text, sse, ui"):
            chat.threads.stream(iter([]), format="xml")  # type: ignore[arg-type]
        return ""

    assert chat.client.post("/odd").status_code == 200
    assert chat.runs.here._reserved == 0


def test_a_generator_function_is_named(chat: Chat) -> None:
    def speak() -> Iterator[str]:
        yield "a"

    with chat.app.test_request_context("/"), pytest.raises(TypeError, match=r"stream\(speak"):
        chat.threads.stream(speak)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MAX_BYTES", 0),
        ("MAX_BYTES", "many"),
        ("GRACE", -1),
        ("MAX_PER_PROCESS", 1.5),
        ("MAX_READERS", True),
        ("KEEP", "nan"),
        ("STORE", "nothing"),
        ("STORE", "wss://host/thread/ws"),
    ],
)
def test_wrong_options_are_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"AGENTUITY_RUN_{key}="):
        Chat(**{f"AGENTUITY_RUN_{key}": value})


def test_another_store_for_runs(tmp_path: Any) -> None:
    from flask_agentuity.stores.base import ThreadStore
    from flask_agentuity.stores.memory import MemoryStore

    assert not Chat(AGENTUITY_RUN_STORE="memory://").runs.has_own_store
    chat = Chat(AGENTUITY_RUN_STORE=f"sqlite:///{tmp_path / 'runs.db'}")
    assert chat.runs.has_own_store
    threads: ThreadStore = chat.threads._threads_at_work().store
    assert isinstance(threads, MemoryStore)
    answer = Answer().say("a")
    response = chat.ask(answer)
    assert threads.runs.latest(chat.client.thread_id or "") is None  # type: ignore[union-attr]
    assert chat.ask().status_code == 409
    answer.finish()
    assert chat.client.run_to_end(response) == b"a"
    assert chat.messages() == ["hello", "a"]
    with chat.client.thread() as thread:
        thread.destroy()
    assert chat.status() is None
    chat.runs.turns.close()


def test_a_turn_that_was_lost_in_another_store_saves_nothing(tmp_path: Any) -> None:
    chat = Chat(AGENTUITY_RUN_STORE=f"sqlite:///{tmp_path / 'runs.db'}")
    answer = Answer().say("a")
    response = chat.ask(answer)
    thread_id = chat.client.thread_id or ""
    turns = chat.runs.turns
    lease = turns.lease_turn(thread_id, "another")
    while lease.holder != "another":
        lease = turns.lease_turn(thread_id, "another", lease)
    answer.finish()
    chat.client.run_to_end(response)
    assert chat.status() == "interrupted"
    assert chat.messages() == ["hello"]
    turns.close()


def test_a_store_that_keeps_no_runs(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = MinimalStore(tmp_path)
    app = Flask("minimal", instance_path=str(tmp_path))
    app.config["SECRET_KEY"] = "x"
    app.test_client_class = ThreadTestClient
    threads = ThreadManager(app, store=store)
    app.register_blueprint(threads.blueprint, url_prefix="/chat")
    app.add_url_rule("/", view_func=lambda: threads.stream(iter(["a", "b"])), methods=["POST"])
    client = visitor(app)
    for _ in range(2):
        assert client.run_to_end(client.post("/")) == b"ab"
    status = client.get("/chat/status").json
    assert status is not None and status["status"] == "done"
    assert caplog.text.count("MinimalStore keeps no runs") == 1
    report = runner_of(store)("check")
    assert "Warning:     MinimalStore keeps no runs" in report.stdout
