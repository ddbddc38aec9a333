"""Golden frames: a few real pictures in the bundle and the trained model's answers on them, so that any box can prove itself.

    golden/NNN.png         at model size, BGR
    golden/reference.npz   the trained model's answers: scores (N), maps (N x h x w), float32
    golden/camera/NNN.png  some of the same as the camera gave them: golden/NNN.png is what the recipe made of it

All are read with what they unfold to checked first: a PNG of a few bytes may declare any size, and so may an array in an npz.
"""

from __future__ import annotations

import io
import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import numpy.typing as npt

from edgead import disk
from edgead.errors import BadInput
from edgead.parity import Answers
from edgead.preprocess import read_image, to_bgr8
from edgead.types import Image

MAX_MAP_BYTES = 1 << 30
"""Of the stored maps together."""
MAX_CAMERA_PIXELS = 120_000_000
CAMERA_FOLDER = "camera"
"""In a trained model's folder: some of its held-out pictures as the camera gave them, under the same names."""
MOST_CAMERA = 3
"""Golden frames that are stored as the camera gave them, too."""
CAMERA_BYTES, FIRST_CAMERA_BYTES = 12 << 20, 64 << 20
"""Of all of them together, but the first alone may have more."""
_MAX_FILE = 1 << 30
_HEADER = re.compile(
    rb"\{'descr': '(?P<kind>[ -&(-~]{1,20})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[0-9]{0,12}(?:, ?[0-9]{1,12}){0,5},?)\), \} *\n"
)
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True, slots=True)
class Golden:
    """Real frames at model size and the trained model's answers on them.

    Attributes:
        images: H x W x 3 uint8 BGR.
        reference: the trained model's answers.
        kinds: what each shows, ``"good"``, ``"defect"`` or ``"drawn defect"``; empty where nobody noted it.
    """

    images: tuple[Image, ...]
    reference: Answers
    kinds: tuple[str, ...] = ()

    def defects(self, trained_threshold: float) -> list[int]:
        """Which frames show defects; where nobody noted it, those that the trained model calls NG."""
        if self.kinds:
            return [i for i, kind in enumerate(self.kinds) if kind != "good"]
        return [int(i) for i in np.flatnonzero(self.reference.scores >= trained_threshold)]


def name_of(index: int) -> str:
    """File of a golden frame, relative to the bundle."""
    return f"golden/{index:03d}.png"


def camera_name_of(index: int) -> str:
    """File of a golden frame as the camera gave it."""
    return f"golden/camera/{index:03d}.png"


def write_golden(folder: Path, images: Sequence[Image], reference: Answers, camera: Mapping[int, bytes] | None = None) -> None:
    """Store golden frames (model size, BGR) and the trained model's answers on them.

    Args:
        camera: PNG files of some of them as the camera gave them, by their index.
    """
    (folder / "golden").mkdir()
    for i, image in enumerate(images):
        data = cv2.imencode(".png", image)[1]
        (folder / name_of(i)).write_bytes(data.tobytes())
    for i, png in (camera or {}).items():
        (folder / camera_name_of(i)).parent.mkdir(exist_ok=True)
        (folder / camera_name_of(i)).write_bytes(png)
    with (folder / "golden/reference.npz").open("wb") as file:
        np.savez_compressed(file, scores=reference.scores, maps=reference.maps)


def camera_pngs(files: Mapping[int, Path], most: int = MOST_CAMERA, bits: int = 16) -> dict[int, bytes]:
    """Pictures as the camera gave them, as PNG of 8 bits: the first `most`, fewer when they are large. Keys as in `files`.

    Args:
        bits: that 16-bit files really use (the recipe's).

    Raises:
        BadInput: a picture cannot be read.
    """
    found: dict[int, bytes] = {}
    for key, file in list(files.items())[:most]:
        picture = read_image(file, bits)
        if picture.shape[0] * picture.shape[1] > MAX_CAMERA_PIXELS:
            break
        png = bytes(cv2.imencode(".png", picture)[1].tobytes())
        if sum(map(len, found.values())) + len(png) > (CAMERA_BYTES if found else FIRST_CAMERA_BYTES):
            break
        found[key] = png
    return found


def write_camera(folder: Path, pngs: Mapping[int, bytes]) -> None:
    """Store pictures as the camera gave them in a trained model's folder, by the number of their held-out frame."""
    (folder / CAMERA_FOLDER).mkdir()
    for i, png in pngs.items():
        (folder / CAMERA_FOLDER / f"{i:04d}.png").write_bytes(png)


