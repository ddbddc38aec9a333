"""What MQTT and webhooks carry: a part's record as JSON, with a version and a schema (deploy/plc/inspection.schema.json)."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from edgead.runtime.records.record import to_record
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.redact import redact_all
from edgead.types import Inspection

FORMAT: Literal["edgead.inspection/1"] = "edgead.inspection/1"
"""The number changes when a key goes or changes its meaning; new keys may come without."""


class Payload(BaseModel):
    """One part's verdict, as edgead tells it."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class Times(Payload):
    """Milliseconds of each stage; total runs from the trigger (free-running: the frame) to the verdict."""

    wait_ms: float
    resize_ms: float
    inference_ms: float
    decision_ms: float
    total_ms: float


class View(Payload):
    """One of several frames of a part."""

    camera: str | None
    frame_id: int | None
    verdict: Literal["OK", "NG", "UNKNOWN"]
    cause: str
    score: float | None
    total_ms: float


class InspectionPayload(Payload):
    """One part's verdict, as edgead tells it. `station` and `part_id` together name the part."""

    format: Literal["edgead.inspection/1"]
    """The version of this schema."""
    station: str
    """Name of the camera in station.yaml."""
    part_id: int
    """The station's own number, counted up from 1 and across restarts where records are kept."""
    time: str
    """Of the verdict, ISO 8601, UTC."""
    captured_ns: int | None
    """The box's monotonic clock when the frame, else the trigger, came."""
    trigger_id: int | None
    trigger_source: str
    line_part_id: int | None
    """The line's own number of the part (the PLC's part_id)."""
    camera: str | None
    frame_id: int | None
    source: str
    verdict: Literal["OK", "NG", "UNKNOWN"]
    """Only OK is a pass."""
    cause: str
    """Why the verdict is UNKNOWN, else empty."""
    score: float | None
    """Raw model units, larger is more anomalous; null when there is none."""
    threshold: float | None
    times: Times
    engine: str
    views: list[View]
    bundle: str = ""
    """SHA-256 of the bundle's manifest; empty when there is none."""
    statistic: float | None = None
    """What the rule compares, by score; null by area."""


def encode(inspection: Inspection, station: str) -> bytes:
    """The inspection as JSON in UTF-8, without secrets of addresses; the time is now."""
    record = to_record(inspection, time_utc=utc_now(), engine=inspection.engine)
    for key in ("rule", "basis", "level", "levels"):  # what the box's own records are replayed by
        del record[key]
    message = redact_all({"format": FORMAT, "station": station, **record})
    return json.dumps(message, allow_nan=False).encode()


def schema() -> dict[str, Any]:
    """The JSON schema, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **InspectionPayload.model_json_schema()}
