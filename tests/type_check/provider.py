"""A thread ID provider, written by a user of the package."""

from __future__ import annotations

from flask import Flask, Request, Response

from flask_agentuity import ThreadIDProvider, ThreadManager


class PathProvider(ThreadIDProvider):
    """Takes the thread's id from the URL."""

    vary = ()

    def get_thread_id(self, app: Flask, request: Request) -> str:
        return str((request.view_args or {})["thread_id"])

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        response.headers["x-conversation"] = thread_id


threads = ThreadManager(Flask(__name__), thread_id_provider=PathProvider())
threads.set_thread_id_provider(None)
threads.set_thread_id_provider(PathProvider)  # type: ignore[arg-type]
