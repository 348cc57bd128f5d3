"""Receivers of signals, and listeners to one thread."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_agentuity import (
    Session,
    StoreError,
    Thread,
    ThreadGone,
    session_completed,
    thread_save_failed,
    thread_saved,
)

app = Flask(__name__)


@thread_saved.connect_via(app)
def count(sender: Flask, thread: Thread, **extra: Any) -> None:
    print(sender.name, thread.id)


@session_completed.connect
def measure(sender: Flask, session: Session, error: BaseException | None, **extra: Any) -> None:
    print(session.id, error)


def report(sender: Flask, error: StoreError | None = None, **extra: Any) -> None:
    if isinstance(error, ThreadGone):
        print(error)


thread_save_failed.connect(report, app)


def listen(thread: Thread, session: Session) -> None:
    def destroyed(event: str, thread: Thread) -> None:
        print(event, thread.id)

    thread.add_event_listener("destroyed", destroyed)
    thread.remove_event_listener("destroyed", destroyed)
    session.add_event_listener("completed", print)
