import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.teacher_corpus import main
from edgead.models.learning.outside import draw_picture


@pytest.fixture()
def debs(tmp_path: Path) -> Path:
    """A folder with one real package: a picture, its copy, a normal map, a flat picture, and a large one in a game archive."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb on this machine")
    tree, rng = tmp_path / "tree", np.random.default_rng(0)
    share = tree / "usr/share/walls"
    for folder in (share, tree / "DEBIAN", tree / "usr/share/doc/walls"):
        folder.mkdir(parents=True)
    picture = draw_picture(160, rng)
    for name in ("a.png", "copy_of_a.png", "a_norm.png"):
        cv2.imwrite(str(share / name), picture)
    cv2.imwrite(str(share / "flat.png"), np.full((200, 200, 3), 90, np.uint8))
    large = cv2.imencode(".png", cv2.resize(draw_picture(128, rng), (1536, 768)))[1].tobytes()
    with zipfile.ZipFile(share / "textures.pk3", "w") as archive:
        archive.writestr("textures/large.png", large)
    (tree / "usr/share/doc/walls/copyright").write_text("License: CC0-1.0\n")
    (tree / "DEBIAN/control").write_text(
        "Package: walls\nVersion: 1.2-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: walls\n"
    )
    target = tmp_path / "debs"
    target.mkdir()
    subprocess.run(["dpkg-deb", "--build", str(tree), str(target / "walls_1.2-3_all.deb")], check=True, capture_output=True)
    return target


def test_a_package_becomes_pictures_with_their_source(debs: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    assert main([str(out), "--debs", str(debs), "--packages", "walls"]) == 0
    shapes = sorted(cv2.imread(str(file)).shape for file in out.glob("walls-*.jpg"))
    assert shapes == [(160, 160, 3), (512, 1024, 3)]
    sources = json.loads((out / "sources.json").read_text())
    assert sources == [{"package": "walls", "version": "1.2-3", "licence_file": "licences/walls.copyright", "pictures": 2}]
    assert (out / "licences/walls.copyright").read_text() == "License: CC0-1.0\n"
    names = sorted(file.name for file in out.glob("*.jpg"))
    assert main([str(tmp_path / "again"), "--debs", str(debs), "--packages", "walls"]) == 0
    assert sorted(file.name for file in (tmp_path / "again").glob("*.jpg")) == names


def test_an_unknown_package_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("apt-get"):
        pytest.skip("no apt-get on this machine")
    (tmp_path / "debs").mkdir()
    assert main([str(tmp_path / "out"), "--debs", str(tmp_path / "debs"), "--packages", "no-such-package-edgead"]) == 2
    assert "apt-get download no-such-package-edgead failed" in capsys.readouterr().err
