"""What the box tells of itself while it works: temperatures, throttling, clock rates, memory, threads (Linux sysfs and procfs).

Documentation/driver-api/thermal/sysfs-api.rst and Documentation/hwmon/sysfs-interface.rst of the kernel; ``oc*_event_cnt`` are
the over-current throttling counters of Jetson Orin. What a box does not have is simply missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reading:
    """One number.

    Attributes:
        kind: "temperature" (degrees Celsius), "throttled" (events since boot), "cooling" (share of a cooling device's strongest
            state, 0 to 1: above 0 something is slowed down or a fan runs), "frequency" or "frequency_limit" (Hz, of a CPU).
        name: of the sensor, e.g. ``x86_pkg_temp``.
        place: where in sysfs, e.g. ``thermal_zone0``; unique within its kind.
        value: in the unit of its kind.
    """

    kind: str
    name: str
    place: str
    value: float


def read_box(sysfs: Path = Path("/sys")) -> list[Reading]:
    """All that this box has."""
    found = [*_thermal(sysfs), *_hwmon(sysfs), *_cpus(sysfs)]
    return sorted(found, key=lambda reading: (reading.kind, reading.place))


def read_process(procfs: Path = Path("/proc")) -> dict[str, int]:
    """``VmRSS`` and ``VmHWM`` (bytes, now and at most) and ``Threads`` of this process, as far as the system tells."""
    found = {}
    for line in (_text(procfs / "self" / "status") or "").splitlines():
        key, _, rest = line.partition(":")
        if key in ("VmRSS", "VmHWM", "Threads"):
            number, _, unit = rest.strip().partition(" ")
            found[key] = int(number) * (1024 if unit == "kB" else 1)
    return found


def _thermal(sysfs: Path) -> Iterator[Reading]:
    for zone in sorted((sysfs / "class" / "thermal").glob("thermal_zone*")):
        if (value := _number(zone / "temp")) is not None:
            yield Reading("temperature", _text(zone / "type") or zone.name, zone.name, value / 1000)
    for device in sorted((sysfs / "class" / "thermal").glob("cooling_device*")):
        state, most = _number(device / "cur_state"), _number(device / "max_state")
        if state is not None and most:
            yield Reading("cooling", _text(device / "type") or device.name, device.name, state / most)


def _hwmon(sysfs: Path) -> Iterator[Reading]:
    for chip in sorted((sysfs / "class" / "hwmon").glob("hwmon*")):
        name = _text(chip / "name") or chip.name
        for file in sorted(chip.glob("temp*_input")):
            label = _text(file.with_name(file.name.replace("_input", "_label")))
            if (value := _number(file)) is not None:
                place = f"{chip.name}/{file.name.removesuffix('_input')}"
                yield Reading("temperature", f"{name} {label}" if label else name, place, value / 1000)
        for file in sorted(chip.glob("oc*_event_cnt")):
            if (value := _number(file)) is not None:
                yield Reading("throttled", f"{name} {file.name.removesuffix('_event_cnt')}", f"{chip.name}/{file.name}", value)


def _cpus(sysfs: Path) -> Iterator[Reading]:
    for cpu in sorted((sysfs / "devices" / "system" / "cpu").glob("cpu[0-9]*")):
        for what in ("core", "package"):
            if (value := _number(cpu / "thermal_throttle" / f"{what}_throttle_count")) is not None:
                yield Reading("throttled", what, f"{cpu.name}/{what}", value)
        for kind, file in (("frequency", "scaling_cur_freq"), ("frequency_limit", "scaling_max_freq")):
            if (value := _number(cpu / "cpufreq" / file)) is not None:
                yield Reading(kind, cpu.name, cpu.name, value * 1000)


def _text(file: Path) -> str | None:
    """What stands there; None when it is absent or the driver does not answer now (a GPU that is switched off)."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(file: Path) -> float | None:
    text = _text(file)
    try:
        return float(text) if text else None
    except ValueError:
        return None
