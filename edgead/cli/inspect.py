"""Show what a bundle holds: model, origin, recipe, engines, thresholds, what was measured and where.

Opening checks the digest of every file. Needs neither torch nor onnx.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.bundle import Manifest
    from edgead.preprocess import PreprocessRecipe

SUMMARY = "show what a bundle holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="NAME.edgead folder")
    parser.add_argument("--json", action="store_true", help="print the whole manifest as JSON")


def run(args: argparse.Namespace) -> int:
    from rich.markup import escape

    from edgead.bundle import Bundle
    from edgead.cli._console import console
    from edgead.cli.export import show

    bundle = Bundle.open(args.bundle)
    if args.json:
        print(json.dumps(bundle.manifest.to_json(), indent=2))
        return 0
    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    for key, value in summary(bundle.manifest, size):
        console().print(f"[bold]{key:<13}[/bold]", escape(value))
    for finding in bundle.manifest.measured.get("judgement", ()):
        console().print(f"{finding['severity']}: {finding['message']}", markup=False)
    show(bundle)
    return 0


def summary(manifest: Manifest, size: int) -> list[tuple[str, str]]:
    """Label and text of every line above the table; `size` is that of the bundle in bytes."""
    from edgead.cli._budget import summary as search_summary
    from edgead.cli._thresholds import facts

    recipe = manifest.preprocess
    frames = manifest.measured.get("frames", {})
    lines = [
        ("name", manifest.name),
        ("model", f"{manifest.family}: {_pairs(manifest.model)}"),
        ("made", f"{manifest.created_at}, {size / 2**20:.1f} MiB, {len(manifest.files)} files, digests checked"),
        ("origin", _pairs({k: v for k, v in manifest.origin.items() if not isinstance(v, Mapping)})),
        ("trained on", _pairs(manifest.origin.get("data", {}))),
        ("recipe", _recipe(recipe)),
        *(("input", f"{t.name}: {t.dtype} {' x '.join(map(str, t.shape))}") for t in manifest.inputs),
        *(("output", f"{t.name}: {t.dtype} {' x '.join(map(str, t.shape))}") for t in manifest.outputs),
        ("INT8", _pairs(manifest.calibration) if manifest.calibration else "none"),
        ("golden", f"{manifest.golden} frames"),
        ("compared on", _pairs(frames)),
        ("tools", _pairs(manifest.tools)),
        ("measured on", _pairs(manifest.machine)),
        ("runs", _choice(manifest)),
    ]
    if (search := manifest.measured.get("search", {})).get("chosen"):
        lines.append(("search", search_summary(search)))
    for engine in manifest.engines:
        since = f", {len(engine.history)} earlier" if engine.history else ""
        lines.append(("threshold", f"{engine.name}: {facts(engine.threshold)}{since}"))
    return lines


def _recipe(recipe: PreprocessRecipe) -> str:
    roi = "all of the picture" if recipe.roi is None else "x {}, y {}, {} x {} px of the picture".format(*recipe.roi)
    aspect = "" if recipe.aspect == "stretch" else f", proportions kept: {recipe.aspect}"
    bits = "" if recipe.bits == 16 else f", 16-bit pictures hold {recipe.bits} bits"
    of = "" if recipe.pictures is None else f", trained on pictures of {recipe.pictures[0]} x {recipe.pictures[1]} px"
    return f"{roi} -> {recipe.width} x {recipe.height} px ({recipe.resize}{aspect}{bits}{of})"


def _choice(manifest: Manifest) -> str:
    """The engine that `edgead run` takes, and why."""
    choice = manifest.measured.get("choice") or {}
    times = choice.get("least_ms") or {}
    if manifest.default_engine not in times:
        return f"{manifest.default_engine} unless --engine says otherwise"
    told = ", ".join(f"{name} {ms:g} ms" for name, ms in sorted(times.items(), key=lambda item: item[1]))
    where = choice.get("machine") or {}
    box = f"{where.get('cpu', '?')} with {where.get('cores', '?')} cores"
    return f"{manifest.default_engine} unless --engine says otherwise: the fastest on {box} ({told})"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in values.items() if value not in ("", None, {}))


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    text = str(value)
    return text[:12] + "..." if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
