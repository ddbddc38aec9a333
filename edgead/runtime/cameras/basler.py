"""Basler cameras (GigE, USB3) through pypylon (https://github.com/basler/pypylon).

``PYLON_CAMEMU=2`` in the environment, set before the first import, makes two emulated cameras.
"""

from __future__ import annotations

import atexit
import threading
import time
import warnings
from collections import deque
from typing import Any

import numpy as np

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraError, CameraLost
from edgead.optional import require
from edgead.runtime.cameras.discover import Attached
from edgead.runtime.cameras.genicam import Value
from edgead.runtime.cameras.genicam_camera import Buffer, GenicamCamera, set_up
from edgead.runtime.cameras.sensor_time import tick_ns
from edgead.runtime.cameras.settings import CameraSettings
from edgead.runtime.threads import Supervised

BUFFERS = 8
"""Frames that pylon can hold while nobody takes them."""
POLL_MS = 50
STILL_S = 10.0
"""pylon's thread that does not come back for longer hangs."""

_KINDS = {2: "integer", 3: "boolean", 4: "command", 5: "float", 6: "string", 9: "enum"}  # GenApi::EInterfaceType
_COUNTERS = {
    "Statistic_Total_Buffer_Count": "buffers",
    "Statistic_Failed_Buffer_Count": "buffers_failed",
    "Statistic_Buffer_Underrun_Count": "underruns",
    "Statistic_Total_Packet_Count": "packets",
    "Statistic_Failed_Packet_Count": "packets_missing",
    "Statistic_Resend_Request_Count": "resends_asked",
    "Statistic_Resend_Packet_Count": "packets_resent",
}


def basler_camera(name: str, *, settings: CameraSettings | None = None, clock: Clock | None = None) -> GenicamCamera:
    """Open a camera.

    Args:
        name: its serial number, its own name (DeviceUserID) or IP address; "" is the only one attached.
        settings: what it shall do.
        clock: stamps the frames.

    Raises:
        MissingExtra: pypylon is not installed.
        CameraLost: no such camera, or another program controls it.
        BadInput: it does not have or take a setting.
    """
    pylon = _pylon()
    device = _BaslerDevice(pylon, _find(pylon, name))
    listing = "pylon Viewer lists them"
    return set_up(device, f"basler:{name}", settings or CameraSettings(), clock or MonotonicClock(), listing=listing)


def discover() -> list[Attached]:
    """The cameras that pylon sees.

    Raises:
        MissingExtra: pypylon is not installed.
        CameraError: it does not work.
    """
    found = []
    for info in _seen(_pylon()):
        address = f"basler:{info.GetSerialNumber()}"
        kind = f"{info.GetDeviceClass()} (pylon)"
        path = info.GetIpAddress() if info.IsIpAddressAvailable() else info.GetFullName()
        found.append(Attached(address, kind, f"{info.GetVendorName()} {info.GetModelName()}", info.GetSerialNumber(), path))
    return found


def _pylon() -> Any:
    return _module("pypylon.pylon")


