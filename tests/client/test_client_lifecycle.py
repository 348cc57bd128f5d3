"""The stages of a client: open, closing, closed."""

from __future__ import annotations

from flask_agentuity.client.lifecycle import Lifecycle, Stage


def test_a_lifecycle_moves_on_and_never_back() -> None:
    lifecycle = Lifecycle()
    assert lifecycle.refusal() is None
    lifecycle.close(10, 1, 0.5)
    assert (lifecycle.stage, lifecycle.deadline) == (Stage.CLOSING, 11)
    assert "closed" in str(lifecycle.refusal())
    lifecycle.close(10, 99, 0.5)
    assert lifecycle.deadline == 11
    lifecycle.leave(10.5)
    assert (lifecycle.stage, lifecycle.deadline) == (Stage.LEAVING, 11)
    lifecycle.end()
    lifecycle.close(12, 1, 0.5)
    assert lifecycle.stage is Stage.CLOSED
    assert "closed" in str(lifecycle.refusal())
