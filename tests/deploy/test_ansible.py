"""The role, run here against a scratch folder: verified before it takes over, idempotent, and back when it does not work.

The run takes a minute and more: EDGEAD_TEST_ANSIBLE=1 has it run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from edgead.bundle import Bundle
from edgead.signing import new_key
from tests.servers.files import Served, file_server
from tests.servers.registry import Registry, registry_is_missing
from tests.vouched import write_vouched

FOLDER = Path(__file__).resolve().parents[2] / "edgead/deploy/ansible"
needs_ansible = pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="apt-get install ansible-core")
Play = Callable[..., subprocess.CompletedProcess[str]]


def edgead(*arguments: object) -> str:
    command = [sys.executable, "-m", "edgead", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_file_is_yaml_and_every_variable_has_a_default() -> None:
    files = list(FOLDER.rglob("*.yml"))
    assert len(files) >= 8
    text = "".join(file.read_text("utf-8") for file in files)
    defaults = set(yaml.safe_load((FOLDER / "roles/edgead/defaults/main.yml").read_text("utf-8")))
    for file in files:
        yaml.safe_load(file.read_text("utf-8"))
    words = set(re.findall(r"\bedgead_[a-z_]+", text))
    registered = set(re.findall(r"register: (edgead_[a-z_]+)", text))
    assert words - registered - defaults == set()


@needs_ansible
def test_ansible_takes_the_playbook(tmp_path: Path) -> None:
    command = ["ansible-playbook", "--syntax-check", "-i", str(FOLDER / "boxes.example.ini"), str(FOLDER / "edgead.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def pinned(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a signed bundle, and of one that is not."""
    if missing := registry_is_missing():
        pytest.skip(f"no registry here: {missing}")
    new_key(tmp_path / "line.pem")
    signed, bare = (write_vouched(tmp_path / name) for name in ("bolt.edgead", "nut.edgead"))
    edgead("sign", signed, "--key", tmp_path / "line.pem")
    with Registry(tmp_path) as registry:
        told = [edgead("push", one, f"oci://{registry.host}/line/{one.stem}:1", "--json") for one in (signed, bare)]
        yield json.loads(told[0])["pinned"], json.loads(told[1])["pinned"]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run the role on a scratch box whose edgead is the one that is tested."""
    box = tmp_path / "box"
    program = box / "opt/edgead/bin/edgead"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgead "$@"\n')
    program.chmod(0o755)
    (tmp_path / "station.yaml.j2").write_text(
        "name: {{ inventory_hostname }}\ntrusted: [line.pub]\n"
        "cameras: [{name: top, address: sim, bundle: '{{ bundle }}'}]\nstorage: {folder: '{{ edgead_root }}{{ edgead_state }}'}\n"
    )
    variables = {
        "edgead_root": str(box),
        "edgead_install": False,
        "edgead_service": False,
        "edgead_station": str(tmp_path / "station.yaml.j2"),
        "edgead_trusted": [str(tmp_path / "line.pub")],
        "edgead_ready_retries": 1,
        "ansible_become": False,
        "ansible_python_interpreter": "/usr/bin/python3",
    }

    def run(bundle: str, **more: object) -> subprocess.CompletedProcess[str]:
        given = json.dumps({**variables, "bundle": bundle, **more})
        (tmp_path / "boxes.ini").write_text("[edgead]\nbox-1\n")
        command = [
            "ansible-playbook",
            "-i",
            str(tmp_path / "boxes.ini"),
            "--connection=local",
            str(FOLDER / "edgead.yml"),
            "-e",
            given,
        ]
        env = {**os.environ, "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_ROLES_PATH": str(FOLDER / "roles")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    return run


@needs_ansible
@pytest.mark.skipif(os.environ.get("EDGEAD_TEST_ANSIBLE") != "1", reason="EDGEAD_TEST_ANSIBLE=1 runs the role, for a minute")
def test_a_box_gets_its_station_and_bundle_once_and_keeps_them_when_the_next_is_wrong(
    pinned: tuple[str, str], play: Play, tmp_path: Path
) -> None:
    signed, bare = pinned
    station = tmp_path / "box/etc/edgead/station.yaml"
    done = play(signed)
    assert done.returncode == 0, done.stdout + done.stderr
    first = station.read_text()
    assert signed in first and "name: box-1" in first
    (bundle,) = (tmp_path / "box/var/lib/edgead/bundles").glob("*/bolt.edgead")
    assert Bundle.open(bundle).is_signed
    again = play(signed)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    refused = play(bare)
    assert refused.returncode != 0 and "is not signed" in refused.stdout, refused.stdout
    assert station.read_text() == first
    with file_server({"/readyz": Served(b"{}", status=503)}) as url:  # everything is right, but the station does not get ready
        back = play(signed, edgead_state="/var/lib/edgead/./", edgead_ready_url=f"{url}/readyz")
    assert back.returncode != 0 and "the old one is in force again" in back.stdout, back.stdout
    assert station.read_text() == first
