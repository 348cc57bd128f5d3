from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_agentuity import wire
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    Push,
    Set,
    Splice,
)
from flask_agentuity.errors import InvalidThreadId, StateNotSerializable, StateTooLarge
from flask_agentuity.wire import limits

THREAD = "thrd_" + "0" * 32


def message(**changes: Any) -> bytes:
    request = {"id": "r1", "action": "restore", "data": {"thread_id": THREAD}}
    return orjson.dumps({**request, **changes})


def test_the_frames_are_spelled_as_the_protocol_page_spells_them() -> None:
    assert json.loads(wire.encode_authorization("kéy")) == {"authorization": "kéy"}
    assert json.loads(wire.encode_restore("r1", THREAD)) == {
        "id": "r1",
        "action": "restore",
        "data": {"thread_id": THREAD},
    }
    assert json.loads(wire.encode_delete("r1", THREAD))["action"] == "delete"
    document = '{"state":{"a":"é\\n"}}'
    save = wire.encode_save("r1", THREAD, document.encode(), {"kind": "ü"})
    assert json.loads(save) == {
        "id": "r1",
        "action": "save",
        "data": {"thread_id": THREAD, "user_data": document, "metadata": {"kind": "ü"}},
    }
    assert "é".encode() in save
    assert "metadata" not in json.loads(wire.encode_save("r1", THREAD, b""))["data"]
    merge = wire.encode_merge(
        "r1", THREAD, [Set("a", b'{"b":1}'), Delete("c"), Clear(), Push("d", b'"x"', 3)]
    )
    assert json.loads(merge)["data"]["operations"] == [
        {"op": "set", "key": "a", "value": {"b": 1}},
        {"op": "delete", "key": "c"},
        {"op": "clear"},
        {"op": "push", "key": "d", "value": "x", "maxRecords": 3},
    ]


def test_requests_come_back_as_they_were_sent() -> None:
    changes: list[Operation] = [
        Set("a", b"null"),
        Push("b", b'{"c":"\xc3\xa9"}'),
        Delete("d"),
        Clear(),
    ]
    assert wire.parse_request(wire.encode_restore("1", THREAD)) == wire.RestoreRequest("1", THREAD)
    assert wire.parse_request(wire.encode_delete("1", THREAD)) == wire.DeleteRequest("1", THREAD)
    assert wire.parse_request(
        wire.encode_merge("1", THREAD, changes, {"m": 1})
    ) == wire.MergeRequest("1", THREAD, changes, {"m": 1})
    assert wire.parse_request(wire.encode_save("1", THREAD, b"{}", {})) == wire.SaveRequest(
        "1", THREAD, b"{}", {}
    )


