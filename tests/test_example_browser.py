"""The page of the example chat in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from support.browser import chromium, eventually, set_screen
from werkzeug.serving import BaseWSGIServer, make_server

import example_app
from example_app.responder import respond
from flask_agentuity.web.app_threads import threads_of


class Chat:
    """The example app, its server, and a visitor's browser."""

    def __init__(self, app: Flask, browser: Chrome) -> None:
        self.app = app
        self.browser = browser
        self.server: BaseWSGIServer | None = None
        self.port = 0
        #: Whether answers break off before their second word.
        self.failing = False
        self.start()

    def start(self) -> None:
        self.server = make_server("127.0.0.1", self.port, self.app, threaded=True)
        self.port = self.server.port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def visit(self, path: str = "/") -> None:
        self.browser.get(f"http://127.0.0.1:{self.port}{path}")

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        # At one moment, because the page replaces its parts.
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
        found: list[str] = self.browser.execute_script(script, selector)
        return found

    def wait(self, condition: Callable[[], Any]) -> Any:
        return eventually(self.browser, condition)

    def send(self, text: str) -> None:
        self.find("textarea").send_keys(text, Keys.ENTER)

    def ask(self, text: str) -> str:
        """Send *text*, wait for the answer, and return it."""
        answers = len(self.texts(".assistant"))
        self.send(text)
        self.wait(lambda: len(self.texts(".assistant")) == answers + 1)
        self.wait(lambda: self.find("#say button").is_enabled())
        # The list is refreshed after the answer.
        self.wait(lambda: self.find("nav [aria-current]") and self.find(".actions"))
        return self.texts(".assistant")[-1]

    def conversations(self) -> list[str]:
        return self.texts("nav li a")


