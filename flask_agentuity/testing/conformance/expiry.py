"""Threads that expire."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Push, Set
from ...errors import StateTooLarge, StoreError
from .stored import (
    new_id,
    pushes,
)
from .suite import Clock, Suite


class ExpiryConformance(Suite):
    """Threads expire after a time without use."""

    def test_a_thread_expires(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), Push("l", b"1")], {"m": 1})
            clock.advance(95)
            store.merge(thread_id, [Set("b", b"1")])
            clock.advance(95)
            assert store.restore(thread_id) is not None
            clock.advance(101)
            assert store.restore(thread_id) is None
            assert store.read(thread_id) is None
            store.delete(thread_id)

    @pytest.mark.parametrize("way", ["merge", "save"])
    def test_nothing_of_an_expired_thread_comes_back(
        self, place: Any, thread_id: str, clock: Clock, way: str
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))], {"m": 1})
            clock.advance(101)
            if way == "save":
                store.save(thread_id, b'{"state":{"l":[5]}}')
            else:
                store.merge(thread_id, [Push("l", b"5")])
            assert store.restore(thread_id) == b'{"state":{"l":[5]}}'

    def test_an_expired_thread_does_not_count_for_the_limit(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place, ttl=100.0, max_bytes=1_000)) as store:
            store.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 900))])
            clock.advance(101)
            store.merge(thread_id, [Set("b", b'"%b"' % (b"x" * 900))])
            with pytest.raises(StateTooLarge):
                store.merge(thread_id, [Set("c", b'"%b"' % (b"x" * 900))])

    @pytest.mark.parametrize("way", ["read", "restore", "read one key"])
    def test_a_read_renews(self, place: Any, thread_id: str, clock: Clock, way: str) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))])
            whole = store.restore(thread_id)
            for _ in range(4):
                clock.advance(60)
                if way == "read":
                    assert store.read(thread_id) is not None
                elif way == "restore":
                    assert store.restore(thread_id) is not None
                else:
                    assert store.read(thread_id, ["a"]) is not None
            clock.advance(85)
            assert store.restore(thread_id) == whole

    def test_without_a_ttl_nothing_expires(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place, ttl=None)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            clock.advance(60 * 60 * 24 * 365 * 50)
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
            store.merge(thread_id, [Set("b", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1,"b":1}}'

    def test_purge_removes_the_expired_only(self, place: Any, clock: Clock) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            try:
                assert store.purge() == 0
            except StoreError as error:
                pytest.skip(str(error))
            old = [new_id() for _ in range(50)]
            for thread_id in old:
                store.merge(thread_id, [Push("l", b"1")], {"m": 1})
            clock.advance(60)
            young = new_id()
            store.merge(young, [Set("a", b"1")])
            assert store.purge() == 0
            clock.advance(60)
            steps: list[int] = []
            assert store.purge(steps.append) == sum(steps) == len(old)
            assert store.purge() == 0
            assert store.restore(young) == b'{"state":{"a":1}}'
            assert all(store.restore(thread_id) is None for thread_id in old)
