"""Files that were made to harm: refused in one clear line, and nothing in them ran."""

from __future__ import annotations

import builtins
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.errors import BadInput
from edgead.importers import import_model
from edgead.models.streams import Unreadable, read_stream


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def attacks(marker: Path) -> dict[str, Any]:
    command = f"touch {marker}"
    return {
        "posix.system": Call(os.system, command),
        "builtins.eval": Call(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "builtins.exec": Call(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": Call(getattr, "", "join"),
        "io.open": Call(open, str(marker), "w"),
    }


@pytest.mark.parametrize("name", list(attacks(Path())))
@pytest.mark.parametrize("kind", ["ckpt", "modules", "simplenet", "patchcore"])
@pytest.mark.promise("No pickle.")
def test_a_call_in_a_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, name: str, kind: str) -> None:
    marker = tmp_path / "ran"
    attack = attacks(marker)[name]
    target = tmp_path / "model.ckpt"
    if kind == "ckpt":
        torch.save({"state_dict": {}, "hyper_parameters": attack}, target)
    elif kind == "simplenet":
        target = tmp_path / "ckpt.pth"
        torch.save({"discriminator": {"tail.weight": attack}}, target)
    elif kind == "modules":
        target = tmp_path / "m"
        target.mkdir()
        for part in ("teacher", "student", "autoencoder"):
            torch.save(attack, target / f"{part}_final.pth")
    else:
        target = tmp_path / "m"
        target.mkdir()
        (target / "patchcore_params.pkl").write_bytes(pickle.dumps({"backbone.name": attack}))
        (target / "nnscorer_search_index.faiss").write_bytes(b"")
    with pytest.raises(BadInput, match=name.replace(".", r"\.")) as caught:
        import_model(target)
    assert "nothing was executed" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_read(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": (1, (2, 3)), "c": {"d": []}, "e": 2**70, 5: b"raw" if protocol > 2 else "raw"}
    assert read_stream(pickle.dumps(value, protocol), {"builtins.bytes": bytes}) == value


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 2^63
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",  # bytearray of 2^40
        b"\x80\x02]r\xff\xff\xff\x7f.",  # memo at 2^31: Python's own unpickler allocates for it
        b"\x80\x04\x8b\xff\xff\xff\x7f.",  # integer of 2^31 bytes
        b"\x80\x02(lp0\n0.",  # leaves nothing
        b"\x80\x02\x82\x01.",  # extension registry
        b"(ios\nsystem\n.",  # INST
        b"",
        b"\x80\x02}",
        b"junk",
    ],
)  # fmt: skip
def test_streams_that_allocate_or_break_are_refused(data: bytes) -> None:
    if data.startswith(b"\x80\x02]r"):
        assert read_stream(data) == []
        return
    with pytest.raises(Unreadable):
        read_stream(data)


def test_exponential_keys_are_refused() -> None:
    data = b"\x80\x02}" + b")" + b"".join(b"2\x86" for _ in range(60)) + b"K\x01s."  # {((((), ()), ...)): 1}, 2^60 leaves
    with pytest.raises(Unreadable):
        read_stream(data)


def _rewritten(source: Path, target: Path, change: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            for name, data in change(entry.filename, old.read(entry)):
                new.writestr(name, data)
    return target


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save({"state_dict": {"model.memory_bank": torch.rand(4, 4)}}, tmp_path / "plain.ckpt")
    return tmp_path / "plain.ckpt"


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil", "..\\evil"])
def test_a_path_out_of_the_zip_is_refused(plain: Path, name: str) -> None:
    bad = _rewritten(plain, plain.with_name("bad.ckpt"), lambda n, d: [(n, d), *([(name, b"x")] if n.endswith("pkl") else [])])
    with pytest.raises(BadInput, match="outside of itself"):
        import_model(bad)


def test_a_zip_bomb_is_refused(plain: Path) -> None:
    bomb = plain.with_name("bomb.ckpt")
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * (1 << 24))
    with pytest.raises(BadInput, match="unpack"):
        import_model(bomb)


def test_tensors_larger_than_their_data_are_refused(plain: Path) -> None:
    def shortened(name: str, data: bytes) -> list[tuple[str, bytes]]:
        return [(name, data[:-4] if "/data/" in name else data)]

    with pytest.raises(BadInput, match="missing or truncated"):
        import_model(_rewritten(plain, plain.with_name("short.ckpt"), shortened))
    huge = torch.rand(1).as_strided((1 << 20, 1 << 20), (0, 0))
    torch.save({"state_dict": {"x": huge}}, plain.with_name("huge.ckpt"))
    with pytest.raises(BadInput, match="damaged"):
        import_model(plain.with_name("huge.ckpt"))


def test_truncated_empty_and_foreign_files_say_what_they_are(plain: Path, tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes, str]] = {
        "cut.ckpt": (plain.read_bytes()[:300], "truncated"),
        "empty.ckpt": (b"", "empty"),
        "text.pth": (b"hello", "not a file of torch"),
        "bare.pth": (pickle.dumps({"a": 1}), "bare pickle"),
        "model.h5": (b"x", "not a model that edgead knows"),
    }
    for name, (data, says) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=says) as caught:
            import_model(tmp_path / name)
        assert caught.value.hint
    torch.save([1, 2], tmp_path / "list.pth")
    for path, says in ((tmp_path / "list.pth", "list"), (tmp_path / "absent.ckpt", "no file")):
        with pytest.raises(BadInput, match=says):
            import_model(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="no model"):
        import_model(tmp_path / "folder")
