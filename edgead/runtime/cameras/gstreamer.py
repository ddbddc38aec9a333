"""GStreamer pipelines through an OpenCV built with GStreamer: Jetson's CSI cameras, and whatever else has an element."""

from __future__ import annotations

import re
import threading
from typing import Any

import cv2

from edgead.clock import Clock
from edgead.errors import BadInput, CameraError, CameraLost, MissingExtra
from edgead.runtime.cameras.opencv import OPEN_TIMEOUT_S, OpenCvCamera, quiet, time_limits
from edgead.runtime.threads import Supervised

SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
HINT = "try the pipeline with gst-launch-1.0, its end replaced by autovideosink"


class GStreamerCamera(OpenCvCamera):
    """A live pipeline, drained by a thread like any other stream.

    Args:
        pipeline: as for ``gst-launch-1.0``; without an ``appsink`` at its end, conversion to BGR and one are added.
        clock: stamps the frames.
        bits: that 16-bit pictures really use.

    Raises:
        MissingExtra: this OpenCV has no GStreamer (those from PyPI have none).
        BadInput: nothing but blanks.
        CameraLost: the pipeline does not start.
    """

    def __init__(self, pipeline: str, *, clock: Clock | None = None, bits: int = 16) -> None:
        if not pipeline.strip():
            raise BadInput("gst: needs a pipeline", hint="for example 'gst:v4l2src device=/dev/video0'")
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise MissingExtra(
                f"this OpenCV ({cv2.__version__}) was built without GStreamer, as all from PyPI are",
                hint="use the system's: apt-get install python3-opencv, and see edgead docs rtsp",
            )
        super().__init__(f"gst:{pipeline}", clock=clock, bits=bits)

    def _open(self, address: str) -> Any:
        """OpenCV may wait for ever for a pipeline with an unknown element, so it waits in a thread of its own."""
        quiet()
        opening = _Opening(complete(address.removeprefix("gst:")))
        if (capture := opening.wait(OPEN_TIMEOUT_S)) is None:
            raise CameraLost(f"camera {self._name} does not open within {OPEN_TIMEOUT_S:g} s", hint=HINT)
        return capture


class _Opening:
    """Opens a pipeline in a thread; one that opens after it was given up is closed again."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._capture: Any = None
        self._given_up = False
        self._thread = Supervised("camera opener", self._run, restart=False, kind=CameraError)
        self._thread.start()

    def wait(self, timeout_s: float) -> Any:
        """The capture, open or not; None when it takes longer."""
        self._thread.join(timeout_s)
        with self._lock:
            self._given_up = self._capture is None
            return self._capture

    def _run(self) -> None:
        capture = cv2.VideoCapture(self._pipeline, cv2.CAP_GSTREAMER, time_limits())
        if not capture.isOpened():  # OpenCV before 4.8 refuses to limit times
            capture = cv2.VideoCapture(self._pipeline, cv2.CAP_GSTREAMER)
        with self._lock:
            self._capture = capture
            if self._given_up:
                capture.release()


def complete(pipeline: str) -> str:
    """The pipeline with an end that gives BGR pictures, the newest only."""
    if re.search(r"\bappsink\b", pipeline):
        return pipeline
    return f"{pipeline.strip().rstrip('!').strip()} ! {SINK}"
