"""Nothing that one alone may use is used by two cameras of a station.yaml, or by two keys of one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.claims import Claim, gpio_line, host_of, listening

if TYPE_CHECKING:
    from edgead.config.camera import CameraConfig, PartConfig
    from edgead.config.station import StationConfig
    from edgead.located import Place


def first_clash(config: StationConfig) -> tuple[Claim, Claim] | None:
    """The first thing that a station (paths absolute) takes twice, in the order of the file."""
    seen: dict[tuple[str, tuple[object, ...]], list[Claim]] = {}
    for claim in claims(config):
        before = seen.setdefault((claim.kind, claim.thing), [])
        for other in before:
            if claim.clashes(other):
                return other, claim
        before.append(claim)
    return None


def claims(config: StationConfig) -> Iterator[Claim]:
    """All that a station takes."""
    lanes: list[tuple[Place, CameraConfig | PartConfig]] = [(("cameras", n), one) for n, one in enumerate(config.cameras)]
    for place, lane in (*lanes, *((("parts", n), one) for n, one in enumerate(config.parts))):
        if config.storage is not None:
            yield from _folder(config.storage.folder, lane, place)
        if lane.address is not None:
            yield from _camera(lane.name, lane.address, (*place, "address"))
        if lane.trigger.source == "gpio":
            yield gpio_line(lane.name, (*place, "trigger", "line"), lane.trigger.chip, lane.trigger.line)
        if lane.plc is not None:
            yield from lane.plc.claims(lane.name, (*place, "plc"))
        for index, output in enumerate(lane.outputs):
            yield from output.claims(lane.name, (*place, "outputs", index))
    if config.supervision.http is not None:
        name, _, port = config.supervision.http.rpartition(":")
        yield from listening(("supervision", "http"), config.name, name, int(port))


def _folder(folder: Path, lane: CameraConfig | PartConfig, place: Place) -> Iterator[Claim]:
    """Records and pictures; on many disks Top and top are one folder."""
    hint = "give the two names that differ in more than upper and lower case"
    text = f"the folder {folder / lane.name}"
    yield Claim((*place, "name"), lane.name, "folder", (os.path.realpath(folder / lane.name).casefold(),), text, hint)


def _camera(owner: str, address: str, place: Place) -> Iterator[Claim]:
    """Cameras that one program alone can have; streams and files can be read by many."""
    plain = address.partition("?")[0].strip()
    scheme, _, name = plain.partition(":")
    hint = "a camera has one place in the file; for two bundles on its pictures there are recipes (edgead docs recipes)"
    if (kind := scheme.lower()) in ("gige", "u3v", "basler"):  # the name "" is whichever answers
        text = f"the camera {plain}"
        yield Claim(place, owner, f"{kind} camera", (), text, hint, scope=host_of(name) if name else "*")
        if name:
            yield Claim(place, owner, "vision camera", (host_of(name),), text, hint)
    if kind == "hot":
        folder = os.path.realpath(os.path.expanduser(name))  # noqa: PTH111
        yield Claim(place, owner, "hot folder", (folder,), f"the hot folder {name}", hint)
    if kind == "gst":
        for device in re.findall(r"/dev/[^\s\"'!]+", address):
            yield Claim(place, owner, "usb camera", (os.path.realpath(device),), f"the camera {device}", hint)
    found = re.fullmatch(r"(?:usb:)?(\d+)|(/dev/\S+)", plain, re.IGNORECASE)
    if found:
        device = os.path.realpath(found[2] or f"/dev/video{int(found[1])}")
        yield Claim(place, owner, "usb camera", (device,), f"the camera {plain}", hint)
