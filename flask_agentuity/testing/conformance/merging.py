"""Two requests at once that edit what they have read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Delete, Push, Set
from ...stores import ThreadStore
from .requests import Request
from .stored import decoded
from .suite import Suite, needs

State = dict[str, Any]
Change = Callable[[State], object]


def message(identity: int, text: str = "", **more: Any) -> dict[str, Any]:
    return {"id": f"m{identity}", "text": text, **more}


MESSAGES = [message(number, f"text {number}") for number in range(6)]
CHAT: State = {"l": [1, 2], "chat": {"messages": [1, 2], "title": "t"}, "m": MESSAGES, "n": 1}


def keep_even(state: State) -> State:
    state["m"] = [item for number, item in enumerate(state["m"]) if number % 2 == 0]
    return state


def regenerate(state: State) -> State:
    state["m"].pop()
    state["m"].append(message(10, "again"))
    return state


def grow(place: int, text: str = " more") -> Change:
    def change(state: State) -> None:
        state["m"][place]["text"] += text

    return change


def texts(*numbers: int) -> list[dict[str, Any]]:
    return [MESSAGES[number] for number in numbers]


#: For each case: what the other request does and saves first, what mine does, and the result.
CASES: dict[str, tuple[Change, Change, Change]] = {
    "append and append": (
        lambda state: state["l"].append(3),
        lambda state: state["l"].extend([4, 5]),
        lambda state: state["l"].extend([3, 4, 5]),
    ),
    "append and append in a nested list": (
        lambda state: state["chat"]["messages"].append(3),
        lambda state: state["chat"]["messages"].append(4),
        lambda state: state["chat"]["messages"].extend([3, 4]),
    ),
    "edit and append": (
        lambda state: state["m"].append(message(7)),
        grow(5),
        lambda state: (grow(5)(state), state["m"].append(message(7))),
    ),
    "edit and append, the other way round": (
        grow(5),
        lambda state: state["m"].append(message(7)),
        lambda state: (grow(5)(state), state["m"].append(message(7))),
    ),
    "regenerate and append": (
        lambda state: state["m"].append(message(7)),
        regenerate,
        lambda state: (regenerate(state), state["m"].append(message(7))),
    ),
    "pop and append": (
        lambda state: state["m"].append(message(7)),
        lambda state: state["m"].pop(),
        lambda state: (state["m"].pop(), state["m"].append(message(7))),
    ),
    "filter and append": (
        lambda state: state["m"].append(message(7)),
        keep_even,
        lambda state: state.update(m=[*texts(0, 2, 4), message(7)]),
    ),
    "edits of different items": (
        grow(1, " theirs"),
        grow(4, " mine"),
        lambda state: (grow(1, " theirs")(state), grow(4, " mine")(state)),
    ),
    "edits of neighbours": (
        grow(2, " theirs"),
        grow(3, " mine"),
        lambda state: (grow(2, " theirs")(state), grow(3, " mine")(state)),
    ),
    "edits of different fields of one item": (
        lambda state: state["m"][3].update(liked=True),
        grow(3),
        lambda state: (grow(3)(state), state["m"][3].update(liked=True)),
    ),
    "edits of different fields of a nested object": (
        lambda state: state["chat"].update(title="theirs"),
        lambda state: state["chat"].update(color="mine"),
        lambda state: state["chat"].update(title="theirs", color="mine"),
    ),
    "insertions at the same place": (
        lambda state: state["m"].insert(2, message(7)),
        lambda state: state["m"].insert(2, message(8)),
        lambda state: state["m"].__setitem__(slice(2, 2), [message(7), message(8)]),
    ),
    "edit and a delete before it": (
        lambda state: state["m"].pop(1),
        grow(4),
        lambda state: (grow(4)(state), state["m"].pop(1)),
    ),
    "delete and an edit behind it": (
        grow(4),
        lambda state: state["m"].pop(1),
        lambda state: (grow(4)(state), state["m"].pop(1)),
    ),
    "edit and a window that moved the items": (
        lambda state: state.update(m=[*texts(2, 3, 4, 5), message(7)]),
        grow(4),
        lambda state: (grow(4)(state), state.update(m=[*state["m"][2:], message(7)])),
    ),
    "edit and delete of one item": (
        lambda state: state["m"].pop(3),
        grow(3),
        lambda state: state["m"].pop(3),
    ),
    "delete and edit of one item": (
        grow(3),
        lambda state: state["m"].pop(3),
        lambda state: state["m"].pop(3),
    ),
    "edit and delete of a field": (
        lambda state: state["chat"].pop("title"),
        lambda state: state["chat"].update(title="mine"),
        lambda state: state["chat"].pop("title"),
    ),
    "delete and edit of a field": (
        lambda state: state["chat"].update(title="theirs"),
        lambda state: state["chat"].pop("title"),
        lambda state: state["chat"].pop("title"),
    ),
    "edit and delete of a key": (
        lambda state: state.pop("chat"),
        lambda state: state["chat"].update(title="mine"),
        lambda state: state.pop("chat"),
    ),
    "delete and edit of a key": (
        lambda state: state["chat"].update(title="theirs"),
        lambda state: state.pop("chat"),
        lambda state: state.pop("chat"),
    ),
    "deletes of one item": (
        lambda state: state["m"].pop(3),
        lambda state: state["m"].pop(3),
        lambda state: state["m"].pop(3),
    ),
    "one number changed twice": (
        lambda state: state.update(n=2),
        lambda state: state.update(n=3),
        lambda state: state.update(n=3),
    ),
    "one item replaced twice": (
        lambda state: state["l"].__setitem__(0, "theirs"),
        lambda state: state["l"].__setitem__(0, "mine"),
        lambda state: state["l"].__setitem__(0, "mine"),
    ),
    "the same change": (
        lambda state: state["m"].insert(2, message(7)),
        lambda state: state["m"].insert(2, message(7)),
        lambda state: state["m"].insert(2, message(7)),
    ),
    "different keys": (
        lambda state: state.update(n=2, theirs=1),
        lambda state: (state["l"].append(3), state.update(mine=1)),
        lambda state: (state["l"].append(3), state.update(n=2, theirs=1, mine=1)),
    ),
    "new keys of the same name": (
        lambda state: state.update(new=["theirs"]),
        lambda state: state.update(new=["mine"]),
        lambda state: state.update(new=["theirs", "mine"]),
    ),
}


def copy_of(state: State) -> State:
    copied: State = codec.decode(codec.encode(state))
    return copied


class MergingConformance(Suite):
    """Every rule for merging, by two requests that have read the same thread."""

    @pytest.mark.parametrize("case", CASES)
    def test_two_requests_at_once(self, store: ThreadStore, thread_id: str, case: str) -> None:
        theirs, mine, both = CASES[case]
        begin(store, thread_id, CHAT)
        first, second = Request(store, thread_id), Request(store, thread_id)
        theirs(first.state)
        mine(second.state)
        first.save()
        second.save()
        expected = copy_of(CHAT)
        both(expected)
        assert decoded(store, thread_id) == expected

    @pytest.mark.parametrize("case", CASES)
    def test_one_request_alone(self, store: ThreadStore, thread_id: str, case: str) -> None:
        for change in CASES[case]:
            store.delete(thread_id)
            begin(store, thread_id, CHAT)
            request = Request(store, thread_id)
            expected = copy_of(CHAT)
            change(request.state)
            change(expected)
            request.save()
            assert decoded(store, thread_id) == expected

    def test_what_gave_way_is_logged(
        self, store: ThreadStore, thread_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        begin(store, thread_id, CHAT)
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.state["m"].pop(3)
        first.state["n"] = 2
        second.state["m"][3]["text"] += " more"
        second.state["n"] = 3
        first.save()
        with caplog.at_level(logging.INFO, logger="flask_agentuity"):
            second.save()
        told = [record for record in caplog.records if thread_id in record.getMessage()]
        assert {record.levelno for record in told} == {logging.INFO}
        assert any('state["m"]' in record.getMessage() for record in told)
        assert any('state["n"]' in record.getMessage() for record in told)

    def test_a_merge_that_loses_nothing_is_not_logged(
        self, store: ThreadStore, thread_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        begin(store, thread_id, CHAT)
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.state["m"].pop(1)
        second.state["m"][4]["text"] += " more"
        with caplog.at_level(logging.INFO, logger="flask_agentuity"):
            first.save()
            second.save()
        assert [record for record in caplog.records if thread_id in record.getMessage()] == []

    def test_a_push_meets_a_deleted_list(self, store: ThreadStore, thread_id: str) -> None:
        begin(store, thread_id, CHAT)
        first, second = Request(store, thread_id), Request(store, thread_id)
        del first.state["l"]
        second.state["l"].append(3)
        first.save()
        second.save()
        assert decoded(store, thread_id)["l"] == [3]
        second = Request(store, thread_id)
        Request(store, thread_id).save(Delete("l"))
        second.save(Push("l", b"4"))
        assert decoded(store, thread_id)["l"] == [4]

    def test_an_edit_meets_a_window(self, store: ThreadStore, thread_id: str) -> None:
        begin(store, thread_id, CHAT)
        request = Request(store, thread_id)
        for number in range(10, 13):
            store.merge(thread_id, [Push("m", codec.encode(message(number)), max_records=5)])
        request.state["m"][4]["text"] += " more"
        request.save()
        assert [item["text"] for item in decoded(store, thread_id)["m"]] == [
            "text 4 more",
            "text 5",
            "",
            "",
            "",
        ]

    def test_an_edit_meets_a_cleared_state(self, store: ThreadStore, thread_id: str) -> None:
        begin(store, thread_id, CHAT)
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.state.clear()
        first.state["other"] = 1
        second.state["m"][4]["text"] += " more"
        second.state["n"] = 2
        first.save()
        second.save()
        assert decoded(store, thread_id) == {"other": 1}

    @needs("edits")
    def test_an_assignment_without_reading_wins(
        self, store: ThreadStore, thread_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        begin(store, thread_id, CHAT)
        request = Request(store, thread_id)
        # The very same values: only their stamps tell that they were assigned.
        store.merge(thread_id, [Set("m", codec.encode(MESSAGES)), Set("n", b"1")])
        store.merge(thread_id, [Set("chat", b'{"new":1}')])
        request.state["m"][4]["text"] += " more"
        request.state["n"] = 2
        request.state["chat"]["title"] = "mine"
        with caplog.at_level(logging.INFO, logger="flask_agentuity"):
            request.save()
        assert decoded(store, thread_id) == {**CHAT, "chat": {"new": 1}}
        messages = " ".join(record.getMessage() for record in caplog.records)
        assert all(f'state["{key}"]' in messages for key in ("m", "n", "chat"))
        # What is read afterwards can be edited.
        request = Request(store, thread_id)
        request.state["n"] = 2
        request.save()
        assert decoded(store, thread_id)["n"] == 2

    def test_metadata_is_merged_key_by_key(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(
            thread_id,
            [Set("a", b"1")],
            {"kept": 0, "changed": 1, "both": 1, "gone": 1, "fought": 1},
        )
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.metadata.update(changed=2, both=2, theirs=1, fought=2)
        second.metadata.update(both=3, mine=1)
        del second.metadata["gone"], second.metadata["fought"]
        first.save()
        second.save()
        assert Request(store, thread_id).metadata == {
            "kept": 0,
            "changed": 2,
            "both": 3,
            "theirs": 1,
            "mine": 1,
        }
        assert decoded(store, thread_id) == {"a": 1}

    def test_metadata_and_state_are_written_together(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("l", b"[1]")], {"n": 1})
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.state["l"].append(2)
        first.metadata["theirs"] = 1
        second.state["l"][0] = "mine"
        second.metadata["mine"] = 1
        first.save()
        second.save()
        assert decoded(store, thread_id) == {"l": ["mine", 2]}
        assert Request(store, thread_id).metadata == {"n": 1, "theirs": 1, "mine": 1}

    def test_placeholders_are_told_apart(self, store: ThreadStore, thread_id: str) -> None:
        """Two clients append a question and an empty answer each, and then grow the answer."""
        begin(store, thread_id, {"m": []})
        first, second = Request(store, thread_id), Request(store, thread_id)
        first.state["m"] += [{"content": "one?"}, {"content": ""}]
        first.save()
        second.state["m"] += [{"content": "two?"}, {"content": ""}]
        second.save()
        third, fourth = Request(store, thread_id), Request(store, thread_id)
        third.state["m"][1]["content"] += "one!"
        fourth.state["m"][3]["content"] += "two!"
        third.save()
        fourth.save()
        assert [item["content"] for item in decoded(store, thread_id)["m"]] == [
            "one?",
            "one!",
            "two?",
            "two!",
        ]

    def test_a_long_list_is_edited_in_many_places(self, store: ThreadStore, thread_id: str) -> None:
        items = [message(number, "x" * 50) for number in range(900)]
        begin(store, thread_id, {"m": items, "other": 1})
        first, second = Request(store, thread_id), Request(store, thread_id)
        for place in range(0, 900, 90):
            first.state["m"][place]["text"] += "theirs"
        for place in range(1, 900, 90):
            second.state["m"][place]["text"] += "mine"
        del second.state["m"][500:600], first.state["m"][700:800]
        first.state["m"].append(message(900))
        first.save()
        second.save()
        expected = copy_of({"m": items})["m"]
        for place in range(0, 900, 90):
            expected[place]["text"] += "theirs"
            expected[place + 1]["text"] += "mine"
        del expected[700:800], expected[500:600]
        assert decoded(store, thread_id) == {"m": [*expected, message(900)], "other": 1}


def begin(store: ThreadStore, thread_id: str, state: State) -> None:
    store.merge(thread_id, [Set(key, codec.encode(value)) for key, value in state.items()])
