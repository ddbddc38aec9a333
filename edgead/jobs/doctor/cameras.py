"""What the doctor looks at for machine-vision cameras: their libraries, and the network and USB limits that lose packets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2

from edgead import machine
from edgead.errors import MissingExtra
from edgead.jobs.doctor.check import MISSING, NOTE, OK, Check
from edgead.runtime.cameras import _libaravis

GUIDE = "see network/README.md of `edgead deploy-files`"
JUMBO_MTU = 9000
RECEIVE_BYTES = 16 * 2**20
"""What net.core.rmem_max should be at least: a few full pictures (Basler and Aravis both advise tens of megabytes)."""
USB_MB = 1000


def vision() -> Iterator[Check]:
    """The vendors' libraries, and, when there is one, the limits that matter to it."""
    libraries = [_aravis(), _pylon()]
    yield from libraries
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        yield Check("camera", "GStreamer", OK, "this OpenCV has it: --camera 'gst:PIPELINE'")
    else:
        yield Check("camera", "GStreamer", MISSING, "this OpenCV has none", "only for gst: cameras; see edgead docs rtsp")
    if any(check.state == OK for check in libraries):
        yield from network()
        yield from usb_memory()


def _aravis() -> Check:
    name = "GigE Vision, USB3 Vision (Aravis)"
    try:
        _libaravis.load()
    except MissingExtra as error:
        return Check("camera", name, MISSING, str(error), error.hint)
    return Check("camera", name, OK, "libaravis loads; edgead cameras lists what answers")


def _pylon() -> Check:
    if importlib.util.find_spec("pypylon") is None:
        return Check("camera", "Basler (pylon)", MISSING, "pypylon is not installed", "pip install 'edgead[basler]'")
    version = machine.packages(["pypylon"]).get("pypylon", "")
    return Check("camera", "Basler (pylon)", OK, f"pypylon {version} is installed; edgead cameras lists what answers")


def network(net: Path = Path("/sys/class/net"), core: Path = Path("/proc/sys/net/core")) -> Iterator[Check]:
    """Jumbo frames of each wired port that has a link, its PTP clock, and the receive buffers of the machine."""
    ports = [port for port in sorted(net.glob("*")) if _is_wired(port)]
    for port in ports:
        mtu, speed = _number(port / "mtu"), _number(port / "speed")
        rate = f"{speed} Mbit/s, " if speed > 0 else ""
        clock = ", has a PTP clock" if any((port / "device" / "ptp").glob("ptp*")) else ""
        state, hint = OK, ""
        if mtu < JUMBO_MTU:
            state, hint = NOTE, f"if a GigE camera is on it: ip link set {port.name} mtu {JUMBO_MTU}; {GUIDE}"
        yield Check("camera", f"network port {port.name}", state, f"{rate}packets of {mtu} bytes{clock}", hint)
    if not ports:
        yield Check("camera", "network ports", NOTE, "no wired port with a link is visible here", f"for GigE cameras {GUIDE}")
    largest = _number(core / "rmem_max")
    if 0 <= largest < RECEIVE_BYTES:
        hint = f"for GigE cameras: sysctl -w net.core.rmem_max={2 * RECEIVE_BYTES}; {GUIDE}"
        yield Check(
            "camera", "receive buffers", NOTE, f"at most {largest // 1024} KiB a socket: bursts of packets get lost", hint
        )
    elif largest >= 0:
        yield Check("camera", "receive buffers", OK, f"up to {largest // 2**20} MiB a socket")


def usb_memory(file: Path = Path("/sys/module/usbcore/parameters/usbfs_memory_mb")) -> Iterator[Check]:
    """USB3 Vision transfers live in usbfs memory; the kernel's default of 16 MB is less than a few pictures."""
    limit = _number(file)
    if 0 < limit < USB_MB:
        hint = f"for USB3 Vision cameras: echo {USB_MB} > {file}; see edgead docs usb"
        yield Check("camera", "USB memory", NOTE, f"{limit} MB for all USB transfers", hint)


def _is_wired(port: Path) -> bool:
    """A port of real hardware with a link, no radio."""
    up = (port / "operstate").is_file() and (port / "operstate").read_text("ascii").strip() == "up"
    return up and (port / "device").exists() and not (port / "wireless").exists()


def _number(file: Path) -> int:
    """The number in a file of the kernel, -1 when there is none."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return -1
