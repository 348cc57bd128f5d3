"""Runs the Python code of these pages.

The examples of one page run in order, in one namespace, inside a request of an app with threads.
What an example leaves out, such as the call of a model, is defined in :func:`begin_page`, or in
an ``invisible-code-block`` of the page, which readers do not see. Such blocks also check what
the examples have done.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, chdir, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flask import Flask, Response, g, request
from sybil import Sybil
from sybil.parsers.rest import PythonCodeBlockParser

from flask_agentuity import ThreadManager
from flask_agentuity.stores import open_store

#: What the request of a page sends.
_SENT = {"text": "Hello"}


def model(messages: Any) -> list[str]:
    """Stand for a language model: return the tokens of an answer."""
    return [f"Answer {len(messages)}", " to ", messages[-1]["content"]]


def begin_page(namespace: dict[str, Any]) -> None:
    """Begin a request in which the examples of a page run."""
    page = namespace["_page"] = ExitStack()
    folder = Path(page.enter_context(tempfile.TemporaryDirectory()))
    # Apps that the examples make have their instance folder here.
    page.enter_context(chdir(folder))
    store = page.enter_context(closing(open_store(f"sqlite:///{folder / 'threads.db'}")))
    app = Flask("app", instance_path=str(folder))
    app.config.update(SECRET_KEY="a secret of the examples", TESTING=True)
    namespace.update(
        __name__="app",
        app=app,
        threads=ThreadManager(app, store=store),
        folder=folder,
        g=g,
        request=request,
        Response=Response,
        json=json,
        Flask=Flask,
        ThreadManager=ThreadManager,
        model=model,
        message={"role": "user", "content": "Hello"},
        current_user=SimpleNamespace(id="ada", get_id=lambda: "ada", is_authenticated=True),
    )
    page.enter_context(app.test_request_context("/", method="POST", json=_SENT))


def end_page(namespace: dict[str, Any]) -> None:
    """End the request of a page."""
    namespace["_page"].close()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["*.rst"],
    setup=begin_page,
    teardown=end_page,
).pytest()
