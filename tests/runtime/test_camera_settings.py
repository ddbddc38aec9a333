"""Camera settings: what an address may say, and that a camera which took something else is found out."""

from __future__ import annotations

import pytest

from edgead.errors import BadInput, CameraError
from edgead.runtime.cameras.genicam import Configurator, Value
from edgead.runtime.cameras.settings import CameraSettings, parse_settings
from edgead.runtime.cameras.usb import configure, device_number


def test_an_address_says_everything() -> None:
    text = "exposure_us=2000&gain_db=-1.5&frame_rate_hz=40&trigger_source=Line1&roi=1,2,30,40&pixel_format=Mono8&packet_size=9000"
    got = parse_settings(text + "&GevSCPD=100&BalanceWhiteAuto=Off")
    features = (("GevSCPD", "100"), ("BalanceWhiteAuto", "Off"))
    assert got == CameraSettings(2000.0, -1.5, 40.0, "line1", (1, 2, 30, 40), "mono8", 9000, features)
    assert got.triggered
    assert parse_settings("") == CameraSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exposure=2", "unknown camera setting 'exposure'"),
        ("exposure_us=", "has no value"),
        ("exposure_us", "has no value"),
        ("exposure_us=fast", "not a number"),
        ("exposure_us=0", "not possible"),
        ("exposure_us=nan", "not possible"),
        ("gain_db=inf", "not possible"),
        ("frame_rate_hz=-1", "not possible"),
        ("packet_size=100", "not possible"),
        ("roi=1,2,3", "is not x, y, width, height"),
        ("roi=0,0,0,5", "is not x, y, width, height"),
        ("roi=-1,0,5,5", "is not x, y, width, height"),
        ("exposure_us=1&exposure_us=2", "given twice"),
    ],
)
def test_mistakes_are_one_clear_line_with_a_hint(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        parse_settings(text)
    assert caught.value.hint


def test_settings_of_address_and_file_add_up_but_never_contradict() -> None:
    both = parse_settings("exposure_us=5&GevSCPD=1").merged(CameraSettings(gain_db=2.0, features=(("Gamma", "1"),)))
    assert both == CameraSettings(exposure_us=5.0, gain_db=2.0, features=(("GevSCPD", "1"), ("Gamma", "1")))
    for other in (CameraSettings(exposure_us=5.0), CameraSettings(features=(("GevSCPD", "2"),))):
        with pytest.raises(BadInput, match="given twice"):
            parse_settings("exposure_us=5&GevSCPD=1").merged(other)


class SnappingCamera:
    """A GenICam camera that takes the nearest value it can, without a word, as real ones do."""

    def __init__(self, *, step: float = 0.0, tells_step: bool = True, forgets: str = "") -> None:
        self.values: dict[str, Value] = {
            "ExposureTime": 100.0,
            "ExposureAuto": "Continuous",
            "Gain": 3,
            "Width": 640,
            "Height": 480,
            "OffsetX": 8,
            "OffsetY": 8,
            "PixelFormat": "Mono8",
            "TriggerSelector": "FrameStart",
            "TriggerMode": "Off",
            "TriggerSource": "Line0",
            "Mode": "Slow",
        }
        self._step, self._tells_step, self._forgets = step, tells_step, forgets
        self._triggers = {"AcquisitionStart": "On", "FrameStart": "Off"}

    def kind(self, name: str) -> str:
        kinds = {float: "float", int: "integer", str: "enum", bool: "boolean"}
        return kinds[type(self.values[name])] if name in self.values else ""

    def get(self, name: str) -> Value:
        return self._triggers[str(self.values["TriggerSelector"])] if name == "TriggerMode" else self.values[name]

    def set(self, name: str, value: Value) -> None:
        if name == "Width" and self.values["OffsetX"] != 0:
            raise CameraError("Width is bounded by OffsetX")
        if name == "TriggerMode":
            self._triggers[str(self.values["TriggerSelector"])] = str(value)
        elif name != self._forgets:
            self.values[name] = round(value / self._step) * self._step if isinstance(value, float) and self._step else value

    def bounds(self, name: str) -> tuple[float, float, float]:
        if name == "ExposureTime":
            return 10.0, 1e6, self._step if self._tells_step else 0.0
        return (0.0, 632.0, 8.0) if name.startswith("Offset") else (16.0, 640.0, 16.0)

    def choices(self, name: str) -> list[str]:
        return {
            "PixelFormat": ["Mono8", "Mono12Packed", "Coord3D_C16"],
            "TriggerSelector": ["FrameStart", "AcquisitionStart"],
            "TriggerSource": ["Line0", "Line1", "Software"],
            "Mode": ["Slow", "Fast"],
        }[name]

    def execute(self, name: str) -> None:
        raise AssertionError("there are no commands")


def set_and_check(camera: SnappingCamera, text: str) -> CameraSettings:
    configurator = Configurator(camera, "gige:1", "features are listed by arv-tool")
    settings = parse_settings(text)
    configurator.apply(settings)
    return configurator.verify(settings)


def test_a_difference_within_the_increment_is_fine_and_the_true_value_is_told() -> None:
    assert set_and_check(SnappingCamera(step=35.0), "exposure_us=1000").exposure_us == pytest.approx(1015.0)


def test_a_difference_beyond_the_tolerance_names_feature_asked_and_got() -> None:
    with pytest.raises(BadInput, match=r"exposure_us \(ExposureTime\) was asked to be 1000.0, but the camera has 900.0"):
        set_and_check(SnappingCamera(step=300.0, tells_step=False), "exposure_us=1000")


def test_a_value_that_did_not_stay_is_found_out() -> None:
    camera = SnappingCamera(forgets="OffsetX")
    camera.values["OffsetX"] = 0
    with pytest.raises(BadInput, match=r"roi was asked to be 16, 8, 320, 160, but the camera has 0, 8, 320, 160"):
        set_and_check(camera, "roi=16,8,320,160")
    with pytest.raises(BadInput, match="Mode was asked to be fast, but the camera has Slow"):
        set_and_check(SnappingCamera(forgets="Mode"), "Mode=fast")


def test_automatic_exposure_is_switched_off_and_offsets_make_room_for_the_width() -> None:
    camera = SnappingCamera()
    got = set_and_check(camera, "exposure_us=500&roi=8,16,640,320")
    assert camera.values["ExposureAuto"] == "Off"
    assert got.roi == (8, 16, 640, 320)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exposure_us=5", "ExposureTime cannot be 5"),
        ("roi=0,0,33,16", "Width cannot be 33"),
        ("gain_db=3", r"has no gain_db \(Gain or GainAbs\)"),
        ("frame_rate_hz=3", "has no frame_rate_hz"),
        ("pixel_format=coord3dc16", "cannot be converted"),
        ("pixel_format=mono10", "PixelFormat cannot be mono10"),
        ("trigger_source=line9", "TriggerSource cannot be line9"),
        ("Nothing=1", "has no feature Nothing"),
    ],
)
def test_what_the_camera_does_not_have_is_said_before_anything_else(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        set_and_check(SnappingCamera(), text)
    assert caught.value.hint


def test_exactly_one_trigger_starts_a_frame_and_free_means_none() -> None:
    camera = SnappingCamera()
    assert set_and_check(camera, "trigger_source=line1").trigger_source == "line1"
    assert camera._triggers == {"AcquisitionStart": "Off", "FrameStart": "On"}
    assert set_and_check(camera, "trigger_source=free").trigger_source == "free"
    assert camera._triggers == {"AcquisitionStart": "Off", "FrameStart": "Off"}


def test_a_format_that_the_camera_had_before_must_be_usable_too() -> None:
    camera = SnappingCamera()
    camera.values["PixelFormat"] = "Coord3D_C16"
    with pytest.raises(BadInput, match="cannot be converted"):
        set_and_check(camera, "exposure_us=500")


class FakeCapture:
    """cv2.VideoCapture of a UVC camera: sizes snap to what the sensor has."""

    def __init__(self, backend: str = "V4L2") -> None:
        import cv2

        self._cv2, self._backend = cv2, backend
        self.values: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_FPS: 30,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV"),
            cv2.CAP_PROP_AUTO_EXPOSURE: 3,
            cv2.CAP_PROP_EXPOSURE: 156,
            cv2.CAP_PROP_GAIN: 0,
        }

    def getBackendName(self) -> str:
        return self._backend

    def get(self, prop: int) -> float:
        return self.values.get(prop, -1)

    def set(self, prop: int, value: float) -> bool:
        if prop not in self.values or (prop == self._cv2.CAP_PROP_FRAME_WIDTH and value not in (640, 1280)):
            return False
        self.values[prop] = value
        return True


