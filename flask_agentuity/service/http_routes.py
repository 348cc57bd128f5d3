"""The service's HTTP routes for one tenant: list, describe and delete threads.

They are those of Agentuity's service: ``GET /thread``, ``GET /thread/{id}`` and
``DELETE /thread/{id}``, with the key as a bearer token. The same limits hold as for WebSockets.
Every answer is a JSON object with ``success``, and ``message`` if that is false.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from urllib.parse import unquote

from websockets.http11 import Request, Response

from ..document.foreign_text import printable
from ..document.messages import encode_message
from ..errors import AgentuityError, InvalidArgument
from ..wire import limits
from .addresses import source_of
from .buffers import Held
from .listing_pages import CannotList, TooMuch, delete_thread, describe_thread, list_threads
from .listing_query import parse_listing_query
from .server_socket import ServerSocket
from .settings import ServiceSettings
from .shared import Shared
from .tenants import Tenant

ROUTE = "/thread"

_RETRY_AFTER = "5"


class Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def is_route(path: str) -> bool:
    """Return whether *path*, without its query, belongs to these routes."""
    return path == ROUTE or path.startswith(f"{ROUTE}/")


class ThreadRoutes:
    """Answers requests that are not WebSocket handshakes. Belongs to one event loop."""

    def __init__(self, settings: ServiceSettings, shared: Shared) -> None:
        self._settings = settings
        self._shared = shared

    async def respond(self, socket: ServerSocket, request: Request) -> Response:
        """Return the response. It always returns one."""
        try:
            tenant = await self._authorize(socket, request)
            status, body = HTTPStatus.OK, await self._serve(socket, tenant, request)
        except Refused as refused:
            status = refused.status
            body = encode_message({"success": False, "message": refused.message})
        response = _respond(socket, status, body)
        match status:
            case HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = "Bearer"
            case HTTPStatus.SERVICE_UNAVAILABLE:
                response.headers["Retry-After"] = _RETRY_AFTER
            case HTTPStatus.METHOD_NOT_ALLOWED:
                response.headers["Allow"] = "GET, DELETE"
        return response

    async def _authorize(self, socket: ServerSocket, request: Request) -> Tenant:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key = _as_utf8(key.strip())
        if scheme.lower() != "bearer" or not key:
            raise Refused(HTTPStatus.UNAUTHORIZED, "Send the key as Authorization: Bearer <key>.")
        if len(key) > limits.MAX_AUTHORIZATION_BYTES or not self._settings.keys.accepts(key):
            host, port = socket.remote_address[:2]
            if host not in self._settings.trusted:
                self._shared.wrong_keys.count(source_of(host))
            self._shared.logs.denied.warn(
                "%s was not authorized: %s", f"{host}:{port}", "The key is not known here."
            )
            raise Refused(HTTPStatus.UNAUTHORIZED, "The key is not known here.")
        return await self._shared.pool.run("", self._settings.tenant_of, key)

    async def _serve(self, socket: ServerSocket, tenant: Tenant, request: Request) -> bytes:
        shared, name = self._shared, tenant.name
        if shared.is_full(name):
            shared.logs.full.warn("Refused a connection: the key of %s has too many already.", name)
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections.")
        shared.admission.authorize(socket.socket_number)
        shared.connections[name] += 1
        try:
            body = await self._answer(tenant, request)
        finally:
            shared.connections[name] -= 1
            if not shared.connections[name]:
                del shared.connections[name]
        held = Held(shared.buffers, name, socket.transport.abort)
        held.add(len(body))
        socket.send_within(self._settings.send_timeout, held.clear)
        return body

    async def _answer(self, tenant: Tenant, request: Request) -> bytes:
        path, _, query = request.path.partition("?")
        run, logs = self._shared.pool.run, self._shared.logs
        try:
            if path == ROUTE:
                _require_method(request, "GET")
                return await run(tenant.name, list_threads, tenant, parse_listing_query(query))
            thread_id = _thread_id(path)
            if _method_of(request) == "DELETE":
                return await run(tenant.name, delete_thread, tenant, thread_id)
            _require_method(request, "GET")
            found = await run(tenant.name, describe_thread, tenant, thread_id)
        except CannotList as error:
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, str(error)) from None
        except TooMuch as error:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from None
        except InvalidArgument as error:
            raise Refused(HTTPStatus.BAD_REQUEST, printable(str(error))) from None
        except AgentuityError as error:
            reason = printable(str(error))
            logs.failed.warn("An HTTP request of %s failed: %s", tenant.name, reason)
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, reason) from None
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, printable(str(error))) from None
        except Exception as error:
            if isinstance(error, Refused):
                raise
            logs.crashed.log(
                logging.ERROR, "An HTTP request of %s failed.", tenant.name, error=error
            )
            message = "The request failed inside the service; its log says why."
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, message) from None
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "Thread not found.")
        return found


def as_json(socket: ServerSocket, refusal: Response) -> Response:
    """Return a plain text refusal in the form of these routes."""
    message = refusal.body.decode().strip()
    body = encode_message({"success": False, "message": message})
    response = _respond(socket, HTTPStatus(refusal.status_code), body)
    if "Retry-After" in refusal.headers:
        response.headers["Retry-After"] = refusal.headers["Retry-After"]
    return response


def _respond(socket: ServerSocket, status: HTTPStatus, body: bytes) -> Response:
    response = socket.respond(status, body.decode())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response


def _as_utf8(text: str) -> str:
    """Return a header's *text* as clients send it. It was read in another encoding."""
    try:
        return text.encode("latin-1").decode(errors="replace")
    except UnicodeEncodeError:
        # Before version 15, websockets reads headers as ASCII and escapes the rest.
        return text.encode(errors="surrogateescape").decode(errors="replace")


def _method_of(request: Request) -> str:
    # Before version 17, websockets refuses all other methods itself.
    method: str = getattr(request, "method", "GET")
    return method


def _require_method(request: Request, allowed: str) -> None:
    if _method_of(request) != allowed:
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"The method must be {allowed}.")


def _thread_id(path: str) -> str:
    thread_id = unquote(path.removeprefix(f"{ROUTE}/"), errors="replace")
    if not thread_id or "/" in thread_id or len(thread_id) > limits.MAX_THREAD_ID_LENGTH:
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such route.")
    return thread_id
