"""Values that cross room borders: frozen, slotted, NumPy and the standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""H x W x 3, uint8, BGR as the camera gives it."""

AnomalyMap = npt.NDArray[np.float32]
"""h x w, float32, raw model units (larger is more anomalous). It covers the whole inspected picture, at the model's input size or
at the network's own, smaller resolution; 1 x 1 is no map: one cell that holds the score."""


class Verdict(str, Enum):
    """What the line is told about a part. OK is the only asserted signal; everything that goes wrong is UNKNOWN."""

    OK = "OK"
    NG = "NG"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One engine input or output.

    Attributes:
        name: of it.
        shape: its dimensions.
        dtype: of its numbers, as NumPy names it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the line.

    Attributes:
        image: H x W x 3 uint8 BGR, read-only.
        camera: the camera's name or address.
        frame_id: counts up from 0 for each camera; gaps are dropped frames.
        captured_at_ns: monotonic clock when the picture was made, as far as the camera's kind can tell (:class:`Camera`'s
            ``time_source``), else when it arrived in this process.
        trigger_id: the trigger that asked for it; None when free-running.
        source: where a recorded frame came from (a file name), empty for live cameras.
        age_ns: how long after `captured_at_ns` it arrived in this process.
    """

    image: Image
    camera: str
    frame_id: int
    captured_at_ns: int
    trigger_id: int | None = None
    source: str = ""
    age_ns: int = 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """Somebody says that a part is in front of the camera. Each one gets exactly one verdict.

    Attributes:
        trigger_id: counts up from 1 for each station.
        at_ns: monotonic clock when this process learned of it.
        part_id: the line's own number for the part, when it gives one.
        source: who asked, e.g. ``"plc"``, ``"gpio"``, ``"software"``.
        encoder: the conveyor's encoder count at that moment, when there is an encoder.
        refused: why it cannot be inspected any more (e.g. "stale_trigger"): its verdict is UNKNOWN with this cause.
    """

    trigger_id: int
    at_ns: int
    part_id: int | None = None
    source: str = "software"
    encoder: int | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds that each stage of one part took.

    `total_ms` runs from the trigger, or from the frame's arrival when free-running, to the verdict. Of several frames each
    stage is the sum over the frames. `wait_ms` is all the rest: waiting for the loop, and for frames.
    """

    wait_ms: float = 0.0
    resize_ms: float = 0.0
    inference_ms: float = 0.0
    decision_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Inspection:
    """The verdict on one part.

    Attributes:
        part_id: counts up from 1 for each station.
        verdict: OK, NG or UNKNOWN.
        cause: why the verdict is UNKNOWN (e.g. "late", "camera_timeout", "score_not_finite"), else "".
        score: raw model units; NaN when there is none.
        threshold: the score, or by area the map's pixel value, at and above which a part is NG, raw model units.
        anomaly_map: h x w float32 raw model units, as the engine told it; None when it told none.
        times: milliseconds per stage.
        frame: the inspected frame, or None when there was none; of several, the one that decided.
        trigger: what asked for the verdict; None when free-running.
        deadline_ns: monotonic clock; an output that cannot tell the verdict by then must tell UNKNOWN instead. None: no deadline.
        views: the verdicts on the part's single frames when several were combined, else empty.
        engine: which engine answered, "" when none did or it has no name.
        basis: bundle and rule that it was, or would have been, judged by; None when nobody said, and of several cameras.
    """

    part_id: int
    verdict: Verdict
    cause: str
    score: float
    threshold: float
    anomaly_map: AnomalyMap | None
    times: StageTimes
    frame: Frame | None
    trigger: Trigger | None = None
    deadline_ns: int | None = None
    views: tuple[Inspection, ...] = ()
    engine: str = ""
    basis: Basis | None = None


class Basis(Protocol):
    """What a verdict rests on; see :class:`edgead.runtime.records.basis.Judged`."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """For records: plain values."""

    @property
    def needs_map(self) -> bool:
        """Does reading a part take the map, and so longer than a verdict may wait?"""

    def reading(self, score: float, anomaly_map: AnomalyMap | None) -> tuple[float, float] | None:
        """The largest threshold at which the picture is NG, and the rule's statistic; None where there is nothing to read."""


class Engine(Protocol):
    """A loaded model that answers on this device (see the graph contract in docs/architecture.md).

    One more member is optional: ``infer_many(images) -> Iterator[(score, anomaly map)]``, several pictures at once, answers in
    their order; ask by :func:`edgead.engines.infer_many`, which does without it.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One input: ``image``, uint8, 1 x H x W x 3 BGR at model size."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """``anomaly_map`` float32 1 x h x w and ``score`` float32 1."""

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map of one H x W x 3 uint8 BGR image at model size.

        The map is a NEW float32 array on each call: it belongs to the caller. The image is the caller's too: it is not changed,
        and not looked at after the call (the caller may use the same buffer for the next one).

        Raises:
            EngineError: the backend failed.
        """

    def close(self) -> None:
        """Release the device; further calls of `infer` raise EngineError."""


class Camera(Protocol):
    """A source of frames.

    Five more members are optional; whoever uses them looks first: ``live`` (False: a recording; it is asked and loses nothing),
    ``keeps`` (True: a live one whose pictures wait until they are asked for, each of them a part: a hot folder),
    ``time_source`` (what ``Frame.captured_at_ns`` is made from: "sensor", the camera's own clock; "driver", the kernel's stamp;
    "sender", a stream's clock; "arrival", nothing better; "reading" for a recording),
    ``software_trigger()`` (asks for one picture, which `grab` then gives; raises CameraError; there only while the camera is set
    to be asked), and ``counters() -> dict[str, int]`` (what became of the frames since opening: frames, incomplete, missed and
    those of the vendor's library, e.g. packets_missing).
    """

    def grab(self, timeout_s: float) -> Frame:
        """The next frame.

        Raises:
            CameraTimeout: none arrived within `timeout_s` seconds.
            CameraLost: the camera is gone.
            FrameDoubtful: pictures come that may be old; they are not given.
            EndOfStream: a finite source is exhausted.
        """

    def close(self) -> None:
        """Stop and release the device; may be called twice."""


class TriggerSource(Protocol):
    """Where triggers come from; read by one thread.

    Optional: ``hold(held)``: True: take no more triggers, since nobody will read them (those taken so far can still be read).
    """

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger, or None when none came within about `timeout_s` seconds; triggers wait inside, none is lost.

        Raises:
            OutputError: the device behind it is gone (it goes on trying by itself; the next call may succeed).
            EndOfStream: there will be no more.
        """

    def close(self) -> None:
        """Stop; may be called twice."""


class Output(Protocol):
    """Something that is told about verdicts; it starts in its safe state."""

    def signal(self, inspection: Inspection) -> None:
        """Tell the verdict. Raises OutputError when the device does not take it."""

    def heartbeat(self) -> None:
        """Called as the loop makes progress."""

    def fail_safe(self) -> None:
        """Go to the safe state: nothing is asserted."""

    def close(self) -> None:
        """Fail safe and release the device; may be called twice."""
