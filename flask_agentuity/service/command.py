"""The command ``python -m flask_agentuity.service``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Sequence

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.messages import encode_message
from ..errors import ConfigurationError, StoreError
from ..stores import open_store
from ..stores.base import DEFAULT_TTL, ThreadStore
from .keys import read_keys
from .settings import DEFAULT_MAX_FRAME_BYTES
from .thread_service import ThreadService

logger = logging.getLogger("flask_agentuity.service")

#: More keys, separated by white space. Other users can see a command line.
KEYS_VARIABLE = "AGENTUITY_SERVICE_KEYS"

#: Seconds between two checks whether the service still runs.
_CHECK_INTERVAL = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a service until SIGTERM or SIGINT, and return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        keys = [*options.key, *os.environ.get(KEYS_VARIABLE, "").split()]
        for path in options.key_file:
            keys.extend(read_keys(path))
        if not keys:
            raise ConfigurationError(
                f"A thread service needs a key: --key KEY, --key-file FILE or {KEYS_VARIABLE}."
            )
        store = open_store(options.store, ttl=options.ttl or None, max_bytes=options.max_bytes)
        try:
            service = ThreadService(
                store,
                keys,
                host=options.host,
                port=options.port,
                max_frame_bytes=options.max_frame_bytes,
                max_connections=options.max_connections,
                authorization_timeout=options.authorization_timeout,
                ssl_context=_ssl_context(options.certificate, options.certificate_key),
            )
            return run(service, store)
        finally:
            store.close()
    except (ConfigurationError, StoreError) as error:
        print(f"flask_agentuity.service: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1


def run(service: ThreadService, store: ThreadStore) -> int:
    """Start *service*, print where it listens, and serve until SIGTERM or SIGINT.

    Must be called in the main thread. The first line on standard output is one JSON object,
    ``{"listening": "ws://127.0.0.1:PORT/thread/ws"}``. Returns the exit status.

    :raises ConfigurationError: if it cannot listen.
    :raises StoreError: if the *store* cannot be used.
    """
    # A store that does not work should not be noticed by the first client.
    store.restore("none")
    asked = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: asked.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with service:
            print(encode_message({"listening": service.url}).decode(), flush=True)
            # Not every system ends a wait without a timeout when a signal arrives.
            while not asked.wait(_CHECK_INTERVAL):
                if not service.running:
                    logger.critical("The service has ended unexpectedly.")
                    return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    logger.info("Ended.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flask_agentuity.service",
        description="Serve threads to Flask apps and JavaScript agents over WebSockets.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8787, help="0 chooses a free port (%(default)s)"
    )
    _add_keys(parser.add_argument)
    _add_storage(parser.add_argument)
    _add_connections(parser.add_argument)
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="(%(default)s)",
    )
    return parser


def _add_keys(add: Callable[..., object]) -> None:
    add(
        "--key",
        action="append",
        default=[],
        help="a key that clients may use, of at least 16 characters; can be repeated; each key"
        f" sees its own threads only; the environment variable {KEYS_VARIABLE} can hold more,"
        " separated by spaces",
    )
    add(
        "--key-file",
        action="append",
        default=[],
        metavar="FILE",
        help="a file with one key per line; can be repeated",
    )


def _add_storage(add: Callable[..., object]) -> None:
    add(
        "--store",
        default="sqlite:///threads.db",
        metavar="URL",
        help="where threads are kept (%(default)s)",
    )
    add(
        "--ttl",
        type=float,
        default=DEFAULT_TTL,
        metavar="SECONDS",
        help="time without use after which a thread expires; 0: never (%(default)g)",
    )
    add(
        "--max-bytes",
        type=int,
        default=MAX_DOCUMENT_BYTES,
        metavar="BYTES",
        help="the largest document (%(default)s)",
    )


def _add_connections(add: Callable[..., object]) -> None:
    add(
        "--max-frame-bytes",
        type=int,
        default=DEFAULT_MAX_FRAME_BYTES,
        metavar="BYTES",
        help="the largest frame (%(default)s)",
    )
    add("--max-connections", type=int, default=1000, metavar="N", help="(%(default)s)")
    add(
        "--authorization-timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="for a client's handshake and its key (%(default)g)",
    )
    add("--certificate", metavar="FILE", help="serve wss with this certificate (PEM)")
    add("--certificate-key", metavar="FILE", help="its private key (PEM), if in another file")


def _ssl_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise ConfigurationError("--certificate-key needs --certificate.")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigurationError(f"The certificate {certificate} cannot be used: {error}") from None
    return context
