"""Three requests on one thread, interleaved at random, and what each store makes of them.

A program is made of a seed alone: which steps each request takes, in which order, and where
in the middle of a save another request takes its next step. So the same program runs on every
store, and can be repeated.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from support.recording import Watcher

from flask_agentuity import Thread
from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.errors import AgentuityError
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.writing import Conflict, Write, Written

#: ``careful``: no two requests change one scalar, and nothing is removed without having been
#: read, so it can be told what must not be lost. ``anything``: whatever an app can do.
Family = Literal["careful", "anything"]

REQUESTS = 3

#: What requests write, and what the thread begins with.
WORDS = re.compile(r"<[0-9.]+>|seed [0-9]|nested [0-9]")


@dataclass(frozen=True)
class Step:
    """What a request does next; *roll* decides on which item."""

    kind: str
    roll: int


@dataclass(frozen=True)
class Program:
    """The steps of each request, and the order in which the requests take them.

    ``interruptions``: which request takes a step before each write of the store.
    """

    seed: int
    family: Family
    start: dict[str, Any]
    steps: list[list[Step]]
    order: list[int]
    interruptions: list[int | None]

    @classmethod
    def of(cls, seed: int, family: Family, *, ids: bool) -> Program:
        chance = random.Random(seed)
        kinds = CAREFUL if family == "careful" else CAREFUL + ANYTHING
        steps = [_steps(chance, kinds) for _ in range(REQUESTS)]
        order = [number for number, each in enumerate(steps) for _ in each]
        chance.shuffle(order)
        interruptions = [
            chance.randrange(REQUESTS) if chance.random() < 0.3 else None for _ in range(60)
        ]
        messages = [
            _item(ids, f"s{number}", f"seed {number}" + chance.choice(("", " " + "x" * 60)))
            for number in range(chance.randrange(7))
        ]
        nested = [_item(ids, f"t{number}", f"nested {number}") for number in range(2)]
        start = {"m": messages, "chat": {"messages": nested, "title": "t"}, "count": 0}
        return cls(seed, family, start, steps, order, interruptions)


def _steps(chance: random.Random, kinds: list[str]) -> list[Step]:
    steps = []
    for _ in range(chance.choice((1, 2, 3))):
        for _ in range(chance.randrange(1, 5)):
            steps.append(Step(chance.choice(kinds), chance.randrange(1_000)))
        steps.append(Step("save", 0))
        if chance.random() < 0.2:
            steps.append(Step("refresh", 0))
    return steps


def _item(ids: bool, identity: str, text: str) -> dict[str, Any]:
    return {"id": identity, "text": text} if ids else {"text": text}


@dataclass
class Ledger:
    """What was done to items with ids, by saves that succeeded."""

    appended: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    increments: int = 0

    def add(self, other: Ledger) -> None:
        self.appended += other.appended
        self.removed |= other.removed
        self.increments += other.increments
        for identity, tokens in other.tokens.items():
            self.tokens.setdefault(identity, []).extend(tokens)


class Request:
    """One request: a real thread object, and the Python values that it holds."""

    def __init__(self, run: Run, number: int, steps: list[Step]) -> None:
        self.run, self.number = run, number
        self.thread = Thread(
            run.store,  # type: ignore[arg-type]
            lambda: (run.thread_id, False),
            Watcher("raise"),
        )
        self.steps = list(steps)
        self.saving = False
        self.begin_early()
        self.unsaved = Ledger()
        self.made = 0
        # The item that it has appended last, as an app that streams an answer holds it.
        self.mine: dict[str, Any] | None = None

    def begin_early(self) -> None:
        """Have the request begin clearly before a deletion that comes later.

        How long a message takes to a store is unknown, so stores err by that time.
        """
        if not self.run.destroyed:
            self.thread._source._began -= 1

    def take_step(self) -> None:
        if not self.steps or self.saving:
            return
        step = self.steps.pop(0)
        try:
            STEPS[step.kind](self, step.roll)
        except (AgentuityError, KeyError, RuntimeError, TypeError) as error:
            self.run.events.append((self.number, step.kind, type(error).__name__))

    def new_item(self, text: str) -> dict[str, Any]:
        self.made += 1
        identity = f"{self.number}.{self.made}"
        item = _item(self.run.ids, identity, text)
        self.unsaved.appended.append(identity)
        return item

    def token(self) -> str:
        self.made += 1
        return f"<{self.number}.{self.made}>"

    def messages(self) -> list[dict[str, Any]]:
        return self.thread.state["m"]  # type: ignore[no-any-return]

    def forget_missing(self, before: list[Any], after: list[Any]) -> None:
        left = {id(item) for item in after}
        self.unsaved.removed |= {item.get("id", "") for item in before if id(item) not in left}

    def save(self) -> None:
        self.saving = True
        try:
            self.thread.save()
        finally:
            self.saving = False
        self.run.ledger.add(self.unsaved)
        self.unsaved = Ledger()


def append(request: Request, roll: int) -> None:
    """A question and an empty answer, which grows later."""
    question = request.new_item(f"question {request.token()}")
    request.mine = request.new_item("")
    request.thread.state.setdefault("m", []).extend([question, request.mine])


def grow(request: Request, roll: int) -> None:
    own = _own(request, request.messages())
    if own:
        _grow(request, own[roll % len(own)])


def grow_last(request: Request, roll: int) -> None:
    if request.mine is not None:
        _grow(request, request.mine)


def _own(request: Request, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of the start that only this request changes."""
    return [
        item
        for item in items
        if (words := item["text"].split())
        and words[0] in ("seed", "nested")
        and int(words[1].partition("<")[0]) % REQUESTS == request.number
    ]


