"""Certificates and keys of OPC UA applications: read, checked before they are used, and self-signed when there are none.

After OPC 10000-6, 6.2.2 (application instance certificate): RSA, the application's URI in the subject alternative name. Needs
the package cryptography, which asyncua brings along.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edgead.errors import BadInput, StorageError
from edgead.optional import require

KEY_BITS = 2048
VALID_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a file. `uri` is the application's name in it, "" when it has none; dates are UTC."""

    path: Path
    der: bytes
    uri: str
    not_before: datetime
    not_after: datetime

    def problem(self, now: datetime | None = None) -> str:
        """Why it cannot be used today, or ""."""
        today = now or datetime.now(timezone.utc)
        if today > self.not_after:
            return f"the certificate {self.path} expired on {self.not_after:%Y-%m-%d}"
        if today < self.not_before:
            return f"the certificate {self.path} is valid from {self.not_before:%Y-%m-%d} on: check this computer's date"
        return ""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its private key, PKCS #8 PEM without a password; the key stays out of texts."""

    certificate: Certificate
    key_pem: bytes

    def __repr__(self) -> str:
        return f"Identity({self.certificate.path})"


def read_certificate(path: Path) -> Certificate:
    """Read a PEM or DER file.

    Raises:
        BadInput: it cannot be read, or is no certificate.
        MissingExtra: cryptography is not installed.
    """
    x509 = _crypto("x509")
    content = _content(path, "certificate")
    try:
        pem = content.lstrip().startswith(b"-----")
        found = x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except ValueError as error:
        raise BadInput(f"{path} is not a certificate", hint="give a PEM or DER file with an X.509 certificate") from error
    der: bytes = found.public_bytes(_crypto("hazmat.primitives.serialization").Encoding.DER)
    return Certificate(path, der, _uri(x509, found), _utc(found, "not_valid_before"), _utc(found, "not_valid_after"))


def read_identity(certificate: Path, key: Path, password: str | None = None) -> Identity:
    """Read a certificate and the private key that belongs to it, PEM or DER.

    Raises:
        BadInput: one of them cannot be read, the password is wrong, or they do not belong together.
        MissingExtra: cryptography is not installed.
    """
    x509, serial = _crypto("x509"), _crypto("hazmat.primitives.serialization")
    read = read_certificate(certificate)
    content = _content(key, "key")
    load = serial.load_pem_private_key if content.lstrip().startswith(b"-----") else serial.load_der_private_key
    try:
        private = load(content, password.encode() if password else None)
    except (ValueError, TypeError) as error:  # TypeError: a password is missing, or is too many
        raise BadInput(f"{key} cannot be opened as a private key", hint="check the file and its password") from error

    def public(holder: Any) -> bytes:
        shown: bytes = holder.public_key().public_bytes(serial.Encoding.DER, serial.PublicFormat.SubjectPublicKeyInfo)
        return shown

    if public(private) != public(x509.load_der_x509_certificate(read.der)):
        raise BadInput(f"the key {key} does not belong to the certificate {certificate}")
    plain = (serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption())
    return Identity(read, private.private_bytes(*plain))


def make_identity(certificate: Path, key: Path, *, uri: str, hosts: tuple[str, ...] = (), days: float = VALID_DAYS) -> Identity:
    """Write a self-signed certificate (PEM) and its key (PEM, readable by its owner alone).

    Args:
        certificate, key: files that are not there yet.
        uri: the application's name, e.g. ``urn:line7:edgead``.
        hosts: names and addresses under which it is reached, besides this computer's name and localhost.
        days: how long it is valid; negative: it has expired already.

    Raises:
        StorageError: a file is there already, or cannot be written.
        MissingExtra: cryptography is not installed.
    """
    x509, serial = _crypto("x509"), _crypto("hazmat.primitives.serialization")
    private = _crypto("hazmat.primitives.asymmetric.rsa").generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, uri.rpartition(":")[2][:64] or "edgead")])
    now = datetime.now(timezone.utc)
    usage = x509.ExtendedKeyUsageOID
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=max(1.0, 1 - days)))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *_names(x509, hosts)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, True, True, True, False, True, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage.SERVER_AUTH, usage.CLIENT_AUTH]), critical=False)
        .sign(private, _crypto("hazmat.primitives.hashes").SHA256())
    )
    _write(key, private.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption()), 0o600)
    _write(certificate, signed.public_bytes(serial.Encoding.PEM), 0o644)
    return read_identity(certificate, key)


def _names(x509: Any, hosts: tuple[str, ...]) -> list[Any]:
    names: list[Any] = []
    for host in dict.fromkeys((*hosts, socket.gethostname(), "localhost", "127.0.0.1")):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="nothing is overwritten") from error


def _content(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the {what} {path}: {error.strerror or error}") from error


def _uri(x509: Any, certificate: Any) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(found[0]) if found else ""


def _utc(certificate: Any, name: str) -> datetime:
    aware: datetime | None = getattr(certificate, f"{name}_utc", None)  # cryptography 42 and later
    return aware if aware is not None else getattr(certificate, name).replace(tzinfo=timezone.utc)


def _crypto(module: str) -> Any:
    loaded = require(f"cryptography.{module}", extra="opcua", why="OPC UA with certificates")
    if module == "x509":
        require("cryptography.x509.oid", extra="opcua", why="OPC UA with certificates")
    return loaded
