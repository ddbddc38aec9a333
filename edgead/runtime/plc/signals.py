"""The one table of signals between station and PLC. Code, register maps, tag lists and docs/handshake.md come from it.

Offsets are 16-bit words inside two blocks, one per direction; bits share word 0 of their block. What the signals do over time
is in :mod:`edgead.runtime.plc.handshake` and docs/handshake.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cache
from typing import Any, Literal

Type = Literal["bool", "u16", "u32", "f32"]
WordOrder = Literal["big", "little"]
"""Of the two words of u32 and f32: "big" puts the high word at the lower address. Bytes inside a word are Modbus' own, big."""

WIDTH: Mapping[Type, int] = {"bool": 1, "u16": 1, "u32": 2, "f32": 2}
"""Words of each type; bits share theirs."""

LAYOUT = 1
"""Number of this table, shown to the PLC; it changes when an offset or a meaning does."""


class Direction(str, Enum):
    """Who writes a signal."""

    TO_PLC = "to_plc"
    FROM_PLC = "from_plc"


@dataclass(frozen=True, slots=True)
class Signal:
    """One line of the table; `word` is the offset in its direction's block, `bit` counts from 0, the least significant."""

    name: str
    direction: Direction
    type: Type
    word: int
    meaning: str
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class ToPlc:
    """What the station shows; the default is the safe state, in which nothing is asserted."""

    ready: bool = False
    busy: bool = False
    trigger_ack: bool = False
    result_valid: bool = False
    ok: bool = False
    ng: bool = False
    unknown: bool = False
    error: bool = False
    reset_done: bool = False
    heartbeat: int = 0
    boot: int = 0
    error_code: int = 0
    trigger_part_id: int = 0
    result_part_id: int = 0
    cause: int = 0
    recipe: int = 0
    score: float = 0.0
    layout: int = LAYOUT


@dataclass(frozen=True, slots=True)
class FromPlc:
    """What the PLC shows; the default is what memory full of zeros says: not enabled.

    `stray` is no signal: bits of word 0 that the table does not know, which are on.
    """

    enable: bool = False
    trigger: bool = False
    result_ack: bool = False
    error_ack: bool = False
    reset: bool = False
    heartbeat: int = 0
    part_id: int = 0
    result_ack_part_id: int = 0
    recipe: int = 0
    stray: int = 0


class Cause(IntEnum):
    """Why a verdict is UNKNOWN, as a number for the PLC. Numbers are never reused; new ones are added."""

    NONE = 0
    LATE = 1
    CAMERA_TIMEOUT = 2
    CAMERA_LOST = 3
    UNREADABLE_IMAGE = 4
    BAD_FRAME = 5
    STALE = 6
    ENGINE_ERROR = 7
    SCORE_NOT_FINITE = 8
    MAP_NOT_FINITE = 9
    UNSURE = 10
    NO_MAP = 11
    WRONG_SIZE = 12
    FROZEN_PICTURE = 13
    VIEW_MISSING = 14
    FRAME_LOST = 15
    ENGINE_HANG = 16
    SETTLING = 17
    GATE_MISSING = 18
    FRAME_DOUBTFUL = 19
    LATE_OUTPUT = 20
    NO_ANSWER = 21
    STOPPED = 22
    RESULT_NOT_TAKEN = 23
    PLC_LOST = 24
    END_OF_STREAM = 25
    SELFCHECK_FAILED = 26
    TRIGGER_LOST = 29
    STALE_TRIGGER = 30
    TRIGGER_OVERRUN = 31
    DISABLED = 32
    LOOP_STALLED = 33
    WRONG_RECIPE = 34
    SECOND_WRITER = 35
    NOT_RECORDED = 36
    PART_NOT_FOUND = 37
    OTHER = 255

    @classmethod
    def of(cls, cause: str) -> Cause:
        """The number of an inspection's cause ("engine_error: out of memory" is ENGINE_ERROR); OTHER for unlisted ones."""
        name = cause.partition(":")[0].strip().upper()
        return cls.NONE if not name else cls.__members__.get(name, cls.OTHER)