def test_the_worst_legal_document_fits_into_the_frame_that_every_end_takes() -> None:
    document = b'{"state":{"a":"' + b'\\"' * ((limits.MAX_DOCUMENT_BYTES - 18) // 2) + b'"}}'
    frame = wire.encode_save("1", THREAD, document.ljust(limits.MAX_DOCUMENT_BYTES))
    assert len(document) > limits.MAX_DOCUMENT_BYTES - 2
    assert len(frame) < limits.MAX_REQUEST_BYTES


def test_what_cannot_be_sent_is_refused_with_its_own_error() -> None:
    with pytest.raises(StateTooLarge):
        wire.encode_save("1", THREAD, b" " * (limits.MAX_DOCUMENT_BYTES + 1))
    wire.encode_save("1", THREAD, b" " * limits.MAX_DOCUMENT_BYTES)
    with pytest.raises(StateTooLarge):
        wire.encode_merge("1", THREAD, [Set("a", b"1" * limits.MAX_REQUEST_BYTES)])
    with pytest.raises(StateNotSerializable, match="UTF-8"):
        wire.encode_save("1", THREAD, b"\xff")
    with pytest.raises(StateNotSerializable, match="metadata"):
        wire.encode_save("1", THREAD, b"{}", {"a": float("nan")})
    assert '"key":"\ufffd"'.encode() in wire.encode_merge("1", THREAD, [Delete("\ud800")])
    for bad in ("", "x" * 300, "\ud800", None):
        with pytest.raises(InvalidThreadId):
            wire.encode_restore("1", bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key"):
        wire.encode_authorization("\ud800")


@pytest.mark.parametrize(
    ("frame", "id", "words"),
    [
        (b"", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        ("\ud800", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"[]", None, "not a JSON object"),
        (b'{"action":"restore"}', None, "no id"),
        (message(id=None), None, "string of 1 to 128"),
        (message(id={"a": 1}), None, "string of 1 to 128"),
        (message(id=7), 7, "string of 1 to 128"),
        (message(id=""), "", "string of 1 to 128"),
        (message(id="x" * 129), "x" * 129, "string of 1 to 128"),
        (message(action=None), "r1", "no action"),
        (message(action=["restore"]), "r1", "no action"),
        (message(action="explode"), "r1", "Unknown action: 'explode'"),
        (message(data=None), "r1", "must be an object"),
        (message(data={}), "r1", "thread_id"),
        (message(data={"thread_id": 5}), "r1", "thread_id"),
        (message(data={"thread_id": "x" * 257}), "r1", "thread_id"),
        (message(action="save", data={"thread_id": THREAD}), "r1", "user_data"),
        (message(action="save", data={"thread_id": THREAD, "user_data": {}}), "r1", "user_data"),
        (
            message(action="save", data={"thread_id": THREAD, "user_data": "", "metadata": []}),
            "r1",
            "metadata",
        ),
        (message(action="merge", data={"thread_id": THREAD}), "r1", "operations"),
        (message(action="merge", data={"thread_id": THREAD, "operations": [1]}), "r1", "operation"),
        (
            message(
                action="merge", data={"thread_id": THREAD, "operations": [{"op": "set", "key": 1}]}
            ),
            "r1",
            "string",
        ),
    ],
)
def test_a_bad_request_names_what_is_wrong_and_whom_to_answer(
    frame: bytes | str, id: object, words: str
) -> None:
    refusal = wire.parse_request(frame)
    assert isinstance(refusal, wire.Refusal)
    assert refusal.id == id
    assert words in refusal.error
    assert len(refusal.error) < 400


def test_a_value_that_nests_too_deep_is_refused_by_name() -> None:
    deep = b"[" * 500 + b"]" * 500
    operation = b'{"op":"set","key":"a","value":%b}' % deep
    frame = b'{"id":"1","action":"merge","data":{"thread_id":"t","operations":[%b]}}'
    refusal = wire.parse_request(frame % operation)
    assert isinstance(refusal, wire.Refusal)
    assert "deeper" in refusal.error


def test_operations_of_an_unknown_kind_are_left_out() -> None:
    frame = message(
        action="merge",
        data={"thread_id": THREAD, "operations": [{"op": "rename"}, {"op": "clear"}]},
    )
    assert wire.parse_request(frame) == wire.MergeRequest("r1", THREAD, [Clear()])


def test_a_key_is_never_shown() -> None:
    authorization = wire.parse_authorization(wire.encode_authorization("secret-key"))
    assert isinstance(authorization, wire.Authorization)
    assert authorization.key == "secret-key"
    assert "secret-key" not in repr(authorization)
    assert isinstance(wire.parse_authorization(b'{"authorization": 5}'), wire.Refusal)
    assert isinstance(wire.parse_authorization(b'{"authorization": ""}'), wire.Refusal)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OPERATION = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["set", "delete", "clear", "push", "x"]) | JSON,
        "key": st.text() | JSON,
        "value": JSON,
        "maxRecords": JSON,
    },
)
#: Frames that are nearly right, with anything in any place.
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | JSON,
        "action": st.sampled_from(["restore", "save", "merge", "delete"]) | JSON,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "thread_id": st.text() | JSON,
                "user_data": st.text() | JSON,
                "metadata": JSON,
                "operations": st.lists(OPERATION | JSON, max_size=4) | JSON,
            },
        )
        | JSON,
        "authorization": st.text() | JSON,
        "success": st.booleans() | JSON,
        "error": JSON,
    },
)


