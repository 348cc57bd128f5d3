"""The command ``python -m flask_agentuity.service``."""

from __future__ import annotations

import argparse
import logging
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Sequence

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.messages import encode_message
from ..errors import ConfigurationError, StoreError
from ..stores import open_store
from ..stores.base import DEFAULT_TTL
from .keys import HOW_TO_MAKE_A_KEY, KEYS_VARIABLE, gather_keys
from .settings import LOOPBACK, ServiceSettings
from .thread_service import ThreadService

logger = logging.getLogger("flask_agentuity.service")

# The options of a service that are numbers: their units and what they are.
_LIMITS = (
    ("max_frame_bytes", "BYTES", "the largest frame"),
    ("max_memory_bytes", "BYTES", "the memory for the frames of all clients together"),
    ("max_connections", "N", "the most connected clients"),
    ("max_unauthorized", "N", "the most connected clients that have not sent their key"),
    ("max_unauthorized_per_address", "N", "the same, for each address"),
    ("authorization_timeout", "SECONDS", "the time for a client's handshake and key"),
    ("send_timeout", "SECONDS", "the time for a client to read a reply"),
)

#: Seconds after which a thread that computes lets others go on.
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
                max_frame_bytes=options.max_frame_bytes,
                max_memory_bytes=options.max_memory_bytes,
                max_connections=options.max_connections,
                max_unauthorized=options.max_unauthorized,
                max_unauthorized_per_address=options.max_unauthorized_per_address,
                authorization_timeout=options.authorization_timeout,
                send_timeout=options.send_timeout,
                trusted_addresses=(*LOOPBACK, *options.trusted_address),
                allowed_origins=options.allow_origin,
                ssl_context=_ssl_context(options.certificate, options.certificate_key),
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
    # The thread of the event loop waits for the others for so long, again and again.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # A store that does not work should not be noticed by the first client.
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
    logger.info("Ended.")
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
    for name, unit, what in _LIMITS:
        default = getattr(ServiceSettings, name)
        add(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar=unit,
            help=f"{what} ({default:g})" if isinstance(default, float) else f"{what} ({default})",
        )
    add(
        "--trusted-address",
        action="append",
        default=[],
        metavar="NETWORK",
        help="an address or a network to exempt from the limits for each address, for example of"
        " a proxy or of app servers; this machine is exempt; can be repeated",
    )
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin such as https://HOST whose web pages may connect; can be repeated",
    )
    add("--certificate", metavar="FILE", help="serve wss with this certificate (PEM)")
    add(
        "--certificate-key",
        metavar="FILE",
        help="the certificate's private key (PEM), if it is in another file",
    )


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
