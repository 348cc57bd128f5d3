"""A streamed answer continues without its client, and is saved before its end can be seen."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from flask import Response, abort, current_app, g, redirect, request
from support.waiting import eventually

from flask_agentuity import Run, thread_run_finished
from flask_agentuity.errors import StoreError
from flask_agentuity.web.events import session_completed

from .answers import Answer, Chat, events_of, spoken


def test_the_output_and_the_state(chat: Chat) -> None:
    response = chat.ask(Answer().say("one ", b"two ", {"three": 3}, None, "four").finish())
    assert response.mimetype == "text/plain"
    assert chat.client.run_to_end(response) == b'one two {"three":3}\nfour'
    assert chat.messages() == ["hello", "one b'two '{'three': 3}Nonefour"]
    assert chat.status() == "done"


def test_it_continues_without_its_client(chat: Chat) -> None:
    answer = Answer().say("a", "b")
    received = chat.client.cut(chat.ask(answer), 1)
    assert chat.messages() == ["hello"]
    answer.say("c").finish()
    chat.client.finish_runs()
    assert chat.messages() == ["hello", "abc"]
    rest = chat.client.resume(received, "/chat/stream")
    assert received.data + rest.data == b"abc"


def test_the_message_is_saved_before_the_first_byte(chat: Chat) -> None:
    answer = Answer().say("a")
    with chat.ask(answer):
        assert chat.messages() == ["hello"]
        answer.finish()


def test_the_state_is_saved_before_the_end_can_be_seen(chat: Chat) -> None:
    answer = Answer().say("a").finish()
    response = chat.ask(answer, format="sse")
    for chunk in response.iter_encoded():
        if b"event: end" in chunk:
            # In a client's other request, before this one reads on.
            assert chat.messages() == ["hello", "a"]
            assert chat.status() == "done"
            break
    else:
        pytest.fail("there was no end")
    response.close()


def test_the_next_message_may_follow_the_end_at_once(chat: Chat) -> None:
    for number in range(20):
        response = chat.ask()
        assert response.status_code == 200, number
        assert response.data == b"abc"


def test_a_second_run_of_a_busy_thread_is_refused(chat: Chat) -> None:
    answer = Answer().say("a")
    response = chat.ask(answer)
    assert chat.ask().status_code == 409
    assert chat.ask(client=chat.another_visitor()).status_code == 200
    answer.finish()
    assert chat.client.run_to_end(response) == b"a"
    assert chat.ask().status_code == 200


def test_stream_takes_the_turn_if_the_view_has_not(chat: Chat) -> None:
    chat.app.add_url_rule("/free", view_func=chat.stream, methods=["POST"])
    chat.ask().close()
    chat.client.finish_runs()
    answer = Answer().say("a")
    response = chat.ask(answer, path="/free")
    assert chat.ask(path="/free").status_code == 409
    assert chat.ask().status_code == 409
    answer.finish()
    assert chat.client.run_to_end(response) == b"a"


@pytest.mark.parametrize("way", ["raise", "abort", "redirect", "other", "error status"])
def test_a_view_with_another_response_begins_no_run(chat: Chat, way: str) -> None:
    answer = Answer().say("a").finish()
    chat.answers["x"] = answer

    @chat.app.post("/odd")
    def odd() -> Any:
        response = chat.stream()
        match way:
            case "raise":
                raise RuntimeError("after stream()")
            case "abort":
                abort(403)
            case "redirect":
                return redirect("/elsewhere")
            case "other":
                return "something else"
            case _:
                return response, 500

    for _ in range(2):
        chat.client.post("/odd", query_string={"answer": "x"}).close()
    chat.client.finish_runs()
    assert not answer.began
    assert chat.status() is None
    # The turn was given back, and the room for a run.
    assert chat.runs.here._reserved == 0
    assert chat.ask().status_code == 200


def test_headers_and_status_of_the_view_are_kept(chat: Chat) -> None:
    @chat.app.post("/created")
    def created() -> Any:
        response = chat.stream()
        response.headers["X-Own"] = "yes"
        return response, 201

    response = chat.ask(path="/created")
    assert (response.status_code, response.headers["X-Own"]) == (201, "yes")
    assert chat.client.run_to_end(response) == b"abc"


def test_a_run_that_cannot_be_stored_is_503(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(new: object) -> None:
        raise StoreError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(chat.runs.store, "begin", fail)
        assert chat.ask().status_code == 503
    assert chat.ask().status_code == 200


def test_a_process_without_threads_left(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name.startswith("flask_agentuity-run-") and len(thread.name) > 30:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert chat.ask().status_code == 503
    assert chat.status() == "failed"
    assert chat.ask().data == b"abc"


def test_a_generator_that_raises(chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str | None]] = []

    def note(sender: object, run: Run, status: str, error: Exception, **extra: Any) -> None:
        told.append((status, str(error)))
        assert current_app == chat.app

    thread_run_finished.connect(note, chat.app)
    answer = Answer().say("so ", "far").say(RuntimeError("secret reason"))
    data = chat.client.run_to_end(chat.ask(answer, format="sse"))
    *_, error, end = events_of(data)
    assert error["event"] == "error"
    assert end == {"event": "end", "id": end["id"], "data": '{"status":"failed"}'}
    assert b"secret" not in data and b"Traceback" not in data
    assert "secret reason" in caplog.text
    assert told == [("failed", "secret reason")]
    # Its changes are not saved; what the view has saved is.
    assert chat.messages() == ["hello"]
    with chat.app.test_request_context(headers={"Cookie": cookie_of(chat)}):
        run = chat.threads.run()
        assert run is not None
        assert (run.status, run.text()) == ("failed", "so far")
    assert not [record for record in caplog.records if "changed after" in record.message]


def cookie_of(chat: Chat) -> str:
    cookie = chat.client.get_cookie("atid")
    assert cookie is not None
    return f"atid={cookie.value}"


def test_what_the_generator_saves_itself_stays(chat: Chat) -> None:
    def answer() -> Iterator[str]:
        g.thread.state.push("messages", "saved")
        g.thread.save()
        yield "a"
        g.thread.state.push("messages", "not saved")
        raise RuntimeError

    chat.client.run_to_end(chat.ask(answer))
    assert chat.messages() == ["hello", "saved"]


def test_a_failed_save_is_a_failed_run(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    store = chat.threads._threads_at_work().store

    def fail(*arguments: object) -> None:
        raise StoreError("broken")

    answer = Answer().say("a")
    response = chat.ask(answer, format="sse")
    with monkeypatch.context() as patched:
        patched.setattr(store, "write", fail)
        answer.finish()
        data = chat.client.run_to_end(response)
    assert b'"status":"failed"' in data
    assert chat.messages() == ["hello"]
    assert chat.status() == "failed"


def test_an_asynchronous_generator(chat: Chat) -> None:
    async def answer() -> AsyncIterator[str]:
        async for item in spoken("a", "b"):
            yield item
        g.thread.state.push("messages", "async")

    assert chat.client.run_to_end(chat.ask(answer)) == b"ab"
    assert chat.messages() == ["hello", "async"]


def test_the_context_of_the_request_is_there(chat: Chat) -> None:
    found: list[Any] = []

    def answer() -> Iterator[str]:
        found.append((request.args["answer"], current_app.name, g.session.id))
        yield "a"

    torn_down: list[str] = []
    chat.app.teardown_request(lambda error: torn_down.append(threading.current_thread().name))
    chat.client.run_to_end(chat.ask(answer))
    ((name, app, session),) = found
    assert (name, app) == ("answer0", "chat")
    assert session.startswith("sess_")
    # What a generator has opened in its context is closed there.
    assert any(name.startswith("flask_agentuity-run") for name in torn_down)


@pytest.mark.parametrize("leaves", [False, True])
def test_the_session_ends_with_the_run_and_its_reader(chat: Chat, leaves: bool) -> None:
    completed: list[Any] = []

    def note(sender: object, session: Any, error: Any, **extra: Any) -> None:
        completed.append((dict(session.state), error))

    session_completed.connect(note, chat.app)
    gate = threading.Event()

    def answer() -> Iterator[str]:
        yield "a"
        gate.wait(30)
        g.session.state["tokens"] = 7

    response = chat.ask(answer)
    if leaves:
        chat.client.cut(response, 1)
    assert completed == []
    gate.set()
    if not leaves:
        assert response.data == b"a"
        response.close()
    chat.client.finish_runs()
    assert completed == [({"tokens": 7}, None)]


def test_a_thread_that_is_deleted_meanwhile_fences_the_run(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    chat.app.add_url_rule("/gone", view_func=lambda: g.thread.destroy() or "", methods=["POST"])
    answer = Answer().say("a")
    with chat.ask(answer, format="sse") as response:
        begun = next(response.iter_encoded())
        other = chat.another_visitor()
        other.set_cookie("atid", cookie_of(chat).removeprefix("atid="))
        other.post("/gone")
        answer.say("b").finish()
        data = begun + b"".join(response.iter_encoded())
    chat.client.finish_runs()
    assert b'"status":"interrupted"' in data
    assert chat.messages() == []
    assert chat.status() is None


def test_a_response_whose_thread_is_gone_begins_no_run(chat: Chat) -> None:
    answer = Answer().say("a").finish()
    chat.answers["x"] = answer

    @chat.app.post("/late")
    def late() -> Response:
        g.thread.state.push("messages", "late")
        store = chat.threads._threads_at_work().store
        store.delete(g.thread.id)
        return chat.stream()

    chat.ask().close()
    chat.client.finish_runs()
    response = chat.client.post("/late", query_string={"answer": "x"})
    assert response.status_code == 409
    assert not answer.began


def test_head_runs_nothing(chat: Chat) -> None:
    chat.app.add_url_rule("/read", view_func=chat.stream)
    answer = chat.answers["x"] = Answer().say("a").finish()
    for _ in range(3):
        assert chat.client.head("/read?answer=x").status_code == 200
    assert not answer.began
    assert chat.client.get("/read?answer=x").data == b"a"


def test_an_error_after_the_response_leaves_the_run(chat: Chat) -> None:
    completed: list[Any] = []

    def note(sender: object, error: BaseException | None, **extra: Any) -> None:
        completed.append(error)

    session_completed.connect(note, chat.app)
    save = chat.app.session_interface.save_session

    def fail(*arguments: Any) -> None:
        monkey.setattr(chat.app.session_interface, "save_session", save)
        raise RuntimeError("the session cannot be saved")

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(chat.app.session_interface, "save_session", fail)
        response = chat.ask()
    assert response.status_code == 500
    chat.client.finish_runs()
    # It had begun, and nothing is wrong with it.
    assert chat.messages() == ["hello", "abc"]
    assert chat.ask().status_code == 200
    assert len(completed) >= 1


def test_two_calls_in_one_request_are_an_error(chat: Chat) -> None:
    @chat.app.post("/twice")
    def twice() -> Response:
        chat.stream()
        return chat.stream()

    chat.app.testing = True
    with pytest.raises(RuntimeError, match="before in this request"):
        chat.ask(path="/twice")
    chat.app.testing = False
    assert chat.ask().status_code == 200


def test_the_run_of_another_conversation(chat: Chat) -> None:
    """A view that has the turn of one thread may answer in a new one."""

    @chat.app.post("/new")
    @chat.threads.one_at_a_time(on_busy="reject")
    def new() -> Response:
        g.thread.state["left"] = True
        chat.threads.new()
        return chat.stream()

    chat.ask().close()
    chat.client.finish_runs()
    first = chat.client.thread_id
    answer = Answer().say("a")
    response = chat.ask(answer, path="/new")
    assert chat.client.thread_id != first
    old = chat.app.test_client(thread_id=first)
    assert old.post("/chat", query_string={"answer": "answer0"}).status_code in (200, 409)
    answer.finish()
    assert chat.client.run_to_end(response) == b"a"
    assert chat.messages() == ["a"]


def test_no_thread_of_the_process_stays(chat: Chat) -> None:
    chat.client.run_to_end(chat.ask())
    names = ("flask_agentuity-run",)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith(names)])
