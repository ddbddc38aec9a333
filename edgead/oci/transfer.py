"""A bundle goes to a registry, and comes back: checked first, then put in its place in one step, the former one kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle, check_target, new_bundle, storage_errors
from edgead.errors import BadInput, BundleError, StorageError
from edgead.oci import artefact
from edgead.oci.address import OciAddress
from edgead.oci.artefact import Artefact
from edgead.oci.remote import Remote
from edgead.signing import TrustedKey

_ROOM = 16 << 20
"""Bytes that are left alone on a disk."""
_LAYER = ".layer.tar"


@dataclass(frozen=True, slots=True)
class Pushed:
    """A bundle that is in a registry now.

    Attributes:
        bundle: its folder.
        address: with the tag that it was pushed to.
        pinned: with its digest, for station files.
        sha256: of the bundle.
        signed: whether a signature went with it.
        bytes: of its layer.
    """

    bundle: Path
    address: str
    pinned: str
    sha256: str
    signed: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """A bundle that came from a registry.

    Attributes:
        bundle: its folder.
        address: that was asked for.
        pinned: with its digest, for station files.
        sha256: of the bundle.
        signed_by: fingerprint of the trusted key that signed it; null when nobody asked for one.
        changed: false when it was there already.
    """

    bundle: Path
    address: str
    pinned: str
    sha256: str
    signed_by: str | None
    changed: bool


def push(
    path: Path,
    address: OciAddress,
    *,
    plain_http: bool = False,
    trusted: Sequence[TrustedKey] = (),
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> Pushed:
    """Put a bundle into a registry, under a tag. Until all of it is there the tag leads to what it led to before.

    Args:
        plain_http: without encryption.
        trusted: it must be signed by one of these keys; empty: it need not be signed.
        progress: told the stages.

    Raises:
        BadInput: the address has no tag.
        BundleError: no bundle, damaged, or not signed.
        RegistryError: the registry cannot be reached, or refuses.
        StorageError: there is no room for its layer in the temporary folder.
    """
    if not address.tag or address.digest:
        raise BadInput(
            f"{address} names no tag to push to",
            hint=f"the digest is found by pushing: {OciAddress(address.registry, address.repository)}:1",
        )
    bundle = Bundle.open(path, trusted=trusted)
    with Remote(address, plain_http=plain_http) as remote, tempfile.TemporaryDirectory(prefix="edgead-push-") as folder:
        layer = Path(folder) / "layer.tar"
        progress("packing", 0.0)
        with storage_errors(layer, hint="free space there, or set TMPDIR to a folder with more"):
            blob = artefact.write_layer(bundle, layer)
        progress("packing", 1.0)
        progress(f"pushing {blob.size / 2**20:.0f} MiB", 0.0)  # the registry's client tells no share of it
        remote.upload(layer, blob)
        manifest = artefact.write_manifest(bundle, blob)
        remote.publish(manifest)
    pinned = address.at(artefact.digest_of(manifest))
    return Pushed(path, str(address), str(pinned), bundle.digest, bundle.is_signed, blob.size)


def pull(
    address: OciAddress,
    target: Path,
    *,
    trusted: Sequence[TrustedKey] = (),
    plain_http: bool = False,
    check: Callable[[Bundle], None] = lambda _: None,
    note: Callable[[bytes], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Pulled:
    """Bring a bundle here. What `target` held is kept (:mod:`edgead.versions`); whatever goes wrong, it is as it was.

    Args:
        trusted: it must be signed by one of these keys; empty: it need not be signed.
        plain_http: without encryption.
        check: asked about the bundle before it takes its place, also when it is there already; what it raises ends the pull.
        note: given the manifest before the bundle takes its place.
        report: told the bytes that are there, and how many there will be.

    Raises:
        BadInput: something else is at `target`.
        RegistryError: the registry cannot be reached, does not have it, or broke off.
        BundleError, BundleMismatch: it is no bundle, damaged, another one, or not signed.
        StorageError: the disk is full or not writable.
    """
    check_target(target)
    with Remote(address, plain_http=plain_http) as remote:
        content = remote.manifest()
        found = artefact.read_manifest(content, str(address))
        pinned = str(address.at(found.digest))
        there = _there(target, found, trusted)
        if there is not None:
            check(there)
            note(content)
            return Pulled(target, str(address), pinned, found.sha256, _key(there), changed=False)
        with new_bundle(target) as work:
            _check_room(work, target, found, address)
            layer = work / _LAYER
            with layer.open("xb") as file:
                remote.fetch(found.layer, file, lambda done: report(done, found.layer.size))
            artefact.unpack(layer, work, str(address))
            layer.unlink()
            bundle = _opened(work, found, address, trusted)
            check(bundle)
            note(content)
    return Pulled(target, str(address), pinned, found.sha256, _key(bundle), changed=True)


def _there(target: Path, found: Artefact, trusted: Sequence[TrustedKey]) -> Bundle | None:
    """The bundle that is at `target`, when it is the one that is asked for, whole and signed as it must be."""
    if not target.exists():
        return None
    try:
        bundle = Bundle.open(target, found.sha256, trusted)
        return bundle if artefact.signature_of(target) == found.signature else None
    except (BundleError, OSError):
        return None


def _opened(work: Path, found: Artefact, address: OciAddress, trusted: Sequence[TrustedKey]) -> Bundle:
    """What was unpacked, checked as any bundle is. Raises BundleError: it says what is wrong with what the registry has."""
    try:
        return Bundle.open(work, found.sha256, trusted)
    except BundleError as error:
        told = str(error).replace(f"{work}/", "").replace(str(work), str(address))
        raise type(error)(
            told, hint="mend or sign the bundle where it was made, and push it again; nothing was changed here"
        ) from error


def _check_room(work: Path, target: Path, found: Artefact, address: OciAddress) -> None:
    """Raises StorageError: the layer and what is in it do not fit."""
    needed, free = 2 * found.layer.size + _ROOM, shutil.disk_usage(work).free
    if free < needed:
        raise StorageError(
            f"no room for {address} beside {target}: {needed >> 20} MiB are needed to unpack it, {free >> 20} MiB are free",
            hint="free space or choose another -o",
        )


def _key(bundle: Bundle) -> str | None:
    return bundle.signed_by.fingerprint if bundle.signed_by is not None else None
