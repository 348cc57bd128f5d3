"""The base of all conformance tests: how a store is opened, and what it claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from freezegun import freeze_time

from ...document import codec
from ...document.operations import Operation
from ...stores import ThreadStore
from .stored import expected_after, new_id

Test = TypeVar("Test", bound=Callable[..., Any])

#: Seconds after which a test that waits gives up.
PATIENCE = 60.0

#: Keys that may cause errors in a store.
ODD_KEYS = [
    "",
    " ",
    "__proto__",
    "constructor",
    "state",
    "metadata",
    "size",
    "10",
    'double " quote',
    "single ' quote",
    "back \\ slash",
    "new\nline\r\n",
    "nul \0 in the middle",
    "\x7f\x80\u2028",
    "ключ",
    "😀",
    "{brace}",
    "a:b>c.d*[e]=f",
    "k" * 10_240,
]


class Clock:
    """Moves the clock of a store."""

    def __init__(self, advance: Callable[[float], object]) -> None:
        """*advance* moves the time by a number of seconds."""
        self.advance = advance


class Suite:
    """The base of all conformance tests. Subclasses open the store, and say what it can do."""

    #: Whether a second store opened on the same place sees the threads of the first.
    shared: ClassVar[bool] = False
    #: Whether damage in one value leaves :meth:`ThreadStore.read` of the others possible.
    reads_keys_apart: ClassVar[bool] = False
    #: Whether :meth:`ThreadStore.write` checks what edits replace, gives every write a new
    #: version and keeps deleted threads deleted (:attr:`ThreadStore.edits`).
    edits: ClassVar[bool] = False
    #: Whether :meth:`ThreadStore.list`, :meth:`ThreadStore.scan` and
    #: :meth:`ThreadStore.restore_without_renewing` work.
    lists: ClassVar[bool] = False
    #: Whether :meth:`ThreadStore.import_thread` keeps the times of threads. Needs ``lists``.
    transfers: ClassVar[bool] = False
    #: Whether the owner of a thread is kept beside its metadata (:attr:`ThreadStore.owners`).
    #: Otherwise it is in the metadata.
    owners: ClassVar[bool] = False
    #: Whether :meth:`ThreadStore.move` and :meth:`ThreadStore.copy` are atomic. Needs ``edits``.
    moves: ClassVar[bool] = False
    #: Whether turns hold for every store that sees the same threads.
    turns: ClassVar[bool] = False
    #: Whether turns are taken over without clocks, and writes under a lost turn are refused
    #: (:exc:`~flask_agentuity.TurnLost`). Needs ``turns``.
    leases: ClassVar[bool] = False
    #: Whether the store keeps runs (:attr:`ThreadStore.runs`).
    runs: ClassVar[bool] = False

    @pytest.fixture
    def place(self, tmp_path: Path) -> Any:
        """Where the threads of one test live; anything that :meth:`open` understands."""
        return tmp_path

    def open(self, place: Any, **options: Any) -> ThreadStore:
        """Return a store on *place*; *options* are ``ttl`` and ``max_bytes``."""
        raise NotImplementedError

    def opener(self, place: Any) -> Callable[[], ThreadStore] | None:
        """Return a picklable function that opens the store in another process, if possible."""
        return None

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        """Change the stored bytes of the value at *key* so that they are no longer JSON."""
        pytest.skip("this store does not say how its stored bytes can be damaged")

    def limit_keys(self, store: ThreadStore, place: Any, most: int) -> None:
        """Have the store refuse states with more than *most* keys."""
        store.max_keys = most

    def logged_id(self, thread_id: str) -> str:
        """Return the id that log records have for the thread when the store writes to it."""
        return thread_id

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        """Time that the test moves. Override it if the store has another clock than Python's."""
        with freeze_time("2030-01-01", ignore=["_pytest.timing"]) as frozen:
            yield Clock(frozen.tick)

    # The rest is used by the tests.

    @pytest.fixture
    def store(self, place: Any) -> Iterator[ThreadStore]:
        with closing(self.open(place)) as store:
            yield store

    @pytest.fixture
    def thread_id(self) -> str:
        return new_id()

    @pytest.fixture
    def claims(self) -> Callable[[str], bool]:
        """Whether the store claims a capability, by the name of the attribute."""
        return lambda capability: bool(getattr(self, capability))

    @pytest.fixture(autouse=True)
    def _needed_capabilities(
        self, request: pytest.FixtureRequest, claims: Callable[[str], bool]
    ) -> None:
        for capability in getattr(request.function, "needed_capabilities", ()):
            if not claims(capability):
                pytest.skip(f"this store does not claim {capability!r}")

    def second(self, place: Any, **options: Any) -> ThreadStore:
        if not self.shared:
            pytest.skip("no second store can see the threads of this one")
        return self.open(place, **options)

    def elsewhere(self, place: Any) -> Callable[[], ThreadStore]:
        opener = self.opener(place)
        if opener is None:
            pytest.skip("this store cannot be reached from another process")
        return opener

    def merge_and_compare(
        self, store: ThreadStore, thread_id: str, changes: Sequence[Operation]
    ) -> None:
        expected = expected_after(store.restore(thread_id), thread_id, changes)
        store.merge(thread_id, changes)
        assert store.restore(thread_id) == (expected or None)
        state = codec.split_document(expected, thread_id)
        snapshot = store.read(thread_id)
        assert (snapshot and snapshot.encoded) == (state and state.encoded)


def needs(capability: str) -> Callable[[Test], Test]:
    """Skip a test, or all tests of a class, for stores that do not claim *capability*.

    It is the name of an attribute of :class:`Suite`.
    """
    assert isinstance(getattr(Suite, capability), bool)

    def mark(test: Test) -> Test:
        functions = [test]
        if isinstance(test, type):
            functions = [value for name, value in vars(test).items() if name.startswith("test_")]
        for function in functions:
            needed = getattr(function, "needed_capabilities", ())
            vars(function)["needed_capabilities"] = (*needed, capability)
        return test

    return mark