def _module(name: str) -> Any:
    """Import without SWIG's DeprecationWarning, which, turned into an error, crashes the interpreter in pypylon's set-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return require(name, extra="basler", why="A Basler camera")


def _seen(pylon: Any) -> Any:
    try:
        return pylon.TlFactory.GetInstance().EnumerateDevices()
    except _failure() as error:
        raise CameraError(
            f"pylon cannot look for cameras: {_line(error)}", hint="pip install --force-reinstall pypylon"
        ) from error


def _failure() -> type[Exception]:
    """What pypylon raises."""
    error: type[Exception] = _module("pypylon.genicam").GenericException
    return error


def _find(pylon: Any, name: str) -> Any:
    infos = _seen(pylon)
    for info in infos:
        names = {info.GetSerialNumber(), info.GetUserDefinedName(), info.GetIpAddress() if info.IsIpAddressAvailable() else ""}
        if name and name in names:
            return info
    if not name and len(infos) == 1:
        return infos[0]
    serials = ", ".join(info.GetSerialNumber() for info in infos)
    seen = f"seen: {serials}" if infos else "pylon sees no camera: check power and cable"
    raise CameraLost(f"there is no Basler camera {name!r}" if name else "which camera?", hint=seen)


class _BaslerDevice:
    """One open camera. A thread takes each result from pylon as it arrives and stamps it: pylon does not tell when that was."""

    def __init__(self, pylon: Any, info: Any) -> None:
        self._pylon = pylon
        self._error = _failure()
        self._camera = pylon.InstantCamera()
        try:
            self._camera.Attach(pylon.TlFactory.GetInstance().CreateDevice(info))
            self._camera.Open()
        except self._error as error:
            text = f"camera {info.GetSerialNumber()} does not open: {_line(error)}"
            raise CameraLost(text, hint="is another program using it? edgead cameras lists what answers") from error
        self.nodes = _BaslerNodes(self._camera.GetNodeMap(), self._error)
        self._waiting: deque[tuple[int, Any]] = deque()
        self._arrived = threading.Condition()
        self._closing = False
        self._failure = ""
        self._tick_ns = tick_ns(self.nodes)
        self._thread = Supervised("pylon", self._receive, died=self._died, restart=False, kind=CameraError, patience_s=STILL_S)

    def start(self) -> None:
        try:
            self._camera.MaxNumBuffer.SetValue(BUFFERS)
            self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)
        except self._error as error:
            raise CameraLost(f"the camera does not start: {_line(error)}", hint="switch it off and on") from error
        self._thread.start()
        # A thread that Python ends inside of pylon's C++ aborts the process: it must be out of there before the interpreter ends.
        atexit.register(self._end_thread)

    def take(self, timeout_s: float) -> Buffer | None:
        with self._arrived:
            if not self._waiting and timeout_s:
                self._arrived.wait(timeout_s)
            if not self._waiting:
                return None
            at_ns, result = self._waiting.popleft()
        return _buffer(result, time.monotonic_ns() - at_ns, self._tick_ns)

    def lost(self) -> bool:
        return bool(self._failure) or bool(self._camera.IsCameraDeviceRemoved())

    def statistics(self) -> dict[str, int]:
        found = {}
        nodes = self._camera.GetStreamGrabberNodeMap()
        for name, ours in _COUNTERS.items():
            try:
                found[ours] = int(nodes.GetNode(name).GetValue())
            except self._error:
                continue  # this transport does not count it
        return found

    def close(self, *, lost: bool) -> None:
        self._end_thread()
        atexit.unregister(self._end_thread)
        with self._arrived:
            while self._waiting:
                self._waiting.popleft()[1].Release()
        for step in (self._camera.StopGrabbing, self._camera.Close, self._camera.DestroyDevice):
            try:
                step()
            except self._error:
                continue  # a camera that is gone cannot be stopped; the next step still releases what is ours

    def _end_thread(self) -> None:
        self._closing = True
        self._thread.join()

    def _died(self, error: BaseException) -> None:
        self._failure = _line(error)

    def _receive(self) -> None:
        """Take results until closed. `IsGrabbing` ends when the camera does."""
        handling = self._pylon.TimeoutHandling_Return
        try:
            while not self._closing and self._camera.IsGrabbing():
                self._thread.turn()
                result = self._camera.RetrieveResult(POLL_MS, handling)
                if result.IsValid():
                    with self._arrived:
                        self._waiting.append((time.monotonic_ns(), result))
                        self._arrived.notify()
        except self._error as error:
            self._failure = _line(error)
        else:
            self._failure = "" if self._closing else "it stopped grabbing"


def _buffer(result: Any, age_ns: int, tick_ns: float) -> Buffer:
    fault = "" if result.GrabSucceeded() else f"{result.GetErrorDescription() or 'the grab failed'}".strip().rstrip(".")
    block_id = result.GetBlockID()
    data = np.empty(0, np.uint8) if fault else np.frombuffer(result.GetImageMemoryView(), np.uint8)
    return Buffer(
        data=data,
        width=0 if fault else result.GetWidth(),
        height=0 if fault else result.GetHeight(),
        row_padding=0 if fault else result.GetPaddingX(),
        code=0 if fault else result.GetPixelType() & 0xFFFFFFFF,
        block_id=block_id if 0 <= block_id < 2**63 else None,
        age_ns=age_ns,
        sensor_ns=round(result.GetTimeStamp() * tick_ns),
        fault=fault,
        release=result.Release,
    )


class _BaslerNodes:
    """The features of one camera; see :class:`edgead.runtime.cameras.genicam.Nodes`."""

    def __init__(self, nodes: Any, error: type[Exception]) -> None:
        self._nodes, self._error = nodes, error

    def kind(self, name: str) -> str:
        try:
            node = self._nodes.GetNode(name)
            kind = _KINDS.get(node.GetNode().GetPrincipalInterfaceType(), "")
            return kind if node.GetNode().GetAccessMode() in _USABLE else ""
        except (self._error, AttributeError):
            return ""

    def get(self, name: str) -> Value:
        try:
            value: Value = self._nodes.GetNode(name).GetValue()
        except self._error as error:
            raise CameraError(_line(error)) from error
        return value

    def set(self, name: str, value: Value) -> None:
        try:
            self._nodes.GetNode(name).SetValue(value)
        except self._error as error:
            raise BadInput(_line(error), hint="pylon Viewer shows what it takes, and what must be set before") from error

    def bounds(self, name: str) -> tuple[float, float, float]:
        node = self._nodes.GetNode(name)
        try:
            low, high = float(node.GetMin()), float(node.GetMax())
        except self._error as error:
            raise CameraError(_line(error)) from error
        try:
            return low, high, float(node.GetInc())
        except self._error:
            return low, high, 0.0

    def choices(self, name: str) -> list[str]:
        return [str(entry) for entry in self._nodes.GetNode(name).GetSymbolics()]

    def execute(self, name: str) -> None:
        try:
            self._nodes.GetNode(name).Execute()
        except self._error as error:
            raise CameraError(
                f"{name} failed: {_line(error)}", hint="is the camera there? edgead cameras lists what answers"
            ) from error


_USABLE = (2, 3, 4)
"""GenApi::EAccessMode: write only, read only, both."""


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].partition(" : ")[0][:200]
