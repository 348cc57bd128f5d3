"""Stores of users that do not keep the threads of a service's keys apart from those of the app."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.minimal import MinimalStore

from flask_agentuity.errors import ConfigurationError
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore

OWN, OTHER, THIRD = "own-key-of-the-app", "key-of-another-app", "key-of-a-third-app"

WORDS = (
    r"^MinimalStore would keep the threads of other keys among those of the app, whose listings and"
    r" exports would contain them\. Override its for_tenants\(\)"
)


class Separate(MinimalStore):
    def for_tenants(self) -> ThreadStore:
        folder = self._folder / "tenants"
        folder.mkdir(exist_ok=True)
        return MinimalStore(folder)


def test_other_keys_are_refused_beside_that_of_the_app(tmp_path: Path) -> None:
    store = MinimalStore(tmp_path)
    with pytest.raises(ConfigurationError, match=WORDS):
        ThreadService(store, [OTHER], own_key=OWN)
    ThreadService(store, own_key=OWN)
    ThreadService(store, [OWN], own_key=OWN)
    # No app has its threads there.
    ThreadService(store, [OTHER, THIRD])
    ThreadService(Separate(tmp_path), [OTHER], own_key=OWN)
    ThreadService(MemoryStore(), [OTHER], own_key=OWN)


def test_an_instrumented_store_is_that_store(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.trace import NoOpTracer

    from flask_agentuity.integrations.otel_store import InstrumentedStore, Instruments

    instruments = Instruments(MeterProvider().get_meter("tested"))
    for store in (MinimalStore(tmp_path), MemoryStore()):
        instrumented = InstrumentedStore(store, NoOpTracer(), instruments)
        if isinstance(store, MinimalStore):
            with pytest.raises(ConfigurationError, match=WORDS):
                ThreadService(instrumented, [OTHER], own_key=OWN)  # type: ignore[arg-type]
        else:
            ThreadService(instrumented, [OTHER], own_key=OWN)  # type: ignore[arg-type]
