"""The conformance tests under their earlier name, for the tests of this package."""

from __future__ import annotations

from flask_agentuity.testing.conformance import Clock, StoreConformance
from flask_agentuity.testing.conformance.concurrently import with_all_done
from flask_agentuity.testing.conformance.sequences import MACHINE_LIMIT, AgainstModel
from flask_agentuity.testing.conformance.stored import new_id, pushes
from flask_agentuity.testing.conformance.suite import ODD_KEYS, PATIENCE

__all__ = [
    "MACHINE_LIMIT",
    "ODD_KEYS",
    "PATIENCE",
    "AgainstModel",
    "Clock",
    "StoreConformance",
    "new_id",
    "pushes",
    "with_all_done",
]
