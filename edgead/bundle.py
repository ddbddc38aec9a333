"""The artefact that goes to the line: a folder ``name.edgead`` with manifest, models, built engines and golden frames.

    manifest.json        what it is, how it was made, what was measured, and the SHA-256 of every file (:mod:`edgead.manifest`)
    manifest.json.sig    who vouches for all that, where somebody signed it (:mod:`edgead.signing`)
    model.onnx           float reference graph
    model.int8.onnx      explicit Q/DQ graph
    openvino/...         built engines
    golden/...           real frames and the trained model's answers on them (:mod:`edgead.golden`)
    trained-on.txt       digests of the pictures that the model was trained on

There is no pickle in it. It is written beside its place, flushed to the disk and exchanged with the old one in one step (Linux;
elsewhere in two, and the next opening mends what a crash left between them), so a crash or a full disk leaves the old one or the
new one, whole. The manifest alone is rewritten in the same way when the line's thresholds change.

Opening checks every listed file, and that nothing else lies there. The SHA-256 of manifest.json is the digest of the whole
bundle: it can be pinned (``sha256:`` in a station.yaml) or signed. What that means is told in docs/security.md.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgead import disk, golden, signing, versions
from edgead.errors import BadInput, BundleError, BundleMismatch, StorageError
from edgead.golden import Golden as Golden
from edgead.golden import write_golden as write_golden
from edgead.manifest import ON_THE_LINE as ON_THE_LINE
from edgead.manifest import Chosen as Chosen
from edgead.manifest import EngineRecord as EngineRecord
from edgead.manifest import Manifest as Manifest
from edgead.manifest import Threshold as Threshold
from edgead.signing import TrustedKey
from edgead.typed import MAX_BYTES
from edgead.types import Image

_log = logging.getLogger(__name__)

TRAINED_ON = "trained-on.txt"
"""One line for each picture that the model was trained on: its :func:`edgead.preprocess.frame_digest`. Absent when not known."""

MANIFEST = "manifest.json"
MAX_TOTAL_BYTES = 16 << 30
"""Of a bundle's files together: a sparse file of any size costs nothing to make."""
_MAX_FOLDERS = 1000
_LEFT_BY_A_CRASH = re.compile(
    r"\.manifest\.json\.[^/]+"  # of replacing the manifest
    r"|tensorrt(-rtx)?/[a-z0-9]+-[0-9a-f]{8}\.[a-z.]+"  # of building an engine on the device
)
"""Files that edgead itself may leave behind when it is killed; nothing listed refers to them."""


