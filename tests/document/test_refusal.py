"""What is said of a value that cannot be stored."""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections import OrderedDict, defaultdict
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest

from flask_agentuity import StateNotSerializable
from flask_agentuity.document import codec


class float64(float):
    """As numpy's: a float of another type, which orjson does not write."""


class Place(NamedTuple):
    """A named tuple."""

    city: str


class Text(str):
    """A text of another type."""


class Number(int):
    """An integer of another type."""


class Model:
    """A model of pydantic, as far as it is looked at here."""

    def model_dump(self) -> dict[str, Any]:
        raise AssertionError("nothing is called")


@dataclasses.dataclass
class Point:
    """A data class."""

    x: int


class Colour(enum.Enum):
    """Its members are no JSON."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float64(1.5), "JSON has no type for float64. Store float(value)"),
        (Place("Rome"), "JSON has no type for Place. Store value._asdict()"),
        (Model(), "JSON has no type for Model. Store value.model_dump()"),
        (Point(1), "JSON has no type for Point. Store dataclasses.asdict(value)"),
        (Point, "JSON has no type for type"),
        (Colour.RED, "JSON has no type for Colour. Store value.value"),
        (
            datetime.datetime(2030, 1, 1),
            "JSON has no type for datetime. Store value.isoformat()",
        ),
        (datetime.date(2030, 1, 1), "JSON has no type for date. Store value.isoformat()"),
        (datetime.timedelta(1), "JSON has no type for timedelta. Store value.total_seconds()"),
        (array.array("i", [1]), "JSON has no type for array. Store value.tolist()"),
        (decimal.Decimal("1.5"), "JSON has no type for Decimal. Store str(value)"),
        (uuid.UUID(int=1), "JSON has no type for UUID. Store str(value)"),
        (PurePosixPath("/a"), "JSON has no type for PurePosixPath. Store str(value)"),
        ({1}, "JSON has no type for set. Store list(value)"),
        (b"bytes", "JSON has no type for bytes. Store text, for example in base64"),
        (object(), "JSON has no type for object"),
        (Mock(), "JSON has no type for Mock"),
        (1j, "JSON has no type for complex"),
        (float("nan"), "JSON has no value for nan"),
        (2**64, "the integer is beyond 64 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_place_and_the_remedy_are_named(value: Any, reason: str) -> None:
    for whole, path in (
        (value, "state"),
        ({"a": [0, {"b": value}]}, 'state["a"][1].b'),
        ([[{"not a name": (1, value)}]], 'state[0][0]["not a name"][1]'),
        (OrderedDict(a=defaultdict(list, b=[value])), 'state["a"].b[0]'),
    ):
        with pytest.raises(StateNotSerializable) as caught:
            codec.encode(whole)
        assert (caught.value.path, caught.value.reason) == (path, reason)
        with pytest.raises(StateNotSerializable) as caught:
            codec.encode_item(whole)
        assert caught.value.path == path.replace("state", "state[-1]", 1).replace(
            'state[-1]["a"]', "state[-1].a"
        )


@pytest.mark.parametrize("key", [Text("key"), 1, None, ("a",)])
def test_a_key_of_another_type(key: Any) -> None:
    with pytest.raises(StateNotSerializable) as caught:
        codec.encode({"a": [{key: 1}]})
    where = ".key" if key == "key" else f"[{key!r}]"
    assert caught.value.path == f'state["a"][0]{where}'
    assert caught.value.reason == f"a key must be a string, not {type(key).__name__}"


def test_subclasses_that_are_written_come_back_equal() -> None:
    for value in (Text("a"), Number(3), OrderedDict(b=1, a=2), defaultdict(list, a=[1])):
        assert codec.decode(codec.encode([value])) == [value]
