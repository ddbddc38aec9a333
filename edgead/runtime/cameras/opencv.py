"""USB cameras, network streams and video files through OpenCV (https://docs.opencv.org/4.x/d8/dfe/classcv_1_1VideoCapture.html)."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import Any

import cv2

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraError, CameraLost, CameraTimeout, EndOfStream, FrameDoubtful, UnreadableFrame
from edgead.preprocess import to_bgr8
from edgead.runtime.cameras.settings import CameraSettings
from edgead.runtime.cameras.stamps import stamps_of
from edgead.runtime.cameras.usb import configure, device_number
from edgead.runtime.redact import redact
from edgead.runtime.slot import Slot
from edgead.runtime.threads import Supervised
from edgead.types import Frame, Image

OPEN_TIMEOUT_S = 8.0
READ_TIMEOUT_S = 3.0
"""A network stream that is silent for longer, or whose pictures come later than this, counts as lost."""
PIXELS_PER_S = 1920 * 1080 * 60.0
"""What one core of a small box decodes of H.264, with room to spare."""
STILL_S = 15.0
"""A reader that does not come back for longer hangs in OpenCV: V4L2 waits for 10 s, old versions with GStreamer for ever."""


class OpenCvCamera:
    """A USB camera or a network stream, drained by a thread, so that `grab` gives the newest frame and not a stale one.

    OpenCV and the driver queue frames while nobody reads (91 stale ones were measured after a stall of 5 s). Frames that
    nobody grabbed show as gaps in ``frame_id``.

    ``captured_at_ns`` is when the picture was made, as far as it can be known (:mod:`edgead.runtime.cameras.stamps`). Pictures
    that may be old, and nobody knows how old, are given to nobody: each time that this begins, `grab` raises FrameDoubtful once.
    What a stream brings first is thrown away like that, too.

    Args:
        address: ``0``, ``usb:0``, ``/dev/video0``, a link to it such as ``/dev/v4l/by-id/...``, or a stream's URL; RTSP goes over
            TCP unless the environment's OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise.
        settings: what a USB camera shall do (see :mod:`edgead.runtime.cameras.usb`); a stream takes none.
        clock: stamps the frames.
        bits: that 16-bit pictures really use (:attr:`edgead.preprocess.PreprocessRecipe.bits`).

    Attributes:
        settings: what a USB camera really has, read back after opening; all None for a stream.
        time_source: "sender" (RTSP), "driver" (V4L2) or "arrival"; see :class:`edgead.types.Camera`.

    Raises:
        CameraLost: it does not open, or gives no frame within 8 seconds.
        BadInput: it does not have or take a setting.
    """

    live = True

    def __init__(
        self, address: str, *, settings: CameraSettings | None = None, clock: Clock | None = None, bits: int = 16
    ) -> None:
        self._name, self._bits = redact(address), bits
        self._is_stream = "://" in address or address.startswith("gst:")
        self._clock = clock or MonotonicClock()
        self._slot = Slot()
        self._closing = False
        self._gone: CameraError | None = None
        self._made_ns = 0  # of the last picture
        capture = self._open(address)
        if not capture.isOpened():
            capture.release()
            raise CameraLost(f"camera {self._name} does not open", hint=_hint(address))
        try:
            self.settings = configure(capture, settings or CameraSettings(), self._name)
        except BaseException:
            capture.release()
            raise
        self._stamps = stamps_of(capture, address)
        self._capture = capture
        self._first = threading.Event()  # a picture that can be given, or the end
        self._delivered = 0
        self._doubting = True  # what came last may be old
        self._thread = Supervised(
            "camera reader", self._drain, died=self._died, restart=False, kind=CameraError, patience_s=STILL_S
        )
        self._thread.start()
        self._first.wait(OPEN_TIMEOUT_S)
        if not self._delivered:
            self.close()
            raise CameraLost(f"camera {self._name} opens but gives no frame", hint=_hint(address))

    @property
    def time_source(self) -> str:
        return self._stamps.time_source

    def _open(self, address: str) -> Any:
        """An OpenCV capture; whether it is open is for the caller to check."""
        return _open(address)

    def grab(self, timeout_s: float) -> Frame:
        """The newest frame that was not grabbed before, waiting for one if need be.

        Raises:
            CameraTimeout: none arrived within `timeout_s` seconds.
            CameraLost: unplugged, the stream broke off, or closed.
            UnreadableFrame: a frame of an unsupported kind arrived.
            FrameDoubtful: pictures arrive that may have been held up on their way; they are thrown away until fresh ones come.
        """
        entry = self._slot.take(0 if self._gone is not None else timeout_s)
        if isinstance(entry, Frame):
            return entry
        if entry is not None:
            raise entry
        if self._gone is not None:
            raise self._gone
        if self._closing:
            raise CameraLost(f"camera {self._name} is closed", hint="open it again")
        what = "only pictures that may be old" if self._doubting and self._delivered else "no frame"
        raise CameraTimeout(f"camera {self._name} gave {what} within {timeout_s:g} s")

    def close(self) -> None:
        self._closing = True
        self._slot.close()
        self._thread.join(READ_TIMEOUT_S + 2)

    def _drain(self) -> None:
        """Read for as long as there is something; this thread alone touches the capture."""
        try:
            why = ""
            while not self._closing and not why:
                self._thread.turn()
                why = self._read()
        finally:
            self._thread.rest()
            self._capture.release()
        self._end(CameraLost(f"camera {self._name} {why}", hint="check cable, power and network"))

    def _read(self) -> str:
        """One picture; why there will be no more, or ""."""
        asked_ns = self._clock.now_ns()
        try:
            ok, image = self._capture.read()
        except cv2.error:
            ok, image = False, None
        now_ns = self._clock.now_ns()
        # After a time-out FFmpeg hands out what was left in its decoder: pictures as old as the silence.
        if not ok or (self._is_stream and now_ns - asked_ns >= READ_TIMEOUT_S * 1e9):
            return "stopped delivering"
        made_ns = self._stamps.stamp(now_ns)
        if made_ns is not None and self._is_stream and now_ns - made_ns >= READ_TIMEOUT_S * 1e9:
            return f"is more than {READ_TIMEOUT_S:g} s behind"  # opened again it begins with what is made then
        if made_ns is None:
            self._doubt()
        else:
            self._give(image, made_ns, now_ns)
        self._delivered += 1
        return ""

    def _give(self, image: Any, made_ns: int, now_ns: int) -> None:
        self._doubting = False
        self._made_ns = max(self._made_ns, made_ns)
        try:
            self._slot.put(
                _frame(image, self._name, self._delivered, self._made_ns, age_ns=now_ns - self._made_ns, bits=self._bits)
            )
        except BadInput as error:
            self._thread.rest()  # for as long as nobody asks
            self._slot.report(UnreadableFrame(str(error), hint=error.hint))
        self._first.set()

    def _doubt(self) -> None:
        """A picture came of which nobody knows how old it is."""
        if not self._doubting:
            self._slot.mention(FrameDoubtful(f"camera {self._name}: pictures were held up on their way"))
        self._doubting = True

    def _died(self, error: BaseException) -> None:
        self._end(CameraLost(f"camera {self._name}: its reader failed: {error!r}", hint="please report this"))

    def _end(self, lost: CameraLost) -> None:
        self._gone = lost
        self._first.set()
        if not self._closing:
            self._slot.report(lost)


class VideoFile:
    """A video file: every frame in order, or, with `realtime`, at its own speed like a camera.

    Args:
        path: the file.
        clock: stamps the frames and paces them.
        realtime: the frame that is due by the clock is delivered and those before it are skipped (gaps in ``frame_id``).

    Raises:
        BadInput: not a video that OpenCV can read.
    """

    time_source = "reading"

    def __init__(self, path: Path, *, clock: Clock | None = None, realtime: bool = False) -> None:
        self.live = realtime
        self._path, self._clock = path, clock or MonotonicClock()
        self._capture = _open(str(path))
        self._next_id = 0
        rate = float(self._capture.get(cv2.CAP_PROP_FPS)) if self._capture.isOpened() else 0.0
        if not (self._capture.isOpened() and self._capture.grab()):
            self._capture.release()
            raise BadInput(f"{path} is not a video that can be read", hint="give a video, a picture or a folder of pictures")
        self._period_ns = int(1e9 / rate) if 0 < rate <= 1000 else 40_000_000
        self._start_ns = self._clock.now_ns()
        self._closed = False

    def grab(self, timeout_s: float) -> Frame:
        """The next frame; with `realtime` the newest that is due, waiting for it if need be.

        Raises:
            CameraTimeout: with `realtime`, the next frame is not due within `timeout_s` seconds.
            EndOfStream: the last one was delivered.
            CameraLost: the camera was closed.
        """
        if self._closed:
            raise CameraLost(f"{self._path} is closed", hint="open it again")
        if self.live:
            self._keep_pace(timeout_s)
        # The capture always stands on the next frame: grabbed, not yet decoded.
        ok, image = self._capture.retrieve() if self._next_id >= 0 else (False, None)
        if not ok:
            raise EndOfStream(f"{self._path} has ended")
        frame = _frame(image, str(self._path), self._next_id, self._clock.now_ns(), source=f"{self._path}#{self._next_id}")
        self._advance()
        return frame

    def close(self) -> None:
        self._closed = True
        self._capture.release()

    def _advance(self) -> None:
        self._next_id = self._next_id + 1 if self._capture.grab() else -1

    def _keep_pace(self, timeout_s: float) -> None:
        due_ns = self._start_ns + self._next_id * self._period_ns
        wait_s = (due_ns - self._clock.now_ns()) / 1e9
        if self._next_id >= 0 and wait_s > timeout_s:
            self._clock.sleep(timeout_s)
            raise CameraTimeout(f"{self._path}: no frame was due within {timeout_s:g} s")
        if wait_s > 0:
            self._clock.sleep(wait_s)
        due_id = (self._clock.now_ns() - self._start_ns) // self._period_ns
        while 0 <= self._next_id < due_id:
            self._advance()


def _frame(image: Any, camera: str, frame_id: int, made_ns: int, *, source: str = "", age_ns: int = 0, bits: int = 16) -> Frame:
    picture: Image = to_bgr8(image, bits)
    picture.flags.writeable = False
    return Frame(picture, camera, frame_id, made_ns, source=source, age_ns=age_ns)


def _open(address: str) -> Any:
    """A VideoCapture that says nothing on stderr; check `isOpened`."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    quiet()
    if (number := device_number(address)) is not None:
        return cv2.VideoCapture(number, cv2.CAP_ANY)
    return _stream(address) if "://" in address else cv2.VideoCapture(address, cv2.CAP_FFMPEG)


