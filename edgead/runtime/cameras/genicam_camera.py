"""The camera behind Aravis and pylon: whole frames with ids and times; broken ones are counted, never returned."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgead.clock import Clock
from edgead.errors import BadInput, CameraLost, CameraTimeout, FrameDoubtful, UnreadableFrame
from edgead.runtime.cameras import pixels
from edgead.runtime.cameras.genicam import Configurator, Nodes
from edgead.runtime.cameras.sensor_time import SensorTime
from edgead.runtime.cameras.settings import CameraSettings
from edgead.runtime.cameras.timing import Pace
from edgead.types import Frame

SLICE_S = 0.1
"""How long one wait inside `grab` is at most, so that `close` and a loss are not kept waiting."""
SILENT_S = 5.0
"""A free-running camera that is silent for longer (plus two frame periods) counts as lost, so that its stream is set up anew."""
READY_S = 0.1
"""How long a software trigger waits for a camera that is not ready for it."""
LARGEST_GAP = 1000
"""Frames that may be missing in a row; a larger step of the camera's counter is taken for a counter that began anew."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """What the vendor's library received.

    Attributes:
        data: 1-D uint8, the camera's own pixels; valid until `release`.
        width, height, row_padding: pixels, and bytes at the end of each row.
        code: PFNC's pixel format.
        block_id: the camera's own counter; None when it has none.
        age_ns: how long ago it arrived in this process.
        sensor_ns: the camera's own time of the picture; 0 when it has none.
        fault: why it cannot be used (packets missing, ...), "" when whole.
        release: gives the memory back.
    """

    data: npt.NDArray[np.uint8]
    width: int
    height: int
    row_padding: int
    code: int
    block_id: int | None
    age_ns: int
    sensor_ns: int
    fault: str
    release: Callable[[], None]


class Device(Protocol):
    """One open camera of a vendor's library."""

    @property
    def nodes(self) -> Nodes:
        """Its features."""

    def start(self) -> None:
        """Begin to receive. Raises CameraError."""

    def take(self, timeout_s: float) -> Buffer | None:
        """The oldest buffer that waits, or None. Raises CameraLost."""

    def lost(self) -> bool:
        """Whether the library knows that the camera is gone; quick."""

    def statistics(self) -> dict[str, int]:
        """The library's own counters."""

    def close(self, *, lost: bool) -> None:
        """Release everything; a lost camera is not talked to."""


