"""Write files by which another server serves a bundle: a Triton repository, what KServe on Kubernetes needs, or an OpenVINO IR.

The bundle lies in those of Triton and KServe, pinned by its digest, and is run by edgead itself inside that server: the camera's
picture goes in, recipe, 32-bit floats and threshold are inside, and answers are those of `edgead serve` (edgead docs serve).
The IR takes the camera's picture, of one size, and holds the recipe; what it cannot hold is refused by name.
"""

from __future__ import annotations

from pathlib import Path

from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS
from edgead.cli._types import FRAME, PATH, whole
from edgead.cli._verb import argument, option, verb


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="folder written by edgead export")
@option(
    "--for",
    "kind",
    required=True,
    metavar="SERVER",
    help="triton, kserve or openvino (an IR for Model API, DL Streamer and OpenVINO Model Server)",
)
@option("-o", "--out", type=PATH, required=True, metavar="DIR", help="the model repository, made where it is absent")
@option("--name", metavar="NAME", help="of the model (default: the bundle's folder)")
@option("--version", type=whole(1), default=1, metavar="N", help="of the model; one that is there is not touched (default 1)")
@option("--engine", metavar="NAME", help="engine in the bundle (default: the bundle's)")
@option("--frame", type=FRAME, metavar="WxH", help="size of the camera's pictures, for openvino (default: as at training)")
@THREADS
@JSON
def command(
    bundle: Path,
    kind: str,
    out: Path,
    name: str | None,
    version: int,
    engine: str | None,
    frame: tuple[int, int] | None,
    threads: int | None,
    as_json: bool,
) -> int:
    from edgead.serving.files import Request, write_files

    written = write_files(Request(bundle, kind, out, name or bundle.resolve().stem, version, engine, threads, frame))
    if as_json:
        print_json("serve-files", written)
        return 0
    from edgead.cli._console import console

    for line in (*map(str, written.files), *written.notes):
        console().print(line, markup=False, soft_wrap=True)
    return 0
