"""Bounds for readers of foreign files: a child process with limits where other libraries do the work.

A graph can loop 2^60 times, unfold a few bytes to terabytes, or crash the library that runs it. So it is looked at in a process
of its own, which may take so much time and memory and whose end, of whatever kind, is one clear line here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead import errors
from edgead.errors import BadInput, EdgeadError

_CHILD = "import sys; sys.path[:] = sys.argv[1].split('\\n'); import runpy; runpy.run_module(sys.argv[2], run_name='__main__')"
"""Modules are found where this process finds them: never in the current folder, which may be that of the foreign file."""

_MEMORY = ("alloc", "memoryerror", "out of memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What looking at a graph may take: wall-clock seconds, and MiB of memory beside four times the file's size (POSIX)."""

    time_s: float = 30.0
    memory_mb: int = 4096


def call(module: str, path: Path, request: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    """What a module that ends in :func:`serve` answers to `request` about the graph in `path`.

    Raises:
        EdgeadError: what it raised, as its class; BadInput when it broke the bounds or crashed.
    """
    data = path.stat().st_size
    asked = {**request, "path": str(path), "memory_bytes": (bounds.memory_mb << 20) + 4 * data, "time_s": bounds.time_s}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, "\n".join(filter(None, sys.path)), module],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=bounds.time_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(
            f"{path}: the graph does not load and answer a few pictures within {bounds.time_s:g} s",
            hint="a line needs an answer in much less: export it smaller, or without loops",
        ) from error
    last = done.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]
    try:
        answer: dict[str, Any] = json.loads(last)
        told = answer.pop("error", None)
    except (ValueError, AttributeError) as error:
        noise = done.stderr.decode("utf-8", "replace")
        if any(word in noise.lower() for word in _MEMORY):
            raise _too_large(path, bounds) from error
        why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise BadInput(f"{path}: the library that runs the graph crashed on it ({why})", hint="export it again") from error
    if told is None:
        return answer
    if told["class"] == "MemoryError":
        raise _too_large(path, bounds)
    raise getattr(errors, told["class"])(told["message"], hint=told["hint"])


def _too_large(path: Path, bounds: Bounds) -> BadInput:
    return BadInput(f"{path}: the graph needs more than {bounds.memory_mb} MiB of memory", hint="export a smaller one")


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """The child's side: read the request, set the limits, write the answer (or the error) as the last line."""
    request = json.load(sys.stdin)
    _limit(int(request["memory_bytes"]), float(request["time_s"]))
    try:
        told = answer(request)
    except EdgeadError as error:
        told = _error(type(error).__name__, str(error), error.hint)
    except MemoryError:
        told = _error("MemoryError")
    except Exception as error:  # noqa: BLE001 - whatever a library of others says about a foreign file is told as one line
        text = first_line(error)
        if any(word in str(error).lower() for word in _MEMORY):
            told = _error("MemoryError")
        else:
            told = _error("BadInput", f"{request['path']}: the graph cannot be used ({text})", "export it again")
    print("\n" + json.dumps(told), flush=True)
    return 0


def _error(kind: str, message: str = "", hint: str = "") -> dict[str, Any]:
    return {"error": {"class": kind, "message": message, "hint": hint}}


def first_line(error: BaseException, length: int = 160) -> str:
    """What a library says, short enough for a line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= length else text[: length - 3] + "..."


def _limit(memory_bytes: int, time_s: float) -> None:
    """Memory is counted as written data, not as address space, which every thread takes much of without using it."""
    try:
        import resource
    except ImportError:  # no POSIX: the parent's time limit is left
        return
    for kind, value in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, int(64 * time_s) + 1)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
