"""Secrets in camera addresses never reach a message."""

from __future__ import annotations

import pytest

from edgead.runtime.redact import redact, redact_all


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pass@host:554/line", "rtsp://***@host:554/line"),
        ("rtsp://user:p@ss/w:rd@host/line", "rtsp://***@host/line"),
        ("RTSPS://user@host/line", "RTSPS://***@host/line"),
        ("http://host/cgi?user=admin&password=x%20y&channel=1", "http://host/cgi?user=***&password=***&channel=1"),
        ("rtsp://host/user=admin&pwd=secret", "rtsp://host/user=***&pwd=***"),
        ("https://store/a.png?sig=x%2By&X-Amz-Signature=ab12", "https://store/a.png?sig=***&X-Amz-Signature=***"),
        ("rtsp://host/line", "rtsp://host/line"),
        ("/data/me@work/video.mp4", "/data/me@work/video.mp4"),
        ("0", "0"),
        (
            'gst:rtspsrc location=rtsp://me:s3cret@h/l user-id=me user-pw="s 3" ! x',
            "gst:rtspsrc location=rtsp://***@h/l user-id=*** user-pw=*** ! x",
        ),
    ],
)
def test_user_password_and_secret_values_are_hidden(address: str, shown: str) -> None:
    assert redact(address) == shown


def test_secrets_are_hidden_inside_any_text() -> None:
    text = """opening 'rtsp://me:pa'ss@cam/live' failed; gst:rtspsrc user-pw="s 3" ! x; http://cam/?token=abc&n=1 mail me@work"""
    shown = "opening 'rtsp://***@cam/live' failed; gst:rtspsrc user-pw=*** ! x; http://cam/?token=*** mail me@work"
    assert redact_all({"a": [text, 1], "b": None}) == {"a": [shown, 1], "b": None}
