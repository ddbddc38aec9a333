"""A layer that somebody made by hand writes nothing outside of its folder, and no more than a bundle can be."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.bundle import Bundle
from edgead.errors import BundleError
from edgead.oci import artefact
from edgead.oci.artefact import Blob, read_manifest, unpack, write_layer, write_manifest


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 3, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made


def tar(*entries: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for one in entries:
            made.addfile(one, io.BytesIO(bytes(one.size)))
    return out.getvalue()


HOSTILE = {
    "a link": tar(entry("a", tarfile.SYMTYPE, 0, "/etc/passwd")),
    "a hard link": tar(entry("a", tarfile.LNKTYPE, 0, "/etc/passwd")),
    "a link, then a file through it": tar(entry("a", tarfile.SYMTYPE, 0, ".."), entry("a/outside")),
    "a device": tar(entry("a", tarfile.CHRTYPE, 0)),
    "a pipe": tar(entry("a", tarfile.FIFOTYPE, 0)),
    "a folder": tar(entry("a", tarfile.DIRTYPE, 0)),
    "an absolute path": tar(entry("/tmp/outside")),
    "a path that climbs": tar(entry("a/../../outside")),
    "dots": tar(entry("./a")),
    "an empty part": tar(entry("a//b")),
    "a name of Windows": tar(entry("C:a")),
    "a path of Windows": tar(entry("..\\outside")),
    "a line break": tar(entry("a\nb")),
    "twice": tar(entry("a"), entry("a")),
    "a file where a folder is": tar(entry("a/b"), entry("a")),
    "a folder where a file is": tar(entry("a"), entry("a/b")),
    "a long name by PAX": tar(entry("a" * 300), form=tarfile.PAX_FORMAT),
    "a long name by GNU": tar(entry("a" * 300), form=tarfile.GNU_FORMAT),
    "a sparse file": tar(entry("a", tarfile.GNUTYPE_SPARSE, 0)),
    "no tar": b"x" * 2048,
    "nothing": b"",
    "cut in a head": tar(entry("a"))[:100],
    "cut in a file": tar(entry("a", size=5000))[:2000],
    "no end": tar(entry("a"))[:1024],
    "a name that is no text": tar(entry("a")).replace(b"a\0", b"\xff\0", 1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_bundle_holds_is_refused_and_nothing_is_written_outside(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "in/here"
    folder.mkdir(parents=True)
    (tmp_path / "layer.tar").write_bytes(HOSTILE[case])
    with pytest.raises(BundleError, match=r"the layer of oci://r/b:1 ") as refused:
        unpack(tmp_path / "layer.tar", folder, "oci://r/b:1")
    assert "\n" not in str(refused.value) and refused.value.hint
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("*") if path.is_file() and path.name != "layer.tar")
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("size", [-1, 1 << 60])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: int) -> None:
    head = tarfile.TarInfo("a")
    head.size = size
    (tmp_path / "layer.tar").write_bytes(head.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    (tmp_path / "in").mkdir()
    with pytest.raises(BundleError):
        unpack(tmp_path / "layer.tar", tmp_path / "in", "oci://r/b:1")


def test_more_files_than_a_bundle_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "_MOST_FILES", 3)
    (tmp_path / "layer.tar").write_bytes(tar(*(entry(str(i)) for i in range(4))))
    (tmp_path / "in").mkdir()
    with pytest.raises(BundleError, match="larger than a bundle can be"):
        unpack(tmp_path / "layer.tar", tmp_path / "in", "oci://r/b:1")


def test_a_layer_holds_what_the_bundle_holds_whatever_its_files_times_and_rights(old: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(old, tmp_path / "copy.edgead"))
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o700)
    one, other = (write_layer(Bundle.open(path), tmp_path / f"{i}.tar") for i, path in enumerate((old, copy)))
    assert one == other and (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as made:  # and everybody can read it
        assert made.getnames() == ["manifest.json", *sorted(Bundle.open(old).manifest.files)]
    (tmp_path / "in").mkdir()
    unpack(tmp_path / "0.tar", tmp_path / "in", "x")
    assert Bundle.open(tmp_path / "in").digest == Bundle.open(old).digest


def test_a_bundle_that_changes_while_it_is_packed_is_refused(old: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(old, tmp_path / "copy.edgead"))
    opened = Bundle.open(copy)
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text() + "\n")
    with pytest.raises(BundleError, match="has changed in the meantime"):
        write_layer(opened, tmp_path / "a.tar")


CHANGES: dict[str, Callable[[str], str]] = {
    "no JSON": lambda text: text[:-1],
    "a list": lambda _: "[]",
    "another type": lambda text: text.replace("vnd.edgead.bundle.v1", "vnd.other"),
    "a compressed layer": lambda text: text.replace("layer.v1.tar", "layer.v1.tar+gzip"),
    "no layer": lambda text: text.replace('"layers":[', '"layers":[],"old":['),
    "a size below 0": lambda text: text.replace('"size":7', '"size":-7'),
    "a size beyond all": lambda text: text.replace('"size":7', '"size":' + "9" * 30),
    "a size that is none": lambda text: text.replace('"size":7', '"size":true'),
    "a digest that is a path": lambda text: text.replace("sha256:" + "a" * 64, "sha256:../../" + "a" * 58),
    "no digest of the bundle": lambda text: text.replace("dev.edgead.bundle.sha256", "dev.edgead.bundle.x"),
    "a key twice": lambda text: text.replace('{"annotations"', '{"schemaVersion":2,"annotations"'),
    "nested": lambda _: "[" * 100_000,
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_manifest_that_is_none_of_a_bundle_is_refused(case: str, old: Path) -> None:
    text = write_manifest(Bundle.open(old), Blob("sha256:" + "a" * 64, 7)).decode()
    assert read_manifest(text.encode(), "here").layer.size == 7
    changed = CHANGES[case](text)
    assert changed != text
    with pytest.raises(BundleError, match="here is something else, not a bundle of edgead"):
        read_manifest(changed.encode(), "here")