class GenicamCamera:
    """A camera with GenICam features.

    Free-running it gives the newest whole frame; triggered (by a line or by software) every frame, the oldest first. A frame
    with missing packets is skipped when free-running (a gap in ``frame_id``), and raises UnreadableFrame when triggered, because
    a part belongs to it.

    ``captured_at_ns`` is when the picture was made, by the camera's own clock (`time_source` "sensor"). Of a camera without one
    it is when the frame arrived ("arrival"), however long it waited; free-running, what may have been held up is not given then.

    Attributes:
        settings: what the camera really has, read back after opening.
    """

    live = True

    def __init__(self, device: Device, name: str, settings: CameraSettings, clock: Clock) -> None:
        self.settings = settings
        self._device, self._name, self._clock = device, name, clock
        self._newest_only = not settings.triggered
        self._lock = threading.Lock()  # one `grab` at a time, none while closing
        self._control = threading.Lock()  # the same for triggers and counters, which do not wait for `grab`
        self._closing = False
        self._gone = False
        self._silent_s = 0.0
        self._next_id = 0
        self._block_id: int | None = None
        self._times = SensorTime(device.nodes, name, clock)
        self._has_clock = False
        self._last_ns = 0
        self._pace = Pace(fresh=True)  # of a camera without a clock
        self._doubting = self._doubt_begins = False
        self._counts = {"frames": 0, "incomplete": 0, "missed": 0}

    def grab(self, timeout_s: float) -> Frame:
        """The next whole frame.

        Raises:
            CameraTimeout: none arrived within `timeout_s` seconds.
            UnreadableFrame: triggered: a frame arrived with packets missing.
            FrameDoubtful: free-running, without a clock in the camera: frames come that may be old.
            CameraLost: unplugged, switched off, taken over by another program, or closed.
        """
        with self._lock:
            end_ns = self._clock.now_ns() + round(timeout_s * 1e9)
            broken = 0
            while True:
                self._check_open()
                left_s = max(0.0, (end_ns - self._clock.now_ns()) / 1e9)
                buffers = self._waiting(min(left_s, SLICE_S))
                if not buffers:
                    self._check_alive(min(left_s, SLICE_S))
                    self._tie()
                elif (frame := self._pick(buffers)) is not None:
                    return frame
                elif self._doubt_begins:
                    self._doubt_begins = False
                    raise FrameDoubtful(f"camera {self._name}: pictures were held up on their way")
                broken += len(buffers)
                if left_s <= SLICE_S and not buffers:
                    raise self._timeout(timeout_s, broken)

    @property
    def time_source(self) -> str:
        """Known after the first frame."""
        return "sensor" if self._has_clock else "arrival"

    def counters(self) -> dict[str, int]:
        """Since opening: frames (given to the caller), incomplete (arrived with holes), missed (never arrived, or were too old),
        and those of the vendor's library."""
        with self._control:
            return {**self._counts, **self._device.statistics()}

    def close(self) -> None:
        self._closing = True
        with self._lock, self._control:
            device, self._device = self._device, _CLOSED
            device.close(lost=self._gone)

    def _check_open(self) -> None:
        if self._closing:
            raise CameraLost(f"camera {self._name} is closed", hint="open it again")
        if self._gone:
            raise self._lost()

    def _lost(self) -> CameraLost:
        self._gone = True
        return CameraLost(f"camera {self._name} is gone", hint="check cable, power and network; is another program using it?")

    def _timeout(self, timeout_s: float, broken: int) -> CameraTimeout:
        if broken:
            text = f"camera {self._name}: all {broken} frames within {timeout_s:g} s had packets missing"
            return CameraTimeout(text, hint="edgead doctor checks the network's set-up; see edgead docs gige-vision")
        return CameraTimeout(f"camera {self._name} gave no frame within {timeout_s:g} s")

    def _waiting(self, wait_s: float) -> list[Buffer]:
        """The oldest buffer; free-running, all that wait."""
        buffer = self._device.take(wait_s)
        found = []
        while buffer is not None:
            found.append(buffer)
            buffer = self._device.take(0.0) if self._newest_only else None
        return found

    def _check_alive(self, waited_s: float) -> None:
        self._silent_s += waited_s
        rate = self.settings.frame_rate_hz
        limit_s = SILENT_S + (2 / rate if rate else 0.0)
        if self._device.lost() or (self._newest_only and self._silent_s > limit_s):
            raise self._lost()

    def _pick(self, buffers: list[Buffer]) -> Frame | None:
        """The newest whole one as a frame, all others counted; None when free-running and none is whole, or fresh."""
        self._silent_s = 0.0
        newest = max((i for i, buffer in enumerate(buffers) if not buffer.fault), default=-1)
        frame: Frame | None = None
        fault = ""
        try:
            for i, buffer in enumerate(buffers):
                frame_id = self._number(buffer)
                times = self._made(buffer) if not buffer.fault else None  # one with holes comes when the waiting for them ends
                if buffer.fault:
                    self._counts["incomplete"] += 1
                    fault = buffer.fault
                elif i == newest and times is not None:
                    frame = self._frame(buffer, frame_id, *times)
                else:
                    self._counts["missed"] += 1
        except BadInput as error:
            raise UnreadableFrame(f"camera {self._name}: {error}", hint=error.hint) from error
        finally:
            for buffer in buffers:
                buffer.release()
        if frame is None and not self._newest_only:
            self._next_id -= 1  # the exception tells of it: a gap in the ids would tell twice
            raise UnreadableFrame(f"camera {self._name}: {fault}", hint="see edgead docs gige-vision on lost packets")
        return frame

    def _made(self, buffer: Buffer) -> tuple[int, int] | None:
        """When a picture was made, and when it arrived; None: it may be old."""
        arrived_ns = self._clock.now_ns() - max(0, buffer.age_ns)
        made_ns = self._times.made(arrived_ns, buffer.sensor_ns) if buffer.sensor_ns > 0 else None
        self._has_clock = self._has_clock or made_ns is not None
        if made_ns is None:
            made_ns = self._last_ns = max(self._last_ns, arrived_ns)
        if self._has_clock or not self._newest_only:
            return made_ns, max(made_ns, arrived_ns)
        fresh = self._pace.arrived(arrived_ns)
        self._doubt_begins = self._doubt_begins or not (fresh or self._doubting)
        self._doubting = not fresh
        return (made_ns, made_ns) if fresh else None

    def _tie(self) -> None:
        """Nothing waits: a moment to compare the clocks, unless the camera is being asked already."""
        if self._control.acquire(blocking=False):
            try:
                self._times.tie()
            finally:
                self._control.release()

    def _frame(self, buffer: Buffer, frame_id: int, made_ns: int, arrived_ns: int) -> Frame:
        image = pixels.to_bgr8(buffer.data, buffer.width, buffer.height, buffer.code, buffer.row_padding)
        image.flags.writeable = False
        self._counts["frames"] += 1
        return Frame(image, self._name, frame_id, made_ns, age_ns=arrived_ns - made_ns)

    def _number(self, buffer: Buffer) -> int:
        """The frame's id: one more than the last, plus those that never arrived by the camera's own counter."""
        before, self._block_id = self._block_id, buffer.block_id
        if before is not None and buffer.block_id is not None:
            step = buffer.block_id - before
            if step <= 0:
                step += 65_535  # GigE Vision 1: 16 bits, 0 is left out
            missing = step - 1 if 0 < step <= LARGEST_GAP else 0
            self._counts["missed"] += missing
            self._next_id += missing
        self._next_id += 1
        return self._next_id - 1


