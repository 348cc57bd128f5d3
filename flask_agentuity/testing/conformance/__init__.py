"""Tests for stores of your own, of what every store must do.

They need pytest, hypothesis and freezegun: ``pip install flask-agentuity[testing]``.
Subclass :class:`StoreConformance` in a test module, say how to open the store, and what it
can do beyond the minimum::

    from flask_agentuity.testing.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        shared = True
        lists = True

        def open(self, place, **options):
            return MyStore(place / "threads", **options)

The attributes and methods of :class:`Suite` describe the store. Tests of capabilities that it does
not claim are skipped, with the reason. The classes that :class:`StoreConformance` consists of, one
for each capability, can also be used alone.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "clocks",
            "concurrency",
            "concurrently",
            "conditions",
            "copying",
            "counting",
            "deletion",
            "deletion_by_requests",
            "documents",
            "erasing",
            "expiry",
            "filters",
            "key_limits",
            "limits",
            "listing",
            "lists",
            "merging",
            "moved",
            "moving",
            "moving_races",
            "operations",
            "owners",
            "racing",
            "reading",
            "requests",
            "run_watching",
            "runs",
            "scanning",
            "sequences",
            "stored",
            "suite",
            "tenants",
            "transfer",
            "turns",
            "unusual",
            "versions",
            "write_sequences",
        )
    )
)

from .clocks import ClockConformance  # noqa: E402
from .concurrency import ConcurrencyConformance  # noqa: E402
from .conditions import ConditionConformance  # noqa: E402
from .copying import CopyingConformance  # noqa: E402
from .counting import CountingConformance  # noqa: E402
from .deletion import DeletionConformance  # noqa: E402
from .deletion_by_requests import DeletionByRequestConformance  # noqa: E402
from .documents import DocumentConformance  # noqa: E402
from .erasing import ErasingConformance  # noqa: E402
from .expiry import ExpiryConformance  # noqa: E402
from .filters import FilterConformance  # noqa: E402
from .key_limits import KeyLimitConformance  # noqa: E402
from .limits import LimitConformance  # noqa: E402
from .listing import ListingConformance  # noqa: E402
from .lists import ListConformance  # noqa: E402
from .merging import MergingConformance  # noqa: E402
from .moving import MovingConformance  # noqa: E402
from .moving_races import MovingRaceConformance  # noqa: E402
from .operations import OperationConformance  # noqa: E402
from .owners import OwnerConformance, OwnerListingConformance  # noqa: E402
from .racing import RacingConformance  # noqa: E402
from .reading import ReadingConformance  # noqa: E402
from .run_watching import RunWatchConformance  # noqa: E402
from .runs import RunConformance  # noqa: E402
from .scanning import ScanConformance  # noqa: E402
from .sequences import SequenceConformance  # noqa: E402
from .suite import Clock, Suite  # noqa: E402
from .tenants import TenantConformance  # noqa: E402
from .transfer import TransferConformance  # noqa: E402
from .turns import LeaseConformance, TurnConformance  # noqa: E402
from .unusual import UnusualConformance  # noqa: E402
from .versions import VersionConformance  # noqa: E402
from .write_sequences import WriteSequenceConformance  # noqa: E402

__all__ = [
    "Clock",
    "ClockConformance",
    "ConcurrencyConformance",
    "ConditionConformance",
    "CopyingConformance",
    "CountingConformance",
    "DeletionByRequestConformance",
    "DeletionConformance",
    "DocumentConformance",
    "ErasingConformance",
    "ExpiryConformance",
    "FilterConformance",
    "KeyLimitConformance",
    "LeaseConformance",
    "LimitConformance",
    "ListConformance",
    "ListingConformance",
    "MergingConformance",
    "MovingConformance",
    "MovingRaceConformance",
    "OperationConformance",
    "OwnerConformance",
    "OwnerListingConformance",
    "RacingConformance",
    "ReadingConformance",
    "RunConformance",
    "RunWatchConformance",
    "ScanConformance",
    "SequenceConformance",
    "StoreConformance",
    "Suite",
    "TenantConformance",
    "TransferConformance",
    "TurnConformance",
    "UnusualConformance",
    "VersionConformance",
    "WriteSequenceConformance",
]


class StoreConformance(
    DocumentConformance,
    UnusualConformance,
    OperationConformance,
    ListConformance,
    LimitConformance,
    KeyLimitConformance,
    ReadingConformance,
    ExpiryConformance,
    ClockConformance,
    ConcurrencyConformance,
    CountingConformance,
    ConditionConformance,
    MergingConformance,
    RacingConformance,
    VersionConformance,
    DeletionConformance,
    DeletionByRequestConformance,
    OwnerConformance,
    OwnerListingConformance,
    MovingConformance,
    MovingRaceConformance,
    CopyingConformance,
    ErasingConformance,
    ListingConformance,
    FilterConformance,
    ScanConformance,
    TransferConformance,
    TenantConformance,
    TurnConformance,
    LeaseConformance,
    RunConformance,
    RunWatchConformance,
    SequenceConformance,
    WriteSequenceConformance,
):
    """All tests. Subclass it and say how to open the store."""
