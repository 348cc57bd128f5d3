"""Plain Python code in two requests at once: what each row of the table on merging says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.recording import THREAD_ID, RecordingStore, begin, put, stored

from flask_agentuity import Thread, ThreadState
from flask_agentuity.document.operations import Push, Replace, Splice
from flask_agentuity.errors import ThreadGone

Act = Callable[[ThreadState], object]

QUESTION = {"id": "q", "role": "user", "content": "Why?"}
ANSWER = {"id": "a", "role": "assistant", "content": "Because"}
MORE = {"id": "m", "role": "user", "content": "More"}
OTHER = {"id": "o", "role": "user", "content": "Other"}


def race(store: Any, mine: Act, theirs: Act) -> tuple[Thread, Thread]:
    """Have two requests work on what is stored, and save theirs first."""
    first, second = begin(store), begin(store)
    mine(first.state)
    theirs(second.state)
    second.save()
    first.save()
    return first, second


def start(**state: Any) -> RecordingStore:
    store = RecordingStore()
    put(store, state)
    return store


def append(item: Any) -> Act:
    return lambda state: state["messages"].append(item)


def grow(index: int, text: str) -> Act:
    def act(state: ThreadState) -> None:
        state["messages"][index]["content"] += text

    return act


def drop(index: int) -> Act:
    return lambda state: state["messages"].pop(index)


def nested_append(item: Any) -> Act:
    return lambda state: state["chat"]["messages"].append(item)


def set_field(name: str, value: Any) -> Act:
    return lambda state: state["messages"][0].__setitem__(name, value)


def insert(index: int, item: Any) -> Act:
    return lambda state: state["messages"].insert(index, item)


def regenerate(state: ThreadState) -> None:
    state["messages"].pop()
    state["messages"].append({"id": "a2", "role": "assistant", "content": "Therefore"})


def both(*acts: Act) -> Act:
    def act(state: ThreadState) -> None:
        for one in acts:
            one(state)

    return act


REGENERATED = {"id": "a2", "role": "assistant", "content": "Therefore"}
GROWN = ANSWER | {"content": "Because of"}


@pytest.mark.parametrize(
    ("mine", "theirs", "result"),
    [
        (append(MORE), append(OTHER), [QUESTION, ANSWER, OTHER, MORE]),
        (grow(-1, " of"), append(OTHER), [QUESTION, GROWN, OTHER]),
        (drop(-1), append(OTHER), [QUESTION, OTHER]),
        (regenerate, append(OTHER), [QUESTION, REGENERATED, OTHER]),
        (append(MORE), grow(-1, " of"), [QUESTION, GROWN, MORE]),
        (append(MORE), drop(0), [ANSWER, MORE]),
        (grow(0, "?"), grow(1, " of"), [QUESTION | {"content": "Why??"}, GROWN]),
        (
            set_field("a", 1),
            set_field("b", 2),
            [QUESTION | {"b": 2, "a": 1}, ANSWER],
        ),
        (insert(1, MORE), insert(1, OTHER), [QUESTION, OTHER, MORE, ANSWER]),
        (grow(-1, " of"), drop(0), [GROWN]),
        (grow(0, "?"), drop(0), [ANSWER]),
        (drop(0), grow(0, "?"), [ANSWER]),
        (grow(-1, "!"), grow(-1, "?"), [QUESTION, ANSWER | {"content": "Because!"}]),
        (
            both(grow(0, "?"), append(MORE)),
            both(drop(1), append(OTHER)),
            [QUESTION | {"content": "Why??"}, OTHER, MORE],
        ),
    ],
    ids=range(14),
)
def test_a_list_that_two_requests_change(mine: Act, theirs: Act, result: list[Any]) -> None:
    store = start(messages=[QUESTION, ANSWER])
    race(store, mine, theirs)
    assert stored(store) == {"messages": result}


def test_what_pushed_without_reading_survives_an_edit_that_read() -> None:
    store = start(messages=[QUESTION, ANSWER])
    race(store, grow(-1, " of"), lambda state: state.push("messages", OTHER))
    assert stored(store) == {"messages": [QUESTION, GROWN, OTHER]}


def test_nested_appends_survive_and_the_value_in_memory_stays() -> None:
    store = start(chat={"messages": [QUESTION], "title": "Hi"})
    mine, theirs = race(store, nested_append(MORE), nested_append(OTHER))
    assert stored(store)["chat"]["messages"] == [QUESTION, OTHER, MORE]
    assert mine.state["chat"]["messages"] == [QUESTION, MORE]
    mine.state["chat"]["title"] = "Later"
    theirs.state["chat"]["messages"].append(ANSWER)
    mine.save()
    theirs.save()
    found = stored(store)["chat"]
    assert found == {"messages": [QUESTION, OTHER, MORE, ANSWER], "title": "Later"}


def test_two_keys_of_one_dictionary() -> None:
    store = start(profile={"name": "Ada", "city": "Paris", "old": 1})
    race(
        store,
        lambda state: state["profile"].update(city="Rome"),
        lambda state: (state["profile"].pop("old"), state["profile"].update(name="Bob")),
    )
    assert stored(store) == {"profile": {"name": "Bob", "city": "Rome"}}


def test_a_key_that_both_begin_holds_both(caplog: pytest.LogCaptureFixture) -> None:
    store = RecordingStore()

    def begin_list(item: Any) -> Act:
        def act(state: ThreadState) -> None:
            state["messages"] = [*state.get("messages", []), item]
            state["facts"] = {**state.get("facts", {}), f"f{item['id']}": 1}

        return act

    race(store, begin_list(MORE), begin_list(OTHER))
    assert stored(store) == {"messages": [OTHER, MORE], "facts": {"fo": 1, "fm": 1}}


def test_one_scalar_that_both_change_is_the_later_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flask_agentuity")
    store = start(count=1)

    def add(state: ThreadState) -> None:
        state["count"] += 1

    race(store, add, lambda state: state.__setitem__("count", state["count"] + 10))
    assert stored(store) == {"count": 2}
    assert 'state["count"]' in caplog.text
    assert THREAD_ID in caplog.text


@pytest.mark.parametrize("assigned_first", [True, False])
def test_an_assignment_that_read_nothing_wins_over_an_edit(
    assigned_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flask_agentuity")
    store = start(count=1, messages=[QUESTION, ANSWER])
    editing, assigning = begin(store), begin(store)
    editing.state["count"] += 1
    editing.state["messages"][0]["content"] = "What?"
    assigning.state["count"] = 50
    assigning.state["messages"] = [QUESTION, OTHER]
    for thread in (assigning, editing) if assigned_first else (editing, assigning):
        thread.save()
    assert stored(store) == {"count": 50, "messages": [QUESTION, OTHER]}
    if assigned_first:
        assert 'state["count"]' in caplog.text


def test_a_push_after_the_key_was_deleted_begins_a_new_list() -> None:
    store = start(messages=[QUESTION], other=1)
    race(store, append(MORE), lambda state: state.__delitem__("messages"))
    assert stored(store) == {"other": 1, "messages": [MORE]}


def test_an_edit_of_a_deleted_key_is_dropped() -> None:
    store = start(messages=[QUESTION], profile={"a": 1}, other=1)

    def edit(state: ThreadState) -> None:
        state["messages"][0]["content"] = "?"
        state["profile"]["a"] = 2

    race(store, edit, lambda state: state.clear())
    assert stored(store) == {}


def test_metadata_is_merged_key_by_key() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada", "title": "Hi", "old": 1})
    first, second = begin(store), begin(store)
    first.metadata["title"] = "Holidays"
    second.metadata["seen"] = True
    del second.metadata["old"]
    second.save()
    first.save()
    assert begin(store).metadata == {"owner": "ada", "title": "Holidays", "seen": True}
    first.metadata["title"] = "Again"
    first.save()
    assert begin(store).metadata == {"owner": "ada", "title": "Again", "seen": True}


# ---------------------------------------------------------------- streams and several saves


def test_two_streams_with_equal_questions_grow_their_own_answer() -> None:
    store = start(messages=[])

    def ask(thread: Thread) -> dict[str, str]:
        messages: list[dict[str, str]] = thread.state["messages"]
        messages.append({"role": "user", "content": "hi"})
        messages.append({"role": "assistant", "content": ""})
        thread.save()
        return messages[-1]

    first, second = begin(store), begin(store)
    assert first.state["messages"] == second.state["messages"] == []
    one, two = ask(first), ask(second)
    store.forget_calls()
    for token in "abc":
        one["content"] += token
        two["content"] += token.upper()
        second.save()
        first.save()
    assert [each["content"] for each in stored(store)["messages"]] == ["hi", "abc", "hi", "ABC"]
    assert len(store.reads) == 0
    assert len(store.merges) == 6


def test_items_pushed_without_reading_are_edited_without_reading() -> None:
    store = start(messages=[QUESTION])
    first, second = begin(store), begin(store)
    texts = []
    for thread in (first, second):
        answer = {"role": "assistant", "content": ""}
        thread.state.push("messages", {"role": "user", "content": "hi"})
        thread.state.push("messages", answer)
        thread.save()
        texts.append(answer)
    for index, answer in enumerate(texts):
        answer["content"] = f"answer {index}"
    second.save()
    first.save()
    assert store.reads == []
    contents = [each["content"] for each in stored(store)["messages"]]
    assert contents == ["Why?", "hi", "answer 0", "hi", "answer 1"]


def test_growing_travels_as_a_splice_and_an_append_as_a_push() -> None:
    store = start(messages=[QUESTION, ANSWER], count=1)
    thread = begin(store)
    thread.state["messages"][-1]["content"] += " of"
    thread.state["messages"].append(MORE)
    thread.state["count"] = thread.state["count"] + 1
    thread.save()
    splice, push, replaced = store.sent
    assert isinstance(splice, Splice)
    assert [change.place for change in splice.changes] == [1]
    assert isinstance(push, Push)
    assert isinstance(replaced, Replace)
    thread.save()
    assert len(store.merges) == 1


def test_the_request_keeps_its_own_view_and_edits_its_own_message() -> None:
    store = start(messages=[QUESTION])
    mine, theirs = begin(store), begin(store)
    mine.state["messages"].append(ANSWER | {})
    theirs.state["messages"].append(OTHER)
    theirs.save()
    mine.save()
    assert mine.state["messages"] == [QUESTION, ANSWER]
    mine.state["messages"][-1]["content"] += " of"
    mine.save()
    assert stored(store)["messages"] == [QUESTION, OTHER, GROWN]
    mine.refresh()
    assert mine.state["messages"] == [QUESTION, OTHER, GROWN]


def test_refresh_refuses_to_forget_changes() -> None:
    store = start(a=1)
    thread = begin(store)
    thread.state["a"] += 1
    with pytest.raises(RuntimeError, match=r"save\(\)"):
        thread.refresh()
    assert thread.state["a"] == 2
    thread.save()
    thread.refresh()
    assert thread.state["a"] == 2
    assert len(store.reads) == 2


# -------------------------------------------------------------------------------- deletion


def test_a_request_that_found_the_thread_does_not_bring_it_back() -> None:
    store = start(messages=[QUESTION])
    reading, pushing, destroying = begin(store), begin(store), begin(store)
    assert reading.state["messages"]
    reading.state["messages"].append(MORE)
    pushing.state.push("messages", OTHER)
    destroying.destroy()
    for thread in (reading, pushing):
        with pytest.raises(ThreadGone, match=THREAD_ID):
            thread.save()
    assert stored(store) == {}
    later = begin(store)
    later.state.push("messages", MORE)
    later.save()
    assert stored(store) == {"messages": [MORE]}
    with pytest.raises(ThreadGone):
        reading.save()


def test_a_handler_can_go_on_after_another_request_has_deleted_the_thread() -> None:
    store = start(messages=[QUESTION])
    thread = begin(store)
    thread.state.push("messages", MORE)
    begin(store).destroy()
    with pytest.raises(ThreadGone):
        thread.save()
    thread.refresh()
    assert dict(thread.state) == {}
    thread.state.push("messages", OTHER)
    thread.save()
    assert stored(store) == {"messages": [OTHER]}


def test_clearing_is_not_deleting() -> None:
    store = start(messages=[QUESTION])
    pushing, clearing = begin(store), begin(store)
    pushing.state.push("messages", OTHER)
    clearing.state.clear()
    clearing.save()
    pushing.save()
    assert stored(store) == {"messages": [OTHER]}


@pytest.mark.parametrize("pushes_first", [False, True])
def test_a_list_that_is_changed_in_place_between_two_saves(pushes_first: bool) -> None:
    store = start(messages=[QUESTION])
    thread, other = begin(store), begin(store)
    messages = thread.state["messages"]
    messages.append(dict(ANSWER))
    thread.save()
    other.state["messages"].insert(0, OTHER)
    other.save()
    # The thread is not asked for anything between its saves.
    messages.append(MORE)
    messages[1]["content"] += " of"
    if pushes_first:
        thread.state.push("messages", {"id": "p"}, unique="id")
    thread.save()
    thread.save()
    pushed = [{"id": "p"}] if pushes_first else []
    expected = [OTHER, QUESTION, ANSWER | {"content": "Because of"}, MORE, *pushed]
    assert stored(store)["messages"] == expected
    del messages[0]
    thread.save()
    assert stored(store)["messages"] == [OTHER, *expected[2:]]