def _stream(address: str) -> Any:
    """Decoded by as few threads as it takes: with n of them FFmpeg gives each picture n - 1 pictures late (0.3 s on 8 cores)."""
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*time_limits(), cv2.CAP_PROP_N_THREADS, 1])
    get = capture.get
    threads = decoders(get(cv2.CAP_PROP_FRAME_WIDTH) * get(cv2.CAP_PROP_FRAME_HEIGHT) * get(cv2.CAP_PROP_FPS))
    if capture.isOpened() and threads > 1:
        capture.release()
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*time_limits(), cv2.CAP_PROP_N_THREADS, threads])
    return capture


def decoders(pixels_per_s: float) -> int:
    """How many threads shall decode a stream: one up to 1080p at 60 pictures a second, and where no sensible rate is told."""
    wanted = math.ceil(pixels_per_s / PIXELS_PER_S) if 0 < pixels_per_s < 100 * PIXELS_PER_S else 1
    return min(wanted, os.cpu_count() or 1)


def quiet() -> None:
    """OpenCV shall not write to standard error: what matters is raised."""
    if (control := getattr(cv2.utils, "logging", None)) is not None:  # distributions' builds of OpenCV lack it
        control.setLogLevel(control.LOG_LEVEL_SILENT)


def time_limits() -> list[int]:
    """For VideoCapture: how long opening and one read may take."""
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(OPEN_TIMEOUT_S * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(READ_TIMEOUT_S * 1000),
    ]


def _hint(address: str) -> str:
    if address.startswith("gst:"):
        return "try the pipeline with gst-launch-1.0, its end replaced by autovideosink"
    if "://" in address:
        return "check address, user, password and network, e.g. with: ffplay URL"
    return "is it plugged in, may this user read /dev/video*, is another program using it? edgead doctor lists cameras"
