"""Which engine of a bundle `edgead run` takes when nobody says: the fastest on this machine, of lower precision only
where that wins time (:func:`edgead.engines.timing.fastest`).

Export chooses where it runs, which is seldom the box beside the camera; `edgead verify` chooses again there. ``--engine`` and
``engine:`` in a station.yaml stand above both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from edgead import machine
from edgead.bundle import Bundle, rewrite_manifest
from edgead.engines import open_engine
from edgead.engines.coarse import CoarseToFineEngine
from edgead.engines.timing import LatencyStats, fastest, in_bursts, wins_no_time
from edgead.manifest import Manifest
from edgead.measured import Choice
from edgead.types import Engine


def here() -> dict[str, Any]:
    """What a choice depends on: the CPU's name, its INT8 instructions and the cores that this process may use."""
    flags = machine.cpu_flags()
    return {"cpu": machine.cpu_model(), "cpu_flags": flags, "cores": machine.usable_cores()}


def told(stats: Mapping[str, LatencyStats]) -> Choice:
    """Where and by what the choice was made, for the manifest."""
    return Choice(here(), {name: round(found.min_ms, 3) for name, found in stats.items()})


def chosen_elsewhere(bundle: Bundle) -> bool:
    """Was the default engine chosen on a machine of another kind than this one?"""
    facts = bundle.manifest.measured.choice.machine or bundle.manifest.machine
    return any(facts.get(key) != value for key, value in here().items())


def no_gain(manifest: Manifest) -> list[str]:
    """Which engines of lower precision won no time where the choice was made, in words."""
    engines = {record.name: (record.backend, record.precision) for record in manifest.engines}
    return wins_no_time(manifest.measured.choice.least_ms or {}, engines)


def measure(bundle: Bundle, names: Sequence[str], threads: int | None) -> dict[str, LatencyStats]:
    """Time these engines on a golden frame.

    Raises:
        EdgeadError: one of them does not open or answer here.
    """
    image = bundle.golden().images[0]
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name in names:
            engine = open_engine(bundle, name, threads, unverified=True)
            stack.callback(engine.close)
            engines[name] = engine.slowest() if isinstance(engine, CoarseToFineEngine) else engine
        return in_bursts(engines, image)


def choose(bundle: Bundle, stats: Mapping[str, LatencyStats]) -> Bundle:
    """Write the fastest engine into the manifest as the default, with the times behind it.

    Raises:
        BundleError, StorageError: the bundle has changed meanwhile, or is not writable.
    """
    measured = dataclasses.replace(bundle.manifest.measured, choice=told(stats))
    precisions = {record.name: record.precision for record in bundle.manifest.engines}
    manifest = dataclasses.replace(bundle.manifest, default_engine=fastest(stats, precisions), measured=measured)
    return rewrite_manifest(bundle, manifest)
