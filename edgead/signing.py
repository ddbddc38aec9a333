"""Signatures of bundles: ed25519 over the bytes of manifest.json, which holds the digest of every other file.

``manifest.json.sig`` holds the 64 bytes of the signature and nothing else, so that OpenSSL checks it, too:

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json -sigfile manifest.json.sig

Whatever changes the manifest (`edgead threshold`, an engine built or measured on the device) takes the signature away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead import disk
from edgead.errors import BadInput, BundleError, StorageError
from edgead.optional import require

SIGNATURE = "manifest.json.sig"
_SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose bundles may run: where it was read, and a short name of it."""

    file: Path
    raw: bytes

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over its 32 bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


def read_trusted(files: Sequence[Path]) -> tuple[TrustedKey, ...]:
    """The public keys in PEM files.

    Raises:
        BadInput: one cannot be read, or is no ed25519 public key.
        MissingExtra: the package `cryptography` is not installed.
    """
    return tuple(TrustedKey(file, _public(file).public_bytes_raw()) for file in files)


def check(content: bytes, folder: Path, trusted: Sequence[TrustedKey]) -> TrustedKey:
    """Which of the keys signed this manifest.json of the bundle `folder`.

    Raises:
        BundleError: it is not signed, or by none of them, or has changed since.
    """
    who = ", ".join(f"{key.file.name} ({key.fingerprint})" for key in trusted)
    hint = f"sign it with the right key: edgead sign {folder} --key KEY.pem"
    try:
        signature = disk.read_file(folder / SIGNATURE, _SIGNATURE_BYTES)
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is not signed, and only bundles signed by {who} may be used", hint=hint) from error
    except OSError as error:
        raise BundleError(f"{folder}: {SIGNATURE} cannot be read: {error.strerror}", hint=hint) from error
    invalid = require("cryptography.exceptions", extra="sign", why="Checking a signature").InvalidSignature
    ed25519 = _ed25519()
    for key in trusted:
        with contextlib.suppress(invalid):
            ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, content)
            return key
    raise BundleError(f"{folder} is not signed by {who}, or manifest.json has changed since it was signed", hint=hint)


def sign(folder: Path, content: bytes, key_file: Path, password: Callable[[], str]) -> TrustedKey:
    """Write the signature of a bundle's manifest.json.

    Args:
        content: of manifest.json.
        key_file: the private key, PEM.
        password: asked for when the key is encrypted.

    Raises:
        BadInput: the key cannot be read, or is no ed25519 private key.
        StorageError: the bundle is not writable.
    """
    key = _private(key_file, password)
    try:
        disk.write_file(folder / SIGNATURE, key.sign(content))
    except OSError as error:
        raise StorageError(f"cannot write {folder / SIGNATURE}: {error.strerror}", hint="run it as the bundle's owner") from error
    return TrustedKey(key_file, key.public_key().public_bytes_raw())


def new_key(key_file: Path) -> tuple[Path, TrustedKey]:
    """Make a key pair: the private key (PEM, readable by its owner only) and, beside it, ``NAME.pub``.

    Raises:
        BadInput: one of the files is there already.
        StorageError: they cannot be written.
    """
    serialization = require("cryptography.hazmat.primitives.serialization", extra="sign", why="Making a key")
    public_file = key_file.with_suffix(".pub")
    if there := [file for file in (key_file, public_file) if os.path.lexists(file)]:
        raise BadInput(f"{there[0]} is there already", hint="a key is never overwritten: choose another name")
    key = _ed25519().Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        for file, content, mode in ((key_file, private, 0o600), (public_file, public, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(content)
    except OSError as error:
        raise StorageError(f"cannot write {key_file}: {error.strerror}", hint="choose another folder") from error
    return public_file, TrustedKey(public_file, key.public_key().public_bytes_raw())


def _ed25519() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="sign", why="Signing bundles")


def _public(file: Path) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization", extra="sign", why="Checking a signature")
    with _readable(file, "public", f"openssl pkey -in KEY.pem -pubout -out {file.name}"):
        key = serialization.load_pem_public_key(disk.read_file(file, _MAX_KEY_BYTES))
    if not isinstance(key, _ed25519().Ed25519PublicKey):
        raise BadInput(f"{file} is a public key, but not of ed25519", hint="make a pair with: edgead sign --new-key KEY.pem")
    return key


def _private(file: Path, password: Callable[[], str]) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization", extra="sign", why="Signing a bundle")
    with _readable(file, "private", "edgead sign --new-key KEY.pem"):
        content = disk.read_file(file, _MAX_KEY_BYTES)
        secret = password().encode() if b"ENCRYPTED" in content else None
        key = serialization.load_pem_private_key(content, secret)
    if not isinstance(key, _ed25519().Ed25519PrivateKey):
        raise BadInput(f"{file} is a private key, but not of ed25519", hint="make a pair with: edgead sign --new-key KEY.pem")
    return key


@contextlib.contextmanager
def _readable(file: Path, kind: str, command: str) -> Any:
    """Turn what is wrong with a key file into one line that shows nothing of it."""
    unsupported = require("cryptography.exceptions", extra="sign", why="Reading a key").UnsupportedAlgorithm
    try:
        yield
    except OSError as error:
        raise BadInput(f"the key {file} cannot be read: {error.strerror}", hint="check the path and its permissions") from None
    except (ValueError, TypeError, unsupported):
        raise BadInput(f"{file} holds no {kind} key in PEM, or the password is wrong", hint=f"make one with: {command}") from None
