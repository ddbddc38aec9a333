"""Files written by ``torch.save`` (the zip layout of torch 1.6 and later), read as data: tensors, containers and known objects.

Nothing is unpacked to the disk and nothing in the file is executed (see :mod:`edgead.importers.streams`).
"""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.importers.bounded import check_regular
from edgead.importers.streams import MOST_BYTES, Builder, Name, Unreadable, mapping, read_stream

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

_NAMES: dict[str, Builder] = {f"torch.{name}": lambda *_: None for name in _STORAGES}


def read_torch_file(path: Path, records: tuple[str, ...] = ()) -> Any:
    """What ``torch.save`` wrote.

    Args:
        path: a ``.ckpt``, ``.pth`` or ``.pt`` file.
        records: classes whose objects may be in it (see :func:`edgead.importers.streams.read_stream`).

    Returns:
        Containers, numbers, strings, float32 (half and double ones are cast) or integer tensors on the CPU, and records.

    Raises:
        BadInput: missing, truncated, not such a file, or it names anything else.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive).read(records)
    except _BROKEN_ZIP as error:
        raise BadInput(f"{path} {_what_it_is(path)}", hint="copy it again, or save it with torch 1.6 or later") from error
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}", hint=error.hint) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error


class _Reader:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self.sizes: dict[str, int] = {}
        total = 0
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise BadInput(f"{path} has {path.stat().st_size >> 30} GiB", hint="save the model alone, without its optimizer")
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
        self.loaded: dict[str, Tensor] = {}
        self.views: dict[tuple[Any, ...], Tensor] = {}
        self.bytes_left = _GROWTH * path.stat().st_size + (16 << 20)

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

    def _builders(self) -> Mapping[str, Builder]:
        return {
            **_NAMES,
            "collections.OrderedDict": mapping,
            "collections.defaultdict": lambda *_: {},
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
        if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
            raise ValueError("not a storage")
        kind, key, numbers = reference[1], str(reference[2]), reference[4]
        if not isinstance(kind, Name) or kind.path.removeprefix("torch.") not in _STORAGES:
            raise ValueError("unknown storage")
        dtype = _STORAGES[kind.path.removeprefix("torch.")]
        name = f"{self.root}data/{key}"
        if name not in self.loaded:
            if self.sizes.get(name, -1) != numbers * dtype.itemsize:
                raise Unreadable(f"its tensor data {key} is missing or truncated", hint="copy the file again")
            data = bytearray(self.archive.read(name))
            self.loaded[name] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.loaded[name]

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


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    if start[:2] == b"PK":
        return "is truncated or damaged"
    if start[:1] == b"\x80":
        return "is a bare pickle (torch before 1.6 wrote such files), which edgead does not read"
    return "is not a file of torch.save" if start else "is empty"