def _grow(request: Request, item: dict[str, Any]) -> None:
    token = request.token()
    item["text"] += token
    if request.run.ids:
        request.unsaved.tokens.setdefault(item["id"], []).append(token)


def mark(request: Request, roll: int) -> None:
    """Change one field of any item; other requests may change other fields of it."""
    items = request.messages()
    if items:
        items[roll % len(items)][f"seen by {request.number}"] = roll


def insert(request: Request, roll: int) -> None:
    items = request.messages()
    request.mine = request.new_item("inserted " + request.token())
    items.insert(roll % (len(items) + 1), request.mine)


def delete(request: Request, roll: int) -> None:
    items = request.messages()
    if items:
        gone = items.pop(roll % len(items))
        request.unsaved.removed.add(gone.get("id", ""))


def regenerate(request: Request, roll: int) -> None:
    items = request.messages()
    if items:
        request.unsaved.removed.add(items.pop().get("id", ""))
        request.mine = request.new_item("")
        items.append(request.mine)


def keep_some(request: Request, roll: int) -> None:
    items = request.messages()
    kept = [item for place, item in enumerate(items) if (place + roll) % 3]
    request.forget_missing(items, kept)
    request.thread.state["m"] = kept


def window(request: Request, roll: int) -> None:
    items = request.messages()
    kept = items[-(roll % 5 + 2) :]
    request.forget_missing(items, kept)
    items[:] = kept


def push(request: Request, roll: int) -> None:
    item = request.new_item(f"pushed {request.token()}")
    request.thread.state.push("m", item)


def append_nested(request: Request, roll: int) -> None:
    item = request.new_item(f"reply {request.token()}")
    request.thread.state["chat"]["messages"].append(item)


def grow_nested(request: Request, roll: int) -> None:
    own = _own(request, request.thread.state["chat"]["messages"])
    if own:
        _grow(request, own[roll % len(own)])


def increment(request: Request, roll: int) -> None:
    request.thread.state.increment("count", roll % 5)
    request.unsaved.increments += roll % 5


def set_metadata(request: Request, roll: int) -> None:
    request.thread.metadata[f"by {request.number}"] = roll


def read(request: Request, roll: int) -> None:
    len(request.messages())


def refresh(request: Request, roll: int) -> None:
    request.thread.refresh()
    request.mine = None
    request.begin_early()


def blind_set(request: Request, roll: int) -> None:
    request.thread.state["m" if roll % 2 else "other"] = [{"text": request.token()}]


def remove_key(request: Request, roll: int) -> None:
    del request.thread.state[("m", "chat", "count", "other")[roll % 4]]


def clear(request: Request, roll: int) -> None:
    if roll % 3 == 0:
        request.thread.state.clear()


def truncate(request: Request, roll: int) -> None:
    request.thread.state.truncate("m", roll % 6)


def pop_last(request: Request, roll: int) -> None:
    request.thread.state.pop_last("m")


def push_window(request: Request, roll: int) -> None:
    item = request.new_item(f"pushed {request.token()}")
    request.thread.state.push("m", item, max_records=roll % 7 + 2, keep_first=roll % 3)


def push_unique(request: Request, roll: int) -> None:
    item = {"key": roll % 4, "text": request.token()}
    request.thread.state.push("u", item, unique="key")


def grow_any(request: Request, roll: int) -> None:
    items = request.messages()
    if items:
        items[roll % len(items)]["text"] += request.token()


def change(request: Request, roll: int) -> None:
    request.thread.state.change("changed", lambda value: [*(value or []), roll % 9])


def scalar(request: Request, roll: int) -> None:
    request.thread.state["chat"]["title"] = f"title {roll % 5}"


def other_type(request: Request, roll: int) -> None:
    value = request.thread.state.get("other")
    request.thread.state["other"] = roll if isinstance(value, list) else [value, {"a": roll}]


def assign_metadata(request: Request, roll: int) -> None:
    request.thread.metadata = {"assigned": roll % 3, "more": [roll]}


def drop_metadata(request: Request, roll: int) -> None:
    request.thread.metadata.pop(f"by {roll % 3}", None)


def destroy(request: Request, roll: int) -> None:
    if roll % 5 == 0 and not request.run.destroyed:
        request.thread.destroy()
        request.run.destroyed = True


