"""The certificate of a service, from files."""

from __future__ import annotations

import ssl

from ..errors import ConfigurationError


def load_certificate(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return what makes a service use wss; None without a *certificate*.

    :param key: the file with the private key; None if the other file has it.
    :raises ConfigurationError: if the files cannot be used.
    """
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
