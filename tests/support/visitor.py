"""Test clients that know their thread."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_agentuity.testing import ThreadTestClient


def visitor(app: Flask, **options: Any) -> ThreadTestClient:
    """Return a test client of an app whose ``test_client_class`` is ``ThreadTestClient``."""
    client = app.test_client(**options)
    assert isinstance(client, ThreadTestClient)
    return client


def json_of(response: TestResponse) -> Any:
    """Return the decoded body of a response in JSON."""
    return response.json
