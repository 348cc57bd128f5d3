"""The argument of a view with ``<thread:...>``, as other code gets it."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable

import pytest
from flask import url_for

from .owned_app import OwnedApp

PASSED: list[Callable[[str], str]] = [
    lambda conversation: conversation,
    str,
    copy.copy,
    copy.deepcopy,
    lambda conversation: copy.deepcopy([conversation])[0],
    lambda conversation: pickle.loads(pickle.dumps(conversation)),
    lambda conversation: pickle.loads(pickle.dumps(conversation, 0)),
    lambda conversation: json.loads(json.dumps(conversation)),
]


@pytest.mark.parametrize("number", range(len(PASSED)))
def test_a_job_opens_what_the_view_passes_on(number: int) -> None:
    owned = OwnedApp("memory://")
    outcomes: list[object] = []

    def work(passed: str) -> None:
        try:
            with owned.app.app_context(), owned.threads.open(passed, create=False) as thread:
                thread.state.push("messages", "from a job")
            outcomes.append(thread.id)
        except Exception as error:
            outcomes.append(error)

    @owned.app.get("/c/<thread:conversation>/job")
    def start(conversation: str) -> str:
        passed = PASSED[number](conversation)
        assert passed == conversation
        assert number == 0 or type(passed) is str
        job = threading.Thread(target=work, args=(passed,))
        job.start()
        job.join()
        return url_for("c_show", conversation=passed)

    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    path = client.get(f"/c/{thread_id}/job").text
    assert outcomes == [thread_id]
    shown = client.get(path).get_json()
    assert shown["state"] == {"messages": ["hello", "from a job"]}


def test_in_the_request_it_is_checked(owned: OwnedApp) -> None:
    thread_id = owned.begin(owned.client("ada"), "hello")
    assert owned.client("bob").get(f"/c/{thread_id}/open").status_code == 404
    assert owned.client("ada").get(f"/c/{thread_id}/open").status_code == 200
