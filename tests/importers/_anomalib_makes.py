"""Run by anomalib's own environment (benchmarks/_peers): a checkpoint of a small model on random weights, and what it answers.

PYTHON tests/importers/_anomalib_makes.py padim|fastflow FOLDER     # -> FOLDER/model.ckpt, FOLDER/answers.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch

for operator in ("nms", "qnms"):  # declared, since torchvision's own library is for a GPU
    torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from anomalib.models import Fastflow, Padim  # noqa: E402
from lightning.pytorch import Trainer  # noqa: E402

SIZE = (64, 96)


def pictures(count: int, seed: int) -> torch.Tensor:
    """uint8 N x 3 x H x W."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
    return ((smooth + 0.03 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1) * 255).round().byte()


def main(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    kind = {"padim": Padim, "fastflow": Fastflow}[name]
    extra = {"n_features": 30} if name == "padim" else {"flow_steps": 4}
    model = kind(backbone="resnet18", pre_trained=False, pre_processor=kind.configure_pre_processor(SIZE), **extra)
    if getattr(model, "model", None) is None:
        model.setup("fit")
    network, prepare = model.model, model.pre_processor.transform
    for which, buffer in network.feature_extractor.named_buffers():
        if which.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        if which.endswith("running_var"):
            buffer.copy_(0.7 + 0.6 * torch.rand(buffer.shape, generator=generator))
    if name == "padim":
        network.train()
        network(torch.stack([prepare(one) for one in pictures(40, 2).float() / 255]))
        network.fit()
    else:
        for parameter in (*network.fast_flow_blocks.parameters(), *network.norms.parameters()):
            if parameter.requires_grad:
                parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.eval()
    network.eval()
    asked = pictures(4, 3)
    with torch.no_grad():
        told = network(torch.stack([prepare(one) for one in asked.float() / 255]))
    answers = {"maps": told.anomaly_map[:, 0].numpy(), "scores": told.pred_score.numpy()}
    np.savez(folder / "answers.npz", rgb=asked.permute(0, 2, 3, 1).numpy(), **answers)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "model.ckpt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
