"""What the service keeps of restores is bounded in number, size and time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_agentuity.service import ThreadService, views
from flask_agentuity.service.settings import DEFAULT_MAX_MEMORY_BYTES
from flask_agentuity.service.views import Budget, View, Views

from .peers import PATIENCE, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]


def view(size: int = 0, at: float = 0.0, *, saved: bool = False) -> View:
    return View({"k": b"x" * size}, b"{}", 1, at, saved)


def test_the_views_of_a_thread_in_their_order() -> None:
    kept = Views(Budget(2**27))
    first, second, other = view(), view(), view()
    for thread_id, each in (("t", first), ("t", second), ("other", other)):
        kept.add(thread_id, each)
    assert kept.of("t", 0.0) == [first, second]
    assert kept.of("other", 0.0) == [other]
    kept.remove(first)
    kept.remove(first)
    assert kept.of("t", 0.0) == [second]
    assert kept.of("unknown", 0.0) == []


def test_what_was_saved_is_kept_until_the_next_restore() -> None:
    kept = Views(Budget(2**27))
    read, saved, again = view(), view(saved=True), view(saved=True)
    kept.add("t", read)
    kept.add("t", saved)
    kept.add("t", again)
    assert kept.of("t", 0.0) == [read, again]
    later = view()
    kept.add("t", later)
    assert kept.of("t", 0.0) == [read, later]


def test_old_views_are_forgotten() -> None:
    budget = Budget(2**27)
    kept = Views(budget)
    kept.add("t", view(at=0.0))
    young = view(at=100.0)
    kept.add("t", young)
    assert len(kept.of("t", views.VIEW_SECONDS - 1)) == 2
    assert kept.of("t", views.VIEW_SECONDS + 1) == [young]
    kept.prune(views.VIEW_SECONDS + 101)
    assert len(kept) == 0
    assert budget.take(2**27)


def test_a_thread_has_so_many() -> None:
    kept = Views(Budget(2**27))
    made = [view() for _ in range(views.THREAD_VIEWS + 10)]
    for each in made:
        kept.add("t", each)
    assert kept.of("t", 0.0) == made[10:]


def test_a_connection_has_so_many_bytes() -> None:
    kept = Views(Budget(2**27), limit=10_000)
    made = [view(2_500) for _ in range(10)]
    for number, each in enumerate(made):
        kept.add(f"t{number}", each)
    assert len(kept) == 3
    assert [kept.of(f"t{number}", 0.0) for number in (6, 7, 8, 9)] == [[], *([m] for m in made[7:])]
    kept.add("large", view(20_000))
    assert len(kept) == 0
    kept.add("small", view(1_000))
    assert len(kept) == 1


def test_connections_share_the_bytes_of_the_service() -> None:
    budget = Budget(10_000)
    first, second = Views(budget), Views(budget)
    for _ in range(3):
        first.add("t", view(2_500))
    # A connection takes nothing from another one.
    second.add("t", view(2_500))
    assert (len(first), len(second)) == (3, 0)
    first.close()
    for _ in range(5):
        second.add("t", view(2_500))
    assert len(second) == 3
    second.close()
    # A request of a connection that has ended takes nothing.
    second.add("t", view(2_500))
    assert len(second) == 0
    assert budget.take(10_000)
    assert not budget.take(1)


def test_many_small_keys_count_as_what_they_take() -> None:
    assert View({str(number): b"1" for number in range(1000)}, b"{}", 1, 0.0).size > 100_000


def test_the_last_restore_is_known_longer_than_its_view() -> None:
    kept = Views(Budget(2**27), limit=1)
    assert kept.last_restore("t") is None
    kept.add("t", view(at=5.0))
    kept.add("t", view(at=9.0, saved=True))
    assert kept.of("t", 0.0) == []
    assert kept.last_restore("t") == 5.0
    for number in range(views.REMEMBERED_THREADS):
        kept.add(f"t{number}", view(at=6.0))
    assert kept.last_restore("t") is None
    assert kept.last_restore("t0") == 6.0


def test_a_closed_connection_gives_its_bytes_back(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[Budget] = []

    class Noted(Budget):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            budgets.append(self)

    monkeypatch.setattr("flask_agentuity.service.shared.Budget", Noted)
    service = serve()
    peer = connect(service)
    peer.call("save", user_data='{"state":{"a":"%s"}}' % ("x" * 100_000))
    for _ in range(10):
        peer.restore()
    (budget,) = budgets
    assert budget._left < DEFAULT_MAX_MEMORY_BYTES // 4 - 1_000_000
    peer.close()
    service.stop()
    assert budget._left == DEFAULT_MAX_MEMORY_BYTES // 4


def test_an_idle_connection_gives_its_bytes_back(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_agentuity.service.connection._PRUNE_INTERVAL", 0.01)
    monkeypatch.setattr(views, "VIEW_SECONDS", 0.05)
    empty = threading.Event()
    prune = Views.prune

    def noted(self: Views, now: float) -> None:
        prune(self, now)
        if not len(self):
            empty.set()

    monkeypatch.setattr(Views, "prune", noted)
    peer = connect(serve())
    peer.restore()
    assert empty.wait(PATIENCE)
