"""Is a station.yaml right, with the bundles that it names? No camera is opened, no PLC asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """A bundle that a camera of the file has.

    Attributes:
        camera: its name.
        bundle: its folder.
        engine: that would answer.
        threshold: of the engine, raw model units.
    """

    camera: str
    bundle: Path
    engine: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that is right.

    Attributes:
        file: the station.yaml.
        cameras: names of its cameras.
        bundles: those that they have, with fallbacks and shadows.
        warnings: what should be looked at.
    """

    file: Path
    cameras: tuple[str, ...]
    bundles: tuple[CheckedBundle, ...]
    warnings: tuple[str, ...]


def check_file(file: Path) -> Checked:
    """Look at a station.yaml and its bundles.

    Raises:
        EdgeadError: what is wrong first.
    """
    from edgead.bundle import Bundle
    from edgead.config.reading import read_station
    from edgead.decision import Rule
    from edgead.engines import check_device
    from edgead.engines.proof import check_reach
    from edgead.errors import BadInput, MissingExtra
    from edgead.line.links import check_addresses
    from edgead.oci import kept
    from edgead.runtime.cameras import check_address
    from edgead.signing import read_trusted

    config = read_station(file)
    check_addresses(config)
    trusted = read_trusted(config.trusted)
    warnings: list[str] = []
    bundles: list[CheckedBundle] = []
    for camera in config.cameras:
        try:
            check_address(camera.address)
        except (BadInput, MissingExtra) as error:  # it may be right on the box
            warnings.append(f"camera {camera.name}: {error}; here `edgead run` would end at once")
        wanted = [(path, camera.engine, sha256) for path, sha256 in camera.bundles]
        fallback = (camera.fallback_bundle, camera.fallback_engine, camera.fallback_sha256)
        for path, engine, sha256 in (*wanted, fallback):
            if path is not None:
                bundle = Bundle.open(path, kept.pin(path, sha256), trusted)
                record = bundle.manifest.engine(engine)
                check_device(record)
                rule = record.threshold.rule if camera.threshold is None else Rule(camera.threshold)
                check_reach(bundle, record, rule, bundle.golden(), warnings.append)
                bundles.append(CheckedBundle(camera.name, path, record.name, record.threshold.value))
        if (shadow := camera.shadow) is not None:
            bundle = Bundle.open(shadow.bundle, kept.pin(shadow.bundle, shadow.sha256), trusted)
            record = bundle.manifest.engine(shadow.engine)
            check_device(record)
            bundles.append(CheckedBundle(camera.name, shadow.bundle, record.name, record.threshold.value))
    return Checked(file, tuple(camera.name for camera in config.cameras), tuple(bundles), tuple(warnings))
