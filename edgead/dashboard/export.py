"""Pictures of which people said what they are, as other tools take them.

    mvtec          test/good/*.png, test/defect/*.png       edgead threshold --good/--defects, edgead evaluate, training
    coco           images/*.png, annotations.json           a box around the whole picture: nobody drew where the defect is
    labelstudio    images/*.png, tasks.json                 for an import with local files

A rejected part that is good is `good`, a missed defect and a confirmed NG are `defect`, a confirmed OK is `good`. A confirmed
UNKNOWN says nothing of the part and is left out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2

FORMATS = ("mvtec", "coco", "labelstudio")
GOOD, DEFECT = "good", "defect"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture with what was said of it.

    Attributes:
        station, camera: where it comes from.
        row: its record.
        label: what was said.
        file: the picture.
    """

    station: str
    camera: str
    row: Mapping[str, Any]
    label: str
    file: Path

    @property
    def kind(self) -> str | None:
        """Good or defect; None: nobody knows."""
        if self.label == "confirmed":
            return {"OK": GOOD, "NG": DEFECT}.get(self.row["verdict"])
        return {"false_reject": GOOD, "missed_defect": DEFECT}[self.label]

    @property
    def name(self) -> str:
        """Of its file there."""
        return f"{self.station}_{self.camera}_{self.row['seq']:08d}.png"


def write_zip(out: IO[bytes], form: str, pictures: Sequence[Labelled]) -> None:
    """All of them; a picture that vanishes meanwhile is left out."""
    # PNG is packed already; a box without a battery may have saved pictures in 1970, before any zip
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True, strict_timestamps=False) as archive:
        kept = [one for one in pictures if one.kind is not None and _put(archive, form, one)]
        if form == "coco":
            archive.writestr("annotations.json", json.dumps(_coco(kept), indent=1))
        elif form == "labelstudio":
            archive.writestr("tasks.json", json.dumps(list(_tasks(kept)), indent=1))


def _put(archive: zipfile.ZipFile, form: str, one: Labelled) -> bool:
    folder = f"test/{one.kind}" if form == "mvtec" else "images"
    try:
        archive.write(one.file, f"{folder}/{one.name}")
    except OSError:
        return False
    return True


def _coco(pictures: Sequence[Labelled]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(pictures, 1):
        width, height = _size(one.file)
        images.append({"id": number, "file_name": f"images/{one.name}", "width": width, "height": height})
        if one.kind == DEFECT:
            box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **box})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": DEFECT}]}


def _tasks(pictures: Sequence[Labelled]) -> Iterator[dict[str, Any]]:
    for one in pictures:
        said = {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [one.kind]}}
        row = one.row
        yield {
            "data": {
                "image": f"/data/local-files/?d=images/{one.name}",
                "camera": f"{one.station}/{one.camera}",
                "time": row["time"],
                "verdict": row["verdict"],
                "score": row["score"],
            },
            "annotations": [{"result": [said]}],
        }


def _size(file: Path) -> tuple[int, int]:
    """Width, height; zeros where it cannot be read."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return (0, 0) if image is None else (int(image.shape[1]), int(image.shape[0]))