CAUSES: Mapping[Cause, str] = {
    Cause.NONE: "the verdict is OK or NG",
    Cause.LATE: "the latency budget was over before there was a verdict",
    Cause.CAMERA_TIMEOUT: "no picture came in time",
    Cause.CAMERA_LOST: "the camera is gone",
    Cause.UNREADABLE_IMAGE: "the picture cannot be read",
    Cause.BAD_FRAME: "the picture does not fit the recipe (size, depth)",
    Cause.STALE: "the pictures are too old",
    Cause.ENGINE_ERROR: "inference failed",
    Cause.SCORE_NOT_FINITE: "the model answered with no number",
    Cause.MAP_NOT_FINITE: "the model's map holds no numbers",
    Cause.UNSURE: "the score lies in the band in which the model is not sure",
    Cause.NO_MAP: "the model gave no map to decide by",
    Cause.WRONG_SIZE: "the picture has another size than the ones before",
    Cause.FROZEN_PICTURE: "the camera sends the same picture again and again",
    Cause.VIEW_MISSING: "not all of the part's pictures could be judged",
    Cause.FRAME_LOST: "the part's picture got lost between camera and station",
    Cause.ENGINE_HANG: "inference hung until the deadline",
    Cause.SETTLING: "free-running: not yet enough good pictures in a row",
    Cause.GATE_MISSING: "the part was at the gate before its verdict",
    Cause.FRAME_DOUBTFUL: "the picture may be the one that was late before",
    Cause.LATE_OUTPUT: "there was a verdict, but the PLC could not be told in time",
    Cause.NO_ANSWER: "the station did not answer this trigger",
    Cause.STOPPED: "the station was stopped or went to its safe state",
    Cause.RESULT_NOT_TAKEN: "the PLC did not take the result in time",
    Cause.PLC_LOST: "the PLC was away while the part was in work",
    Cause.END_OF_STREAM: "the recording has no more pictures",
    Cause.SELFCHECK_FAILED: "the engine does not answer golden pictures as the trained model did",
    Cause.TRIGGER_LOST: "this box learned of the trigger only by counting: the part has moved on",
    Cause.STALE_TRIGGER: "the trigger may be old: it was there when the station started or came back",
    Cause.TRIGGER_OVERRUN: "the trigger came while no more parts could be held",
    Cause.DISABLED: "the trigger came while enable was off",
    Cause.LOOP_STALLED: "the trigger came while the station made no progress",
    Cause.WRONG_RECIPE: "the trigger came while another recipe was asked for than the station runs",
    Cause.SECOND_WRITER: "another station wrote the block while the part was in work",
    Cause.NOT_RECORDED: "there was a verdict, but its record could not be kept (records: first)",
    Cause.PART_NOT_FOUND: "the part is not in the picture, partly outside of it, or more than one is",
    Cause.OTHER: "another cause: see the station's records",
}


class Fault(IntEnum):
    """Error codes, latched until the PLC acknowledges them. Numbers are never reused."""

    NONE = 0
    TRIGGER_OVERRUN = 1
    PLC_LOST = 2
    RESULT_NOT_TAKEN = 3
    NO_ANSWER = 4
    LOOP_STALLED = 5
    PLC_RESTARTED = 6
    RESULT_LOST = 7
    TRIGGER_NOT_READY = 8
    RECIPE_REFUSED = 9
    SECOND_WRITER = 10


FAULTS: Mapping[Fault, str] = {
    Fault.NONE: "no error",
    Fault.TRIGGER_OVERRUN: "a trigger came while no more results could be held: results must be acknowledged, ready watched",
    Fault.PLC_LOST: "the PLC's heartbeat stood still, or it could not be reached",
    Fault.RESULT_NOT_TAKEN: "a result was not acknowledged in time",
    Fault.NO_ANSWER: "the station took a trigger and never gave its verdict",
    Fault.LOOP_STALLED: "the station makes no progress",
    Fault.PLC_RESTARTED: "the PLC came back with a lower heartbeat and none of our parts: they were forgotten, use reset",
    Fault.RESULT_LOST: "free-running: a result came while no more could be held",
    Fault.TRIGGER_NOT_READY: "a trigger came while not ready: its result's cause says why",
    Fault.RECIPE_REFUSED: "the recipe that was asked for cannot run: the one before goes on, and not ready while it is asked for",
    Fault.SECOND_WRITER: "another station writes the same block: not ready while it does; needs no error_ack",
}