def test_a_usb_camera_takes_settings_in_its_own_units() -> None:
    capture = FakeCapture()
    settings = parse_settings("exposure_us=2000&roi=0,0,1280,720&frame_rate_hz=15&pixel_format=mjpg&GAIN=12")
    got = configure(capture, settings, "usb:0")
    assert capture.values[capture._cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert capture.values[capture._cv2.CAP_PROP_EXPOSURE] == 20
    assert got == CameraSettings(2000.0, None, 15.0, "free", (0, 0, 1280, 720), "mjpg", None, (("GAIN", "12"),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("roi=0,0,1000,720", r"roi \(CAP_PROP_FRAME_WIDTH\) was asked to be 1000, but the camera has 640"),
        ("roi=8,0,640,480", "cannot read out a part"),
        ("gain_db=3", "has no gain_db"),
        ("packet_size=9000", "has no packet_size"),
        ("trigger_source=line1", "no trigger input"),
        ("pixel_format=mono8", "not a FOURCC"),
        ("FOCUS=3", r"FOCUS \(CAP_PROP_FOCUS\) was asked"),
        ("GAINS=3", "has no property GAINS"),
        ("GAIN=loud", "not a number"),
    ],
)
def test_what_a_usb_camera_does_not_take_is_said(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        configure(FakeCapture(), parse_settings(text), "usb:0")
    assert caught.value.hint


def test_a_stream_takes_no_settings() -> None:
    assert configure(FakeCapture("FFMPEG"), CameraSettings(), "rtsp://h/l") == CameraSettings()
    with pytest.raises(BadInput, match="takes no settings here"):
        configure(FakeCapture("FFMPEG"), CameraSettings(exposure_us=5.0), "rtsp://h/l")


@pytest.mark.parametrize(
    ("address", "number"), [("3", 3), ("usb:3", 3), ("USB:3", 3), ("/dev/video12", 12), ("/dev/none", None), ("rtsp://3", None)]
)
def test_the_number_of_a_usb_camera(address: str, number: int | None) -> None:
    assert device_number(address) == number
