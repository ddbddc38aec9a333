"""Files that unfold: small on the disk, endless when walked over. Refused in one line, at once."""

from __future__ import annotations

import pickle
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.errors import BadInput
from edgead.importers import import_model
from edgead.models.streams import Record, Unreadable, read_stream
from edgead.models.torchfile import read_torch_file
from tests.importers.test_anomalib import _patchcore_checkpoint, _preprocessing
from tests.importers.test_originals import patchcore_folder


def _doubled(times: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


def _deep(times: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(times):
        value = wrap(value)
    return value


def _selfish() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (_doubled(60), "unfolds to far more values"),
        ({"a": _doubled(40)}, "unfolds to far more values"),
        (_deep(400, lambda v: [v]), "nested more than"),
        (_deep(400, lambda v: {"k": v}), "nested more than"),
        (_deep(400, lambda v: (v,)), "nested more than"),
        (_selfish(), "holds itself"),
        ({"hyper": [1, _selfish()]}, "holds itself"),
        (1 << 5000, "thousands of digits"),
    ],
    ids=["doubled", "doubled in a dict", "deep list", "deep dict", "deep tuple", "itself", "itself inside", "long number"],
)
def test_what_unfolds_without_end_is_refused(value: Any, says: str) -> None:
    with pytest.raises(Unreadable, match=says) as caught:
        read_stream(pickle.dumps(value))
    assert caught.value.hint


def test_many_values_that_are_really_there_are_read() -> None:
    value = {f"k{i}": [i, str(i), (i, i)] for i in range(3000)}
    shared = [1, 2, 3]
    assert read_stream(pickle.dumps([value, [shared] * 500])) == [value, [shared] * 500]


def test_an_object_that_knows_its_parent_is_no_endless_file() -> None:
    """omegaconf's nodes, in checkpoints of anomalib 1.x, refer to what holds them."""
    data = b"\x80\x02ckit\nNode\nq\x00)\x81q\x01}q\x02(X\x06\x00\x00\x00parentq\x03h\x01X\x01\x00\x00\x00aq\x04K\x01ub."
    value = read_stream(data, records=("kit.",))
    assert isinstance(value, Record)
    assert value.state["a"] == 1


def test_building_one_list_again_and_again_is_refused() -> None:
    """100,000 numbers, and 100,000 calls that go over all of them."""
    data = (
        b"\x80\x02]q\x00("
        + b"K\x01" * 100_000
        + b"e0"
        + b"ccollections\nOrderedDict\nq\x010"
        + b"h\x01h\x00\x85R0" * 1000
        + b"N."
    )
    with pytest.raises(Unreadable):
        read_stream(data, {"collections.OrderedDict": lambda items=(): dict.fromkeys(range(len(items)))})


def test_two_hundred_views_of_one_storage_are_not_two_hundred_tensors(tmp_path: Path) -> None:
    whole = torch.rand(1 << 20)
    torch.save({"state_dict": {f"model.{i}": whole[i:] for i in range(200)}}, tmp_path / "m.ckpt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="many times the file's size"):
        import_model(tmp_path / "m.ckpt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
    torch.save({f"model.{i}": whole for i in range(200)}, tmp_path / "same.ckpt")  # the same view again costs nothing
    read = read_torch_file(tmp_path / "same.ckpt")
    assert all(tensor is read["model.0"] for tensor in read.values())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_checkpoints_of_any_float_type_answer_as_the_float_one(tmp_path: Path, kind: torch.dtype) -> None:
    content = _patchcore_checkpoint(tmp_path / "float.ckpt")
    content["state_dict"]["model.anomaly_map_generator.blur.kernel"] = _kernel()
    cast = {k: v.to(kind) if v.is_floating_point() else v for k, v in content["state_dict"].items()}
    torch.save({**content, "state_dict": cast}, tmp_path / "cast.ckpt")
    torch.save(
        {**content, "state_dict": {k: v.float() if v.is_floating_point() else v for k, v in cast.items()}}, tmp_path / "as.ckpt"
    )
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = [float(import_model(tmp_path / name).detector(image)[1]) for name in ("cast.ckpt", "as.ckpt")]
    assert scores[0] == scores[1]
    imported = import_model(tmp_path / "cast.ckpt")
    assert all(tensor.dtype == torch.float32 for tensor in imported.detector.state_dict().values() if tensor.is_floating_point())
    assert imported.threshold is not None
    assert imported.threshold.value == pytest.approx(3.0)


def _kernel() -> torch.Tensor:
    line = torch.exp(-0.5 * (torch.arange(-16, 17) / 4.0) ** 2)
    return (torch.outer(line, line) / line.sum() ** 2)[None, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.memory_bank", "model.feature_extractor.feature_extractor.layer2.0.conv1.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, name: str, value: float) -> None:
    content = _patchcore_checkpoint(tmp_path / "m.ckpt")
    content["state_dict"][name][3] = value
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(BadInput, match=r"1 of \d+ rows of '" + name.removeprefix("model.")):
        import_model(tmp_path / "m.ckpt")


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters": {"backbone": "resnet18", "layers": ["layer2", "layer3"], "num_neighbors": "many"}},
        {"hyper_parameters": {"backbone": "resnet18", "layers": ["layer2", "layer3"], "num_neighbors": 0}},
        {"hyper_parameters": {"backbone": 18, "layers": ["layer2"]}},
        {"hyper_parameters": {"backbone": "resnet18", "layers": "layer2"}},
        {"hyper_parameters": [1, 2]},
        {"anomalib_post_processor_config": {"image_sensitivity": "high"}},
        {"anomalib_post_processor_config": {"image_sensitivity": 7}},
        {"anomalib_pre_processor_config": {"transform": 7}},
        {"anomalib_pre_processor_config": _preprocessing(("Resize", {}))},
        {"anomalib_pre_processor_config": {"transform": {"class_path": "Compose", "init_args": {"transforms": 3}}}},
        {"state_dict": {"model.memory_bank": torch.rand(3)}},
        {"state_dict": {"model.memory_bank": torch.rand(0, 384)}},
        {"state_dict": {"model.student.conv1.weight": torch.rand(3)}},
        {"state_dict": {"model.segdec.cls_fc.weight": torch.rand(3)}},
        {"state_dict": {5: torch.rand(3)}},
    ],
)
def test_a_checkpoint_with_one_thing_wrong_is_bad_input(tmp_path: Path, changes: dict[str, Any]) -> None:
    _patchcore_checkpoint(tmp_path / "m.ckpt", **changes)
    with pytest.raises(BadInput) as caught:
        import_model(tmp_path / "m.ckpt")
    assert caught.value.hint
    assert len(str(caught.value)) < 400


def test_an_encrypted_zip_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "m.ckpt")
    data = bytearray((tmp_path / "m.ckpt").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            struct.pack_into("<H", data, at + flags, 1)
            at = data.find(mark, at + 4)
    (tmp_path / "locked.ckpt").write_bytes(data)
    with pytest.raises(BadInput, match=r"locked\.ckpt"):
        import_model(tmp_path / "locked.ckpt")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m.onnx", "GiB"),
        ("m.pth", "not a file of torch"),
        ("nnscorer_search_index.faiss", "GiB"),
        ("patchcore_params.pkl", "MiB"),
    ],
)
def test_a_file_of_terabytes_is_refused_before_it_is_read(tmp_path: Path, name: str, says: str) -> None:
    """Sparse: it takes no room on the disk, and all of the memory when it is read whole."""
    folder = tmp_path / "model"
    patchcore_folder(folder)
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    target = folder if name.endswith(("faiss", "pkl")) else folder / name
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=says):
        import_model(target)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB
