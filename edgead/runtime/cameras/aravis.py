"""GigE Vision and USB3 Vision cameras of any maker through Aravis (https://github.com/AravisProject/aravis).

No package brings Aravis from PyPI: ``apt-get install libaravis-0.8-0`` (docs/devices/gige-vision.md).
"""

from __future__ import annotations

import ctypes as c
import ipaddress
import time
from contextlib import suppress
from typing import Any

import numpy as np

from edgead.clock import Clock, MonotonicClock
from edgead.errors import CameraError, CameraLost
from edgead.runtime.cameras._libaravis import Aravis, load
from edgead.runtime.cameras.discover import Attached
from edgead.runtime.cameras.genicam import Value
from edgead.runtime.cameras.genicam_camera import Buffer, GenicamCamera, set_up
from edgead.runtime.cameras.settings import CameraSettings

BUFFERS = 8
"""Frames that Aravis can hold while nobody takes them; more are lost and counted as underruns."""

SET_NS = 10_000_000
"""A wall clock that moved by more than this against the monotonic one between two pictures was set."""

_STATUS = {
    1: "frame was cleared",
    2: "packets missing after the time limit",
    3: "packets missing",
    4: "wrong packet id",
    5: "frame larger than announced",
    7: "frame was aborted",
}
_IMAGE_PAYLOADS = (0x0001, 0x0004, 0x0005)  # image, and image with chunk data
_COUNTERS = {
    "n_completed_buffers": "buffers_complete",
    "n_failures": "buffers_failed",
    "n_underruns": "underruns",
    "n_missing_frames": "frames_missing",
    "n_timeouts": "frames_timed_out",
    "n_missing_packets": "packets_missing",
    "n_resent_packets": "packets_resent",
    "n_resend_requests": "resends_asked",
}


def aravis_camera(name: str, *, settings: CameraSettings | None = None, clock: Clock | None = None) -> GenicamCamera:
    """Open a camera.

    Args:
        name: its serial number, Aravis id (``"Basler-22334455"``) or IP address; "" is the only one attached.
        settings: what it shall do.
        clock: stamps the frames.

    Raises:
        MissingExtra: Aravis is not installed.
        CameraLost: no such camera, or another program controls it.
        BadInput: it does not have or take a setting.
    """
    library = load()
    device = _AravisDevice(library, _find(library, name))
    return set_up(
        device,
        f"{'gige' if device.is_network else 'u3v'}:{name}",
        settings or CameraSettings(),
        clock or MonotonicClock(),
        listing="arv-tool-0.8 features lists them (apt-get install aravis-tools-cli)",
    )


def discover() -> list[Attached]:
    """The cameras that answer within about a second.

    Raises:
        MissingExtra: Aravis is not installed.
    """
    library = load()
    library.arv_update_device_list()
    found = []
    for i in range(library.arv_get_n_devices()):
        protocol = _text(library.arv_get_device_protocol(i))
        kind = {"GigEVision": "gige", "USB3Vision": "u3v"}.get(protocol)
        if kind is None:
            continue  # Aravis's own fake camera
        serial, address = _text(library.arv_get_device_serial_nbr(i)), _text(library.arv_get_device_address(i))
        model = f"{_text(library.arv_get_device_vendor(i))} {_text(library.arv_get_device_model(i))}"
        found.append(Attached(f"{kind}:{serial or address}", f"{protocol} (Aravis)", model, serial, address))
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _find(library: Aravis, name: str) -> str:
    """Aravis's own id for a serial number; an IP address is taken as it is, which needs no discovery."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    library.arv_update_device_list()
    ids = []
    for i in range(library.arv_get_n_devices()):
        device_id = _text(library.arv_get_device_id(i))
        others = (library.arv_get_device_serial_nbr(i), library.arv_get_device_physical_id(i))
        if name in (device_id, *map(_text, others)):
            return device_id
        ids.append(device_id)
    if not name and len(ids) == 1:
        return ids[0]
    seen = f"seen: {', '.join(ids)}" if ids else "no camera answers; edgead doctor checks the network's set-up"
    raise CameraLost(f"there is no GigE Vision or USB3 Vision camera {name!r}" if name else "which camera?", hint=seen)


class _AravisDevice:
    """One camera that this process controls. Objects: `_camera` owns the device, `_stream` owns the buffers pushed into it."""

    def __init__(self, library: Aravis, device_id: str) -> None:
        self._library = library
        self._stream: Any = None
        self._since = Since()
        try:
            self._camera = library.arv_camera_new(device_id.encode())
        except CameraError as error:
            hint = "check power and network; edgead cameras lists what answers"
            raise CameraLost(f"camera {device_id} does not open: {error}", hint=hint) from error
        self._device = library.arv_camera_get_device(self._camera)
        self.is_network = bool(library.arv_camera_is_gv_device(self._camera))
        if self.is_network and self.lost():
            self.close(lost=True)
            raise CameraLost(f"another program controls camera {device_id}", hint="end it; a camera obeys one program at a time")
        self.nodes = _AravisNodes(library, self._device)

    def start(self) -> None:
        library = self._library
        self._stream = library.arv_camera_create_stream(self._camera, None, None)
        if not self._stream:
            raise CameraLost("the camera's stream does not open", hint="edgead doctor checks the network's set-up")
        payload = library.arv_camera_get_payload(self._camera)
        for _ in range(BUFFERS):
            library.arv_stream_push_buffer(self._stream, library.arv_buffer_new_allocate(payload))
        library.arv_camera_start_acquisition(self._camera)

    def take(self, timeout_s: float) -> Buffer | None:
        library, stream = self._library, self._stream
        wait_us = round(timeout_s * 1e6)
        pointer = library.arv_stream_timeout_pop_buffer(stream, wait_us) if wait_us else library.arv_stream_try_pop_buffer(stream)
        return self._buffer(pointer) if pointer else None

    def lost(self) -> bool:
        """GigE Vision: the heartbeat of Aravis's own thread says so, about 6 s after the camera fell silent."""
        if self.is_network:
            return not self._library.arv_gv_device_is_controller(self._device)
        try:
            self.nodes.get("Width")
        except CameraError:
            return True
        return False

    def statistics(self) -> dict[str, int]:
        library, stream = self._library, self._stream
        names = [library.arv_stream_get_info_name(stream, i) for i in range(library.arv_stream_get_n_infos(stream))]
        found = {}
        for name in names:
            if ours := _COUNTERS.get(_text(name)):
                found[ours] = int(library.arv_stream_get_info_uint64_by_name(stream, name))
        return found

    def close(self, *, lost: bool) -> None:
        library = self._library
        if self._stream and not lost:
            with suppress(CameraError):  # it may have stopped answering
                library.arv_camera_stop_acquisition(self._camera)
        for thing in (self._stream, self._camera):
            if thing:
                library.g_object_unref(thing)
        self._stream = self._camera = self._device = None

    def _buffer(self, pointer: int) -> Buffer:
        library, stream = self._library, self._stream
        status = library.arv_buffer_get_status(pointer)
        fault = "" if status == 0 else _STATUS.get(status, f"status {status}")
        if not fault and library.arv_buffer_get_payload_type(pointer) not in _IMAGE_PAYLOADS:
            fault = "it sends something else than pictures"
        size, padding, unused = c.c_size_t(), c.c_int(), c.c_int()
        start = None if fault else library.arv_buffer_get_image_data(pointer, c.byref(size))
        if start:
            library.arv_buffer_get_image_padding(pointer, c.byref(padding), c.byref(unused))
            data = np.ctypeslib.as_array(c.cast(start, c.POINTER(c.c_uint8)), (size.value,))
        else:
            fault, data = fault or "it is empty", np.empty(0, np.uint8)
        return Buffer(
            data=data,
            width=0 if fault else library.arv_buffer_get_image_width(pointer),
            height=0 if fault else library.arv_buffer_get_image_height(pointer),
            row_padding=padding.value,
            code=0 if fault else library.arv_buffer_get_image_pixel_format(pointer),
            block_id=library.arv_buffer_get_frame_id(pointer),
            age_ns=self._since.wall_ns(library.arv_buffer_get_system_timestamp(pointer)),
            sensor_ns=library.arv_buffer_get_timestamp(pointer),  # Aravis made nanoseconds of it
            fault=fault,
            release=lambda: library.arv_stream_push_buffer(stream, pointer),
        )


