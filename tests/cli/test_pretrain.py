"""`edgead pretrain`: good pictures in, weights out that every family on a backbone's features takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.jobs.pretrain import PretrainRequest, pretrain
from edgead.models.backbones import build_backbone, load_backbone
from edgead.models.backbones.files import verify
from edgead.trained import load_model, read_card
from tests.training._parts import write_good

QUICK = ("--steps", "2", "--batch", "2", "--px", "64")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("pretrain") / "good", 10)


@pytest.fixture(scope="module")
def taught(good: Path) -> Path:
    out = good.parent / "taught.safetensors"
    pretrain(PretrainRequest((good,), out, steps=3, batch=2, px=64, lr=1e-3))
    return out


def test_it_tells_what_came_out_and_what_is_next(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "taught.safetensors"
    assert main(["pretrain", str(good), "-o", str(out), *QUICK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["pictures"], told["backbone"]) == ("edgead.pretrain/1", 10, "efficientnet_lite0")
    assert 0 < told["moved"] < 1
    out.unlink()
    assert main(["pretrain", str(good), "-o", str(out), *QUICK]) == 0
    said = capsys.readouterr().out
    assert f"edgead train MODEL GOOD_DIR -o DIR --weights {out}" in said


def test_the_file_is_a_whole_backbone_whose_early_layers_are_as_they_were(taught: Path) -> None:
    assert verify(taught)[0] == "efficientnet_lite0"
    now, before = load_backbone(weights=taught).state_dict(), load_backbone().state_dict()
    moved = {name.rsplit(".", 2)[0] if "blocks" in name else name for name in now if not torch.equal(now[name], before[name])}
    assert {name.split(".")[1] for name in moved} == {str(i) for i in range(3, 11)}
    deepest = [load_backbone("efficientnet_lite0", ("blocks.14",), weights) for weights in (taught, None)]
    last = [backbone.state_dict()["blocks.14.project.weight"] for backbone in deepest]
    assert torch.equal(*last)  # not trained, and there


@pytest.mark.parametrize("family", ["patchcore", "simplenet"])
def test_families_train_with_it_and_the_model_holds_it(taught: Path, good: Path, tmp_path: Path, family: str) -> None:
    quick = ["--coreset", "60"] if family == "patchcore" else ["--steps", "2"]
    arguments = ["train", family, str(good), "-o", str(tmp_path / "m"), "--size", "64", "--threshold-from", "heldout", *quick]
    assert main([*arguments, "--weights", str(taught)]) == 0
    detector, _ = load_model(tmp_path / "m")
    held, wanted = detector.state_dict(), load_backbone(weights=taught).state_dict()
    (name,) = [name for name in held if name.endswith("blocks.9.expand.weight")]
    assert torch.equal(held[name], wanted["blocks.9.expand.weight"])
    known = read_card(tmp_path / "m").origin.arguments
    assert known is not None and known.rest["weights"] == str(taught)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "wide_resnet50_2"])
def test_weights_that_are_written_are_read_as_the_same_bits(name: str) -> None:
    network = build_backbone(name)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    again = build_backbone(name)
    again.load_published(network.unfolded())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_resnet_is_taught_from_a_file(good: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = build_backbone("resnet18", ("layer4",))
    save_file(whole.unfolded(), tmp_path / "start.safetensors")
    out = tmp_path / "taught.safetensors"
    pretrain(PretrainRequest((good,), out, "resnet18", tmp_path / "start.safetensors", steps=1, batch=2, px=64))
    now, before = load_file(out), load_file(tmp_path / "start.safetensors")
    changed = {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}
    assert changed == {"layer2", "layer3"}


def test_the_same_seed_gives_the_same_file_interrupted_or_not(good: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        out = tmp_path / f"{name}.safetensors"
        asked = PretrainRequest((good,), out, steps=4, batch=2, px=64, checkpoint=tmp_path / "state")
        if name == "other":

            def interrupt(stage: str, done: float) -> None:
                if stage == "pretraining" and done == 1.0:  # its state has been kept
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                pretrain(asked, interrupt)
            assert not out.exists()
            assert (tmp_path / "state").is_file()
        pretrain(asked)
        made.append(out.read_bytes())
    assert made[0] == made[1]
    assert not (tmp_path / "state").exists()


def test_ctrl_c_leaves_nothing_and_says_so(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import edgead.jobs.pretrain as job

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "_write", stop)  # at the very end
    out = tmp_path / "taught.safetensors"
    assert main(["pretrain", str(good), "-o", str(out), *QUICK]) == 130
    assert "interrupted, nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["GOOD", "-o", "t.pth"], "does not end in .safetensors"),
        (["GOOD", "-o", "there.safetensors"], "there.safetensors exists"),
        (["GOOD", "-o", "none/t.safetensors"], "its folder does not exist"),
        (["GOOD", "-o", "t.safetensors", "--checkpoint", "none/state"], "its folder does not exist"),
        (["absent", "-o", "t.safetensors"], "absent is not a folder"),
        (["few", "-o", "t.safetensors"], "3 different pictures teach a backbone nothing"),
        (["mixed", "-o", "t.safetensors"], "is to hold good pictures only"),
        (["broken", "-o", "t.safetensors"], "x.png is not a readable picture"),
        (["GOOD", "-o", "t.safetensors", "--steps", "0"], "--steps 0 is not usable"),
        (["GOOD", "-o", "t.safetensors", "--batch", "1"], "--batch 1 is not usable"),
        (["GOOD", "-o", "t.safetensors", "--lr", "0"], "--lr 0 is not usable"),
        (["GOOD", "-o", "t.safetensors", "--px", "100"], "views of 100 px do not suit a backbone"),
        (["GOOD", "-o", "t.safetensors", "--backbone", "vgg"], "unknown backbone 'vgg'"),
        (["GOOD", "-o", "t.safetensors", "--backbone", "dinov2_vits14_reg"], "is a transformer, which is not pretrained here"),
        (["GOOD", "-o", "t.safetensors", "--layers", "stem"], "no layer 'stem'"),
        (["GOOD", "-o", "t.safetensors", "--weights", "absent.pth"], "is not a file"),
        (["GOOD", "-o", "t.safetensors", "--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_good(tmp_path / "few", 3)
    write_good(tmp_path / "mixed/scratch", 3)
    write_good(tmp_path / "mixed/monday", 3)
    write_good(tmp_path / "broken", 9)
    (tmp_path / "broken/x.png").write_bytes(b"torn")
    (tmp_path / "there.safetensors").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    assert main(["pretrain", *(str(good) if word == "GOOD" else word for word in arguments)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_values_are_checked_from_python_too(good: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--anchor -1 is not usable"):
        PretrainRequest((good,), tmp_path / "t.safetensors", anchor=-1.0)
