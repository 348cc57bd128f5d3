"""The command ``python -m flask_agentuity.service``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.messages import encode_message
from ..errors import ConfigurationError, StoreError
from ..stores import open_store
from ..stores.base import DEFAULT_TTL
from . import limit_options
from .certificates import load_certificate
from .idle_memory import use_one_pool
from .keys import HOW_TO_MAKE_A_KEY, KEYS_VARIABLE, gather_keys
from .limit_options import LIMIT_OPTIONS
from .settings import LOOPBACK
from .thread_service import ThreadService

logger = logging.getLogger("flask_agentuity.service")

#: Seconds after which a computing thread lets others run.
_SWITCH_INTERVAL = 0.0005

#: Seconds between two checks whether the service still runs.
_CHECK_INTERVAL = 0.5


_EXAMPLES = """\
examples:
  python -m flask_agentuity.service --key-file keys.txt
  python -m flask_agentuity.service --key-file keys.txt --store redis://localhost:6379/0
  python -m flask_agentuity.service --key-file keys.txt --host 0.0.0.0 \\
      --certificate cert.pem --certificate-key key.pem
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a service until SIGTERM or SIGINT, and return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        keys = gather_keys(options.key, options.key_file)
        store = open_store(options.store, ttl=options.ttl or None, max_bytes=options.max_bytes)
        try:
            service = ThreadService(
                store,
                keys,
                host=options.host,
                port=options.port,
                **{each.name: getattr(options, each.name) for each in LIMIT_OPTIONS},
                trusted_addresses=(*LOOPBACK, *options.trusted_address),
                allowed_origins=options.allow_origin,
                ssl_context=load_certificate(options.certificate, options.certificate_key),
            )
            return run(service)
        finally:
            store.close()
    except (ConfigurationError, StoreError) as error:
        print(f"flask_agentuity.service: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1


def run(service: ThreadService) -> int:
    """Start *service*, print where it listens, and serve until SIGTERM or SIGINT.

    Must be called in the main thread. The first line on standard output is one JSON object,
    ``{"listening": "ws://127.0.0.1:PORT/thread/ws"}``. Returns the exit status.

    :raises ConfigurationError: if it cannot listen.
    :raises StoreError: if its store cannot be used.
    """
    use_one_pool()
    # The thread of the event loop often has to wait for the others for this time.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # If the store does not work, the first client should not be the one to notice.
    service.check_store()
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
    logger.info("The service has ended.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flask_agentuity.service",
        description="Serve threads to Flask apps and JavaScript agents over WebSockets.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="the lowest level of the records that are logged (%(default)s)",
    )
    return parser


def _add_keys(add: Callable[..., object]) -> None:
    add(
        "--key",
        action="append",
        default=[],
        help="a key for clients, of at least 16 characters, which other users of the machine can"
        f" see; can be repeated; the environment variable {KEYS_VARIABLE} can hold more, separated"
        f" by spaces; each key has separate threads; {HOW_TO_MAKE_A_KEY} makes one",
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
        help="where threads are kept; a relative path is in the current folder (%(default)s)",
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
    for limit in LIMIT_OPTIONS:
        add(
            limit.option,
            type=type(limit.default),
            default=limit.default,
            metavar=limit.unit,
            help=f"{limit.what} ({limit.shown_default})",
        )
    add(
        "--trusted-address",
        action="append",
        default=[],
        metavar="NETWORK",
        help=limit_options.TRUSTED_ADDRESS,
    )
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help=limit_options.ALLOW_ORIGIN,
    )
    add("--certificate", metavar="FILE", help=limit_options.CERTIFICATE)
    add("--certificate-key", metavar="FILE", help=limit_options.CERTIFICATE_KEY)
