"""What is attached to this machine, each with the address that opens it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import CameraError, MissingExtra

CAPTURE = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE and V4L2_CAP_VIDEO_CAPTURE_MPLANE."""

SOURCES: Mapping[str, str] = {
    "USB (V4L2)": "edgead.runtime.cameras.discover:v4l2",
    "GigE Vision and USB3 Vision (Aravis)": "edgead.runtime.cameras.aravis:discover",
    "Basler (pylon)": "edgead.runtime.cameras.basler:discover",
}


@dataclass(frozen=True, slots=True)
class Attached:
    """One camera: `address` is what ``--camera`` and station.yaml take; `path` is how it is reached."""

    address: str
    kind: str
    model: str
    serial: str
    path: str


@dataclass(frozen=True, slots=True)
class NotLooked:
    """A kind of camera that was not looked for.

    Attributes:
        kind: of camera.
        reason: why not.
        hint: how to have it looked for; "" for nothing.
    """

    kind: str
    reason: str
    hint: str


def attached(told: Callable[[str, float], None] = lambda stage, done: None) -> tuple[list[Attached], list[NotLooked]]:
    """All cameras found, and what was not looked for. Takes a second or two: network cameras are given time to answer.

    Args:
        told: what is being done, and the done share of it.
    """
    found: list[Attached] = []
    skipped: list[NotLooked] = []
    for number, (kind, target) in enumerate(SOURCES.items()):
        told("looking for cameras", number / len(SOURCES))
        module, _, function = target.partition(":")
        try:
            found += getattr(importlib.import_module(module), function)()
        except (MissingExtra, CameraError) as error:
            skipped.append(NotLooked(kind, str(error), error.hint))
    return found, skipped


def v4l2(root: Path = Path("/sys/class/video4linux"), dev: Path = Path("/dev")) -> list[Attached]:
    """USB and other cameras of the Linux kernel (V4L2), by their first capture node.

    Raises:
        MissingExtra: the kernel has no video devices at all, as in most containers.
    """
    if not root.is_dir():
        raise MissingExtra(f"no {root} here", hint="is one plugged in? a container needs --device /dev/video0")
    return list(_v4l2(root, dev))


def _v4l2(root: Path, dev: Path) -> Iterator[Attached]:
    links = {link.resolve().name: link for link in sorted((dev / "v4l" / "by-id").glob("*"))}
    for node in sorted(root.iterdir(), key=lambda path: (len(path.name), path.name)):
        if not _captures(node, dev):
            continue
        link = links.get(node.name)
        serial = link.name.removeprefix("usb-").partition("-video-index")[0] if link else ""
        address = str(link) if link else f"usb:{node.name.removeprefix('video')}"
        yield Attached(address, "USB (V4L2)", (node / "name").read_text("utf-8").strip(), serial, str(dev / node.name))


def _captures(node: Path, dev: Path) -> bool:
    """Whether a node delivers pictures, and not metadata: the driver's own word, else its index (0 is the picture)."""
    import fcntl

    try:
        with (dev / node.name).open("rb") as file:
            answer = bytearray(104)  # struct v4l2_capability
            fcntl.ioctl(file, 0x80685600, answer)  # VIDIOC_QUERYCAP
    except OSError:
        index = node / "index"
        return not index.is_file() or index.read_text("ascii").strip() == "0"
    return bool(int.from_bytes(answer[88:92], "little") & CAPTURE)  # device_caps