def read_frames(folder: Path, count: int, width: int, height: int) -> tuple[Image, ...]:
    """The frames at model size.

    Raises:
        BadInput: missing, no PNG, or of another size.
    """
    return tuple(_png(folder, name_of(i), (width, height)) for i in range(count))


def read_camera(folder: Path, index: int) -> Image:
    """A golden frame as the camera gave it, H x W x 3 uint8 BGR. Raises BadInput."""
    return _png(folder, camera_name_of(index), None)


def read_reference(folder: Path, count: int, at_least: tuple[int, int]) -> Answers:
    """The trained model's answers on `count` frames, whose maps are at least `at_least` (height, width).

    Raises:
        BadInput: they cannot be read, or are not of `count` frames.
    """
    file = folder / "golden/reference.npz"
    try:
        with zipfile.ZipFile(io.BytesIO(disk.read_file(file, _MAX_FILE))) as stored:
            scores, maps = (_array(stored, name, dimensions) for name, dimensions in (("scores", 1), ("maps", 3)))
    except (OSError, LookupError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, lzma.LZMAError,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise BadInput(f"golden/reference.npz cannot be read: {str(error)[:200]}") from error
    if len(scores) != count or len(maps) != count:
        raise BadInput(f"golden/reference.npz holds {len(scores)} scores and {len(maps)} maps, expected {count} of each")
    height, width = maps.shape[1:]
    if height < at_least[0] or width < at_least[1]:
        raise BadInput(f"golden/reference.npz holds maps of {width} x {height}, expected {at_least[1]} x {at_least[0]} or more")
    if not (bool(np.isfinite(scores).all()) and bool(np.isfinite(maps).all())):
        raise BadInput("golden/reference.npz holds answers that are not finite")
    return Answers(scores, maps)


def _array(stored: zipfile.ZipFile, name: str, dimensions: int) -> npt.NDArray[np.float32]:
    """A float32 array, read only when what its header declares fits what is there. Raises ValueError, KeyError, ..."""
    with stored.open(f"{name}.npy") as file:
        shape, kind = _header(file)
        count = math.prod(shape)
        if kind != "<f4" or len(shape) != dimensions:
            raise ValueError(f"{name} is {kind} of shape {str(shape)[:60]}, expected float32 (<f4) of {dimensions} dimensions")
        if count * 4 > MAX_MAP_BYTES:
            raise ValueError(f"{name} declares {count * 4:,} bytes, expected at most {MAX_MAP_BYTES:,}")
        content = file.read(count * 4 + 1)
    if len(content) != count * 4:
        raise ValueError(f"{name} declares {count * 4:,} bytes and holds {'more' if len(content) > count * 4 else len(content)}")
    return np.frombuffer(content, np.float32).reshape(shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], str]:
    """Shape and type of a stored array; only the header that NumPy itself writes is read (its own reader also mends old ones)."""
    start = file.read(10)
    if len(start) < 10 or start[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("it does not begin as an array of NumPy does")
    found = _HEADER.fullmatch(file.read(int.from_bytes(start[8:], "little")))
    if found is None:
        raise ValueError("its header is not as NumPy writes it")
    if found["fortran"] == b"True":
        raise ValueError("it is in Fortran order")
    return tuple(int(side) for side in found["shape"].split(b",") if side.strip()), found["kind"].decode()


def _png(folder: Path, name: str, size: tuple[int, int] | None) -> Image:
    """A PNG as H x W x 3 uint8 BGR; `size` is the width and height that it must have."""
    try:
        content = disk.read_file(folder / name, _MAX_FILE)
        if not content.startswith(_PNG) or len(content) < 33:
            raise BadInput(f"{name} is no PNG")
        width, height = struct.unpack(">II", content[16:24])
        if size is not None and (width, height) != size:
            raise BadInput(f"{name} is {width} x {height} px, expected {size[0]} x {size[1]}")
        if width * height > MAX_CAMERA_PIXELS:
            raise BadInput(f"{name} is {width} x {height} px, expected at most {MAX_CAMERA_PIXELS:,} in all")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except (OSError, cv2.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise BadInput(f"{name} cannot be read: {reason}") from error
    if image is None:
        raise BadInput(f"{name} is a damaged PNG")
    return to_bgr8(image)
