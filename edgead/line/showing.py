"""What a station tells the dashboard of each camera and part: which bundle judges by which rule, and how full the disk is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.config.camera import CameraConfig
    from edgead.config.station import Storage
    from edgead.line.workshop import Cell, Lane
    from edgead.runtime.records.store import RecordStore
    from edgead.runtime.supervision.live import Watched


def watched_lane(lane: Lane, camera: CameraConfig, storage: Storage | None) -> Watched:
    """A camera, of whose verdicts the dashboard is told from now on."""
    from edgead.line.products import wanted_bundle
    from edgead.runtime.supervision.live import Watched

    def facts() -> dict[str, Any]:
        from edgead.decision import Rule

        assert lane.recipes is not None  # every lane has a book, if only for its threshold
        product = lane.recipes.product
        rule = Rule.of(product.main.rule)
        return {
            "bundle": wanted_bundle(camera, product.number)[0].name,
            "digest": product.main.bundle,
            "engine": product.main.name,
            "recipe": product.number or None,
            "rule": rule.describe(),
            "threshold": rule.level,
            "statistic": rule.by,
            "budget_ms": camera.budget_ms,
        }

    found = Watched(lane.name, lane.station, facts, lambda: _disk(storage, lane.store), lane.looks)
    lane.station.on_inspection(found.see, capacity=4)
    return found


def watched_cell(cell: Cell, storage: Storage | None) -> Watched:
    """A part that several cameras look at."""
    from edgead.runtime.supervision.live import Watched

    found = Watched(cell.name, cell.views, lambda: {"budget_ms": cell.budget_ms}, lambda: _disk(storage, cell.store))
    cell.views.on_inspection(found.see, capacity=4)
    return found


def _disk(storage: Storage | None, store: RecordStore | None) -> dict[str, Any]:
    if storage is None or store is None:
        return {}
    try:
        found = os.statvfs(storage.folder)
        free_mb: float | None = round(found.f_bavail * found.f_frsize / 1e6)
    except OSError:
        free_mb = None
    return {"free_mb": free_mb, "records_waiting": store.waiting, "records_lost": store.lost}