class Bundle:
    """An opened bundle.

    Attributes:
        path: the folder.
        manifest: what it says of itself.
        digest: SHA-256 of manifest.json, and with it of the whole bundle; "" when it was not opened but put together.
        signed_by: the trusted key that signed it; None when nobody asked for one.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str = "", signed_by: TrustedKey | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.signed_by = signed_by
        self._golden: Golden | None = None

    @classmethod
    def open(cls, path: Path, sha256: str | None = None, trusted: Sequence[TrustedKey] = ()) -> Bundle:
        """Open a bundle and check the digest of every file.

        Args:
            sha256: the digest that it must have; None: any.
            trusted: it must be signed by one of these keys; empty: it need not be signed.

        Raises:
            BundleError: no bundle, damaged, incomplete, more than it says, not signed; the message names the file.
            BundleMismatch: written by another schema, or not the one that `sha256` names.
        """
        disk.mend(path)
        file = path / MANIFEST
        if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(path)):
            raise BundleError(f"{file} is a link that leads out of the bundle", hint="copy the bundle with its files")
        content = _manifest_bytes(file)
        digest = hashlib.sha256(content).hexdigest()
        if sha256 is not None and digest != sha256.lower():
            raise BundleMismatch(
                f"{path} is not the bundle that is wanted: its sha256 is {digest}, expected {sha256.lower()[:64]}",
                hint="put the right bundle there, or write the new digest where the old one stands (edgead inspect shows it)",
            )
        signed_by = signing.check(content, path, trusted) if trusted else None
        bundle = cls(path, Manifest.parse(content, str(file)), digest, signed_by)
        bundle._check_files()
        bundle._check_nothing_else()
        return bundle

    @property
    def is_signed(self) -> bool:
        """Does a signature lie in it, whoever made it?"""
        return (self.path / signing.SIGNATURE).is_file()

    def golden(self) -> Golden:
        """The golden frames with the reference answers, decoded once.

        Raises:
            BundleError: they cannot be read, or there are none.
        """
        if self._golden is None:
            self._golden = self._read_golden()
        return self._golden

    def _read_golden(self) -> Golden:
        manifest = self.manifest
        try:
            if not manifest.golden:
                raise BadInput("there are none")
            images = golden.read_frames(self.path, manifest.golden, manifest.preprocess.width, manifest.preprocess.height)
            reference = golden.read_reference(self.path, manifest.golden, manifest.map_size or (1, 1))
        except BadInput as error:
            raise BundleError(f"the golden frames of {self.path} cannot be read: {error}", hint="export it again") from error
        return Golden(images, reference, manifest.golden_kinds)

    def camera_golden(self, index: int) -> Image:
        """One of the golden frames of `manifest.golden_camera` as the camera gave it, H x W x 3 uint8 BGR.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            return golden.read_camera(self.path, index)
        except BadInput as error:
            raise BundleError(f"the golden frames of {self.path} cannot be read: {error}", hint="export it again") from error

    def trained_on(self) -> frozenset[str]:
        """Digests of the pictures that the model was trained on; empty when they are not known."""
        if TRAINED_ON not in self.manifest.files:
            return frozenset()
        return frozenset((self.path / TRAINED_ON).read_text("utf-8").split())

    def _check_files(self) -> None:
        root = os.path.realpath(self.path)
        total = 0
        for name, wanted in self.manifest.files.items():
            file = self.path / name
            if not Path(os.path.realpath(file)).is_relative_to(root):
                raise BundleError(
                    f"{self.path} is not whole: {name} is a link that leads out of it", hint="copy the bundle with its files"
                )
            try:
                total += file.stat().st_size
                if total > MAX_TOTAL_BYTES:
                    raise BundleError(f"{self.path} is larger than {MAX_TOTAL_BYTES >> 30} GiB", hint="export it again")
                found = file_digest(file)
            except (OSError, ValueError) as error:
                reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({_reason(error)})"
                raise BundleError(f"{self.path} is incomplete: {name} {reason}", hint="copy or export it again") from error
            if found != wanted:
                raise BundleError(f"{self.path} is damaged: {name} has changed", hint="copy or export it again")
        for record in self.manifest.engines:
            if record.file not in self.manifest.files:
                raise BundleError(f"{self.path}: engine {record.name} has no file {record.file}", hint="export it again")

    def _check_nothing_else(self) -> None:
        """A file that nobody listed may be one that a listed one reads: weights beside a graph."""
        known = {*self.manifest.files, MANIFEST, signing.SIGNATURE}
        folders, seen = [""], 0
        while folders:
            folder = folders.pop()
            seen += 1
            with os.scandir(self.path / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False) and seen + len(folders) < _MAX_FOLDERS:
                        folders.append(f"{name}/")
                    elif name not in known and not (_LEFT_BY_A_CRASH.fullmatch(name) and entry.is_file(follow_symlinks=False)):
                        raise BundleError(
                            f"{self.path} holds {name[:200]!r}, which its manifest does not list",
                            hint="remove it if it is yours (notes belong beside a bundle, not in it), else copy the bundle again",
                        )


def _manifest_bytes(file: Path) -> bytes:
    try:
        return disk.read_file(file, MAX_BYTES)
    except FileNotFoundError as error:
        found = "it has no manifest.json" if file.parent.is_dir() else "it does not exist"
        raise BundleError(f"{file.parent} is not a bundle: {found}", hint=_others(file.parent)) from error
    except NotADirectoryError as error:
        raise BundleError(f"{file.parent} is not a bundle: it is a file", hint="give the folder NAME.edgead") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read: {_reason(error)}", hint="copy or export the bundle again") from error


