"""Certificates and keys of OPC UA applications: read, checked before they are used, and self-signed when there are none.

After OPC 10000-6, 6.2.2 (application instance certificate): RSA, the application's URI in the subject alternative name. Needs
the package cryptography, which asyncua brings along.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.disk import replace_file
from edgead.errors import BadInput, StorageError
from edgead.optional import require
from edgead.runtime.records.wallclock import believable, clock_says, day, utc_now

KEY_BITS = 2048
VALID = (datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))
"""Our own certificates: from before any clock without a battery, and without an end (RFC 5280, 4.1.2.5)."""

FORMER_DAYS = 3651
"""For so many days those were valid that edgead made before."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a file. `uri` is the application's name in it, "" when it has none; dates are UTC."""

    path: Path
    der: bytes
    uri: str
    not_before: datetime
    not_after: datetime

    def problem(self, now: datetime | None = None) -> str:
        """Why it cannot be used today, or "". A clock that is plainly wrong is no reason."""
        today = now or utc_now()
        if not believable(today):
            return ""
        if today > self.not_after:
            return f"the certificate {self.path} expired on {day(self.not_after)} ({clock_says(today)})"
        if today < self.not_before:
            return f"the certificate {self.path} is valid from {day(self.not_before)} on ({clock_says(today)})"
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


def make_identity(
    certificate: Path, key: Path, *, uri: str, hosts: tuple[str, ...] = (), valid: tuple[datetime, datetime] = VALID
) -> Identity:
    """Write a self-signed certificate (PEM) and its key (PEM, readable by its owner alone).

    Args:
        certificate, key: files that are not there yet.
        uri: the application's name, e.g. ``urn:line7:edgead``.
        hosts: names and addresses under which it is reached, besides this computer's name and localhost.
        valid: from when until when, UTC.

    Raises:
        StorageError: a file is there already, or cannot be written.
        MissingExtra: cryptography is not installed.
    """
    serial = _crypto("hazmat.primitives.serialization")
    private = _crypto("hazmat.primitives.asymmetric.rsa").generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    # The certificate first: after a power cut in between it is known for ours, and made again; a key alone says nothing.
    _write(certificate, _signed(private, uri, hosts, valid).public_bytes(serial.Encoding.PEM), 0o644)
    _write(key, private.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption()), 0o600)
    return read_identity(certificate, key)


def renew_identity(identity: Identity, *, hosts: tuple[str, ...] = ()) -> Identity:
    """Sign a certificate of ours anew, with the same key and name, and put it in the old one's place in one step.

    Raises:
        StorageError: it cannot be written; the old one is still there.
    """
    serial = _crypto("hazmat.primitives.serialization")
    private = serial.load_pem_private_key(identity.key_pem, None)
    path = identity.certificate.path
    made = _signed(private, identity.certificate.uri, hosts, VALID)
    try:
        replace_file(path, made.public_bytes(serial.Encoding.PEM).decode("ascii"))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="make its folder writable") from error
    return Identity(read_certificate(path), identity.key_pem)


def is_ours(certificate: Certificate, uri: str) -> bool:
    """Did `make_identity` make it, under this name? By its signature, names, extensions and dates together; no other passes."""
    x509, oids = _crypto("x509"), _crypto("x509.oid").ExtensionOID
    found = x509.load_der_x509_certificate(certificate.der)
    days = (certificate.not_after - certificate.not_before).total_seconds() / 86400
    dated = (certificate.not_before, certificate.not_after) == VALID or days == FORMER_DAYS
    kinds = [extension.oid for extension in found.extensions]
    ours = [oids.SUBJECT_ALTERNATIVE_NAME, oids.BASIC_CONSTRAINTS, oids.KEY_USAGE, oids.EXTENDED_KEY_USAGE]
    if not (dated and certificate.uri == uri and kinds == ours and found.subject == found.issuer == _subject(x509, uri)):
        return False
    try:
        found.public_key().verify(
            found.signature,
            found.tbs_certificate_bytes,
            _crypto("hazmat.primitives.asymmetric.padding").PKCS1v15(),
            found.signature_hash_algorithm,
        )
    except Exception:  # noqa: BLE001 - InvalidSignature, or a key that is not RSA: somebody else's
        return False
    return True


def _signed(private: Any, uri: str, hosts: tuple[str, ...], valid: tuple[datetime, datetime]) -> Any:
    x509 = _crypto("x509")
    name, usage = _subject(x509, uri), x509.ExtendedKeyUsageOID
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *_names(x509, hosts)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, True, True, True, False, True, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage.SERVER_AUTH, usage.CLIENT_AUTH]), critical=False)
        .sign(private, _crypto("hazmat.primitives.hashes").SHA256())
    )


def _subject(x509: Any, uri: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, uri.rpartition(":")[2][:64] or "edgead")])


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
            file.flush()
            os.fsync(file.fileno())
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
