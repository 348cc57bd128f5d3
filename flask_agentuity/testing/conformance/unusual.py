"""Documents of other software, which contain what this package does not write."""

from __future__ import annotations

import json

import pytest

from ...document.operations import Push, Set
from ...stores import ThreadStore
from .stored import decoded
from .suite import Suite

LARGE = 123456789012345678901234567890


class UnusualConformance(Suite):
    """What other software has stored does not count as damaged."""

    def test_halves_of_surrogate_pairs_are_replaced(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        document = rb'{"state":{"a":1,"text":"\ud83d","\ude00":["\ude00 \ud83d\ude00"]}}'
        store.save(thread_id, document, {"m": "\ud83d"})
        expected = {"a": 1, "text": "\ufffd", "\ufffd": ["\ufffd \U0001f600"]}
        assert decoded(store, thread_id) == expected
        store.merge(thread_id, [Set("a", b"2")])
        assert decoded(store, thread_id) == {**expected, "a": 2}
        assert json.loads(store.restore(thread_id) or b"")["metadata"] == {"m": "\ufffd"}

    @pytest.mark.parametrize("levels", [300, 1100])
    def test_values_may_nest_deep(self, store: ThreadStore, thread_id: str, levels: int) -> None:
        deep = b"[" * levels + b"]" * levels
        store.save(thread_id, b'{"state":{"a":1,"deep":%b,"l":[1]}}' % deep)
        store.merge(thread_id, [Set("a", b"2"), Push("l", b"2")])
        state = decoded(store, thread_id)
        assert (state["a"], state["l"]) == (2, [1, 2])
        assert deep in (store.restore(thread_id) or b"")

    def test_large_integers_stay(self, store: ThreadStore, thread_id: str) -> None:
        document = b'{"state":{"a":1,"n":%d,"in":{"n":[%d]},"l":[%d]}}' % (LARGE, LARGE, LARGE)
        store.save(thread_id, document)
        store.merge(thread_id, [Set("a", b"2"), Push("l", b"2")])
        restored = store.restore(thread_id) or b""
        # A store that changes a list as a whole may read its items as JavaScript does.
        assert restored.count(b"%d" % LARGE) >= 2
        assert decoded(store, thread_id)["l"] in ([LARGE, 2], [float(LARGE), 2])