@settings(max_examples=400, deadline=None)
@given(st.binary() | st.text() | ALMOST.map(orjson.dumps))
@example(b'{"id":"1","action":"merge","data":{"thread_id":"t","operations":' + b"[" * 2000)
def test_no_frame_makes_a_reader_raise(frame: bytes | str) -> None:
    request = wire.parse_request(frame)
    assert isinstance(
        request,
        wire.RestoreRequest
        | wire.SaveRequest
        | wire.MergeRequest
        | wire.DeleteRequest
        | wire.Refusal,
    )
    if isinstance(request, wire.Refusal) and request.id is not None:
        answer = wire.parse_reply(wire.encode_failure(request.id, request.error))
        assert isinstance(answer, wire.Failure | wire.Malformed)
    assert isinstance(wire.parse_authorization(frame), wire.Authorization | wire.Refusal)
    reply = wire.parse_reply(frame)
    assert isinstance(
        reply, wire.Granted | wire.Denied | wire.Success | wire.Failure | wire.Malformed
    )


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=50), st.dictionaries(st.text(), JSON, max_size=4))
def test_any_text_and_any_value_go_there_and_back(text: str, values: dict[str, Any]) -> None:
    document = orjson.dumps({"state": values})
    save = wire.parse_request(wire.encode_save("1", text, document, values))
    assert save == wire.SaveRequest("1", text, document, values)
    changes: list[Operation] = [Set(key, orjson.dumps(value)) for key, value in values.items()]
    assert wire.parse_request(wire.encode_merge("1", text, changes)) == wire.MergeRequest(
        "1", text, changes
    )
    reply = wire.parse_reply(wire.encode_document("1", document))
    assert isinstance(reply, wire.Success)
    assert wire.document_of(reply.data) == document


# JSON that the parser refuses


@pytest.mark.parametrize(
    ("escape", "text"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\uD83D", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"\ud83dx", "\ufffdx"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\\ud83d", "\\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\n\ud83d\"", '\n\ufffd"'),
        (r"\ud83d\u0041", "\ufffdA"),
    ],
)
def test_half_a_surrogate_pair_becomes_the_replacement_character(escape: str, text: str) -> None:
    operation = '{"op":"set","key":"TEXT","value":["TEXT"]}'.replace("TEXT", escape)
    data = f'{{"thread_id":"t","operations":[{operation}]}}'
    request = wire.parse_request(f'{{"id":"1","action":"merge","data":{data}}}')
    assert request == wire.MergeRequest("1", "t", [Set(text, orjson.dumps([text]))])
    # In a document, which is a text inside the frame.
    document = f'{{"state":{{"a":"{escape}"}}}}'
    frame = {"id": "1", "action": "save", "data": {"thread_id": "t", "user_data": document}}
    request = wire.parse_request(json.dumps(frame))
    assert isinstance(request, wire.SaveRequest)
    assert json.loads(request.document) == {"state": {"a": text}}


DEEP = "[" * 1_100 + "]" * 1_100


@pytest.mark.parametrize(
    ("frame", "id"),
    [
        ('{"id":"1","action":"merge","data":{"operations":[DEEP]}}', "1"),
        ('{"data":DEEP,"id":"1"}', "1"),
        ('{"data":[{"id":"2"}],"x":"id","y":"[","z":DEEP,"id" : 7}', 7),
        ('{"x":"\\"id\\":","id":"\\u00e9\\"","data":DEEP}', 'é"'),
        ('{"id":"\\ud83d","data":DEEP}', "\ufffd"),
        ('{"data":DEEP}', None),
        ("DEEP", None),
    ],
)
def test_a_request_that_nests_too_deep_is_refused(frame: str, id: object) -> None:
    frame = frame.replace("DEEP", DEEP)
    for each in (frame, frame.encode()):
        refusal = wire.parse_request(each)
        assert isinstance(refusal, wire.Refusal)
        assert refusal.id == id
        assert refusal.expects_reply is (id is not None)
        assert ("too deeply nested" in refusal.error) is (id is not None)


