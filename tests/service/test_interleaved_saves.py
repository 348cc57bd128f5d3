"""Random interleavings of a runtime's requests on one connection, and of Flask's writes."""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import Any

import pytest

from flask_agentuity import wire
from flask_agentuity.document.operations import Push
from flask_agentuity.service.answering import Answering
from flask_agentuity.service.logs import Logs
from flask_agentuity.service.tenants import Tenant, stored_id
from flask_agentuity.service.views import Budget, Views
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Write

from .peers import THREAD

NAMESPACE = "namespace"
STEPS = 40
RUNS = 150

State = dict[str, Any]


class Interleaving:
    """One run: what was stored, and what has to be there in the end."""

    def __init__(self, seed: int, kinds: list[str], overlapping: int, reading: float) -> None:
        """*reading* is the share of requests that only read."""
        self._dice = random.Random(seed)
        self._kinds, self._overlapping, self._reading = kinds, overlapping, reading
        self._store = MemoryStore()
        self._answering = Answering(
            Tenant("one", self._store, NAMESPACE), Views(Budget(2**27)), Logs()
        )
        self._numbers = itertools.count()
        self._requests: list[State] = []
        self.items: dict[int, str] = {}
        self.counted: set[int] = set()

    def run(self) -> None:
        for _ in range(STEPS):
            chance = self._dice.random()
            if chance < 0.3:
                self._push()
            elif chance < 0.65 and len(self._requests) < self._overlapping:
                state = self.restore()
                if self._dice.random() >= self._reading:
                    self._requests.append(state)
            elif self._requests:
                self._finish(self._requests.pop(self._dice.randrange(len(self._requests))))

    def restore(self) -> State:
        reply = self._ask(wire.RestoreRequest("1", THREAD))
        state: State = json.loads(reply["data"] or "{}").get("state", {})
        return state

    def _ask(self, request: wire.ThreadRequest) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self._answering.answer(request, time.monotonic()))
        assert reply["success"] is True, reply
        return reply

    def _item(self) -> dict[str, Any]:
        number = next(self._numbers)
        self.items[number] = f"text {number}"
        return {"id": number, "text": self.items[number]}

    def _push(self) -> None:
        push = Push("l", json.dumps(self._item(), separators=(",", ":")).encode())
        self._store.write(stored_id(NAMESPACE, THREAD), Write([push]))

    def _finish(self, state: State) -> None:
        items = state.setdefault("l", [])
        match self._dice.choice(self._kinds):
            case "edit" if items:
                item = self._dice.choice(items)
                # Two requests that change one text: the later one wins.
                item[f"by {next(self._numbers)}"] = True
            case "count":
                number = next(self._numbers)
                self.counted.add(number)
                state.setdefault("counted", {})[str(number)] = True
                state["n"] = state.get("n", 0) + 1
            case _:
                items.append(self._item())
        text = json.dumps({"state": state}, separators=(",", ":"))
        self._ask(wire.SaveRequest("1", THREAD, text.encode()))


@pytest.mark.parametrize("reading", [0.0, 0.4])
@pytest.mark.parametrize("overlapping", [1, 2, 5])
@pytest.mark.parametrize("kinds", [["append"], ["append", "count"], ["append", "edit", "count"]])
def test_nothing_is_lost_or_doubled(kinds: list[str], overlapping: int, reading: float) -> None:
    for seed in range(RUNS):
        run = Interleaving(seed, kinds, overlapping, reading)
        run.run()
        state = run.restore()
        found = [(item["id"], item["text"]) for item in state.get("l", [])]
        assert sorted(found) == sorted(run.items.items()), seed
        assert {int(number) for number in state.get("counted", {})} == run.counted, seed
