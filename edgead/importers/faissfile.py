"""A flat faiss index (``faiss.write_index`` of an IndexFlatL2), read without faiss."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput

MOST_BYTES = 4 << 30

_HEAD = struct.Struct("<4siqqqbi")
"""Kind, dimension, rows, two unused numbers, trained, metric (1: squared L2)."""


def read_flat_l2(path: Path) -> npt.NDArray[np.float32]:
    """The rows of the index, float32 R x C.

    Raises:
        BadInput: missing, truncated, or another kind of index.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} has {path.stat().st_size >> 30} GiB of rows", hint="train with a smaller coreset")
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}", hint="give the folder that holds it") from error
    if len(data) < _HEAD.size + 8:
        raise BadInput(f"{path} is truncated: it has {len(data)} bytes", hint="copy it again")
    kind, channels, rows, _, _, _, metric = _HEAD.unpack_from(data)
    if kind != b"IxF2" or metric != 1:
        name = kind.decode("latin-1") if kind.isalnum() else "unknown"
        raise BadInput(
            f"{path} is a faiss index of kind {name!r}; edgead reads flat squared-L2 ones (IxF2)",
            hint="train with FaissNN, not ApproximateFaissNN, or write the rows to an IndexFlatL2",
        )
    (count,) = struct.unpack_from("<Q", data, _HEAD.size)
    start = _HEAD.size + 8
    if min(channels, rows) < 1 or count != channels * rows or len(data) - start != 4 * count:
        raise BadInput(f"{path} is truncated: {rows} rows of {channels} numbers do not fit its size", hint="copy it again")
    return np.frombuffer(data, "<f4", count, start).reshape(rows, channels).astype(np.float32)
