from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.wire import PendingReplies


def test_replies_find_their_requests_in_any_order() -> None:
    matching: PendingReplies[str] = PendingReplies()
    matching.add("a", "first")
    matching.add("b", "second")
    assert len(matching) == 2
    assert matching.answer("b") == "second"
    assert matching.answer("a") == "first"
    assert len(matching) == 0


def test_unexpected_replies_are_counted_by_kind() -> None:
    matching: PendingReplies[str] = PendingReplies()
    matching.add("a", "first")
    matching.answer("a")
    assert matching.answer("a") is None
    matching.add("b", "second")
    assert matching.give_up("b") == "second"
    assert matching.give_up("b") is None
    assert matching.answer("b") is None
    assert matching.answer("c") is None
    assert (matching.duplicate, matching.late, matching.unknown) == (1, 1, 1)


def test_a_request_that_is_sent_again_is_waited_for_again() -> None:
    matching: PendingReplies[str] = PendingReplies()
    matching.add("a", "first")
    assert matching.give_up_all() == ["first"]
    matching.add("a", "again")
    assert "a" in matching
    assert list(matching) == ["again"]
    assert matching.answer("a") == "again"
    assert matching.late == 0


def test_memory_does_not_grow_with_the_past() -> None:
    matching: PendingReplies[int] = PendingReplies(remembered=10)
    for number in range(1000):
        matching.add(str(number), number)
        assert matching.answer(str(number)) == number
    assert matching.answer("0") is None
    assert matching.answer("999") is None
    assert (matching.unknown, matching.duplicate) == (1, 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "answer", "give_up"]), st.integers(0, 5))))
def test_every_request_is_handed_out_once(steps: list[tuple[str, int]]) -> None:
    matching: PendingReplies[int] = PendingReplies(remembered=3)
    waiting: set[str] = set()
    unmatched = 0
    for action, number in steps:
        id = str(number)
        if action == "add":
            matching.add(id, number)
            waiting.add(id)
            continue
        request = matching.answer(id) if action == "answer" else matching.give_up(id)
        assert (request is not None) == (id in waiting)
        unmatched += action == "answer" and id not in waiting
        waiting.discard(id)
    assert len(matching) == len(waiting)
    assert matching.unknown + matching.duplicate + matching.late == unmatched
