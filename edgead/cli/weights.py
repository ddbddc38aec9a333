"""Published weights of backbones: which there are, bring them here, check a file.

edgead weights list                         every backbone: source, licence, size, checksum, and where it lies on this machine
edgead weights fetch resnet18               fetch its weights into the cache, checked by the publisher's checksum
edgead weights fetch resnet18 --from URL    from a mirror in your own network
edgead weights verify FILE                  does it hold all the weights of a backbone, and nothing else?

Without a network: copy the file that `list` names to the place it names, or give it with --weights (edgead docs backbones).
Needs a network only for `fetch`; a proxy is taken from https_proxy. Exit code 5: not fetched (no network, no such file);
2: another file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, Parsed
from edgead.cli._verb import actions, argument, option, verb
from edgead.jobs.weights import Fetched, Verified, Weights

if TYPE_CHECKING:
    from edgead.fetching import Progress


@dataclass(frozen=True, slots=True)
class Listed:
    """The published weights.

    Attributes:
        backbones: every backbone's.
    """

    backbones: tuple[Weights, ...]


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError(f"{text[:80]!r} is no SHA-256 (64 hexadecimal digits)")
    return text.lower()


SHA256 = option("--sha256", type=Parsed(_sha256), metavar="HEX", help="checksum that the file must have")


@verb("Every backbone: source, licence, size, checksum, and where it lies.", "every backbone: source, licence, where it lies")
@JSON
def listed(as_json: bool) -> int:
    from edgead.jobs.weights import known

    found = known()
    if as_json:
        print_json("weights", Listed(found), action="list")
        return 0
    for one in found:
        _show(one)
    return 0


@verb("Fetch a backbone's weights into the cache.", "fetch a backbone's weights into the cache")
@argument("backbone", metavar="NAME", help="as in: edgead weights list")
@option("--from", "url", metavar="URL", help="address of the file on a mirror (default: its publisher's)")
@SHA256
@option("--force", is_flag=True, help="fetch it though it is there")
@JSON
def fetch(backbone: str, url: str | None, sha256: str | None, force: bool, as_json: bool) -> int:
    from edgead.cli._console import progress
    from edgead.jobs import weights

    with progress() as bars:
        bar = bars.add_task(backbone, total=None)

        def report(now: Progress) -> None:
            bars.update(bar, completed=now.done, total=now.total or None)

        done = weights.fetch(backbone, url, sha256, force=force, report=report)
    print_json("weights", done, action="fetch") if as_json else _tell_fetched(done)
    return 0


@verb("Does a file hold all the weights of a backbone, and nothing else?", "check a file of weights")
@argument("file", type=PATH, metavar="FILE", help=".pth or .safetensors")
@option("--backbone", metavar="NAME", help="whose weights they should be (default: found out)")
@SHA256
@option("--repin", is_flag=True, help="it was replaced on purpose: pin its new checksum")
@JSON
def verify(file: Path, backbone: str | None, sha256: str | None, repin: bool, as_json: bool) -> int:
    from edgead.jobs import weights

    found = weights.verify(file, backbone, sha256, repin=repin)
    print_json("weights", found, action="verify") if as_json else _tell_verified(found)
    return 0


command = actions(__doc__, list=listed, fetch=fetch, verify=verify)


def _show(one: Weights) -> None:
    from edgead.cli._console import console

    multiple = f"; sides of the input are multiples of {one.input_multiple_px} px" if one.input_multiple_px > 1 else ""
    digest = f"SHA-256 {one.sha256[:16]} ({one.checked_by})" if one.sha256 else f"SHA-256 {one.checked_by}"
    lines = [
        (one.name, f"{one.title}, layers {','.join(one.layers)}{multiple}"),
        ("  here", str(one.path or f"no: {one.get}")),
        ("  file", f"{one.size_mib:.1f} MiB, {one.licence}, {digest}"),
        *(("  source" if i == 0 else "  or", url) for i, url in enumerate(one.sources)),
    ]
    if one.path is None:
        lines += [("  looked for" if i == 0 else "", str(place)) for i, place in enumerate(one.places)]
    for label, text in lines:
        console().print(f"{label:<19}{text}", markup=False)


def _tell_fetched(done: Fetched) -> None:
    from edgead.cli._console import console

    if done.was_there:
        kind = done.compared_with or "with nothing to compare it with"
        console().print(f"{done.file} is there already ({kind})", markup=False)
        return
    by = {
        "given": "the checksum given",
        "published": "its publisher's checksum",
        "": "nothing: its publisher tells no checksum",
    }[done.compared_with]
    console().print(f"{done.file}\nSHA-256 {done.sha256}, compared with {by}", markup=False)
    if done.pinned:
        console().print("pinned: from now on it must stay this file", markup=False)


def _tell_verified(found: Verified) -> None:
    from edgead.cli._console import console

    told = f"as {found.compared_with}"
    if found.pinned:
        told = "pinned: its publisher tells no checksum for a file of this name, so it must stay as it is now"
    for label, text in (
        ("file", f"{found.file}, {found.size_mib:.1f} MiB"),
        ("backbone", f"{found.backbone} ({found.title}), {found.licence}"),
        ("holds", f"{found.tensors} tensors: all that it needs, none that it does not know, all finite"),
        ("SHA-256", found.sha256),
        ("", told),
        ("next", f"edgead train patchcore GOOD_DIR -o OUT --backbone {found.backbone} --weights {found.file}"),
    ):
        console().print(f"{label:<10}{text}", markup=False)
