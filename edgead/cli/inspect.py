"""Show what a bundle holds: model, origin, recipe, engines, thresholds, what was measured and where.

Opening checks the digest of every file. Its sha256 is that of manifest.json, and so of the whole bundle: a station.yaml may name
it (`sha256:`), and then no other bundle is taken. Needs neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.cli._json import print_json
from edgead.cli._options import JSON, TRUSTED
from edgead.cli._types import PATH
from edgead.cli._verb import argument, verb
from edgead.typed import plain

if TYPE_CHECKING:
    from edgead.bundle import Bundle, Manifest
    from edgead.preprocess import PreprocessRecipe

LONGEST = 300
"""Characters of one fact; the whole manifest is shown by --json."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a bundle holds: its manifest, and what stands outside of that.

    Attributes:
        sha256: of manifest.json, and so of the whole bundle.
        manifest_schema: the number of the manifest's own schema.
    """

    sha256: str
    manifest_schema: int


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@TRUSTED
@JSON
def command(bundle: Path, trusted: tuple[Path, ...], as_json: bool) -> int:
    from edgead.bundle import Bundle
    from edgead.signing import read_trusted

    opened = Bundle.open(bundle, trusted=read_trusted(trusted))
    if as_json:
        facts = opened.manifest.to_json()
        outside = Inspected(opened.digest, facts.pop("schema"))
        print_json("inspect", {**asdict(outside), **facts})
    else:
        _show(opened)
    return 0


def _show(bundle: Bundle) -> None:
    from rich.markup import escape

    from edgead.cli._console import console
    from edgead.cli._exported import show

    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    for key, value in summary(bundle.manifest, size):
        console().print(f"[bold]{key:<13}[/bold]", escape(value))
    for key, value in _vouched(bundle):
        console().print(f"[bold]{key:<13}[/bold]", escape(value))
    for noticed in bundle.manifest.measured.judgement:
        console().print(f"{noticed.severity}: {noticed.message}", markup=False)
    show(bundle)


def _vouched(bundle: Bundle) -> list[tuple[str, str]]:
    """What can be pinned, who signed it, and which golden defects the rules in force catch."""
    from edgead.engines.golden import reach

    signed = "no"
    if bundle.signed_by is not None:
        signed = f"by {bundle.signed_by.file} ({bundle.signed_by.fingerprint})"
    elif bundle.is_signed:
        signed = "by a key that was not asked for (--trusted KEY.pub checks it)"
    lines = [("sha256", bundle.digest), ("signed", signed)]
    if not (bundle.manifest.golden and bundle.manifest.measured.threshold):
        return lines
    golden = bundle.golden()
    for record in bundle.manifest.engines:
        found = reach(bundle, record, golden)
        told = found.fault or found.warning or f"{found.caught} of {found.defects} golden defects are NG"
        lines.append(("reach", f"{record.name}: {told}"))
    return lines


def summary(manifest: Manifest, size: int) -> list[tuple[str, str]]:
    """Label and text of every line above the table; `size` is that of the bundle in bytes."""
    from edgead.cli._searched import summary as search_summary
    from edgead.cli._sizing import told
    from edgead.cli._thresholds import facts

    recipe, sizing = manifest.preprocess, manifest.origin.sizing
    frames = manifest.measured.frames
    lines = [
        ("name", manifest.name),
        ("model", f"{manifest.family}{_unknown(manifest)}: {_pairs(manifest.model)}"),
        ("made", f"{manifest.created_at}, {size / 2**20:.1f} MiB, {len(manifest.files)} files, digests checked"),
        ("origin", _pairs({k: v for k, v in plain(manifest.origin).items() if not isinstance(v, Mapping)})),
        ("trained on", _pairs(plain(manifest.origin.data or {}))),
        ("recipe", _recipe(recipe)),
        *(("input size" if i == 0 else "", line) for i, line in enumerate(told(sizing) if sizing else ())),
        *(("input", f"{t.name}: {t.dtype} {' x '.join(map(str, t.shape))}") for t in manifest.inputs),
        *(("output", f"{t.name}: {t.dtype} {' x '.join(map(str, t.shape))}") for t in manifest.outputs),
        ("INT8", _pairs(manifest.calibration) if manifest.calibration else "none"),
        ("golden", f"{manifest.golden} frames, {len(manifest.golden_camera)} of them as the camera gave them, too"),
        ("compared on", _pairs(frames)),
        ("tools", _pairs(manifest.tools)),
        ("measured on", _pairs(manifest.machine)),
        ("runs", _choice(manifest)),
    ]
    if searched := search_summary(manifest.measured.search):
        lines.append(("search", searched))
    for engine in manifest.engines:
        since = f", {len(engine.history)} earlier" if engine.history else ""
        lines.append(("threshold", f"{engine.name}: {facts(engine.threshold)}{since}"))
    return lines


def _unknown(manifest: Manifest) -> str:
    """Engines of a family that is not known here run all the same; only making them anew needs it."""
    from edgead.families import unknown

    brought = unknown(manifest.family, manifest.origin.package)
    return f" (a family that is not known here: its engines run, to export it again {brought})" if brought else ""


def _recipe(recipe: PreprocessRecipe) -> str:
    roi = "all of the picture" if recipe.roi is None else "x {}, y {}, {} x {} px of the picture".format(*recipe.roi)
    if recipe.align is not None:
        roi = "x {}, y {}, {} x {} px of its reference picture".format(*recipe.inspected(*recipe.align.frame))
        far = "anywhere" if recipe.align.shift is None else f"shifted by up to {recipe.align.shift} px"
        roi = f"part found by {recipe.align.by}, {far}, turned by up to {recipe.align.angle:g} degrees; {roi}"
    aspect = "" if recipe.aspect == "stretch" else f", proportions kept: {recipe.aspect}"
    bits = "" if recipe.bits == 16 else f", 16-bit pictures hold {recipe.bits} bits"
    of = "" if recipe.pictures is None else f", trained on pictures of {recipe.pictures[0]} x {recipe.pictures[1]} px"
    return f"{roi} -> {recipe.width} x {recipe.height} px ({recipe.resize}{aspect}{bits}{of})"


def _choice(manifest: Manifest) -> str:
    """The engine that `edgead run` takes, and why."""
    choice = manifest.measured.choice
    times = choice.least_ms or {}
    if manifest.default_engine not in times:
        return f"{manifest.default_engine} unless --engine says otherwise"
    told = ", ".join(f"{name} {ms:g} ms" for name, ms in sorted(times.items(), key=lambda item: item[1]))
    where = choice.machine or {}
    box = f"{where.get('cpu', '?')} with {where.get('cores', '?')} cores"
    return f"{manifest.default_engine} unless --engine says otherwise: the fastest on {box} ({told})"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in values.items() if value not in ("", None, {}))


def _short(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(str(one) for one in value[:LONGEST])
    text = str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return f"{text[:12]}..."
    text = "".join(mark if mark.isprintable() else "?" for mark in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