@pytest.mark.parametrize(
    ("frame", "id"),
    [
        ('{"id":null,"data":DEEP}', None),
        ('{"id":{"id":"1"},"data":DEEP}', None),
        ('{"id":"1","data":[NaN]}', "1"),
        ('{"id":"1","data":["\\ud83d"', "1"),
        ('{"id":1e400}', None),
        ('{"id":"1"}{"id":"2"}', "1"),
    ],
)
def test_a_request_with_an_id_that_cannot_be_read_is_answered(frame: str, id: object) -> None:
    refusal = wire.parse_request(frame.replace("DEEP", DEEP))
    assert isinstance(refusal, wire.Refusal)
    assert (refusal.id, refusal.expects_reply) == (id, True)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]":,\\u\ud83did1 ', max_size=60), st.integers(0, 3))
def test_any_text_may_nest_too_deep(text: str, repeated: int) -> None:
    frame = '{"id":"1","data":' + text + "[" * 600 * repeated + text
    assert isinstance(wire.parse_request(frame), wire.Refusal)


# The extension

EDITS: list[Operation] = [
    Splice("a", (Change(0, (b"1",), (b"2",)),), 5),
    Push("a", b"3"),
    Increment("n", 2),
    EditMetadata(b"{}", b'{"m":1}'),
]


def extended(**changes: Any) -> bytes:
    data = {"thread_id": THREAD, "operations": [], "age": 1.5}
    return message(action="merge", data={**data, **changes})


def test_requests_of_the_extension_come_back_as_they_were_sent() -> None:
    began = wire.Began(1.5, 1000.25)
    frame = wire.encode_edits("1", THREAD, EDITS, began=began, version=7, counted={"a": 1})
    assert wire.parse_request(frame) == wire.MergeRequest(
        "1", THREAD, EDITS, None, began, 7, ("a",)
    )
    frame = wire.encode_edits("1", THREAD, [], began=wire.Began(0.0))
    assert json.loads(frame)["data"] == {"thread_id": THREAD, "operations": [], "age": 0.0}
    assert wire.parse_request(frame) == wire.MergeRequest("1", THREAD, [], None, wire.Began(0.0))
    frame = wire.encode_restore("1", THREAD, began)
    assert json.loads(frame)["data"] == {"thread_id": THREAD, "age": 1.5, "at": 1000.25}
    assert wire.parse_request(frame) == wire.RestoreRequest("1", THREAD, began)
    frame = wire.encode_save("1", THREAD, b"{}", {"m": 1}, began)
    assert wire.parse_request(frame) == wire.SaveRequest("1", THREAD, b"{}", {"m": 1}, began)
    frame = extended(age=3, at=-5)
    assert wire.parse_request(frame) == wire.MergeRequest("r1", THREAD, [], None, wire.Began(3, -5))


def test_without_an_age_a_merge_is_that_of_the_runtime() -> None:
    """Fields and operations that the runtime does not know are skipped, as it does."""
    operations = [
        {"op": "set", "key": "k", "value": 1, "ifMissing": True},
        {"op": "push", "key": "l", "value": {"id": 1}, "keepFirst": 1, "unique": "id"},
        {"op": "increment", "key": "n", "by": 1},
        {"op": "splice", "key": "l", "changes": 5},
        {"op": "set_metadata", "value": {}},
    ]
    data = {"thread_id": THREAD, "operations": operations, "version": "x", "counted": 5}
    assert wire.parse_request(message(action="merge", data=data)) == wire.MergeRequest(
        "r1", THREAD, [Set("k", b"1"), Push("l", b'{"id":1}')]
    )


