"""Weight files as torch wrote them before and since 1.6, and safetensors: read as data, or refused in one line."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.backbones import load_backbone, read_state


def state() -> dict[str, Tensor]:
    shared = torch.arange(24, dtype=torch.float32).view(4, 6)
    return {
        "float": torch.randn(3, 5),
        "half": torch.randn(7).half(),
        "double": torch.randn(2, 2).double(),
        "bfloat16": torch.randn(3).bfloat16(),
        "count": torch.tensor(41),
        "part": shared[1:3, ::2],
        "turned": shared.T,
        "none": torch.empty(0, 3),
    }


@pytest.mark.parametrize("new", [False, True])
def test_both_layouts_of_torch_are_read_to_the_bit(tmp_path: Path, new: bool) -> None:
    torch.save(state_dict := state(), file := tmp_path / "weights.pth", _use_new_zipfile_serialization=new)
    read = read_state(file)
    assert list(read) == list(state_dict)
    for name, tensor in state_dict.items():
        assert torch.equal(read[name], tensor.float() if tensor.is_floating_point() else tensor)


def old_file(path: Path) -> bytes:
    torch.save({"a": torch.arange(1000.0), "b": torch.ones(10)}, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def test_a_file_of_the_old_layout_cut_anywhere_is_one_clear_line(tmp_path: Path) -> None:
    whole = old_file(file := tmp_path / "weights.pth")
    for length in (*range(0, 600, 7), *range(600, len(whole), 211), len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BadInput) as caught:
            read_state(file)
        assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of Python's own pickletools
def test_a_file_of_the_old_layout_with_a_wrong_byte_is_read_or_refused(tmp_path: Path) -> None:
    whole = old_file(file := tmp_path / "weights.pth")
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, 500, 250):
        file.write_bytes(whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :])
        try:
            read_state(file)
        except BadInput:
            refused += 1
    assert refused > 100


class Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("/tmp/edgead_was_here", "w")  # never run


def test_a_call_in_a_file_of_the_old_layout_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": Call()}, file := tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(BadInput, match=r"io\.open"):
        read_state(file)


def test_old_files_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    whole = old_file(file := tmp_path / "weights.pth")
    count = (1000).to_bytes(8, "little")
    file.write_bytes(whole.replace(count, (1 << 60).to_bytes(8, "little")))
    with pytest.raises(BadInput, match="missing or truncated"):
        read_state(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.ones(2)], "no state dict"),
        ({"a": 1}, "no state dict"),
        ({}, "no state dict"),
        ({"state_dict": {"a": [torch.ones(1)]}}, "no state dict"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, file := tmp_path / "weights.pth")
    with pytest.raises(BadInput, match=says):
        read_state(file)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("data", [b"", b"junk" * 50, b"\x80\x04", pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\0" * 90])
def test_files_that_are_none_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as caught:
        load_backbone("resnet18", None, tmp_path / name)
    assert caught.value.hint


def test_a_fifo_and_a_folder_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(BadInput, match="regular file"):
            read_state(path)


def test_weights_that_unfold_to_far_more_than_the_file_are_refused(tmp_path: Path) -> None:
    """Thousands of different views of one table."""
    table = torch.zeros(1 << 20)
    torch.save({str(i): table[i:] for i in range(200)}, file := tmp_path / "weights.pth")
    with pytest.raises(BadInput, match="unfold"):
        read_state(file)
