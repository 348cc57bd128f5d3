"""The page of the example chat while a worker of its server is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support.browser import chromium, eventually
from support.servers import gunicorn, running

APP = """
import os
from functools import partial

import example_app
from example_app.responder import respond
from flask_agentuity.stores import leases

leases.LEASE_SECONDS = 1.0
example_app.respond = partial(respond, pause=float(os.environ["ANSWER_PAUSE"]))


def create_app():
    app = example_app.create_app()

    @app.after_request
    def tell_worker(response):
        # Of the worker that answers, for the test to kill.
        if response.headers.get("X-Run-ID") and response.status_code == 200:
            with open(os.environ["WORKER_FILE"], "w") as file:
                file.write(str(os.getpid()))
        return response

    return app
"""


def test_an_answer_of_a_killed_worker_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "slow_example.py").write_text(APP)
    worker, tests = tmp_path / "worker", Path(__file__).parent
    command = [
        part.replace("server.app:create_app", "slow_example:create_app")
        for part in gunicorn("gthread", 2, "--pythonpath", f"{tmp_path},{tests.parent}")
    ]
    environment = {
        "AGENTUITY_THREAD_STORE": f"sqlite:///{tmp_path / 'threads.db'}",
        "SECRET_KEY": "tested",
        "WORKER_FILE": str(worker),
        "ANSWER_PAUSE": "0.2",
    }
    with (
        running(tmp_path, command, **environment) as server,
        chromium(tmp_path / "page") as browser,
    ):

        def texts(selector: str) -> list[str]:
            script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
            found: list[str] = browser.execute_script(script, selector)
            return [text.strip() for text in found]

        browser.get("http://{}:{}/".format(*server.address))
        browser.find_element(By.TAG_NAME, "textarea").send_keys("Hello", Keys.ENTER)
        # The last words may not be stored yet when the worker is killed.
        eventually(browser, lambda: texts(".assistant") and "remember" in texts(".assistant")[0])
        os.kill(int(worker.read_text()), signal.SIGKILL)
        eventually(browser, lambda: texts(".error"))
        assert texts(".error") == ["The answer was interrupted. Try again"]
        assert texts(".assistant")[0].startswith("You said")
        # A reload shows the same.
        browser.refresh()
        assert texts(".error") == ["The answer was interrupted. Try again"]
        assert texts(".assistant")[0].startswith("You said")
        browser.find_element(By.CSS_SELECTOR, ".error button").click()
        eventually(browser, lambda: "conversation." in texts(".assistant")[-1])
        browser.refresh()
        assert texts(".user") == ["Hello"]
        (answer,) = texts(".assistant")
        assert answer == "You said “Hello”. I remember 1 turn of this conversation."
        assert texts(".error") == []
