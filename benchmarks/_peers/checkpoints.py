"""Checkpoints of anomalib's own Stfpm and ReverseDistillation with random weights, and anomalib's answers on a few pictures: what
tests/importers/test_distillation.py compares the importers with where EDGEAD_ANOMALIB_CHECKPOINTS names their folder.

    ENVIRONMENT/bin/python benchmarks/_peers/checkpoints.py OUT_DIR     # ENVIRONMENT: benchmarks._peers.environment makes it

No weights are fetched. Batch norms get random numbers, so that what they become shows.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (96, 128)
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "stfpm_resnet18": ("Stfpm", {"backbone": "resnet18"}),
    "stfpm_wide_resnet50_2": ("Stfpm", {"backbone": "wide_resnet50_2"}),
    "reverse_resnet18": ("ReverseDistillation", {"backbone": "resnet18"}),
    "reverse_resnet18_multiply": ("ReverseDistillation", {"backbone": "resnet18", "anomaly_map_mode": "multiply"}),
    "reverse_wide_resnet50_2": ("ReverseDistillation", {"backbone": "wide_resnet50_2"}),
}


def main() -> int:
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent))  # without edgead around it
    library = importlib.import_module("worker").declare_operators()
    import timm
    from anomalib import models
    from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
    from lightning.pytorch import Trainer

    made: Any = timm.create_model
    timm.create_model = lambda *names, **told: made(*names, **{**told, "pretrained": False})  # nothing is fetched
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, *SIZE, 3), np.uint8)
    images[1] = images[1].astype(np.float32) * np.linspace(0, 1, SIZE[1], dtype=np.float32)[:, None]
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0  # RGB 0 to 1, as anomalib's data modules give them
    for name, (kind, told) in MODELS.items():
        torch.manual_seed(len(name))
        arguments: dict[str, Any] = dict(told)
        if "anomaly_map_mode" in told:
            arguments["anomaly_map_mode"] = AnomalyMapGenerationMode(told["anomaly_map_mode"])
        family = getattr(models, kind)
        model = family(**arguments, pre_processor=family.configure_pre_processor(SIZE), visualizer=False)
        _stir(model)
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(out / f"{name}.ckpt", weights_only=False)
        with torch.inference_mode():
            answers = [model.model.eval()(model.pre_processor.transform(one[None])) for one in pictures]
        scores = np.array([float(one.pred_score) for one in answers])
        maps = np.stack([one.anomaly_map.numpy().reshape(SIZE) for one in answers])
        np.savez_compressed(out / f"{name}.npz", images=images, scores=scores, maps=maps)
        print(name, scores, flush=True)
    del library
    return 0


def _stir(model: Any) -> None:
    """Batch norms hold other numbers than at the start of a training."""
    import torch

    with torch.no_grad():
        for norm in model.modules():
            if "BatchNorm" in type(norm).__name__:
                norm.weight.uniform_(0.7, 1.3)
                norm.bias.normal_(0.0, 0.2)
                norm.running_mean.normal_(0.0, 0.1)
                norm.running_var.uniform_(0.7, 1.3)


if __name__ == "__main__":
    sys.exit(main())
