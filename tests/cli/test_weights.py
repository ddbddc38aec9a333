"""`edgead weights`: what there is, fetched from a (local) server, verified, and used by a training."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from edgead import published
from edgead.cli.main import main
from edgead.models.backbones import build_backbone
from edgead.models.backbones.base import Backbone
from edgead.published import PUBLISHED, Source
from tests.servers.files import Served, file_server
from tests.training._parts import write_good


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "cache" / "edgead"


def random_state(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Random weights of the published layout, all layers."""
    generator = torch.Generator().manual_seed(0)
    entries = backbone.whole().entries()
    return {name: torch.rand(shape, generator=generator) * 0.02 + 0.01 for name, shape in entries.items()}


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save({**random_state(build_backbone("resnet18")), "fc.bias": torch.zeros(10)}, file)
    return file


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """What the command says; it must end with `code`."""
    found = main(["weights", *arguments])
    out = capsys.readouterr()
    assert found == code, out.err
    assert code == 0 or (len(out.err.strip().splitlines()) <= 2 and "Traceback" not in out.err)
    return out.out if code == 0 else out.err


def test_list_tells_of_every_backbone_what_one_must_know_to_bring_it(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    facts: list[dict[str, Any]] = json.loads(said(capsys, 0, "list", "--json"))["backbones"]
    assert [fact["name"] for fact in facts] == list(PUBLISHED)
    for fact in facts:
        assert fact["licence"] and fact["size_mib"] > 1 and all(url.startswith("https://") for url in fact["sources"])
        assert fact["path"] or fact["get"]
        assert any(str(cache) in place for place in fact["places"])
    text = said(capsys, 0, "list")
    assert all(one.name in text and one.sources[0].url in text for one in PUBLISHED.values())


def test_verify_finds_out_whose_weights_a_file_holds_and_pins_it(
    resnet: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    text = said(capsys, 0, "verify", str(resnet))
    digest = hashlib.sha256(resnet.read_bytes()).hexdigest()
    assert "resnet18 (ResNet-18)" in text and digest in text and "pinned" in text
    assert json.loads((cache / "pins.json").read_text()) == {str(resnet): digest}
    assert "as pinned" in said(capsys, 0, "verify", str(resnet))


def test_a_file_that_changed_since_it_was_pinned_is_refused_until_it_is_pinned_again(
    resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(resnet.read_bytes())
    said(capsys, 0, "verify", str(file))
    state = torch.load(file)
    torch.save({**state, "fc.bias": torch.ones(10)}, file)
    assert "not the pinned file" in said(capsys, 2, "verify", str(file))
    said(capsys, 0, "verify", str(file), "--repin")
    assert "as pinned" in said(capsys, 0, "verify", str(file))


def test_verify_names_what_is_wrong(resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(resnet)
    file = tmp_path / "weights.pth"
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("layer4.1.conv2")}, file)
    assert "no entry 'layer4.1.conv2.weight'" in said(capsys, 2, "verify", str(file), "--backbone", "resnet18")
    assert "no backbone that edgead knows" in said(capsys, 2, "verify", str(file))
    assert "no entry 'layer1.0.conv3.weight'" in said(capsys, 2, "verify", str(resnet), "--backbone", "wide_resnet50_2")
    assert "another file" in said(capsys, 2, "verify", str(resnet), "--sha256", "ab" * 32)
    assert "unknown backbone" in said(capsys, 2, "verify", str(resnet), "--backbone", "vgg16")
    assert "no weight file" in said(capsys, 2, "verify", str(tmp_path / "none.pth"))
    torch.save(object, file)
    assert "builtins.object" in said(capsys, 2, "verify", str(file))


def test_a_damaged_list_of_pins_is_one_clear_line(resnet: Path, capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    cache.mkdir(parents=True)
    for content in (b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 5000):
        (cache / "pins.json").write_bytes(content)
        assert "pins.json is damaged" in said(capsys, 2, "verify", str(resnet))


@pytest.fixture
def server(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, Served]]]:
    """A publisher of the ResNet's weights that tells its checksum in a pointer, as Hugging Face does."""
    content = resnet.read_bytes()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"
    )
    files = {"/weights.pth": Served(content), "/pointer": Served(pointer.encode())}
    with file_server(files) as address:
        source = Source(f"{address}/weights.pth", "resnet18-here.pth", pointer=f"{address}/pointer")
        one = dataclasses.replace(PUBLISHED["resnet18"], sources=(source,))
        monkeypatch.setattr(published, "PUBLISHED", MappingProxyType({**PUBLISHED, "resnet18": one}))
        yield address, files


def test_fetch_brings_the_file_checked_by_its_publishers_pointer_and_training_takes_it(
    server: tuple[str, dict[str, Served]], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_good(tmp_path / "pictures", 6)
    train = ["train", "patchcore", str(tmp_path / "pictures"), "-o", str(tmp_path / "model"), "--backbone", "resnet18"]
    train += ["--size", "32", "--layers", "layer1"]
    assert main(train) == 5
    assert "edgead weights fetch resnet18" in capsys.readouterr().err
    assert "compared with its publisher's" in said(capsys, 0, "fetch", "resnet18")
    assert sorted(path.name for path in cache.iterdir()) == ["pins.json", "resnet18-here.pth"]
    assert "there already (pinned)" in said(capsys, 0, "fetch", "resnet18")
    assert server[1]["/weights.pth"].asked == [""]
    assert main(train) == 0
    capsys.readouterr()
    (cache / "resnet18-here.pth").write_bytes(b"something else")
    assert main([*train[:-2], "--seed", "1"]) == 2
    assert "not the pinned file" in capsys.readouterr().err


def test_fetch_refuses_another_file_and_leaves_nothing(
    server: tuple[str, dict[str, Served]], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server[1]["/weights.pth"].content = server[1]["/weights.pth"].content[:-1] + b"x"
    assert "not the published file" in said(capsys, 2, "fetch", "resnet18")
    assert list(cache.iterdir()) == []


def test_fetch_from_a_mirror_without_a_known_checksum_looks_at_the_content(
    server: tuple[str, dict[str, Served]], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, files = server
    files["/other.pth"] = Served(b"<html>please log in</html>")
    assert "not a file of torch.save" in said(capsys, 2, "fetch", "resnet18", "--from", f"{address}/other.pth")
    assert list(cache.iterdir()) == []
    assert "publisher tells no checksum" in said(capsys, 0, "fetch", "resnet18", "--from", f"{address}/weights.pth")
    assert "does not end in .pth" in said(capsys, 2, "fetch", "resnet18", "--from", f"{address}/weights.bin", "--force")
    assert "not encrypted" in said(capsys, 2, "fetch", "resnet18", "--from", "http://mirror.invalid/weights.pth", "--force")


def test_without_a_network_fetch_says_so_in_one_line(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    for name in ("resnet18", "dinov2_vits14_reg"):
        text = said(capsys, 5, "fetch", name)
        assert "cannot be reached" in text and "edgead docs backbones" in text
    assert not cache.exists() or not any(path.suffix == ".pth" for path in cache.iterdir())


def test_weights_of_a_package_are_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing needs to be fetched" in said(capsys, 2, "fetch", "efficientnet_lite0")
    text = said(capsys, 2, "fetch", "resnet50")
    assert "unknown backbone" in text and "resnet18" in text
