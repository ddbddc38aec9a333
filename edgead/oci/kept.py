"""Pulled bundles that station files name by ``oci://...@sha256:...``: a folder for each digest, so that a start needs no network.

    $EDGEAD_BUNDLES/registry%3A5000%2Fline%2Fbolt@sha256-HEX/manifest.json     HEX is of this; it names the bundle's own
    $EDGEAD_BUNDLES/registry%3A5000%2Fline%2Fbolt@sha256-HEX/bolt.edgead/      the bundle

`edgead pull` puts them there. Needs no package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from edgead import disk
from edgead.bundle import Bundle, storage_errors
from edgead.errors import BadInput, BundleError, BundleMismatch
from edgead.oci.address import SCHEME, OciAddress
from edgead.oci.artefact import MOST_MANIFEST_BYTES, Artefact, digest_of, read_manifest, signature_of
from edgead.signing import TrustedKey

BUNDLES = "EDGEAD_BUNDLES"
_MANIFEST = "manifest.json"
_FOLDER = re.compile(r"([^/@]+)@sha256-([0-9a-f]{64})")


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where they are kept: in $EDGEAD_BUNDLES, $STATE_DIRECTORY/bundles (systemd), $XDG_DATA_HOME/edgead/bundles or
    ~/.local/share/edgead/bundles.

    Raises:
        BadInput: there is no home.
    """
    try:
        if own := environ.get(BUNDLES, ""):
            return Path(own).expanduser().absolute()
        if given := environ.get("STATE_DIRECTORY", ""):
            return Path(given.partition(":")[0]).absolute() / "bundles"
        if given := environ.get("XDG_DATA_HOME", ""):
            return Path(given).absolute() / "edgead/bundles"
        return Path.home() / ".local/share/edgead/bundles"
    except RuntimeError as error:
        raise BadInput("there is no home folder to keep bundles in", hint=f"set {BUNDLES} to a folder") from error


def place(address: OciAddress) -> Path:
    """Where the bundle of an address lies, or will lie.

    Raises:
        BadInput: the address has no digest: what it leads to may be another bundle tomorrow.
    """
    if not address.digest:
        raise BadInput(
            f"{address} has no digest, and a tag may lead to another bundle tomorrow",
            hint="write oci://...@sha256:... as edgead push and edgead pull print it",
        )
    where = quote(f"{address.registry}/{address.repository}", safe="")
    return folder() / f"{where}@{address.digest.replace(':', '-')}" / f"{address.name}.edgead"


def address_of(path: Path) -> OciAddress | None:
    """Whose place this is; None for all other paths."""
    found = _FOLDER.fullmatch(path.parent.name)
    if found is None:
        return None
    try:
        return OciAddress.parse(f"{SCHEME}{unquote(found[1])}@sha256:{found[2]}")
    except BadInput:
        return None


def note(path: Path, manifest: bytes) -> None:
    """Keep the manifest by which the bundle in a place of :func:`place` is known.

    Raises:
        StorageError: the disk is full or not writable.
    """
    file = path.parent / _MANIFEST
    with storage_errors(file, hint=f"free space, or set {BUNDLES} to a folder that can be written"):
        disk.write_file(file, manifest)


def pin(path: Path, sha256: str | None) -> str | None:
    """The digest that the bundle at `path` must have, where it came by its address; of any other path `sha256` as it is.

    Raises:
        BundleError: it is not here, or what was kept with it is damaged.
        BundleMismatch: `sha256` is of another bundle.
    """
    address = address_of(path)
    if address is None:
        return sha256
    found = _manifest(path, address).sha256
    if sha256 is not None and sha256.lower() != found:
        raise BundleMismatch(f"{address} is the bundle {found}, and sha256 asks for {sha256.lower()}", hint="leave sha256 out")
    return found


def there(address: OciAddress, trusted: Sequence[TrustedKey]) -> Bundle | None:
    """The bundle of an address, when it is here, whole and signed as it must be.

    Raises:
        BadInput: as :func:`place`.
    """
    path = place(address)
    try:
        found = _manifest(path, address)
        bundle = Bundle.open(path, found.sha256, trusted)
        return bundle if signature_of(path) == found.signature else None
    except (BundleError, OSError):
        return None


def _manifest(path: Path, address: OciAddress) -> Artefact:
    """What was kept beside the bundle. Raises BundleError."""
    file, again = path.parent / _MANIFEST, f"edgead pull {address}"
    try:
        if not path.exists():
            raise FileNotFoundError
        content = disk.read_file(file, MOST_MANIFEST_BYTES)
    except FileNotFoundError as error:
        where = path.parent.parent
        raise BundleError(f"{address} is not on this machine (looked for in {where})", hint=f"bring it here: {again}") from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}", hint="check its permissions") from error
    if digest_of(content) != address.digest:
        raise BundleError(f"{file} is damaged: it is not what its digest says", hint=again)
    return read_manifest(content, str(file))
