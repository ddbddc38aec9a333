"""Other people's implementations of the backbones, for comparison in tests only; a test skips where its package is missing."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch

_DECLARED: list[Any] = []


def package(name: str) -> ModuleType:
    """A package of the extra `reference`; the test is skipped when it is not there."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name.partition('.')[0]} is not installed (pip install 'edgead[reference]')")
    if name.startswith(("timm", "torchvision")):
        _declare_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their own imports
        module = importlib.import_module(name)
        if name == "transformers":  # no thread that watches bars of progress
            importlib.import_module("tqdm").tqdm.monitor_interval = 0
        return module


def _declare_torchvision() -> None:
    """torchvision from PyPI is a CUDA build, which a CPU torch does not load. What its Python needs of it are two names."""
    if torch.version.cuda is None and not _DECLARED:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A model whose weights, and statistics of batch norms, are all random, in evaluation mode; activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim > 1 and "token" not in name and "pos" not in name:
                tensor.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5, generator=generator)
            elif tensor.is_floating_point():
                scale = "norm" in name or "bn" in name or "gamma" in name or "lambda" in name or "downsample.1" in name
                tensor.normal_(1.0 if scale and not name.endswith(("bias", "running_mean")) else 0.0, 0.2, generator=generator)
    return model.eval()
