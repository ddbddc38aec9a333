"""Which pictures lie in a folder, and what they are: good ones, or which defect.

Folders are read with all that lies below them (day folders, shifts), but for hidden files and folders. By its name a folder holds
good pictures (`GOOD`), defects (`BAD`) or masks; what was taken for what is for the caller to tell.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from edgead.errors import BadInput
from edgead.preprocess import IMAGE_SUFFIXES
from edgead.words import one_line

GOOD = frozenset(
    {
        "good", "ok", "okay", "normal", "pass", "passed", "perfect", "intact", "healthy", "undamaged", "defectfree", "faultfree",
        "errorfree", "nodefect", "nodefects", "nondefect", "nondefective", "notdefective", "noanomaly", "nonanomalous", "free",
        "mtfree", "io", "inordnung", "gut", "accept", "accepted", "conform", "conforming", "flawless", "良品", "正常", "合格",
    }
)  # fmt: skip
"""Names of folders of good pictures, without case, blanks and punctuation; ``ok_front``, ``good-2024-05-01`` are such too."""

BAD = frozenset(
    {
        "ng", "nok", "ko", "bad", "defect", "defects", "defective", "def", "anomaly", "anomalies", "anomalous", "abnormal",
        "reject", "rejects", "rejected", "fail", "failed", "faulty", "fault", "broken", "damaged", "scrap", "nio", "ausschuss",
        "scratch", "scratches", "dent", "crack", "cracks", "不良", "不良品", "异常", "異常",
    }
)  # fmt: skip
MASKS = frozenset({"groundtruth", "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation"})
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_PLACES = frozenset(
    {
        "front", "back", "side", "top", "bottom", "left", "right", "parts", "part", "pieces", "images", "image", "pictures",
        "pics", "samples", "data", "cam", "camera", "train", "training", "test", "val", "valid", "validation",
    }
)  # fmt: skip
_NAMED = 6


@dataclass(frozen=True, slots=True)
class Found:
    """The pictures below a folder.

    Attributes:
        folder: that was looked through.
        files: the pictures, in the order of their paths.
        skipped: what was left out, in words -> how many.
    """

    folder: Path
    files: list[Path]
    skipped: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """``"36 pictures, 12 of them in 3 folders below (day1, day2, day3)"``."""
        below = Counter(f.parent.relative_to(self.folder).as_posix() for f in self.files if f.parent != self.folder)
        words = f"{len(self.files)} picture{'' if len(self.files) == 1 else 's'}"
        if below:
            words += f", {below.total()} of them in {len(below)} folder{'' if len(below) == 1 else 's'} below ({listed(below)})"
        return words


@dataclass(frozen=True, slots=True)
class Defects:
    """The pictures of defects below a folder.

    Attributes:
        folder: that was looked through.
        files: the pictures, each with its kind (the name of its folder) and its mask, in the order of their paths.
        skipped: what was left out, in words -> how many.
    """

    folder: Path
    files: list[LabelledFile]
    skipped: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """``"7 pictures of defects (dent 3, scratch 4), 3 of them with masks"``."""
        kinds = Counter(item.kind for item in self.files)
        masks = sum(item.mask is not None for item in self.files)
        words = f"{len(self.files)} picture{'' if len(self.files) == 1 else 's'} of defects"
        named = listed(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        return f"{words} ({named}), {masks or 'none'} of them with masks"


class LabelledFile(NamedTuple):
    """A labelled picture: its file, ``"good"`` or the defect's name (its folder's), and its mask's file or None."""

    file: Path
    kind: str
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Labels:
    """The labelled pictures below a folder.

    Attributes:
        files: all, folder by folder.
        taken: name of a folder -> taken for good, and how many pictures.
        skipped: what was left out, in words -> how many.
    """

    files: list[LabelledFile]
    taken: dict[str, tuple[bool, int]]
    skipped: Counter[str]

    def told(self) -> str:
        """``"good: OK (20); defects: scratch (4), dent (3)"``."""
        sides = {True: "good", False: "defects"}
        parts = []
        for good, word in sides.items():
            names = [f"{name} ({count})" for name, (is_good, count) in self.taken.items() if is_good is good]
            parts.append(f"{word}: {listed(names) or 'none'}")
        return "; ".join(parts)


