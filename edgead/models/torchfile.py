"""Files written by ``torch.save``, read as data: tensors, containers and known objects. Both layouts: zip files (since torch 1.6)
and rows of pickles (before; published weights are often still such).

Nothing is unpacked to the disk and nothing in the file is executed (see :mod:`edgead.models.streams`).
"""

from __future__ import annotations

import io
import itertools
import lzma
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
from torch import Tensor

from edgead.disk import check_regular
from edgead.errors import BadInput
from edgead.models.streams import MOST_BYTES, MOST_NODES, Builder, Name, Unreadable, mapping, read_stream

_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_MOST_FILE_BYTES = 16 << 30

_GROWTH = 4
"""All tensors may take so many times the file's bytes: a half precision one twice, and some weights are found in two places."""

_TENSOR_BYTES = 64
"""Counted for a tensor of any size."""

_MOST_AXES = 16
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError, LookupError, EOFError)
"""What reading a damaged or encrypted zip file raises."""

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD = b"\x80\x02\x8a\x0a" + _OLD_MAGIC.to_bytes(10, "little") + b"."
"""How a file of torch before 1.6 begins: its magic number as a pickle."""

_NAMES: dict[str, Builder] = {f"torch.{name}": lambda *_: None for name in _STORAGES}


def read_torch_file(path: Path, records: tuple[str, ...] = ()) -> Any:
    """What ``torch.save`` wrote.

    Args:
        path: a ``.ckpt``, ``.pth`` or ``.pt`` file.
        records: classes whose objects may be in it (see :func:`edgead.models.streams.read_stream`).

    Returns:
        Containers, numbers, strings, float32 (half and double ones are cast) or integer tensors on the CPU, and records.

    Raises:
        BadInput: missing, truncated, not such a file, or it names anything else.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            if file.read(len(_OLD)) == _OLD:
                return _OldReader(path, file).read(records)
        with zipfile.ZipFile(path) as archive:
            return _ZipReader(path, archive).read(records)
    except _BROKEN_ZIP as error:
        raise BadInput(f"{path} {_what_it_is(path)}", hint="copy it again, or save it again with torch.save") from error
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}", hint=error.hint) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error


class _Reader:
    """Tensors of one file, which together may not unfold to much more than it has."""

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise BadInput(f"{path} has {path.stat().st_size >> 30} GiB", hint="save the model alone, without its optimizer")
        self.path = path
        self.loaded: dict[str, Tensor] = {}
        self.views: dict[tuple[Any, ...], Tensor] = {}
        self.bytes_left = _GROWTH * path.stat().st_size + (16 << 20)

    def _builders(self) -> Mapping[str, Builder]:
        return {
            **_NAMES,
            "collections.OrderedDict": mapping,
            "collections.defaultdict": lambda *_: {},
            "collections.Counter": mapping,  # the steps at which a learning rate falls, in a checkpoint's schedule
            "builtins.set": lambda items=(): list(items),
            "builtins.dict": mapping,
            "builtins.list": lambda items=(): list(items),
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
            "torch.Size": tuple,
            "torch.device": lambda *args: str(args[0]),
        }

    def _storage(self, reference: Any) -> Tensor:
        key, dtype, numbers = _told(reference)
        if key not in self.loaded:
            self.loaded[key] = _as_tensor(self._data(key, numbers * dtype.itemsize), dtype)
        return self.loaded[key]

    def _data(self, key: str, size: int) -> bytes:
        """The bytes of a storage, so many. Raises Unreadable."""
        raise NotImplementedError

    def _tensor(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        """A view of a storage, inside of it and not larger than it; floating ones as float32. The same view again is the same
        tensor, and all views together may not unfold to much more than the file has."""
        if not isinstance(storage, Tensor) or len(size) != len(stride) or len(size) > _MOST_AXES:
            raise ValueError("not a tensor")
        if not all(type(n) is int for n in (offset, *size, *stride)):
            raise ValueError("not whole numbers")
        numbers = math.prod(size)
        if min((offset, *size, *stride), default=0) < 0 or numbers > storage.numel():
            raise ValueError("tensor larger than its data")
        last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
        if numbers and last >= storage.numel():
            raise ValueError("tensor outside of its data")
        key = (id(storage), offset, tuple(size), tuple(stride))
        if key not in self.views:
            kind = torch.float32 if storage.is_floating_point() else storage.dtype
            self.bytes_left -= numbers * kind.itemsize + _TENSOR_BYTES
            if self.bytes_left < 0:
                raise Unreadable("its tensors unfold to many times the file's size", hint="do not trust this file")
            self.views[key] = storage.as_strided(size, stride, offset).clone().to(kind)
        return self.views[key]


class _ZipReader(_Reader):
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        super().__init__(path)
        self.archive = archive
        self.sizes: dict[str, int] = {}
        total = 0
        for entry in archive.infolist():
            place = PurePosixPath(entry.filename)
            if place.is_absolute() or ".." in place.parts or "\\" in entry.filename:
                raise Unreadable(f"it holds an entry outside of itself: {entry.filename!r}", hint="do not trust this file")
            total += entry.file_size
            self.sizes[entry.filename] = entry.file_size
        if total > 2 * path.stat().st_size + (1 << 20):  # torch stores without compression
            raise Unreadable(f"it claims to unpack to {total >> 20} MiB", hint="do not trust this file")
        roots = [name[: -len("data.pkl")] for name in self.sizes if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise BadInput(f"{path} is a zip file, but not one of torch.save", hint="give a .ckpt, .pth or .pt file")
        self.root = roots[0]

    def read(self, records: tuple[str, ...]) -> Any:
        order = f"{self.root}byteorder"
        if order in self.sizes and self.archive.read(order) != b"little":
            raise BadInput(f"{self.path} was written on a big-endian machine", hint="save it again on a usual one")
        stream = f"{self.root}data.pkl"
        if self.sizes[stream] > MOST_BYTES:
            raise Unreadable(
                f"its object stream has {self.sizes[stream] >> 20} MiB", hint="give the file that the training wrote"
            )
        return read_stream(self.archive.read(stream), self._builders(), records, self._storage)

    def _data(self, key: str, size: int) -> bytes:
        name = f"{self.root}data/{key}"
        if self.sizes.get(name, -1) != size:
            raise Unreadable(f"its tensor data {key} is missing or truncated", hint="copy the file again")
        return self.archive.read(name)


class _OldReader(_Reader):
    """The layout before torch 1.6: pickles of a magic number, a version, the machine, the object and the storages' names;
    then the storages in that order, each as its count (int64) and its numbers."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path)
        self.file = file
        self.places: dict[str, tuple[int, int]] = {}

    def read(self, records: tuple[str, ...]) -> Any:
        self.file.seek(0)
        head = io.BytesIO(self.file.read(MOST_BYTES))
        magic, version, machine, content, names = (_one_pickle(head) for _ in range(5))
        if (read_stream(magic), read_stream(version)) != (_OLD_MAGIC, 1001):
            raise ValueError("not a file of torch.save")
        if read_stream(machine).get("little_endian") is not True:
            raise BadInput(f"{self.path} was written on a big-endian machine", hint="save it again on a usual one")
        kinds: dict[str, tuple[torch.dtype, int]] = {}

        def noted(reference: Any) -> None:
            key, dtype, numbers = _told(reference)
            kinds[key] = (dtype, numbers)

        read_stream(content, {**self._builders(), "torch._utils._rebuild_tensor_v2": lambda *_: None}, records, noted)
        self._find(read_stream(names), kinds, head.tell())
        return read_stream(content, self._builders(), records, self._storage)

    def _find(self, names: Any, kinds: Mapping[str, tuple[torch.dtype, int]], place: int) -> None:
        """Where each storage's numbers lie."""
        for name in names:
            dtype, numbers = kinds[str(name)]
            self.file.seek(place)
            if self.file.read(8) != struct.pack("<q", numbers):
                raise Unreadable(f"its tensor data {str(name)[:40]} is missing or truncated", hint="copy the file again")
            self.places[str(name)] = (place + 8, numbers * dtype.itemsize)
            place += 8 + numbers * dtype.itemsize

    def _data(self, key: str, size: int) -> bytes:
        place, length = self.places[key]
        self.file.seek(place)
        data = self.file.read(length) if length <= self.path.stat().st_size else b""
        if len(data) != size:
            raise Unreadable(f"its tensor data {key[:40]} is missing or truncated", hint="copy the file again")
        return data


def _one_pickle(stream: io.BytesIO) -> bytes:
    """The next pickle of a stream, unread. Raises ValueError."""
    start = stream.tell()
    count = sum(1 for _ in itertools.islice(pickletools.genops(stream), MOST_NODES))
    if count >= MOST_NODES:
        raise ValueError("far more than a model")
    return stream.getvalue()[start : stream.tell()]


def _told(reference: Any) -> tuple[str, torch.dtype, int]:
    """Name, type and count of numbers of a storage, as the stream refers to it. Raises ValueError."""
    if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
        raise ValueError("not a storage")
    kind, key, numbers = reference[1], str(reference[2]), reference[4]
    if not isinstance(kind, Name) or kind.path.removeprefix("torch.") not in _STORAGES:
        raise ValueError("unknown storage")
    if type(numbers) is not int or numbers < 0 or any(part is not None for part in reference[5:]):
        raise ValueError("a storage of another kind")
    return key, _STORAGES[kind.path.removeprefix("torch.")], numbers


def _as_tensor(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    if start[:2] == b"PK":
        return "is truncated or damaged"
    if start[:1] == b"\x80":
        return "is a bare pickle, or a damaged file of torch before 1.6"
    return "is not a file of torch.save" if start else "is empty"
