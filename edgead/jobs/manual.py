"""The pages of the documentation that lie in the wheel: what messages and help send people to, without internet."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import edgead
from edgead.errors import BadInput, StorageError

SHORTENED = 3
"""Names that are offered when one is mistyped."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        name: what `edgead docs` shows it by, e.g. "thresholds" or "devices/rtsp".
        title: its first heading.
        file: Markdown, UTF-8.
    """

    name: str
    title: str
    file: Path


@dataclass(frozen=True, slots=True)
class Pages:
    """What there is to read.

    Attributes:
        pages: by name; the one that was asked for.
    """

    pages: tuple[Page, ...]


def pages() -> list[Page]:
    """All of them, by name; of the repository where edgead is installed from there.

    Raises:
        StorageError: this installation has none.
    """
    package = Path(edgead.__file__).parent
    folder = next((one for one in (package / "docs", package.parent / "docs") if (one / "index.md").is_file()), None)
    if folder is None:
        raise StorageError(f"{package} has no pages", hint="install edgead from its wheel")
    return [
        Page(file.relative_to(folder).with_suffix("").as_posix(), _title(file), file) for file in sorted(folder.rglob("*.md"))
    ]


def page(name: str) -> Page:
    """The page of that name: `thresholds`; `devices/rtsp`, `rtsp` and `docs/devices/rtsp.md` are one.

    Raises:
        BadInput: there is none.
    """
    found = pages()
    wanted = name.removeprefix("docs/").removesuffix(".md")
    for one in found:
        if wanted in (one.name, one.name.rpartition("/")[2]):
            return one
    near = difflib.get_close_matches(wanted, [one.name.rpartition("/")[2] for one in found], SHORTENED)
    raise BadInput(f"there is no page {name!r}" + (f"; near: {', '.join(near)}" if near else ""), hint="all of them: edgead docs")


def _title(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), file.stem)