def is_good(name: str) -> bool:
    """Is a folder of this name one of good pictures?"""
    words = _words(name)
    if "".join(words) in GOOD or _denies(words):
        return True
    good = [word for word in words if word in GOOD]
    return bool(good) and all(word in _PLACES or word in GOOD or word.isdigit() for word in words)


def is_bad(name: str) -> bool:
    """Does the name of a folder say that its pictures show no good parts?"""
    words = _words(name)
    return not is_good(name) and (bool(BAD & {*words, "".join(words)}) or bool(words and words[0] in ("no", "not", "non")))


def listed(names: Iterable[str], limit: int = _NAMED) -> str:
    """``"a, b, c and 4 more"``."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def pictures_below(folder: Path) -> Found:
    """All pictures below a folder.

    Raises:
        BadInput: no such folder, or no pictures in it.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of pictures")
    found = _walk(folder)
    if not found.files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise BadInput(f"{folder} holds no pictures", hint=f"put pictures there ({kinds})")
    return found


def good_pictures(folder: Path) -> Found:
    """All pictures below a folder of good ones.

    Raises:
        BadInput: no such folder, no pictures, or a folder below it is one of defects or masks, by its name.
    """
    found = pictures_below(folder)
    inside = {part for file in found.files for part in file.parent.relative_to(folder).parts}
    if strange := sorted(name for name in inside if is_bad(name) or _is_mask(name) or name.lower() == "test"):
        raise BadInput(
            f"{folder} is to hold good pictures only, and there is {listed(strange)} below it",
            hint="give the folder of the good pictures itself, or move the others away",
        )
    return found


def leave_out(found: Found, names: Sequence[str]) -> tuple[Found, tuple[Path, ...]]:
    """The pictures without those of these names (paths below the folder), and those.

    Raises:
        BadInput: one of them is not there.
    """
    known = {file.relative_to(found.folder).as_posix(): file for file in found.files}
    if unknown := [name for name in names if name not in known]:
        near = [name for name in known if Path(name).name == Path(unknown[0]).name]
        hint = f"it is called {near[0]}" if near else "name it as edgead train does: by its path below that folder"
        raise BadInput(f"{one_line(unknown[0])} is to be left out, and is no picture below {found.folder}", hint=hint)
    away = {known[name] for name in names}
    return replace(found, files=[file for file in found.files if file not in away]), tuple(sorted(away))