class SoftwareTriggeredCamera(GenicamCamera):
    """A camera that takes a picture when asked."""

    def __init__(self, device: Device, name: str, settings: CameraSettings, clock: Clock) -> None:
        super().__init__(device, name, settings, clock)
        self._tells_ready = tells_ready(device.nodes)

    def software_trigger(self) -> None:
        """Ask for one picture; `grab` gives it. Any thread may call it; it blocks for seconds when the camera does not answer.

        A camera ignores a trigger while it reads out the last picture; one that can tell is waited for, up to READY_S.

        Raises:
            CameraLost: closed or gone.
            CameraError: it did not take the command.
        """
        with self._control:
            self._check_open()
            nodes = self._device.nodes
            until_ns = self._clock.now_ns() + round(READY_S * 1e9)
            while self._tells_ready and not nodes.get("AcquisitionStatus") and self._clock.now_ns() < until_ns:
                self._clock.sleep(0.001)
            nodes.execute("TriggerSoftware")


def tells_ready(nodes: Nodes) -> bool:
    """Whether a camera tells when it can be triggered (SFNC's AcquisitionStatus); selects that status."""
    if nodes.kind("AcquisitionStatusSelector") != "enum" or nodes.kind("AcquisitionStatus") != "boolean":
        return False
    if "FrameTriggerWait" not in nodes.choices("AcquisitionStatusSelector"):
        return False
    nodes.set("AcquisitionStatusSelector", "FrameTriggerWait")
    return True


class _Closed:
    """Stands in for the device after closing."""

    @property
    def nodes(self) -> Nodes:
        raise CameraLost("the camera is closed", hint="open it again")

    def start(self) -> None:
        """Nothing to start."""

    def take(self, timeout_s: float) -> Buffer | None:
        return None

    def lost(self) -> bool:
        return True

    def statistics(self) -> dict[str, int]:
        return {}

    def close(self, *, lost: bool) -> None:
        """Closed already."""


_CLOSED = _Closed()


def set_up(device: Device, name: str, settings: CameraSettings, clock: Clock, *, listing: str) -> GenicamCamera:
    """Configure an open device, start it, and check that it took what was asked.

    Raises:
        BadInput: a feature or value that it does not have.
        CameraError: it refused, or does not answer.
    """
    configurator = Configurator(device.nodes, name, listing)
    try:
        configurator.apply(settings)
        device.start()  # may change the packet size
        got = configurator.verify(settings)
        return (SoftwareTriggeredCamera if got.trigger_source == "software" else GenicamCamera)(device, name, got, clock)
    except BaseException:
        device.close(lost=False)
        raise
