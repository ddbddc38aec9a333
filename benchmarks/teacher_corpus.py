"""Collect the pictures from which the packaged PDN teacher was distilled: textures, photographs and drawings of Debian packages.

    python -m benchmarks.teacher_corpus corpus        # fetches some 1.5 GB; needs apt-get and dpkg
    edgead distill corpus -o teacher.safetensors --sources corpus/sources.json

Writes one .jpg for each picture (longest side 1,024 px at most, named by package and content), the packages' copyright files, and
sources.json with the version of every package. The same packages and the same OpenCV give the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from edgead.errors import BadInput, EdgeadError
from edgead.types import Image

PACKAGES = (
    "gcompris-qt-data", "gnome-backgrounds", "hugin-data", "lomiri-wallpapers-20.04", "mate-backgrounds", "nexuiz-textures",
    "plasma-workspace-wallpapers", "torcs-data", "tuxpaint-stamps-default", "ufoai-textures",
)  # fmt: skip
"""GPL, CC BY-SA, CC0 or public domain; each package's copyright file tells for every file."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".tga", ".webp")
NO_PICTURES = ("norm", "_nm", "bump", "_gloss", "_glow")
"""Parts of the names of normal, bump, gloss and glow maps: numbers for a renderer, nothing that a camera sees."""

LONGEST_PX = 1024
SHORTEST_PX = 128
FLAT = 4.0
"""Pictures with a smaller standard deviation (grey levels) show nothing."""

QUALITY = 92


def fetch(packages: Sequence[str], folder: Path) -> dict[str, Path]:
    """Package -> its .deb in `folder`, fetched with apt-get unless it is there.

    Raises:
        BadInput: apt-get is missing or does not know a package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not _deb(package, folder)]
    if missing:
        _call(["apt-get", "download", *missing], folder)
    found = {package: _deb(package, folder) for package in packages}
    return {package: deb for package, deb in found.items() if deb is not None}


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a package and the game archives (.pk3 are zip files) in it."""
    _call(["dpkg", "-x", str(deb.resolve()), str(folder)], folder)
    for archive in sorted(folder.rglob("*.pk3")):
        with zipfile.ZipFile(archive) as content:
            content.extractall(archive.with_suffix(""))


def pictures(folder: Path) -> Iterator[Image]:
    """The usable pictures below a folder: H x W x 3 uint8 BGR, longest side at most 1,024 px."""
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            lower = name.lower()
            if not lower.endswith(SUFFIXES) or any(part in lower for part in NO_PICTURES):
                continue
            image = cv2.imread(str(Path(place) / name), cv2.IMREAD_COLOR)
            if image is None or min(image.shape[:2]) < SHORTEST_PX:
                continue
            scale = LONGEST_PX / max(image.shape[:2])
            if scale < 1:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if image.std() >= FLAT:
                yield image  # type: ignore[misc]


def collect(packages: Sequence[str], target: Path, debs: Path) -> list[dict[str, Any]]:
    """Write the pictures of all packages; returns what sources.json holds."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "licences").mkdir(exist_ok=True)
    seen: set[str] = set()
    sources = []
    for package, deb in sorted(fetch(packages, debs).items()):
        count = 0
        with tempfile.TemporaryDirectory(dir=debs) as work:
            unpack(deb, Path(work))
            for image in pictures(Path(work)):
                digest = hashlib.sha1(image.tobytes(), usedforsecurity=False).hexdigest()
                if digest in seen:
                    continue
                seen.add(digest)
                count += 1
                cv2.imwrite(str(target / f"{package}-{digest[:12]}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            licence = f"licences/{package}.copyright"
            shutil.copyfile(Path(work) / f"usr/share/doc/{package}/copyright", target / licence)
        version = _call(["dpkg-deb", "-f", str(deb), "Version"], debs).strip()
        sources.append({"package": package, "version": version, "licence_file": licence, "pictures": count})
        print(f"{package} {version}: {count} pictures", flush=True)
    return sources


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="folder for the pictures")
    parser.add_argument("--debs", type=Path, help="folder with the .deb files, fetched where missing (default: TARGET.debs)")
    parser.add_argument("--packages", default=",".join(PACKAGES), help="of these packages only")
    args = parser.parse_args(argv)
    try:
        debs = args.debs or args.target.with_name(args.target.name + ".debs")
        sources = collect(args.packages.split(","), args.target, debs.resolve())
    except EdgeadError as error:
        print(f"{error}\n  -> {error.hint}", file=sys.stderr)
        return error.exit_code
    (args.target / "sources.json").write_text(json.dumps(sources, indent=1) + "\n", "utf-8")
    print(f"{sum(source['pictures'] for source in sources)} pictures in {args.target}")
    return 0


def _deb(package: str, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{package}_*.deb"))), None)


def _call(command: list[str], folder: Path) -> str:
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise BadInput(f"{command[0]} is not on this machine", hint="run this on Debian or Ubuntu") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"{' '.join(command[:3])} failed: {reason}", hint="apt-get update, or give --packages") from error


if __name__ == "__main__":
    sys.exit(main())
