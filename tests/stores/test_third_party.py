"""The conformance of a store that is named on the command line with ``--store``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from typing import Any

import pytest

from flask_agentuity.stores import ThreadStore
from flask_agentuity.testing.conformance import StoreConformance


class TestThirdPartyStore(StoreConformance):
    """The methods that a store overrides tell what it claims."""

    factory: Callable[..., ThreadStore]

    @pytest.fixture
    def claims(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Callable[[str], bool]:
        name = request.config.getoption("--store")
        module, _, attribute = name.partition(":")
        self.factory = getattr(import_module(module), attribute)
        with closing(self.factory(tmp_path_factory.mktemp("claims"))) as store:
            kind = type(store)
            claimed = {
                "edits": store.edits,
                "moves": kind.move is not ThreadStore.move,
                "owners": store.owners,
                "lists": kind.list is not ThreadStore.list or kind.find is not ThreadStore.find,
                "transfers": kind.import_thread is not ThreadStore.import_thread,
                "turns": True,
                "leases": kind.take_turn is ThreadStore.take_turn,
                "runs": store.runs is not None,
            }
        return claimed.__getitem__

    def open(self, place: Any, **options: Any) -> ThreadStore:
        parameters = inspect.signature(self.factory).parameters
        any_option = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        for option in options:
            if option not in parameters and not any_option:
                pytest.skip(f"this store has no option {option}")
        return self.factory(place, **options)
