"""Cut JPEG files are seen, whatever the decoder makes of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.jpeg import is_cut_short
from edgead.preprocess import read_image


def encoded(*options: int, kind: str = ".jpg") -> bytes:
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3)
    return bytes(cv2.imencode(kind, picture, list(options))[1].tobytes())


PLAIN, PROGRESSIVE = encoded(), encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
THUMBNAIL = PLAIN[:2] + b"\xff\xe1" + (len(PLAIN) + 2).to_bytes(2, "big") + PLAIN + PLAIN[2:]


@pytest.mark.parametrize("data", [PLAIN, PROGRESSIVE, RESTARTS, THUMBNAIL, PLAIN + bytes(16), encoded(kind=".png"), b"", b"\xff"])
def test_whole_ones_and_other_files_pass(data: bytes) -> None:
    assert not is_cut_short(data)


@given(st.sampled_from([PLAIN, PROGRESSIVE, RESTARTS, THUMBNAIL]), st.floats(0.0, 1.0))
def test_every_cut_is_seen(data: bytes, share: float) -> None:
    assert is_cut_short(data[: 2 + int(share * (len(data) - 4))])


def test_a_cut_file_is_no_picture_even_where_the_decoder_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cut.jpg"
    file.write_bytes(THUMBNAIL[: -len(PLAIN) // 3])
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.zeros((96, 128, 3), np.uint8))  # as OpenCV 4.10 does
    with pytest.raises(BadInput, match=r"cut\.jpg"):
        read_image(file)
