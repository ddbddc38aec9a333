"""`edgead cameras` lists what is attached with the addresses that open it, and says what it did not look for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edgead.cli.main import main
from edgead.jobs.doctor.cameras import network, usb_memory
from edgead.runtime.cameras import _libaravis
from edgead.runtime.cameras.discover import v4l2
from tests.servers import GigeCamera, aravis_is_missing, pylon_is_missing


@pytest.fixture
def gige() -> Iterator[GigeCamera]:
    if reason := aravis_is_missing():
        pytest.skip(reason)
    server = GigeCamera()
    server.start()
    yield server
    server.kill()


def test_the_list_gives_addresses_and_thumbnails(gige: GigeCamera, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cameras", "--json", "--thumbnails", str(tmp_path / "new")]) == 0
    cameras = {camera["address"]: camera for camera in json.loads(capsys.readouterr().out)["cameras"]}
    taken = cameras[f"gige:{gige.serial}"]
    picture = cv2.imread(taken["file"])
    assert picture is not None
    assert (picture.shape, taken["model"], taken["error"]) == ((480, 480, 3), "Aravis Fake", "")


def test_a_camera_that_gives_no_picture_is_told_and_the_exit_code_is_6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := pylon_is_missing():
        pytest.skip(reason)
    monkeypatch.setattr("edgead.jobs.cameras.TIMEOUT_S", 0.0)
    assert main(["cameras", "--thumbnails", str(tmp_path)]) == 6
    assert "no picture: camera basler:0815-0000 gave no frame" in capsys.readouterr().out


def test_what_is_not_installed_is_not_looked_for_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _libaravis.load.cache_clear()
    monkeypatch.setattr(_libaravis, "NAMES", ("libnothing.so",))
    monkeypatch.setitem(sys.modules, "pypylon.pylon", None)
    assert main(["cameras"]) == 0
    out = capsys.readouterr().out
    _libaravis.load.cache_clear()
    assert "not looked for: GigE Vision and USB3 Vision (Aravis)" in out
    assert _libaravis.INSTALL in out
    assert "pip install 'edgead[basler]'" in out


def _kernel(tmp_path: Path, nodes: dict[str, tuple[str, int]]) -> tuple[Path, Path]:
    """The kernel's folders for some video nodes: name -> (camera's name, index)."""
    root, dev = tmp_path / "class", tmp_path / "dev"
    (dev / "v4l" / "by-id").mkdir(parents=True)
    for node, (name, index) in nodes.items():
        (root / node).mkdir(parents=True)
        (root / node / "name").write_text(f"{name}\n")
        (root / node / "index").write_text(f"{index}\n")
        (dev / node).touch()
    return root, dev


def test_usb_cameras_are_listed_by_a_name_that_stays_or_by_number(tmp_path: Path) -> None:
    root, dev = _kernel(
        tmp_path, {"video0": ("Cam A", 0), "video1": ("Cam A", 1), "video10": ("Cam C", 0), "video2": ("Cam B", 0)}
    )
    link = dev / "v4l" / "by-id" / "usb-Maker_Cam_A_1234-video-index0"
    link.symlink_to(dev / "video0")
    found = v4l2(root, dev)
    assert [(camera.address, camera.model, camera.serial) for camera in found] == [
        (str(link), "Cam A", "Maker_Cam_A_1234"),
        ("usb:2", "Cam B", ""),
        ("usb:10", "Cam C", ""),
    ]


def _port(net: Path, name: str, **files: str) -> None:
    (net / name / "device").mkdir(parents=True)
    for file, text in files.items():
        (net / name / file).write_text(text + "\n")


def test_doctor_finds_small_packets_and_small_buffers(tmp_path: Path) -> None:
    net, core = tmp_path / "net", tmp_path / "core"
    _port(net, "eth0", operstate="up", mtu="1500", speed="1000")
    _port(net, "eth1", operstate="up", mtu="9000", speed="10000")
    _port(net, "eth2", operstate="down", mtu="1500")
    _port(net, "wlan0", operstate="up", mtu="1500")
    (net / "wlan0" / "wireless").mkdir()
    (net / "eth1" / "device" / "ptp" / "ptp0").mkdir(parents=True)
    core.mkdir()
    (core / "rmem_max").write_text("212992\n")
    checks = {check.name: check for check in network(net, core)}
    assert {name: check.state for name, check in checks.items()} == {
        "network port eth0": "note",
        "network port eth1": "ok",
        "receive buffers": "note",
    }
    assert "ip link set eth0 mtu 9000" in checks["network port eth0"].hint
    assert checks["network port eth1"].detail == "10000 Mbit/s, packets of 9000 bytes, has a PTP clock"
    assert "net.core.rmem_max" in checks["receive buffers"].hint
    (core / "rmem_max").write_text(f"{64 * 2**20}\n")
    assert [check.state for check in network(net, core)][-1] == "ok"


def test_doctor_finds_little_usb_memory(tmp_path: Path) -> None:
    file = tmp_path / "usbfs_memory_mb"
    file.write_text("16\n")
    assert [check.state for check in usb_memory(file)] == ["note"]
    file.write_text("1000\n")
    assert not list(usb_memory(file))
    assert not list(usb_memory(tmp_path / "none"))
