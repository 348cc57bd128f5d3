"""``flask threads serve``."""

from __future__ import annotations

import sys
from typing import Any

import click

from ...service import limit_options
from ...service.limit_options import LIMIT_OPTIONS, LimitOption
from .group import app_store, app_threads, examples, threads


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _option_of(limit: LimitOption) -> click.Option:
    whole = isinstance(limit.default, int)
    return click.Option(
        [limit.option],
        type=click.IntRange(min=1) if whole else click.FloatRange(0, min_open=True),
        default=limit.default,
        show_default=True,
        metavar=limit.unit,
        help=_sentence(limit.what),
    )


def _add_limits(command: click.Command) -> click.Command:
    """Add the options for the limits, before ``--help``."""
    command.params += map(_option_of, LIMIT_OPTIONS)
    return command


@_add_limits
@threads.command(
    epilog=examples(
        "serve --key-file keys.txt",
        "serve --host 0.0.0.0 --port 9000 --certificate cert.pem --certificate-key key.pem",
        "serve --trusted-address 10.0.0.0/8 --max-connections 5000",
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8787,
    show_default=True,
    metavar="PORT",
    help="0 chooses a free port.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    help="A key of other clients, of at least 16 characters. Can be repeated. Other users of the"
    " machine can see it.",
)
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(),
    help="A file with one key per line. Can be repeated.",
)
@click.option(
    "--trusted-address",
    "trusted_addresses",
    multiple=True,
    metavar="NETWORK",
    help=_sentence(limit_options.TRUSTED_ADDRESS),
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help=_sentence(limit_options.ALLOW_ORIGIN),
)
@click.option("--certificate", type=click.Path(), help=_sentence(limit_options.CERTIFICATE))
@click.option("--certificate-key", type=click.Path(), help=_sentence(limit_options.CERTIFICATE_KEY))
def serve(
    keys: tuple[str, ...],
    key_files: tuple[str, ...],
    trusted_addresses: tuple[str, ...],
    certificate: str | None,
    certificate_key: str | None,
    **options: Any,
) -> None:
    """Serve this app's store as a thread service, until SIGTERM or Ctrl-C.

    Clients that use the app's own key, AGENTUITY_SDK_KEY, share the app's threads. Each other
    key has separate threads, which the app does not see. Other keys come from --key, from
    --key-file, and from the environment variable AGENTUITY_SERVICE_KEYS, separated by spaces.

    \b
    To make a key:
      python -c "import secrets; print(secrets.token_urlsafe())"
    """  # noqa: D301 - for click, \b is a control character
    from ...service.certificates import load_certificate
    from ...service.command import run
    from ...service.keys import gather_keys
    from ...service.settings import LOOPBACK
    from ...service.tenants import require_apart
    from ...service.thread_service import ThreadService

    own = app_threads().settings.sdk_key
    others = gather_keys(keys, key_files, own)
    if set(others) - {own}:
        # The store is that of the app, also if the app has no key.
        require_apart(app_store())
    service = ThreadService(
        app_store(),
        others,
        own_key=own,
        trusted_addresses=(*LOOPBACK, *trusted_addresses),
        ssl_context=load_certificate(certificate, certificate_key),
        **options,
    )
    sys.exit(run(service))
