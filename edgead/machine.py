"""Facts about this machine, stored beside every measurement: a number without its machine is worth nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = ("edgead", "numpy", "opencv-python-headless", "opencv-python", "openvino", "onnxruntime", "torch", "onnx")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""CPU features that decide how fast and how exactly INT8 runs; asimddp is Arm's dot product."""

INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Any of these multiplies and adds 8-bit numbers without saturating in between."""


def facts() -> dict[str, Any]:
    """What this machine is, JSON-able.

    Returns:
        cpu (model name), architecture, cores (usable by this process), cpu_flags (those of `FLAGS`), int8_dot (whether one of
        `INT8_FLAGS` is there), memory_mb, os, python, packages (name -> version), governor (of CPU 0, or ""), jetson (the board's
        model, or "").
    """
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "cpu_flags": flags,
        "int8_dot": has_int8_dot(flags),
        "memory_mb": memory_mb(),
        "os": _os_name(),
        "python": platform.python_version(),
        "packages": packages(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "jetson": board() if "jetson" in board().lower() else "",
    }


def cpu_model() -> str:
    """The CPU's name as the kernel tells it, else its architecture."""
    for key in ("model name", "Model", "Hardware"):
        if value := _cpuinfo().get(key):
            return value
    return platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Those of `FLAGS` that this CPU has."""
    info = _cpuinfo()
    present = set((info.get("flags") or info.get("Features") or "").split())
    return [flag for flag in FLAGS if flag in present]


def has_int8_dot(flags: Iterable[str]) -> bool:
    """Whether the CPU multiplies 8-bit numbers without saturation in 16 bits."""
    return bool(INT8_FLAGS & set(flags))


def usable_cores() -> int:
    """Cores that this process may use: what taskset, cpusets and the CPU quota of its container left it, 1 or more.

    A quota of 1.5 cores counts as one: threads beyond a quota are not slower but stopped, for most of each 100 ms.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_cores()
    return cores if quota is None else max(1, min(cores, int(quota)))


def quota_cores(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU time that the control groups of this process grant it, in cores (``docker run --cpus``, ``CPUQuota=`` of systemd);
    None without a limit.

    cgroup v2 tells it as ``cpu.max`` ("QUOTA PERIOD" or "max PERIOD"), v1 as ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; the
    smallest of all groups above counts (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    limits = []
    for line in _text(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        group = top / path.lstrip("/")
        while group == top or top in group.parents:
            limits.append(_quota(group, v2=not controllers))
            group = group.parent
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(group: Path, *, v2: bool) -> float | None:
    """Cores that one control group grants; None: as many as there are."""
    if v2:
        quota, _, period = _text(group / "cpu.max").partition(" ")
    else:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    if not (quota.isdecimal() and period.isdecimal() and int(period) > 0):
        return None  # "max", -1, or no such file
    return int(quota) / int(period)


def memory_mb() -> int:
    """Main memory in MiB, 0 when unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError, AttributeError):
        return 0


def resident_mb() -> float:
    """Memory that this process holds now (resident set) in MiB, NaN when unknown."""
    return _status_mb("VmRSS:")


def peak_mb() -> float:
    """The most memory that this process has held (high water mark of the resident set) in MiB, NaN when unknown."""
    return _status_mb("VmHWM:")


def return_memory() -> None:
    """Give memory that was freed, but kept by the C library, back to the system (glibc; elsewhere nothing happens)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # musl has no such call, Windows no such library
        ctypes.CDLL(None).malloc_trim(0)


def packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Installed versions, without importing any of them."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def board() -> str:
    """The board's model on devices that tell it ("NVIDIA Jetson Orin Nano ...", "Raspberry Pi 5 ..."), else ""."""
    return _text("/proc/device-tree/model").rstrip("\0")


def _status_mb(key: str) -> float:
    for line in _text("/proc/self/status").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return float("nan")


def _cpuinfo() -> dict[str, str]:
    pairs = (line.partition(":") for line in _text("/proc/cpuinfo").splitlines())
    info: dict[str, str] = {}
    for key, _, value in pairs:
        info.setdefault(key.strip(), value.strip())
    return info


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name or platform.system()}, kernel {platform.release()}"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
