"""Secrets in camera addresses never reach a message."""

from __future__ import annotations

import pytest

from edgead.runtime.redact import redact


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pass@host:554/line", "rtsp://***@host:554/line"),
        ("rtsp://user:p@ss/w:rd@host/line", "rtsp://***@host/line"),
        ("RTSPS://user@host/line", "RTSPS://***@host/line"),
        ("http://host/cgi?user=admin&password=x%20y&channel=1", "http://host/cgi?user=***&password=***&channel=1"),
        ("rtsp://host/user=admin&pwd=secret", "rtsp://host/user=***&pwd=***"),
        ("rtsp://host/line", "rtsp://host/line"),
        ("/data/me@work/video.mp4", "/data/me@work/video.mp4"),
        ("0", "0"),
    ],
)
def test_user_password_and_secret_values_are_hidden(address: str, shown: str) -> None:
    assert redact(address) == shown
