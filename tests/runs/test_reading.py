"""Readers of a run: from any place, in several formats, of their own thread only."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from flask.typing import ResponseReturnValue
from support.waiting import PATIENCE, eventually

from flask_agentuity.errors import StoreError
from flask_agentuity.stores.runs import Addition, NewRun, RunKey
from flask_agentuity.testing.runs import Received, last_event_id
from flask_agentuity.thread.runs import formats
from flask_agentuity.thread.runs.following import StoredLog
from flask_agentuity.web.runs import reading

from .answers import Answer, Chat, events_of

TOKENS = [f"token{number} ü\r\n" for number in range(50)]
WHOLE = "".join(TOKENS)


@pytest.mark.parametrize("format", ["text", "sse", "ui"])
def test_every_place_that_was_sent_can_be_resumed_from(chat: Chat, format: str) -> None:
    response = chat.ask(Answer().say(*TOKENS).finish(), format)
    whole = chat.client.run_to_end(response)
    run_id = response.headers["X-Run-ID"]
    rest = chat.client.get(f"/chat/stream?run={run_id}").data
    beginning = formats.FORMATS[format].beginning
    assert rest == whole
    log = whole.removeprefix(beginning)
    places = [place for place in range(len(log)) if _is_sent(format, log[:place])]
    assert len(places) > 50
    for place in places:
        rest = chat.client.get(f"/chat/stream?run={run_id}&after={place}").data
        assert rest.removeprefix(beginning) == log[place:]


def _is_sent(format: str, received: bytes) -> bool:
    # The end's events are not in the log.
    ended = received.endswith(b'"failed"}\n\n') or b".end\n" in received
    return format == "text" or ((not received or received.endswith(b"\n\n")) and not ended)


@pytest.mark.parametrize("format", ["text", "sse", "ui"])
def test_a_client_that_is_cut_again_and_again_misses_nothing(chat: Chat, format: str) -> None:
    answer = Answer()
    answer.say(TOKENS[0])
    received = chat.client.cut(chat.ask(answer, format), 2 if format == "sse" else 1)
    data = received.data
    rng = random.Random(4)
    for number, token in enumerate([*TOKENS[1:], None]):
        if token is None:
            answer.finish()
        else:
            answer.say(token)
        if rng.random() < 0.4:
            expected = min(number + 2, len(TOKENS))
            eventually(partial(has_said, answer, expected))
            response = chat.client.resume(received, "/chat/stream")
            if response.status_code == 204:
                break
            part = next(filter(None, response.iter_encoded()))
            response.close()
            begun = formats.FORMATS[format].beginning
            data += part.removeprefix(begun)
            received = reading_of(received, data)
    chat.client.finish_runs()
    data += chat.client.resume(received, "/chat/stream").data
    data = data.replace(b"retry: 1000\n\n", b"")
    text = data.decode() if format == "text" else formats.FORMATS[format].text(of_log(data))
    assert text == WHOLE


def has_said(answer: Answer, count: int) -> bool:
    return len(answer.said) >= count


def of_log(data: bytes) -> bytes:
    events = [
        each for each in data.split(b"\n\n") if b".end\n" not in each and b"[DONE]" not in each
    ]
    return b"\n\n".join(each for each in events if not each.startswith(b"event: "))


def reading_of(received: Received, data: bytes) -> Received:
    event = last_event_id(data) if received.last_event_id else None
    return Received(received.run_id, data, event)


def test_events_arrive_unchanged(chat: Chat) -> None:
    items = ["a\r\nb", "\r", "\n", "\n\n", " data: x", "id: 1\n\n", "\u2028", "ü😀", {"a": "\r\n"}]
    data = chat.client.run_to_end(chat.ask(Answer().say(*items).finish(), "sse"))
    events = events_of(data)
    assert [json.loads(each["data"]) for each in events[1:-1]] == items
    assert events[0] == {"retry": "1000"}
    run_id = chat.client.get("/chat/status").json["run"]  # type: ignore[index]
    assert events[-1] == {"event": "end", "id": f"{run_id}.end", "data": '{"status":"done"}'}


def test_the_ui_stream(chat: Chat) -> None:
    call = {"type": "tool-input-start", "toolCallId": "1", "toolName": "look"}
    note = {"type": "data-note", "data": {"a": 1}}
    response = chat.ask(Answer().say("Hel", note, "lo", call, "!").finish(), "ui")
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    data = chat.client.run_to_end(response)
    *parts, done = [each["data"] for each in events_of(data)]
    kinds = [json.loads(part)["type"] for part in parts]
    assert kinds == [
        *("start", "text-start", "text-delta", "data-note", "text-delta", "text-end"),
        *("tool-input-start", "text-start", "text-delta", "text-end", "finish"),
    ]
    assert done == "[DONE]"


def test_204_when_nothing_runs_or_everything_was_read(chat: Chat) -> None:
    assert chat.client.get("/chat/stream").status_code == 204
    response = chat.ask(format="sse")
    data = chat.client.run_to_end(response)
    last = events_of(data)[-1]["id"]
    for headers in ({}, {"Last-Event-ID": last}):
        assert chat.client.get("/chat/stream", headers=headers).status_code == 204
    # All of the output, but not the end.
    before = events_of(data)[-2]["id"]
    rest = chat.client.get("/chat/stream", headers={"Last-Event-ID": before})
    assert events_of(rest.data)[-1]["id"] == last
    response = chat.ask(format="text")
    length = len(chat.client.run_to_end(response))
    query = f"?run={response.headers['X-Run-ID']}&after={length}"
    assert chat.client.get(f"/chat/stream{query}").status_code == 204


@pytest.mark.parametrize(
    "place",
    [
        *("garbage", "a.b", ".", "a.", ".5", "RUN.-1", "RUN.1.5", "RUN.+5", "RUN.999999", "RUN.٣"),
        *("RUN.99999999999999999999", "RUN.1", "RUN.11", "RUN.end.", "../../x.1", "RUN 5"),
    ],
)
def test_places_that_were_never_sent_are_refused(chat: Chat, place: str) -> None:
    response = chat.ask(format="sse")
    chat.client.run_to_end(response)
    place = place.replace("RUN", response.headers["X-Run-ID"])
    headers = {"Last-Event-ID": place.encode().decode("latin-1")}
    assert chat.client.get("/chat/stream", headers=headers).status_code == 400
    run, separator, after = place.partition(".")
    if separator:
        query = {"run": run, "after": after}
        response = chat.client.get("/chat/stream", query_string=query)
        assert response.status_code == 400


def test_an_offset_without_a_run_is_refused(chat: Chat) -> None:
    chat.client.run_to_end(chat.ask())
    assert chat.client.get("/chat/stream?after=1").status_code == 400


def test_an_offset_beyond_the_end_of_a_running_run_is_refused(chat: Chat) -> None:
    answer = Answer().say("abc")
    response = chat.ask(answer)
    query = f"?run={response.headers['X-Run-ID']}&after=500"
    assert chat.client.get(f"/chat/stream{query}").status_code == 400
    answer.finish()
    response.close()


def test_a_stranger_finds_no_run(chat: Chat) -> None:
    answer = Answer().say("secret")
    response = chat.ask(answer, "sse")
    run_id = response.headers["X-Run-ID"]
    stranger = chat.another_visitor()
    busy = chat.another_visitor()
    busy.run_to_end(chat.ask(client=busy))
    for client in (stranger, busy):
        for place in ("", f"?run={run_id}", f"?run={run_id}&after=0", f"?run={run_id}&after=7"):
            found = client.get(f"/chat/stream{place}")
            assert (found.status_code, found.data) == (204, b"")
        assert client.post("/chat/stop").status_code == 204
    assert stranger.get("/chat/status").status_code == 204
    answer.say("more").finish()
    data = next(iter(response.iter_encoded())) + response.data
    assert b"more" in data
    assert chat.status() == "done"


def test_looking_touches_nothing(chat: Chat) -> None:
    for client, status in ((chat.client, 200), (chat.another_visitor(), 204)):
        if status == 200:
            chat.client.run_to_end(chat.ask())
        for path in ("stream", "status"):
            response = client.get(f"/chat/{path}")
            assert response.status_code == (status if path == "status" else 204)
            assert "Set-Cookie" not in response.headers
            assert response.headers["Cache-Control"] == "no-store"
            assert "Cookie" in response.vary
        assert "Set-Cookie" not in client.post("/chat/stop").headers
    assert len(list(chat.threads.list().threads)) == 1


def test_readers_get_what_comes(chat: Chat) -> None:
    answer = Answer().say("a")
    first = chat.ask(answer)
    second = chat.client.get("/chat/stream", buffered=False)
    assert next(filter(None, second.iter_encoded())) == b"a"
    answer.say("b").finish()
    assert first.data == b"ab"
    # The test client has read the first chunk by itself.
    assert b"b" in second.data


def test_too_many_readers_of_a_thread(chat: Chat) -> None:
    answer = Answer().say("a")
    response = chat.ask(answer)
    most = chat.runs.here.options.max_readers
    readers = [chat.client.get("/chat/stream", buffered=False) for _ in range(most)]
    refused = chat.client.get("/chat/stream")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    readers.pop().close()
    again = chat.client.get("/chat/stream", buffered=False)
    assert again.status_code == 200
    answer.finish()
    for reader in (*readers, again, response):
        reader.close()
    eventually(lambda: not chat.runs.here.readers)


def test_head_counts_for_nothing(chat: Chat) -> None:
    answer = Answer().say("a")
    response = chat.ask(answer)
    for _ in range(20):
        assert chat.client.head("/chat/stream").status_code == 200
    assert not chat.runs.here.readers
    answer.finish()
    response.close()


def test_a_reader_of_events_is_ended_and_welcome_again(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READER_SECONDS", 0.05)
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    data = chat.client.get("/chat/stream").data
    assert b"event: end" not in data
    last = events_of(data)[-1]["id"]
    answer.say("b").finish()
    chat.client.finish_runs()
    rest = chat.client.get("/chat/stream", headers={"Last-Event-ID": last}).data
    assert [each.get("data") for each in events_of(rest)] == [None, '"b"', '{"status":"done"}']
    response.close()


@pytest.mark.parametrize("format", ["sse", "ui"])
def test_a_silent_run_sends_heartbeats(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(reading, "HEARTBEAT_SECONDS", 0.01)
    answer = Answer()
    response = chat.ask(answer, format)
    chunks: Iterator[bytes] = iter(response.iter_encoded())
    assert [next(chunks) for _ in range(4)][1:] == [b":\n\n"] * 3
    answer.finish()
    response.close()


def test_what_was_lost_with_its_worker(chat: Chat) -> None:
    """A client may have had what was not stored before a worker was killed."""
    response = chat.ask(format="sse")
    whole = chat.client.run_to_end(response)
    key = chat.runs.find(chat.client.thread_id or "").key  # type: ignore[union-attr]
    chat.runs.store.delete(key.thread_id)
    chat.runs.store.begin(NewRun(key, "sse", "gone", 0.0, 300.0))
    log = whole.removeprefix(b"retry: 1000\n\n")
    first = log[: log.index(b"\n\n") + 2]
    chat.runs.store.append([Addition(key, 0, first, "interrupted")])
    place = {"Last-Event-ID": f"{key.run_id}.{len(first) + 38}"}
    rest = events_of(chat.client.get("/chat/stream", headers=place).data)
    assert [each.get("event") for each in rest] == [None, "error", "end"]
    assert rest[-1]["data"] == '{"status":"interrupted"}'


def test_the_prefix_may_have_a_variable(chat: Chat) -> None:
    chat.app.register_blueprint(
        chat.threads.blueprint, url_prefix="/c/<name>", name="of_conversations"
    )
    chat.client.run_to_end(chat.ask())
    assert chat.client.get("/c/one/status").json["status"] == "done"  # type: ignore[index]
    assert chat.client.post("/c/one/stop").status_code == 204


def test_a_run_of_another_thread_with_the_same_id(chat: Chat) -> None:
    chat.client.run_to_end(chat.ask(lambda: iter(["mine"])))
    run_id = chat.client.get("/chat/status").json["run"]  # type: ignore[index]
    other = chat.another_visitor()
    other.run_to_end(chat.ask(client=other))
    assert other.thread_id is not None
    assert chat.runs.find(other.thread_id, run_id) is None
    assert RunKey(other.thread_id, run_id) not in chat.runs.store.look(
        [RunKey(other.thread_id, run_id)]
    )


def test_a_view_looks_at_the_latest_run(chat: Chat) -> None:
    @chat.app.get("/page")
    def page() -> ResponseReturnValue:
        run = chat.threads.run()
        return {"status": run.status if run else None, "text": run.text() if run else None}

    assert chat.client.get("/page").json == {"status": None, "text": None}
    assert "Set-Cookie" not in chat.client.get("/page").headers
    chat.client.run_to_end(chat.ask(Answer().say("a", {"b": 1}, "c").finish(), "ui"))
    assert chat.client.get("/page").json == {"status": "done", "text": "ac"}


def test_a_log_that_goes_away_while_it_is_read(chat: Chat) -> None:
    chat.client.run_to_end(chat.ask(format="sse"))
    stored = chat.runs.find(chat.client.thread_id or "")
    assert stored is not None
    body = reading.RunBody("sse", lambda: None)
    body.open(StoredLog(stored, chat.runs.store))
    assert next(body) == b"retry: 1000\n\n"
    chat.runs.store.delete(stored.key.thread_id)
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(body), daemon=True)
    reader.start()
    reader.join(PATIENCE)
    assert b"".join(rest).endswith(b'data: {"status":"interrupted"}\n\n')


def test_a_reader_of_a_store_that_fails_ends_after_its_time(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.client.run_to_end(chat.ask(format="sse"))
    stored = chat.runs.find(chat.client.thread_id or "")
    assert stored is not None
    log = StoredLog(stored, chat.runs.store)

    def fail(after: int) -> bytes:
        raise StoreError("blocked")

    monkeypatch.setattr(log, "read", fail)
    body = reading.RunBody("sse", lambda: None)
    body.open(log, seconds=0.01)
    assert list(body) == [b"retry: 1000\n\n"]