def test_a_default_is_sent_as_a_plain_set_without_the_extension() -> None:
    frame = wire.encode_merge("1", THREAD, [Set("a", b"1", only_if_missing=True)])
    assert json.loads(frame)["data"]["operations"] == [{"op": "set", "key": "a", "value": 1}]


@pytest.mark.parametrize(
    "operation", [Increment("n"), Push("l", b"1", 3, 1), Push("l", b'{"a":1}', unique="a")]
)
def test_only_the_extension_can_send_the_others(operation: Operation) -> None:
    with pytest.raises(ValueError, match="without the extension edits"):
        wire.encode_merge("1", THREAD, [operation])


def test_edits_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(StateTooLarge):
        wire.encode_edits(
            "1", THREAD, [Set("a", b"1" * limits.MAX_REQUEST_BYTES)], began=wire.Began(0)
        )
    frame = wire.encode_edits("1", THREAD, [Increment("\ud800")], began=wire.Began(0))
    assert '"key":"\ufffd"'.encode() in frame
    with pytest.raises(ValueError, match="function"):
        edit = Edit("a", b"1", b"2", function=lambda stored: b"2")
        wire.encode_edits("1", THREAD, [edit], began=wire.Began(0))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (extended(age=None), "age"),
        (extended(age="1"), "age"),
        (extended(age=True), "age"),
        (extended(age=-1), "age"),
        (extended(at="1"), "at must be"),
        (extended(at=True), "at must be"),
        (message(data={"thread_id": THREAD, "age": "now"}), "age"),
        (message(action="save", data={"thread_id": THREAD, "user_data": "", "age": []}), "age"),
        (extended(version=-1), "version"),
        (extended(version=1.5), "version"),
        (extended(version=2**63), "version"),
        (extended(counted="k"), "counted"),
        (extended(counted=[1]), "counted"),
        (extended(metadata={"m": 1}), "metadata"),
        (extended(user_data=""), "no field 'user_data'"),
        (extended(operations={}), "operations"),
        (extended(operations=[{"op": "rename", "key": "k"}]), "no operation 'rename'"),
        (extended(operations=[{"op": "set", "key": "k"}]), "field value"),
        (
            extended(operations=[{"op": "clear"}, {"op": "replace", "key": "k", "value": 1}]),
            "before it is spliced",
        ),
        (
            extended(operations=[0] * (limits.MAX_OPERATIONS + 1)),
            "has 20,001 operations; the limit is 20,000.",
        ),
        (
            message(action="merge", data={"thread_id": THREAD, "operations": [0] * 100_001}),
            "has 100,001 operations; the limit is 20,000.",
        ),
    ],
)
def test_what_is_wrong_with_a_merge_is_named(frame: bytes, words: str) -> None:
    refusal = wire.parse_request(frame)
    assert isinstance(refusal, wire.Refusal)
    assert refusal.id == "r1"
    assert words in refusal.error
    assert len(refusal.error) < 400


def test_the_largest_edit_fits_into_the_frame_that_every_end_takes() -> None:
    items = [b'{"role":"user","content":"%b"}' % (b"x" * 1000) for _ in range(1000)]
    base = b"[%b]" % b",".join(items)
    changes = tuple(
        Change(index, (item,), (item[:-3] + b'y"}',)) for index, item in enumerate(items)
    )
    value = b"[%b]" % b",".join(change.new[0] for change in changes)
    frame = wire.encode_edits("1", THREAD, [Edit("a", base, value, changes)], began=wire.Began(0))
    assert len(base) + len(value) < len(frame) < limits.MAX_REQUEST_BYTES
    request = wire.parse_request(frame)
    assert isinstance(request, wire.MergeRequest)
    assert request.operations == [Edit("a", base, value, changes)]