def _others(path: Path) -> str:
    """What may have been meant by a path at which there is no bundle."""
    try:
        near = sorted(found.name for found in path.parent.glob("*.edgead") if found != path)
    except OSError:
        near = []
    there = f"there is {', '.join(near[:3])}{', ...' if len(near) > 3 else ''} beside it; or " if near else ""
    return f"{there}make one with: edgead export MODEL_DIR"


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def check_target(target: Path, marker: str = "manifest.json", kind: str = "a bundle") -> None:
    """Can a bundle or a trained model be written there? To be asked before the work, not after it.

    Raises:
        BadInput: something else is there already.
        StorageError: the folder that it would lie in is none, or not writable.
    """
    if target.exists() and not (target / marker).is_file():
        raise BadInput(f"{target} exists and is not {kind}", hint="choose another -o, or remove it yourself")
    with storage_errors(target):
        above = _existing(target.parent)
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file", str(above))
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{above} is not writable", str(above))


@contextmanager
def new_bundle(target: Path, marker: str = "manifest.json", kind: str = "a bundle") -> Iterator[Path]:
    """A folder to fill with files and :func:`write_manifest`; on success it takes the place of `target`, else it vanishes.

    What `target` held is kept (:mod:`edgead.versions`). Trained models are written in the same way, with `marker`
    ``"model.json"``.

    Raises:
        BadInput: `target` exists and is not one of its `kind`: it lacks the file `marker`.
        StorageError: the disk is full or not writable.
    """
    disk.mend(target)
    check_target(target, marker, kind)
    with storage_errors(target), disk.work_folder(target) as work:
        yield work
        work.chmod(0o755)
        disk.exchange_folders(work, target, versions.place_for(target) if target.exists() else None)
        for gone in versions.trim(target):
            _log.warning("removed %s: the newest %d former versions are kept", gone, versions.KEPT)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Digest every file in `folder` and write manifest.json last.

    Raises:
        BundleError: something in the manifest is not what it must be.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    complete = dataclasses.replace(manifest, files={p.relative_to(folder).as_posix(): file_digest(p) for p in files})
    (folder / MANIFEST).write_text(complete.to_text(), "utf-8")
    return complete


def rewrite_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Replace the manifest of a bundle on disk, and nothing else, in one step: a crash leaves the old one or the new one. A
    signature was of the old one, and goes.

    Raises:
        BundleError: somebody else has changed it since `bundle` was opened.
        StorageError: the disk is full or not writable; the old manifest stays.
    """
    file, text = bundle.path / MANIFEST, manifest.to_text()
    if hashlib.sha256(_manifest_bytes(file)).hexdigest() != bundle.digest:
        raise BundleError(f"{file} has changed in the meantime", hint="do it again")
    with storage_errors(file, hint="free space, or make the bundle's folder writable"):
        disk.replace_file(file, text)
        (bundle.path / signing.SIGNATURE).unlink(missing_ok=True)
    return Bundle(bundle.path, manifest, hashlib.sha256(text.encode()).hexdigest())


def sign_bundle(bundle: Bundle, key_file: Path, password: Callable[[], str]) -> TrustedKey:
    """Sign an opened bundle (see :func:`edgead.signing.sign`); the key's public half.

    Raises:
        BadInput: the key cannot be used.
        BundleError: somebody has changed the manifest since the bundle was opened.
        StorageError: the bundle is not writable.
    """
    content = _manifest_bytes(bundle.path / MANIFEST)
    if hashlib.sha256(content).hexdigest() != bundle.digest:
        raise BundleError(f"{bundle.path / MANIFEST} has changed in the meantime", hint="do it again")
    return signing.sign(bundle.path, content, key_file, password)


@contextmanager
def storage_errors(target: Path, hint: str = "free space or choose another -o") -> Iterator[None]:
    """Turn what the file system says into one clear line."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(_existing(target)).free // 2**20
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise StorageError(f"cannot write {target}: {reason} ({free} MiB free)", hint=hint) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file, hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with disk.open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
