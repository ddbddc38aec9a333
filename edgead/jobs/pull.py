"""Bundles come from a registry, to a folder or for a station file; proved on this device first where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle
from edgead.errors import BadInput, ParityFailed
from edgead.jobs.progress import Progress, silent
from edgead.oci import kept
from edgead.oci.address import OciAddress
from edgead.oci.transfer import Pulled, pull
from edgead.runtime.products.applied import ask
from edgead.signing import read_trusted


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to bring here.

    Attributes:
        address: of the bundle.
        target: its folder; None: where station files look for it (:mod:`edgead.oci.kept`).
        trusted: files of public keys, one of which must have signed it; empty: no signature is asked for.
        verify: it is proved on this device before it takes its place.
        plain_http: without encryption.
        apply: stations that run the bundle of this folder take the new one between two parts.
    """

    address: OciAddress
    target: Path | None = None
    trusted: tuple[Path, ...] = ()
    verify: bool = False
    plain_http: bool = False
    apply: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """What was pulled.

    Attributes:
        bundles: each of them.
    """

    bundles: tuple[Pulled, ...]


def bring(request: PullRequest, progress: Progress = silent) -> Pulled:
    """Pull one bundle; see :func:`edgead.oci.transfer.pull`. One that is here for a station file is not asked for again: its
    address says by a digest what it must be, so that needs no network.

    Raises:
        ParityFailed: `verify`, and it does not answer on this device as the trained model did.
        EdgeadError: as :func:`edgead.oci.transfer.pull`.
    """
    trusted, target = read_trusted(request.trusted), request.target
    if target is None and (there := kept.there(request.address, trusted)) is not None:
        if request.verify:
            prove(there)
        key = there.signed_by.fingerprint if there.signed_by is not None else None
        pinned = request.address.at(request.address.digest)
        return Pulled(there.path, str(request.address), str(pinned), there.digest, key, changed=False)
    place = kept.place(request.address) if target is None else target
    done = pull(
        request.address,
        place,
        trusted=trusted,
        plain_http=request.plain_http,
        check=prove if request.verify else lambda _: None,
        note=lambda manifest: kept.note(place, manifest) if target is None else None,
        report=lambda there, total: progress(f"pulling {request.address.name}", there / total),
    )
    if request.apply:
        ask(place, done.sha256, whole=True)
    return done


def of_station(file: Path) -> tuple[tuple[OciAddress, ...], tuple[Path, ...]]:
    """Addresses of the bundles that a station file names, each once, and its trusted keys.

    Raises:
        BadInput: the file is wrong, or names none by address.
    """
    from edgead.config.reading import read_station

    config = read_station(file)
    paths = [path for camera in config.cameras for path in camera.all_bundles]
    found = tuple(dict.fromkeys(address for path in paths if (address := kept.address_of(path)) is not None))
    if not found:
        raise BadInput(
            f"{file} names no bundle as oci://...@sha256:...", hint="edgead pull ADDRESS -o DIR brings one to a folder"
        )
    return found, config.trusted


def bring_all(requests: Sequence[PullRequest], progress: Progress = silent) -> Brought:
    """Pull several; the first that fails ends it, and those before are there. Raises EdgeadError."""
    return Brought(tuple(bring(request, progress) for request in requests))


def prove(bundle: Bundle) -> None:
    """Ask all engines of a bundle that open here about all golden frames, as `edgead verify` does; nothing is noted in it.

    Raises:
        ParityFailed: one does not answer as the trained model did, or its rule can say no NG.
        MissingExtra, EngineError: nothing opens here.
    """
    from edgead.jobs.verify import ask_engines

    results, _ = ask_engines(bundle, bundle.manifest.engines)
    hint = "what was here before stays; export it for this device, or pull without --verify and look at: edgead verify"
    for found in results:
        if not found.passed:
            raise ParityFailed(f"{found.name} of the pulled bundle does not answer here as the trained model did", hint=hint)
        if found.reach is not None and found.reach.fault:
            raise ParityFailed(f"{found.name} of the pulled bundle: {found.reach.fault}", hint=hint)