def find_good(folder: Path) -> tuple[Path, Path | None]:
    """Where the good pictures are, and the root with labelled ones (``test/...``) beside them, or None.

    Args:
        folder: an MVTec root, its ``train`` or ``train/good``, or any folder of good pictures. Any name of `GOOD` is as good.

    Raises:
        BadInput: no such folder, or two of good pictures in it.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of good pictures")
    folder = folder.resolve()
    good = _good_in(folder / "train") or _good_in(folder) or (folder / "train" if _is_root(folder) else folder)
    sure = [folder] if good != folder else []
    if good.parent.name == "train":
        sure.append(good.parent.parent)
    tests = [(root, _kinds(root / "test")) for root in (*sure, good.parent) if (root / "test").is_dir()]
    filled = [(root, [kind for kind in kinds if _walk(kind).files]) for root, kinds in tests]
    return good, next((root for root, kinds in filled if kinds and (root in sure or any(is_good(k.name) for k in kinds))), None)


def not_taken(given: Path, good: Path, root: Path | None) -> Counter[str]:
    """Pictures below the folder that somebody gave which are neither good ones nor labelled: in words -> how many."""
    given, good = given.resolve(), good.resolve()
    if given == good or not good.is_relative_to(given):
        return Counter()
    test = None if root is None else root.resolve() / "test"
    left = Counter[str]()
    for file in _walk(given).files:
        if not file.is_relative_to(good) and (test is None or not file.is_relative_to(test)):
            parts = file.relative_to(given).parts[:-1]
            if not any(_is_mask(part) for part in parts):
                place = "/".join(parts)
                left[
                    f"pictures that lie in {f'{place}/' if place else f'{given.name}/ itself'}, beside those of {good.name}/"
                ] += 1
    if len(left) > _NAMED:
        places = len(left)
        return Counter({f"pictures in {places} other folders, beside those of {good.name}/": left.total()})
    return left


def labelled(folder: Path) -> Labels:
    """The labelled pictures of a folder in MVTec layout, of its ``test`` folder, or of any folder with one folder for each kind.
    Where no name says good, the folder called as the only one in ``train`` is it.

    Raises:
        BadInput: there are none.
    """
    test = folder / "test" if (folder / "test").is_dir() else folder
    root = test.parent if test.name == "test" else test
    kinds = _kinds(test) if test.is_dir() else []
    files: list[LabelledFile] = []
    taken: dict[str, tuple[bool, int]] = {}
    skipped: Counter[str] = Counter()
    alike = "" if any(is_good(kind.name) for kind in kinds) else _only_kind(root / "train")
    for kind in kinds:
        found = _walk(kind)
        skipped += found.skipped
        if not found.files:
            skipped[f"folder {kind.name} without pictures"] += 1
            continue
        good = is_good(kind.name) or kind.name == alike
        taken[kind.name] = (good, len(found.files))
        files += [LabelledFile(f, "good" if good else kind.name, None if good else _mask_of(root, kind, f)) for f in found.files]
    if not files:
        raise BadInput(f"{folder} holds no labelled pictures", hint="expected test/good and test/DEFECT_KIND, as in MVTec AD")
    if loose := [p for p in test.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES]:
        skipped[f"pictures that lie in {test.name}/ itself, in the folder of no kind, e.g. {min(loose).name}"] += len(loose)
    return Labels(files, taken, skipped)


def defect_pictures(folder: Path) -> Defects:
    """All pictures of defects below a folder: one of a single kind, one with a folder for each kind, or one in MVTec layout, of
    which ``test`` is taken. Good pictures among them, by the names of their folders, are left out.

    A picture's mask is ``NAME_mask.png`` beside it, or ``NAME_mask.png`` or ``NAME.png`` in a folder of masks (``ground_truth``,
    ``masks``, ...) of the same layout, below the folder or beside it.

    Raises:
        BadInput: no such folder, one of good pictures by its name, no picture of a defect in it, or two of the same name, one of
            which may be a mask.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of pictures of defects")
    place = folder.resolve()
    if is_good(place.name):
        raise BadInput(f"{folder} is called as a folder of good pictures, not of defects", hint="give the folder of the defects")
    found = _walk(place / "test" if (place / "test").is_dir() else place)
    skipped, files = found.skipped, list[Path]()
    bare = Counter(file.with_suffix("") for file in found.files)
    for file in found.files:
        inside = file.parent.relative_to(found.folder).parts
        if any(map(_is_mask, inside)):
            skipped["files taken for masks, by the names of their folders"] += 1
        elif any(map(is_good, inside)):
            skipped["good pictures, by the names of their folders"] += 1
        elif not (file.stem.endswith("_mask") and file.parent / file.stem.removesuffix("_mask") in bare):
            files.append(file)
    if twice := next((file for file in files if bare[file.with_suffix("")] > 1), None):
        both = listed(file.name for file in files if file.with_suffix("") == twice.with_suffix(""))
        raise BadInput(
            f"{twice.parent} holds pictures of the same name: {both}",
            hint=f"call a mask {twice.stem}_mask.png, or put masks into a folder called ground_truth",
        )
    if not files:
        told = f" ({'; '.join(skipped_lines(skipped))})" if skipped else ""
        raise BadInput(f"{folder} holds no pictures of defects{told}", hint="give a folder of pictures of defective parts")
    folders = lru_cache(maxsize=None)(_mask_folders)
    kinds = [(*file.parent.relative_to(found.folder).parts, place.name)[0] for file in files]
    masks = [_mask_near(file, place, folders) for file in files]
    return Defects(folder, list(map(LabelledFile, files, kinds, masks)), skipped)


