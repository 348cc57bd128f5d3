"""The tests of everything around listings, for stores that are tested for nothing else."""

from __future__ import annotations

from flask_agentuity.testing.conformance import (
    FilterConformance,
    TransferConformance,
    TurnConformance,
)
from flask_agentuity.testing.conformance import ListingConformance as PageConformance
from flask_agentuity.testing.conformance.stored import fill, listed, pages_of

__all__ = ["ListingConformance", "fill", "listed", "pages_of"]


class ListingConformance(PageConformance, FilterConformance, TransferConformance, TurnConformance):
    lists = True
    transfers = True
    turns = True