CAREFUL = [
    *("append", "append", "grow", "grow_last", "grow_last", "grow_last", "mark", "insert"),
    *("delete", "regenerate", "keep_some", "window", "push", "append_nested", "grow_nested"),
    *("increment", "set_metadata", "read", "append", "grow"),
]
ANYTHING = [
    *("blind_set", "remove_key", "clear", "truncate", "pop_last", "push_window", "push_unique"),
    *("grow_any", "grow_any", "change", "scalar", "other_type", "assign_metadata"),
    *("drop_metadata", "destroy", "push_window"),
]
STEPS: dict[str, Callable[[Request, int], None]] = {
    **{name: globals()[name] for name in {*CAREFUL, *ANYTHING}},
    "save": lambda request, roll: request.save(),
    "refresh": refresh,
}


class InterruptedStore:
    """A store before whose writes other requests take a step.

    With *wanted_only*, reading gives the values that are asked for. Otherwise it gives all.
    Stores may give others along, but not all do, and a later read gives later values.
    """

    def __init__(
        self, store: ThreadStore, interrupt: Callable[[], None], *, wanted_only: bool
    ) -> None:
        self._store, self._interrupt = store, interrupt
        self._wanted_only = wanted_only

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        if not self._wanted_only:
            return self._store.read(thread_id)
        snapshot = self._store.read(thread_id, keys)
        if snapshot is not None and keys is not None:
            found = snapshot.encoded.items()
            snapshot.encoded = {key: value if key in keys else None for key, value in found}
            snapshot.decoded = {
                key: snapshot.decoded[key] for key in snapshot.decoded if key in keys
            }
        return snapshot

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        self._interrupt()
        return self._store.write(thread_id, write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Run:
    """A program on one store."""

    def __init__(self, program: Program, store: ThreadStore, thread_id: str, *, ids: bool) -> None:
        self.program, self.thread_id, self.ids = program, thread_id, ids
        self.store = InterruptedStore(store, self.interrupt, wanted_only=program.seed % 2 == 0)
        self.events: list[tuple[int, str, str]] = []
        self.ledger = Ledger()
        self.destroyed = False
        self.interruptions: Iterator[int | None] = iter(())
        begin = Thread(store, lambda: (thread_id, False), Watcher("raise"))
        begin.state.update(program.start)
        begin.save()
        self.requests = [Request(self, number, steps) for number, steps in enumerate(program.steps)]
        self.interruptions = iter(program.interruptions)
        for number in program.order:
            self.requests[number].take_step()
        for request in self.requests:
            while request.steps:
                request.take_step()
        self.document = store.restore(thread_id)
        self.views = [self._view(request) for request in self.requests]

    def interrupt(self) -> None:
        other = next(self.interruptions, None)
        if other is not None:
            self.requests[other].take_step()

    def _view(self, request: Request) -> object:
        try:
            return request.thread.state.copy()
        except AgentuityError as error:
            return type(error).__name__

    @property
    def result(self) -> tuple[object, ...]:
        """What must be the same on every store."""
        return self.document, self.events, self.views

    @property
    def state(self) -> dict[str, Any]:
        if self.document is None:
            return {}
        return codec.decode(self.document).get("state", {})  # type: ignore[no-any-return]

    def faults(self) -> list[str]:
        """Return what was lost or doubled of items with ids, for a careful program."""
        state, ledger, start = self.state, self.ledger, self.program.start
        messages = [*state.get("m", ()), *state["chat"]["messages"]]
        counts = Counter(item["id"] for item in messages)
        begun = [item["id"] for item in (*start["m"], *start["chat"]["messages"])]
        expected = {*begun, *ledger.appended} - ledger.removed
        texts = {item["id"]: item["text"] for item in messages}
        return [
            *(f"{one} is lost" for one in sorted(expected - set(counts))),
            *(f"{one} is there {n} times" for one, n in counts.items() if n > 1),
            *(f"{one} was removed and is there" for one in ledger.removed & set(counts)),
            *(
                f"{token} of {one} is there {texts[one].count(token)} times"
                for one, tokens in ledger.tokens.items()
                for token in tokens
                if one in texts and texts[one].count(token) != 1
            ),
            *([] if state["count"] == ledger.increments else ["an increment is lost"]),
        ]


def without_ids(state: dict[str, Any]) -> dict[str, Any]:
    """Return *state* as a program without ids would leave it."""

    def strip(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in item.items() if key != "id"} for item in items]

    chat = state["chat"]
    return {
        **state,
        "m": strip(state.get("m", [])),
        "chat": {**chat, "messages": strip(chat["messages"])},
    }


def difference(plain: dict[str, Any], ideal: dict[str, Any]) -> str:
    """Return how a result without ids differs from the one with ids: the worst that happened.

    Every word that a request writes is written once, so words tell what was lost.
    """
    if plain == ideal:
        return "nothing"
    texts = [[item["text"] for item in state.get("m", [])] for state in (plain, ideal)]
    words = [Counter(WORDS.findall(codec.encode(state).decode())) for state in (plain, ideal)]
    if max(words[0].values(), default=0) > 1:
        return "doubled"
    if words[1] - words[0]:
        return "lost"
    if words[0] - words[1]:
        return "not removed"
    if Counter(texts[0]) == Counter(texts[1]):
        return "other order" if texts[0] != texts[1] else "other fields"
    return "empty or moved text"
