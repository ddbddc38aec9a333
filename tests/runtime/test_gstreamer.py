"""GStreamer pipelines, where OpenCV has them; elsewhere one clear line."""

from __future__ import annotations

import cv2
import pytest

from edgead.errors import BadInput, MissingExtra
from edgead.runtime.cameras import open_camera
from edgead.runtime.cameras.gstreamer import SINK, complete

has_gstreamer = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


def test_a_pipeline_gets_an_end_that_gives_bgr_unless_it_has_one() -> None:
    assert complete("nvarguscamerasrc ! nvvidconv ! ") == f"nvarguscamerasrc ! nvvidconv ! {SINK}"
    own = "videotestsrc ! videoconvert ! appsink drop=true"
    assert complete(own) == own


def test_an_empty_pipeline_is_bad_input() -> None:
    with pytest.raises(BadInput, match="needs a pipeline"):
        open_camera("gst: ")


@pytest.mark.skipif(has_gstreamer, reason="this OpenCV has GStreamer")
def test_without_gstreamer_one_line_says_so() -> None:
    with pytest.raises(MissingExtra, match="built without GStreamer") as caught:
        open_camera("gst:videotestsrc")
    assert "python3-opencv" in caught.value.hint


@pytest.mark.skipif(not has_gstreamer, reason="this OpenCV has no GStreamer")
def test_a_pipeline_gives_pictures() -> None:
    camera = open_camera("gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48")
    assert camera.grab(5.0).image.shape == (48, 64, 3)
    camera.close()