_TO, _FROM = Direction.TO_PLC, Direction.FROM_PLC
SIGNALS: tuple[Signal, ...] = (
    Signal("ready", _TO, "bool", 0, "a trigger will be inspected", 0),
    Signal("busy", _TO, "bool", 0, "a part is being inspected", 1),
    Signal("trigger_ack", _TO, "bool", 0, "the trigger of trigger_part_id was taken; off once trigger is off", 2),
    Signal("result_valid", _TO, "bool", 0, "the result fields hold one result, until result_ack", 3),
    Signal("ok", _TO, "bool", 0, "the part passed; the only asserted pass signal, only with result_valid", 4),
    Signal("ng", _TO, "bool", 0, "the part failed; reject it", 5),
    Signal("unknown", _TO, "bool", 0, "there is no verdict, cause says why; reject the part", 6),
    Signal("error", _TO, "bool", 0, "error_code holds an error, until error_ack", 7),
    Signal("reset_done", _TO, "bool", 0, "everything in work was forgotten; off once reset is off", 8),
    Signal("heartbeat", _TO, "u16", 1, "counts up about 10 times a second while the station's loop makes progress"),
    Signal("boot", _TO, "u16", 2, "another number after each start of the station, never 0; then parts in work are lost"),
    Signal("error_code", _TO, "u16", 3, "see the error codes"),
    Signal("trigger_part_id", _TO, "u32", 4, "part_id of the trigger that trigger_ack acknowledges"),
    Signal("result_part_id", _TO, "u32", 6, "the result's part: its part_id; free-running: the station's own count"),
    Signal("cause", _TO, "u16", 8, "why the verdict is unknown, see the causes; else 0"),
    Signal("recipe", _TO, "u16", 9, "number of the recipe that the station runs; 0: it has none"),
    Signal("score", _TO, "f32", 10, "raw model units, larger is more anomalous; 0 when there is none"),
    Signal("layout", _TO, "u16", 12, f"number of this table: {LAYOUT}"),
    Signal("enable", _FROM, "bool", 0, "triggers shall be inspected; off: not ready", 0),
    Signal(
        "trigger",
        _FROM,
        "bool",
        0,
        "a part is in front of the camera; on until trigger_ack with its part_id: a short pulse is missed",
        1,
    ),
    Signal(
        "result_ack", _FROM, "bool", 0, "the result of result_ack_part_id was taken; on until result_valid is off, then off", 2
    ),
    Signal("error_ack", _FROM, "bool", 0, "the error was seen; on until error is off, then off", 3),
    Signal(
        "reset",
        _FROM,
        "bool",
        0,
        "forget everything in work; at the PLC's start-up on until reset_done, then off; nothing else makes edgead forget",
        4,
    ),
    Signal(
        "heartbeat",
        _FROM,
        "u16",
        1,
        "another number several times a second: count, and wrap anywhere; a bit that alternates will do",
    ),
    Signal(
        "part_id", _FROM, "u32", 2, "the part's number, another for each part (a counter will do); steady while trigger is on"
    ),
    Signal("result_ack_part_id", _FROM, "u32", 4, "result_part_id of the result that was taken"),
    Signal("recipe", _FROM, "u16", 6, "number of the recipe that the station shall run; 0: any"),
)


@cache
def signals(direction: Direction) -> tuple[Signal, ...]:
    """The table's lines of one direction, in order."""
    return tuple(signal for signal in SIGNALS if signal.direction is direction)


@cache
def words_in(direction: Direction) -> int:
    """Length of a direction's block in 16-bit words."""
    return max(signal.word + WIDTH[signal.type] for signal in signals(direction))


def to_words(shown: ToPlc | FromPlc, word_order: WordOrder = "big") -> list[int]:
    """The block that carries `shown`, as 16-bit words."""
    direction = _TO if isinstance(shown, ToPlc) else _FROM
    words = [0] * words_in(direction)
    for signal in signals(direction):
        value = getattr(shown, signal.name)
        if signal.bit is not None:
            words[signal.word] |= bool(value) << signal.bit
        elif signal.type == "u16":
            words[signal.word] = value & 0xFFFF
        else:
            raw = struct.pack(">f", _finite(value)) if signal.type == "f32" else struct.pack(">I", value & 0xFFFFFFFF)
            pair = struct.unpack(">HH", raw)
            words[signal.word : signal.word + 2] = pair if word_order == "big" else reversed(pair)
    return words


def to_plc_of(words: Sequence[int], word_order: WordOrder = "big") -> ToPlc:
    """What a block of the station says (for the PLC's side of tests and tools)."""
    return ToPlc(**_values(words, signals(_TO), word_order))


def from_plc_of(words: Sequence[int], word_order: WordOrder = "big") -> FromPlc:
    """What a block of the PLC says."""
    return FromPlc(**_values(words, signals(_FROM), word_order), stray=words[0] & ~_bits(_FROM))


@cache
def _bits(direction: Direction) -> int:
    """Those of word 0 that mean something."""
    return sum(1 << signal.bit for signal in signals(direction) if signal.bit is not None)


def _values(words: Sequence[int], table: Iterable[Signal], word_order: WordOrder) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for signal in table:
        word = words[signal.word]
        if signal.bit is not None:
            values[signal.name] = bool(word >> signal.bit & 1)
        elif signal.type == "u16":
            values[signal.name] = word
        else:
            pair = words[signal.word : signal.word + 2]
            raw = struct.pack(">HH", *(pair if word_order == "big" else reversed(pair)))
            values[signal.name] = struct.unpack(">f" if signal.type == "f32" else ">I", raw)[0]
    return values


def as_f32(value: float) -> float:
    """The number that a PLC reads."""
    found: float = struct.unpack(">f", struct.pack(">f", _finite(value)))[0]
    return found


def f32_of(pair: Sequence[int], word_order: WordOrder = "big") -> float:
    """The number in two registers; it may be none."""
    high, low = pair if word_order == "big" else reversed(pair)
    found: float = struct.unpack(">f", struct.pack(">HH", high, low))[0]
    return found


def _finite(value: float) -> float:
    """PLCs stumble over NaN and infinity, and larger numbers do not fit into a float32."""
    return min(max(value, -3.4e38), 3.4e38) if math.isfinite(value) else 0.0
