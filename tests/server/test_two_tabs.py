"""Two tabs of one chat, each streaming an answer by growing its last message in place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.redis_server import running as redis_running
from support.servers import Visitor, gunicorn, running, together

#: How many times two tabs ask at once; the long form is AGENTUITY_TEST_TABS=50.
ROUNDS = int(os.environ.get("AGENTUITY_TEST_TABS", "6"))
TABS, TURNS = 2, 6


def complete(name: str, turn: int) -> list[dict[str, str]]:
    """Return what one turn has to leave behind."""
    answer = "".join(f"{name}{turn}.{part} " for part in range(8))
    return [
        {"role": "user", "content": f"{name} {turn}"},
        {"role": "assistant", "content": answer},
    ]


@pytest.fixture(params=["sqlite", "redis"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with redis_running(tmp_path) as redis:
        yield {"AGENTUITY_THREAD_STORE": redis.url, "AGENTUITY_THREAD_SECRET": "for all workers"}


def test_every_question_and_every_answer_is_complete(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with running(tmp_path, gunicorn("gthread", workers=2), **environment) as server:
        for _ in range(ROUNDS):
            browser = Visitor(server)
            browser.post("/state", {"messages": []})

            def ask(tab: Visitor, name: str) -> None:
                for turn in range(TURNS):
                    answer = tab.post("/grow", f"{name} {turn}")
                    assert answer.status == 200
                    assert answer.body.decode() == complete(name, turn)[1]["content"]

            together(*(partial(ask, browser.copy(), "ab"[tab]) for tab in range(TABS)))
            messages = browser.state()["messages"]
            for name in "ab"[:TABS]:
                expected = [one for turn in range(TURNS) for one in complete(name, turn)]
                mine = [one for one in messages if one["content"].startswith(name)]
                assert mine == expected
            assert len(messages) == 2 * TABS * TURNS