def _mask_folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and _is_mask(p.name))
    except OSError:  # above the folder that was given, and not ours to read
        return []


def _mask_near(file: Path, folder: Path, mask_folders: Callable[[Path], list[Path]]) -> Path | None:
    """The mask of a picture of a defect (see :func:`defect_pictures`)."""
    if beside := _mask_called(file.parent, file.stem, ("_mask",)):
        return beside
    for above in file.parents[: len(file.parents) - len(folder.parents) + 2]:  # as high as the folder that holds test/
        inside = file.parent.relative_to(above)
        for masks in mask_folders(above):
            for place in (masks / inside, masks.joinpath(*inside.parts[1:])):
                if mask := _mask_called(place, file.stem, ("_mask", "")):
                    return mask
    return None


def _mask_called(folder: Path, stem: str, marks: Sequence[str]) -> Path | None:
    names = [f"{stem}{mark}{suffix}" for mark in marks for suffix in MASK_SUFFIXES]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _denies(words: list[str]) -> bool:
    """``scratch_free``, ``no-cracks``, ``without defects``: a word for a defect, and one that there is none."""
    if len(words) < 2:
        return False
    rest = words[:-1] if words[-1] == "free" else words[1:] if words[0] in ("no", "non", "not", "without") else []
    return bool(rest) and all(word in BAD or word in ("error", "errors", "faults") for word in rest)


def _words(name: str) -> list[str]:
    """``"OK_Front-2"`` and ``"OKFront2"`` -> ``["ok", "front", "2"]``."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word.lower() for word in re.findall(r"[^\W\d_]+|\d+", apart)]


def _is_mask(name: str) -> bool:
    words = _words(name)
    return bool(MASKS & {*words, "".join(words)})


def _is_root(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def _good_in(folder: Path) -> Path | None:
    """The folder of good pictures in a folder; several are one too many."""
    if not folder.is_dir():
        return None
    found = sorted(p for p in folder.iterdir() if p.is_dir() and is_good(p.name) and _walk(p).files)
    if len(found) > 1 and all(p.name != "good" for p in found):
        raise BadInput(
            f"{folder} holds several folders of good pictures: {listed(p.name for p in found)}",
            hint="give one of them, or put their pictures into one folder named good",
        )
    return next((p for p in found if p.name == "good"), next(iter(found), None))


def _kinds(test: Path) -> list[Path]:
    """The folders of labelled pictures in one."""
    found = sorted(p for p in test.iterdir() if p.is_dir() and not p.name.startswith(".") and not _is_mask(p.name))
    return [p for p in found if p.name != "train"]


def _only_kind(train: Path) -> str:
    """The name of the only folder with pictures in ``train``: a model learns from good parts only."""
    found = [p.name for p in _kinds(train) if _walk(p).files] if train.is_dir() else []
    return found[0] if len(found) == 1 and not is_bad(found[0]) else ""


def _mask_of(root: Path, kind: Path, file: Path) -> Path | None:
    return _mask_called(root / "ground_truth" / kind.name / file.relative_to(kind).parent, file.stem, ("_mask", ""))


def _walk(folder: Path) -> Found:
    """Everything below, following links, each folder once."""
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    seen: set[Path] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        place = Path(here)
        if (real := place.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        if hidden := [name for name in folders if _is_hidden(name)]:
            skipped["hidden folders"] += len(hidden)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in names:
            file = place / name
            suffix = file.suffix.lower()
            if name.startswith("."):
                skipped["hidden files"] += 1
            elif suffix in IMAGE_SUFFIXES and file.is_file():
                files.append(file)
            else:
                skipped[f"files that are no pictures ({suffix or 'without an ending'})"] += 1
    return Found(folder, sorted(files), skipped)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # what zip archives of macOS leave


def skipped_lines(skipped: Mapping[str, int]) -> list[str]:
    """``["3 files that are no pictures (.txt)"]``."""
    return [f"{count} {what}" for what, count in sorted(skipped.items())]
