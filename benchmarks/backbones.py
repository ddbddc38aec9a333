"""What each backbone costs: CPU time of one picture through a PatchCore on it, with random weights. Says nothing of accuracy.

    python -m benchmarks.backbones --json benchmarks/results/backbones.json

The graph is the exported one at 256 px (252 px for patches of 14), a bank of 512 rows, OpenVINO on one thread. CPU time of the
process (least of some runs), not the clock: other work on the machine hardly changes it. Errors are those of the FP32 engines
against the torch model, of score and map, over the range of its maps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._scratch import pictures
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.export.graph import write_onnx
from edgead.families.patchcore.fit import TOKEN_SCORE
from edgead.families.patchcore.network import PatchCore
from edgead.machine import facts
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.patches import FEATURES
from edgead.models.usual import TRAINED
from edgead.published import PUBLISHED, fitting_side
from edgead.types import Image

ROWS, CALIBRATED, RUNS = 512, 6, 5


def model_of(backbone: Backbone, size_px: int, images: list[Image]) -> PatchCore:
    """An untrained PatchCore whose bank is drawn from the pictures' own features."""
    features = FEATURES[backbone.patch_features or TRAINED](backbone).eval()
    with torch.no_grad():
        seen = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).flip(1).float()
        rows = features(seen).flatten(2).transpose(1, 2).flatten(0, 1)
    chosen = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]]
    tokens = bool(backbone.patch_features)
    return PatchCore.from_bank(features, chosen, 1 if tokens else 9, (size_px, size_px), TOKEN_SCORE if tokens else None)


def cpu_ms(engine: Any, image: Image) -> float:
    """CPU milliseconds of one picture, the least of `RUNS`."""
    engine.infer(image)
    taken = []
    for _ in range(RUNS):
        began = time.process_time()
        engine.infer(image)
        taken.append((time.process_time() - began) * 1e3)
    return min(taken)


def error_of(engine: Any, detector: PatchCore, images: list[Image]) -> float:
    """Largest difference of score and map to the torch model, over the range of its maps."""
    with torch.no_grad():
        maps, scores = (t.numpy() for t in detector(torch.from_numpy(np.stack(images))))
    answers = [engine.infer(image) for image in images]
    worst = max(max(abs(s - float(w)), float(np.abs(m - v).max())) for (s, m), w, v in zip(answers, scores, maps, strict=True))
    return float(worst) / float(maps.max() - maps.min())


def asked(engine: Any, detector: PatchCore, images: list[Image]) -> tuple[float, float]:
    """Its error and CPU milliseconds."""
    try:
        return error_of(engine, detector, images), round(cpu_ms(engine, images[-1]), 1)
    finally:
        engine.close()


def row_of(name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    size_px = fitting_side(name, 256)
    images = pictures(CALIBRATED + 2, size_px)
    backbone = build_backbone(name).freeze()
    detector = model_of(backbone, size_px, images[:2])
    row: dict[str, Any] = {"backbone": name, "size_px": size_px, "channels": sum(backbone.channels)}
    row["parameters"] = sum(parameter.numel() for parameter in backbone.parameters())
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        plain, small = Path(folder, "model.onnx"), Path(folder, "int8.onnx")
        write_onnx(detector, plain)
        calibration, target = CalibrationSet.of(images[:CALIBRATED]), target_for("openvino", facts=facts())
        found = calibrate(plain, calibration, target, output=small, threads=1, allow_unsafe=True)
        row["int8_products"], row["float_products"] = found.products, len(found.kept_float)
        row["openvino_error"], row["fp32_cpu_ms"] = asked(OpenVinoEngine(plain, threads=1), detector, images[-2:])
        row["int8_deviation"], row["int8_cpu_ms"] = asked(OpenVinoEngine(small, threads=1), detector, images[-2:])
        row["onnxruntime_error"], row["onnxruntime_cpu_ms"] = asked(OnnxRuntimeEngine(plain, threads=1), detector, images[-2:])
    return row


def page(data: dict[str, Any]) -> str:
    """The table in docs/backbones.md."""
    lines = [
        "| backbone | input px | parameters | CPU ms FP32 | CPU ms INT8 | error FP32 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in data["rows"]:
        error = max(row["openvino_error"], row["onnxruntime_error"])
        lines.append(
            f"| `{row['backbone']}` | {row['size_px']} | {row['parameters'] / 1e6:.1f} M | {row['fp32_cpu_ms']:.0f} | "
            f"{row['int8_cpu_ms']:.0f} | {error:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=list(PUBLISHED), help="backbones")
    args = parser.parse_args()
    rows = []
    for name in args.only:
        rows.append(row_of(name))
        print(rows[-1], flush=True)
        data = {"benchmark": "backbones", "machine": facts(), "rows": rows}
        if args.json:
            args.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    print(page(data))


if __name__ == "__main__":
    main()
