"""TLS for clients: certificates and names are always verified."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgead.errors import BadInput
from edgead.runtime.records.wallclock import clock_says


class _Tidy(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


_DATES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def is_about_dates(error: BaseException | None) -> bool:
    """Was a certificate refused because of today's date, which may be wrong?"""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _DATES


def dated(error: BaseException | None) -> str:
    """What the clock says, in brackets, where that is what matters; else ""."""
    return f" ({clock_says()})" if is_about_dates(error) else ""


def tls_context(ca: Path | None = None, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer that trusts `ca` alone, or the system's list without it; `cert` and `key` are the client's own.

    Raises:
        BadInput: a file is missing or not PEM, or there is a key without a certificate.
    """
    if key is not None and cert is None:
        raise BadInput("a key without its certificate", hint="give cert too")
    for path in (ca, cert, key):
        if path is not None and not path.is_file():
            raise BadInput(f"there is no file {path}", hint="give a PEM file")
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (ssl.SSLError, OSError) as error:
        raise BadInput(f"{ca} holds no certificates: {error}", hint="give a PEM file") from error
    context.sslsocket_class = _Tidy
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise BadInput(
                f"{cert} is no certificate that fits its key: {error}", hint="give PEM files; the key must not be encrypted"
            ) from error
    return context