def runs_of(chat: Chat) -> Any:
    return threads_of(chat.app).runs.store


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def answering() -> threading.Event:
    """Answers are complete while it is set, and wait before their second word while not."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def chat(
    started: Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: threading.Event
) -> Iterator[Chat]:
    monkeypatch.setenv("AGENTUITY_THREAD_STORE", f"sqlite:///{tmp_path / 'threads.db'}")
    monkeypatch.setenv("SECRET_KEY", "tested")

    made: list[Chat] = []

    def respond_quickly(history: Any) -> Iterator[str]:
        for number, word in enumerate(respond(history, pause=0)):
            if number == 1:
                answering.wait(60)
                if made[0].failing:
                    raise ConnectionError("the model is away")
            yield word

    monkeypatch.setattr(example_app, "respond", respond_quickly)
    set_screen(started, 1100, 700)
    app = example_app.create_app()
    chat = Chat(app, started)
    made.append(chat)
    with closing(threads_of(app).store):
        chat.visit()
        try:
            yield chat
        finally:
            answering.set()
            threads_of(app).runs.here.wait_for_end(30)
            chat.stop()
            # Cookies are kept for all ports of a host.
            started.delete_all_cookies()


def test_conversations_begin_and_are_gone_back_to(chat: Chat) -> None:
    assert chat.conversations() == []
    assert "I remember 1 turn of" in chat.ask("Where to go?")
    assert "/c/thrd_" in chat.browser.current_url
    assert "Before that, “Where to go?”" in chat.ask("By train?")
    assert chat.conversations() == ["Where to go?"]
    chat.find(".new").click()
    chat.wait(lambda: chat.texts("#messages p") == [])
    assert "I remember 1 turn of" in chat.ask("Something else")
    assert chat.conversations() == ["Something else", "Where to go?"]
    chat.browser.find_element(By.LINK_TEXT, "Where to go?").click()
    chat.wait(lambda: len(chat.texts(".user")) == 2)
    assert chat.texts(".user") == ["Where to go?", "By train?"]
    assert chat.find("h1").text == chat.browser.title == "Where to go?"
    # What was said last is in view.
    assert chat.find("#messages p:last-child").is_displayed()


def test_a_conversation_is_renamed_and_deleted(chat: Chat) -> None:
    chat.ask("First")
    chat.find(".new").click()
    chat.wait(lambda: chat.texts("#messages p") == [])
    chat.ask("Second")
    chat.find(".actions summary").click()
    field = chat.find("[name=title]")
    field.clear()
    field.send_keys("<b>Renamed</b>", Keys.ENTER)
    chat.wait(lambda: chat.conversations() == ["<b>Renamed</b>", "First"])
    assert chat.find("h1").text == "<b>Renamed</b>"
    chat.find(".actions summary").click()
    chat.find("#delete button").click()
    chat.browser.switch_to.alert.dismiss()
    assert len(chat.conversations()) == 2
    chat.find("#delete button").click()
    chat.browser.switch_to.alert.accept()
    chat.wait(lambda: chat.conversations() == ["First"])
    assert chat.texts("#messages p") == []


def test_enter_sends_and_shift_enter_begins_a_line(chat: Chat) -> None:
    chat.find("textarea").send_keys("one", Keys.SHIFT, Keys.ENTER)
    chat.find("textarea").send_keys("two")
    assert chat.texts("#messages p") == []
    chat.ask("")
    assert chat.texts(".user") == ["one\ntwo"]
    chat.send("   ")
    assert len(chat.texts(".user")) == 1


def test_nothing_is_sent_while_an_answer_runs(chat: Chat, answering: threading.Event) -> None:
    answering.clear()
    chat.send("Wait")
    chat.wait(lambda: chat.texts(".assistant") == ["You"])
    assert not chat.find("#say button").is_enabled()
    chat.send("Too early")
    assert chat.texts(".user") == ["Wait"]
    assert chat.find("textarea").get_property("value") == "Too early"
    answering.set()
    chat.wait(lambda: chat.find("#say button").is_enabled())
    chat.ask("")
    assert chat.texts(".user") == ["Wait", "Too early"]


def test_the_page_follows_the_text_unless_the_visitor_reads(chat: Chat) -> None:
    set_screen(chat.browser, 1100, 300)
    for number in range(3):
        chat.ask(f"Question {number}, which is longer than it has to be")

    def from_the_end() -> int:
        script = "const m = document.getElementById('messages');"
        script += "return m.scrollHeight - m.scrollTop - m.clientHeight"
        return int(chat.browser.execute_script(script))

    assert from_the_end() < 5
    chat.browser.execute_script(
        "const m = document.getElementById('messages'); m.scrollTop = 0;"
        "for (let n = 0; n < 50; n++) follow(() => m.lastElementChild.append('more text '));"
    )
    assert from_the_end() > 100


def test_two_tabs(chat: Chat) -> None:
    chat.ask("In the first tab")
    first = chat.browser.current_window_handle
    chat.browser.switch_to.new_window("tab")
    set_screen(chat.browser, 1100, 700)
    chat.visit()
    chat.ask("In the second tab")
    second = chat.browser.current_window_handle
    chat.browser.switch_to.window(first)
    # Each goes on with its own conversation.
    assert "“In the first tab”" in chat.ask("More")
    assert chat.texts(".user") == ["In the first tab", "More"]
    assert set(chat.conversations()) == {"In the first tab", "In the second tab"}
    # The other tab deletes this conversation.
    url = chat.browser.current_url
    chat.browser.switch_to.window(second)
    chat.browser.get(url)
    chat.find(".actions summary").click()
    chat.find("#delete button").click()
    chat.browser.switch_to.alert.accept()
    chat.wait(lambda: chat.conversations() == ["In the second tab"])
    chat.browser.close()
    chat.browser.switch_to.window(first)
    chat.send("Too late")
    chat.wait(lambda: chat.texts(".error"))
    assert chat.texts(".error") == ["This conversation was deleted. Try again"]


def test_an_error_offers_a_retry_that_asks_once(chat: Chat, answering: threading.Event) -> None:
    chat.ask("First")
    chat.stop()
    chat.send("Are you there?")
    chat.wait(lambda: chat.texts(".error"))
    assert chat.texts(".error") == ["The connection was lost. Try again"]
    assert chat.find("#say button").is_enabled()
    chat.start()
    chat.find(".error button").click()
    chat.wait(lambda: "2 turns of" in chat.texts(".assistant")[-1])
    assert chat.texts(".error") == []
    # The answer is cut off in the middle; a part of it is stored.
    answering.clear()
    chat.send("And now?")
    chat.wait(lambda: chat.texts(".assistant")[-1] == "You")
    chat.failing = True
    answering.set()
    chat.wait(lambda: chat.texts(".error"))
    assert chat.texts(".assistant")[-1] == "You"
    chat.failing = False
    chat.find(".error button").click()
    chat.wait(lambda: "3 turns of" in chat.texts(".assistant")[-1])
    chat.visit(chat.browser.current_url.rpartition(str(chat.port))[2])
    assert chat.texts(".user") == ["First", "Are you there?", "And now?"]
    assert len(chat.texts(".assistant")) == 3


def test_a_reload_in_the_middle(chat: Chat, answering: threading.Event) -> None:
    answering.clear()
    chat.send("Hello")
    chat.wait(lambda: chat.texts(".assistant") == ["You"])
    chat.browser.refresh()
    chat.wait(lambda: chat.texts(".assistant") == ["You"])
    assert chat.texts(".user") == ["Hello"]
    assert not chat.find("#say button").is_enabled()
    answering.set()
    chat.wait(lambda: "1 turn of" in chat.texts(".assistant")[0])
    chat.wait(lambda: chat.find("#say button").is_enabled())
    # It is there once, and what follows goes on from it.
    assert "2 turns of" in chat.ask("More")
    assert len(chat.texts(".assistant")) == 2
    chat.browser.refresh()
    assert len(chat.texts(".assistant")) == 2


def test_a_second_tab_reads_along_and_stops(chat: Chat, answering: threading.Event) -> None:
    answering.clear()
    chat.send("Hello")
    chat.wait(lambda: chat.texts(".assistant") == ["You"])
    url, first = chat.browser.current_url, chat.browser.current_window_handle
    chat.browser.switch_to.new_window("tab")
    set_screen(chat.browser, 1100, 700)
    chat.browser.get(url)
    chat.wait(lambda: chat.texts(".assistant") == ["You"])
    stop = chat.find("#stop")
    assert stop.is_displayed()
    stop.click()
    chat.wait(lambda: runs_of(chat).latest(url.rpartition("/")[2]).stopping)
    answering.set()
    chat.wait(lambda: chat.find("#say button").is_enabled())
    assert not chat.find("#stop").is_displayed()
    stopped = chat.texts(".assistant")
    assert stopped[0].startswith("You") and "turn" not in stopped[0]
    chat.browser.close()
    chat.browser.switch_to.window(first)
    chat.wait(lambda: chat.find("#say button").is_enabled())
    assert chat.texts(".assistant") == stopped
    assert chat.texts(".error") == []
    # What was said is saved.
    chat.browser.refresh()
    assert chat.texts(".assistant") == stopped
    assert chat.texts(".error") == []


def test_a_failed_answer_can_be_tried_again_after_a_reload(
    chat: Chat, answering: threading.Event
) -> None:
    chat.failing = True
    chat.send("Hello")
    chat.wait(lambda: chat.texts(".error"))
    chat.browser.refresh()
    assert chat.texts(".error") == ["The answer has failed. Try again"]
    assert chat.texts(".assistant") == ["You"]
    chat.failing = False
    chat.find(".error button").click()
    chat.wait(lambda: "1 turn of" in chat.texts(".assistant")[0])
    assert chat.texts(".error") == []
    chat.browser.refresh()
    assert len(chat.texts(".assistant")) == len(chat.texts(".user")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(chat: Chat, scheme: str) -> None:
    set_screen(chat.browser, 390, 780, scheme=scheme)
    chat.visit()
    assert not chat.find("nav").is_displayed()
    chat.send("x" * 200)
    chat.wait(lambda: chat.find("nav [aria-current]"))
    width = "return document.documentElement.scrollWidth"
    assert chat.browser.execute_script(width) == 390
    chat.find("#menu").click()
    assert chat.find("nav").is_displayed()
    assert chat.find("#menu").get_attribute("aria-expanded") == "true"
    chat.find(".new").click()
    chat.wait(lambda: not chat.find("nav").is_displayed())
    color = chat.find("body").value_of_css_property("background-color")
    channels = [int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    assert (sum(channels) < 150) is (scheme == "dark")
