"""`edgead export --on-device`: TensorRT engines built from a bundle's own graphs. Needs neither torch nor onnx."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import console, told_progress
from edgead.cli._json import print_json
from edgead.engines.verify import Verification

if TYPE_CHECKING:
    from edgead.export.tensorrt import BuildOptions


@dataclass(frozen=True, slots=True)
class Built:
    """One engine.

    Attributes:
        name: of it.
        rebuilt: it was built here; otherwise it matches this GPU and version, and is as it was.
        verification: what a rebuilt one answers here; null where nothing was measured.
    """

    name: str
    rebuilt: bool
    verification: Verification | None


@dataclass(frozen=True, slots=True)
class OnDevice:
    """The bundle with engines for this device.

    Attributes:
        bundle: its folder.
        sha256: of it now.
        unsigned: it was signed, and is not any more.
        engines: those that were looked at.
    """

    bundle: str
    sha256: str
    unsigned: bool
    engines: tuple[Built, ...]


def on_device(path: Path, backend: str | None, precisions: tuple[str, ...], options: BuildOptions, as_json: bool) -> int:
    """Build, verify and tell."""
    from edgead.bundle import Bundle
    from edgead.cli.verify import show as show_verified
    from edgead.export.on_device import build_on_device

    was_signed = Bundle.open(path).is_signed
    with told_progress() as progress:
        outcomes = build_on_device(path, backend, precisions, options, progress)
    bundle = Bundle.open(path)
    unsigned = was_signed and any(outcome.rebuilt for outcome in outcomes)
    if as_json:
        built = tuple(Built(outcome.name, outcome.rebuilt, outcome.verification) for outcome in outcomes)
        print_json("export", OnDevice(str(path), bundle.digest, unsigned, built), action="on-device")
        return 0
    if unsigned:
        console().print("the bundle is not signed any more: edgead sign it again", markup=False)
    for outcome in outcomes:
        told = "built on this device" if outcome.rebuilt else "matches this GPU and version, left as it is"
        console().print(f"{outcome.name}: {told}", markup=False)
    if verified := [outcome.verification for outcome in outcomes if outcome.verification is not None]:
        show_verified(verified)
    console().print(f"the bundle's sha256 is {bundle.digest}", markup=False)
    unmeasured = [outcome.name for outcome in outcomes if bundle.manifest.engine(outcome.name).parity is None]
    verb = f"verify {path}" if unmeasured else f"run {path} --engine {outcomes[0].name} --camera 0"
    console().print(f"next: edgead {verb}", markup=False)
    return 0
