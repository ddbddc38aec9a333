"""A bundle as an OCI artefact: its manifest, and its one layer, a tar of all its files.

    manifest     what the digest in ``oci://...@sha256:...`` is of; it names the layer by its digest, and the bundle by its own
    layer        USTAR, not compressed (weights and PNG would not get smaller): plain files only, by name, owner 0, time 0

The same bundle always makes the same bytes, so pushing it again changes nothing. Nothing of `tarfile`'s unpacking is used:
headers are read one by one, and whatever is not a plain file inside the folder is refused before it is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgead import disk
from edgead.bundle import MANIFEST, MAX_TOTAL_BYTES, Bundle
from edgead.errors import BadInput, BundleError
from edgead.signing import SIGNATURE
from edgead.typed import loads

ARTEFACT_TYPE = "application/vnd.edgead.bundle.v1"
LAYER_TYPE = "application/vnd.edgead.bundle.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"
"""The config blob: there is nothing to configure."""
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

MOST_MANIFEST_BYTES = 1 << 20
_MOST_FILES = 10_000
_BLOCK = 512
_ZERO = bytes(_BLOCK)
_SHA256, _SIGNED = "dev.edgead.bundle.sha256", "dev.edgead.bundle.signature"
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KINDS = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.DIRTYPE: "a folder", tarfile.FIFOTYPE: "a pipe",
          tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in a registry: ``sha256:...`` of them, and how many."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a manifest says.

    Attributes:
        digest: ``sha256:...`` of the manifest.
        sha256: of the bundle (of its manifest.json), hexadecimal.
        signature: SHA-256 of the bundle's signature; "" when it has none.
        layer: the bundle's files.
    """

    digest: str
    sha256: str
    signature: str
    layer: Blob


def digest_of(content: bytes) -> str:
    """``sha256:...`` of these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def signature_of(folder: Path) -> str:
    """SHA-256 of a bundle's signature; "" when it has none. Raises OSError."""
    file = folder / SIGNATURE
    return hashlib.sha256(disk.read_file(file, _BLOCK)).hexdigest() if file.is_file() else ""


def write_manifest(bundle: Bundle, layer: Blob) -> bytes:
    """The OCI manifest of a bundle whose files are in `layer`."""
    about = {_SHA256: bundle.digest, "org.opencontainers.image.title": bundle.manifest.name}
    if signature := signature_of(bundle.path):
        about[_SIGNED] = signature
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTEFACT_TYPE,
        "config": {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)},
        "layers": [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}],
        "annotations": about,
    }
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def read_manifest(content: bytes, where: str) -> Artefact:
    """What an OCI manifest says.

    Args:
        where: for messages.

    Raises:
        BundleError: it is not that of a bundle.
    """
    hint = "push the bundle with: edgead push BUNDLE oci://..."
    try:
        data: Any = loads(content, MOST_MANIFEST_BYTES)
        layers, about = data["layers"], data["annotations"]
        if data.get("artifactType") != ARTEFACT_TYPE or [layer["mediaType"] for layer in layers] != [LAYER_TYPE]:
            raise BundleError(f"{where} is something else, not a bundle of edgead", hint=hint)
        digest, size, sha256, signature = layers[0]["digest"], layers[0]["size"], about[_SHA256], about.get(_SIGNED, "")
        if not (_DIGEST.fullmatch(digest) and _HEX.fullmatch(sha256) and (not signature or _HEX.fullmatch(signature))):
            raise ValueError("a digest is none")
        if not (type(size) is int and 0 < size <= 2 * MAX_TOTAL_BYTES):
            raise ValueError(f"a layer of {size} bytes")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{where} is something else, not a bundle of edgead ({_short(error)})", hint=hint) from error
    return Artefact(digest_of(content), sha256, signature, Blob(digest, size))


def write_layer(bundle: Bundle, file: Path) -> Blob:
    """Write the layer of an opened bundle.

    Raises:
        BundleError: the bundle has changed since it was opened.
        BadInput: a name in it that a tar cannot hold.
        OSError: the disk is full or not writable.
    """
    content = disk.read_file(bundle.path / MANIFEST, MAX_TOTAL_BYTES)
    if hashlib.sha256(content).hexdigest() != bundle.digest:
        raise BundleError(f"{bundle.path / MANIFEST} has changed in the meantime", hint="do it again")
    with file.open("xb") as out:
        hashed = _Hashed(out)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            _add(tar, MANIFEST, io.BytesIO(content), len(content))
            for name in sorted([*bundle.manifest.files, *([SIGNATURE] if bundle.is_signed else [])]):
                with disk.open_file(bundle.path / name) as source:
                    _add(tar, name, source, os.fstat(source.fileno()).st_size)
    return Blob(f"sha256:{hashed.sha256.hexdigest()}", file.stat().st_size)


def _add(tar: tarfile.TarFile, name: str, source: Any, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    try:
        tar.addfile(entry, source)
    except ValueError as error:
        raise BadInput(f"{name[:200]!r} cannot be packed: {error}", hint="export the bundle again, with shorter names") from error


class _Hashed:
    """A file that is written to once, with the SHA-256 of what was written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.sha256 = out, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        return self._out.write(block)


def unpack(layer: Path, folder: Path, where: str) -> None:
    """Write the files of a layer into a folder; anything that is no plain file inside of it is refused, and so is a second of a
    name.

    Args:
        where: for messages.

    Raises:
        BundleError: it is cut, or holds what no bundle does.
        OSError: the disk is full or not writable.
    """
    total = count = 0
    with layer.open("rb") as tar:
        while (head := tar.read(_BLOCK)) != _ZERO:
            entry = _entry(head, where)
            count, total = count + 1, total + entry.size
            if count > _MOST_FILES or total > MAX_TOTAL_BYTES:
                raise _refused(where, "is larger than a bundle can be")
            _write(tar, entry, folder, where)


def _entry(head: bytes, where: str) -> tarfile.TarInfo:
    try:
        if len(head) != _BLOCK:
            raise ValueError("it is cut")
        entry = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise _refused(where, f"is no tar ({_short(error)})") from error
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _refused(where, f"holds {entry.name[:200]!r}, which is {_KINDS.get(entry.type, 'no plain file')}")
    parts = entry.name.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or re.search(r"[\\:\x00-\x1f]", entry.name):
        raise _refused(where, f"holds {entry.name[:200]!r}, a path that leads elsewhere")
    if entry.size < 0:
        raise _refused(where, "is no tar (a size below 0)")
    return entry


def _write(tar: BinaryIO, entry: tarfile.TarInfo, folder: Path, where: str) -> None:
    target = folder / entry.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(where, f"holds {entry.name[:200]!r} twice, or a file where a folder is") from error
    with file:
        left = entry.size
        while left:
            block = tar.read(min(left, 1 << 20))
            if not block:
                raise _refused(where, "is no tar (it is cut)")
            file.write(block)
            left -= len(block)
    tar.seek(-entry.size % _BLOCK, os.SEEK_CUR)
    _readable(target, folder)


def _readable(target: Path, folder: Path) -> None:
    """Whoever pulled it, and with whatever umask: the service reads it by another account."""
    target.chmod(0o644)
    for above in target.relative_to(folder).parents:
        (folder / above).chmod(0o755)


def _refused(where: str, what: str) -> BundleError:
    return BundleError(
        f"the layer of {where} {what}", hint="push the bundle again; whoever put this there did not use edgead push"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
