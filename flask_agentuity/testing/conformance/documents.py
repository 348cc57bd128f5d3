"""Whole documents: what is restored is what was saved."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Clear, Delete, Push, Set
from ...errors import StoreError
from ...stores import ThreadStore
from .stored import (
    new_id,
    pushes,
    snapshot_of,
)
from .suite import Suite


class DocumentConformance(Suite):
    """Saving, restoring and deleting whole documents."""

    def test_an_unknown_thread_is_none(self, store: ThreadStore, thread_id: str) -> None:
        assert store.restore(thread_id) is None
        assert store.read(thread_id) is None
        assert store.read(thread_id, ["a"]) is None
        assert store.read(thread_id, []) is None

    def test_deleting_an_unknown_thread_is_no_error(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.delete(thread_id)
        assert store.restore(thread_id) is None

    def test_merging_makes_a_thread(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    def test_merging_nothing_makes_nothing(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [])
        store.merge(thread_id, [], {})
        store.merge(thread_id, [Clear(), Delete("a")])
        store.merge(thread_id, [Set("a", b"1"), Delete("a")])
        assert store.restore(thread_id) is None

    def test_threads_are_apart(self, store: ThreadStore, thread_id: str) -> None:
        other = new_id()
        store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"m": 1})
        store.merge(other, [Push("l", b"2"), Set("a", b"2")], {"m": 2})
        store.delete(thread_id)
        assert store.restore(thread_id) is None
        assert store.restore(other) == b'{"state":{"l":[2],"a":2},"metadata":{"m":2}}'

    @pytest.mark.parametrize(
        "document",
        [
            '{"state":{"b":1,"a":2,"10":3,"9":4}}',
            '{"state":{"a":null,"b":false,"c":true,"d":0,"e":"","f":[],"g":{}}}',
            '{"state":{"a":-0.0,"b":1.0,"c":1e+100,"d":0.1,"e":-9223372036854775808}}',
            '{"state":{"a":18446744073709551615,"b":9007199254740993}}',
            '{"state":{"a":"\\u0000\\u001f\\"\\\\é测😀\u2028\x7f"}}',
            '{"state":{"a":[1,[2,[3,{"b":[4]}]],{"c":[]}]}}',
            '{"state":{"a":["],[",",","\\n","{}"]}}',
            '{"state":{"state":{"state":1},"metadata":{"metadata":1}}}',
        ],
    )
    def test_restore_gives_the_exact_text(
        self, store: ThreadStore, thread_id: str, document: str
    ) -> None:
        document = document.replace("1e+100", codec.encode(1e100).decode())
        store.save(thread_id, document.encode(), {"é": ["x", 1]})
        expected = document[:-1] + ',"metadata":{"é":["x",1]}}'
        assert store.restore(thread_id) == expected.encode()

    def test_the_deepest_value_comes_back(self, store: ThreadStore, thread_id: str) -> None:
        value: Any = []
        for _ in range(codec.MAX_DEPTH - 1):
            value = [value]
        store.merge(thread_id, [Set("deep", codec.encode(value))])
        assert snapshot_of(store, thread_id).encoded["deep"] == codec.encode(value)

    def test_save_replaces_the_state(self, store: ThreadStore, thread_id: str) -> None:
        store.save(thread_id, b'{"state":{"a":1,"l":[1,2],"long":"%b"}}' % (b"x" * 50_000))
        store.save(thread_id, b'{"state":{"b":2,"l":[3]}}')
        assert store.restore(thread_id) == b'{"state":{"b":2,"l":[3]}}'

    def test_save_keeps_or_replaces_the_metadata(self, store: ThreadStore, thread_id: str) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1, "n": 2})
        store.save(thread_id, b'{"state":{"a":2},"metadata":{"ignored":true}}')
        assert store.restore(thread_id) == b'{"state":{"a":2},"metadata":{"m":1,"n":2}}'
        store.save(thread_id, b'{"state":{"a":3}}', {"m": 5})
        assert store.restore(thread_id) == b'{"state":{"a":3},"metadata":{"m":5}}'
        store.save(thread_id, b'{"state":{"a":4}}', {})
        assert store.restore(thread_id) == b'{"state":{"a":4}}'

    @pytest.mark.parametrize("nothing", [b"", b"{}", b"null", b'{"state":{}}', b'{"state":null}'])
    def test_saving_nothing_removes_the_state(
        self, store: ThreadStore, thread_id: str, nothing: bytes
    ) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1})
        store.save(thread_id, nothing)
        assert store.restore(thread_id) == b'{"metadata":{"m":1}}'
        store.save(thread_id, nothing, {})
        assert store.restore(thread_id) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'{"a":1,"b":[2]}', b'{"state":{"a":1,"b":[2]}}'),
            (b' { "a" : 1 } \n', b'{"state":{"a":1}}'),
            (b'{"state":"CA","zip":1}', b'{"state":{"state":"CA","zip":1}}'),
            (b'{"state":{"a":1},"b":2}', b'{"state":{"a":1,"b":2}}'),
            (b'{"a":"\\u00e9\\/"}', '{"state":{"a":"é/"}}'.encode()),
            (b'{"a":1,"a":2}', b'{"state":{"a":2}}'),
        ],
    )
    def test_old_documents_may_be_saved(
        self, store: ThreadStore, thread_id: str, old: bytes, new: bytes
    ) -> None:
        store.save(thread_id, old)
        assert store.restore(thread_id) == new

    @pytest.mark.parametrize("broken", [b"{{{", b"[1]", b"5", b'{"state":{"a":1}', b"\xff"])
    def test_saving_what_is_no_document_changes_nothing(
        self, store: ThreadStore, thread_id: str, broken: bytes
    ) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1})
        with pytest.raises(StoreError, match=thread_id):
            store.save(thread_id, broken, {"m": 2})
        assert store.restore(thread_id) == b'{"state":{"a":1},"metadata":{"m":1}}'

    def test_delete_removes_everything(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(500))], {"m": 1})
        store.delete(thread_id)
        assert store.restore(thread_id) is None
        store.merge(thread_id, [Push("l", b"7")])
        assert store.restore(thread_id) == b'{"state":{"l":[7]}}'

    def test_closing_twice_is_no_error(self, place: Any, thread_id: str) -> None:
        store = self.open(place)
        store.merge(thread_id, [Set("a", b"1")])
        store.close()
        store.close()
        unused = self.open(place)
        unused.close()

    def test_what_was_merged_outlives_the_store(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Push("l", b"1")], {"m": 1})
        with closing(self.second(place)) as store:
            assert store.restore(thread_id) == b'{"state":{"l":[1]},"metadata":{"m":1}}'