class Since:
    """How long ago something was, by the wall clock that Aravis stamps with, which may be set at any time."""

    def __init__(self) -> None:
        self._ahead_ns = time.time_ns() - time.monotonic_ns()

    def wall_ns(self, stamp_ns: int) -> int:
        """Nanoseconds since then; 0 when the wall clock was set since the last call."""
        now_ns = time.time_ns()
        before_ns, self._ahead_ns = self._ahead_ns, now_ns - time.monotonic_ns()
        return max(0, now_ns - stamp_ns) if abs(self._ahead_ns - before_ns) < SET_NS else 0


class _AravisNodes:
    """The features of one device; see :class:`edgead.runtime.cameras.genicam.Nodes`."""

    def __init__(self, library: Aravis, device: Any) -> None:
        self._library, self._device = library, device
        names = ("enumeration", "boolean", "command", "float", "integer", "string")  # an enumeration is an integer too
        self._types = {name: getattr(library, f"arv_gc_{name}_get_type")() for name in names}

    def kind(self, name: str) -> str:
        node = self._library.arv_device_get_feature(self._device, name.encode())
        if not node or not self._library.arv_device_is_feature_available(self._device, name.encode()):
            return ""
        for kind, gtype in self._types.items():
            if self._library.g_type_check_instance_is_a(node, gtype):
                return "enum" if kind == "enumeration" else kind
        return ""

    def get(self, name: str) -> Value:
        kind = self._named(name)
        value: Value | bytes = getattr(self._library, f"arv_device_get_{kind}_feature_value")(self._device, name.encode())
        if isinstance(value, bytes):
            return _text(value)
        return bool(value) if kind == "boolean" else value

    def set(self, name: str, value: Value) -> None:
        kind = self._named(name)
        raw = value.encode() if isinstance(value, str) else value
        getattr(self._library, f"arv_device_set_{kind}_feature_value")(self._device, name.encode(), raw)

    def bounds(self, name: str) -> tuple[float, float, float]:
        library, kind = self._library, self._named(name)
        low, high = (c.c_double(), c.c_double()) if kind == "float" else (c.c_int64(), c.c_int64())
        getattr(library, f"arv_device_get_{kind}_feature_bounds")(self._device, name.encode(), c.byref(low), c.byref(high))
        try:
            step = float(getattr(library, f"arv_device_get_{kind}_feature_increment")(self._device, name.encode()))
        except CameraError:
            step = 0.0
        return float(low.value), float(high.value), step if 1e-9 < step < 1e9 else 0.0

    def choices(self, name: str) -> list[str]:
        count = c.c_uint()
        function = self._library.arv_device_dup_available_enumeration_feature_values_as_strings
        entries = function(self._device, name.encode(), c.byref(count))
        found = [_text(entries[i]) for i in range(count.value)]  # the texts belong to the device, their list to us
        self._library.g_free(c.cast(entries, c.c_void_p))
        return found

    def execute(self, name: str) -> None:
        self._library.arv_device_execute_command(self._device, name.encode())

    def _named(self, name: str) -> str:
        kind = self.kind(name)
        return {"enum": "string", "": "string"}.get(kind, kind)
