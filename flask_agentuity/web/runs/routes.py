"""The routes for readers of runs: what :attr:`ThreadManager.blueprint` contains."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Request, Response, jsonify
from werkzeug.exceptions import Forbidden

from ...errors import InvalidThreadId
from ...stores.runs import StoredRun
from ..app_threads import AppThreads, threads_of
from ..flask_internals import current_app_object, current_request
from ..response_headers import varying
from .finding import find_thread_id
from .reading import read_run, requested_place

_SAME = ("same-origin", "same-site", "none")


def make_blueprint() -> Blueprint:
    """Return a blueprint with the routes ``stream``, ``status`` and ``stop``."""
    blueprint = Blueprint("threads", __name__)
    blueprint.add_url_rule("/stream", "stream", _stream, methods=["GET"])
    blueprint.add_url_rule("/status", "status", _status, methods=["GET"])
    blueprint.add_url_rule("/stop", "stop", _stop, methods=["POST"])
    blueprint.after_request(_vary)
    return blueprint


def _stream(**arguments: object) -> Response:
    current, threads, thread_id = _request()
    run_id, after = requested_place(current)
    if thread_id is None:
        return Response(status=204)
    runs = threads.runs
    stored = runs.find(thread_id, run_id)
    if stored is None or (run_id is None and not stored.is_running):
        return Response(status=204)
    if current.method == "HEAD":
        return Response(status=200)
    return read_run(runs.here, stored, after)


def _status(**arguments: object) -> Response:
    _, threads, thread_id = _request()
    stored = None if thread_id is None else threads.runs.find_settled(thread_id)
    return Response(status=204) if stored is None else jsonify(_shown(stored))


def _stop(**arguments: object) -> Response:
    current, threads, thread_id = _request()
    _refuse_other_sites(current)
    runs = threads.runs
    stored = None if thread_id is None else runs.find_settled(thread_id)
    if stored is None or not runs.here.stop(stored.key):
        return Response(status=204)
    response = jsonify({"run": stored.key.run_id})
    response.status_code = 202
    return response


def _request() -> tuple[Request, AppThreads, str | None]:
    """Return the request, what belongs to its app, and its thread, which stays untouched."""
    current, threads = current_request(), threads_of(current_app_object())
    try:
        thread_id = find_thread_id(threads, current)
    except InvalidThreadId:
        thread_id = None
    # What the URL names is checked now: a stranger gets 204, not 404.
    current.view_args = {name: str(value) for name, value in (current.view_args or {}).items()}
    return current, threads, thread_id


def _shown(stored: StoredRun) -> dict[str, object]:
    return {
        "run": stored.key.run_id,
        "status": stored.status,
        "format": stored.format,
        "started": stored.started,
        "length": stored.length,
        "truncated": stored.truncated,
    }


def _vary(response: Response) -> Response:
    threads = threads_of(current_app_object())
    response.vary.update(varying(threads, current_request()))
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _refuse_other_sites(current: Request) -> None:
    """Refuse requests that a page of another site makes a browser send with this site's cookie.

    :raises Forbidden: if the request comes from another site.
    """
    site = current.headers.get("Sec-Fetch-Site")
    if site is not None:
        refused = site not in _SAME
    else:
        # Browsers without that header send the origin. Other clients send neither.
        origin = current.headers.get("Origin")
        refused = origin is not None and urlsplit(origin).netloc != current.host
    if refused:
        raise Forbidden("An answer cannot be stopped from another site.")
