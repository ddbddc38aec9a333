"""`edgead export --on-device`: TensorRT engines built from a bundle's own graphs. Needs neither torch nor onnx."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgead.cli._exported import listed
from edgead.cli._importing import OF_IMPORTS
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.export.tensorrt import BuildOptions


def build_options(args: argparse.Namespace) -> BuildOptions:
    from edgead.export.tensorrt import BuildOptions, parse_capabilities

    wanted = parse_capabilities(args.compute_capability) if args.compute_capability else ()
    return BuildOptions(args.workspace_mb, wanted, dla_core=args.dla)


def on_device(args: argparse.Namespace) -> int:
    """Build, verify and tell. Raises BadInput for options that do not go with it."""
    from edgead.bundle import Bundle
    from edgead.cli._console import console, progress
    from edgead.cli.verify import show as show_verified
    from edgead.export.on_device import build_on_device

    backends = listed(args.backend) if args.backend else (None,)
    others = ("report", "calibration", "labelled", "max_flips", "max_score_deviation", "max_false_reject", "weight_bits",
              "rewrite", "no_rewrite", "threads", *OF_IMPORTS)  # fmt: skip
    if given := [name for name in others if getattr(args, name) not in (None, "")]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadInput(f"{flags}: nothing that --on-device does takes it", hint="it builds engines from the bundle's own graphs")
    if len(backends) > 1 or args.output is not None:
        what = "-o" if args.output is not None else "one --backend at a time"
        raise BadInput(f"--on-device changes the bundle itself: {what} does not go with it", hint="see edgead export --help")
    wanted = listed(args.precision) if args.precision else ()
    was_signed = Bundle.open(args.model).is_signed
    with progress() as bar:
        task = bar.add_task("building", total=1.0)
        outcomes = build_on_device(
            args.model, backends[0], wanted, build_options(args),
            lambda stage, done: bar.update(task, description=stage, completed=done),
        )  # fmt: skip
    if was_signed and any(outcome.rebuilt for outcome in outcomes):
        console().print("the bundle is not signed any more: edgead sign it again", markup=False)
    for outcome in outcomes:
        told = "built on this device" if outcome.rebuilt else "matches this GPU and version, left as it is"
        console().print(f"{outcome.name}: {told}", markup=False)
    if verified := [outcome.verification for outcome in outcomes if outcome.verification is not None]:
        show_verified(verified)
    bundle = Bundle.open(args.model)
    manifest = bundle.manifest
    console().print(f"the bundle's sha256 is {bundle.digest}", markup=False)
    unmeasured = [outcome.name for outcome in outcomes if manifest.engine(outcome.name).parity is None]
    verb = f"verify {args.model}" if unmeasured else f"run {args.model} --engine {outcomes[0].name} --camera 0"
    console().print(f"next: edgead {verb}", markup=False)
    return 0
