"""A station.yaml from six answers. Each is refused at once when the file could not be right with it."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgead.errors import BadInput, EdgeadError, StorageError
from edgead.line.checking import Checked, check_file

CAMERA = "top"
SIMULATED = "sim:fps=5,defect_rate=0.1"
BUDGET_MS = "200"
PLCS = ("modbus-server", "modbus-client", "s7", "ethernetip")
"""Those that a host alone says enough of."""
_PACKAGES = {"modbus-server": ("pymodbus", "modbus"), "modbus-client": ("pymodbus", "modbus"), "s7": ("snap7", "s7"),
             "ethernetip": ("pylogix", "ethernetip"), "gpio": ("gpiod", "gpio")}  # fmt: skip

Answers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Offer:
    """An answer that could be given.

    Attributes:
        answer: as it is given.
        words: what it is.
    """

    answer: str
    words: str


@dataclass(frozen=True, slots=True)
class Question:
    """One of six.

    Attributes:
        key: of the answer; ``--budget-ms`` of "budget_ms".
        words: that are asked.
        example: of an answer.
        default: what is taken when nobody says anything; "" for none.
        check: raises EdgeadError: this cannot be the answer.
        applies: whether it is asked at all, after these answers.
    """

    key: str
    words: str
    example: str
    default: Callable[[Answers], str]
    check: Callable[[str, Answers], None]
    applies: Callable[[Answers], bool] = lambda answers: True

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A station file that was written, and passes its check.

    Attributes:
        file: the station.yaml.
        answers: to the questions, by their names.
        notes: what is left to do before it runs.
        warnings: of its check.
    """

    file: Path
    answers: dict[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


class Draft:
    """The file that is to be written.

    Args:
        target: its path.
        force: whether another one may be there.

    Raises:
        BadInput: it is there, or cannot be a station file.
        StorageError: nothing can be written there.
    """

    def __init__(self, target: Path, *, force: bool = False) -> None:
        self.target, self._force = target, force
        if target.suffix.lower() not in (".yaml", ".yml"):
            raise BadInput(f"{target} would not be taken for a station file", hint="give a name that ends with .yaml")
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise BadInput(f"{target} is a folder, a link or a device", hint="give another name")
        if target.exists() and not force:
            raise BadInput(f"{target} is there already", hint="give another name with -o, or --force")
        if not target.absolute().parent.is_dir():
            raise BadInput(f"there is no folder {target.absolute().parent}", hint="make it first")
        self._beside().unlink()

    def check(self, answers: Answers, *, whole: bool) -> None:
        """Would a file with these answers be right, whatever the others are? `whole`: with its bundle. Raises EdgeadError."""
        placeholders = {"name": "line", "camera": "sim", "bundle": "", "plc": "none", "trigger": "free"}
        if answers.get("plc", "none") != "none" and "trigger" not in answers:
            placeholders["trigger"] = "plc"
        if (answers.get("trigger") or placeholders["trigger"]) != "free":
            placeholders["budget_ms"] = BUDGET_MS
        draft = self._beside()
        try:
            draft.write_text(self._text({**placeholders, **answers}), "utf-8")
            self._checked(draft, whole=whole)
        finally:
            draft.unlink()

    def write(self, answers: Answers) -> Checked:
        """Write it, whole or not at all, after it passed its check. Raises EdgeadError."""
        draft = self._beside()
        try:
            with draft.open("w", encoding="utf-8") as out:
                out.write(self._text(answers))
                out.flush()
                os.fsync(out.fileno())
            draft.chmod(0o644)
            found = self._checked(draft, whole=True)
            assert found is not None
            self._put(draft)
            return Checked(self.target, found.cameras, found.bundles, found.warnings)
        except OSError as error:
            raise _unwritten(self.target, error) from error
        finally:
            draft.unlink(missing_ok=True)

    def _put(self, draft: Path) -> None:
        """In its place; what came there meanwhile is not replaced, where the file system can tell."""
        if not self._force:
            with suppress(PermissionError, NotImplementedError):  # of file systems without links
                try:
                    os.link(draft, self.target)
                except FileExistsError:
                    raise BadInput(f"{self.target} is there already", hint="give another name with -o, or --force") from None
                return
        os.replace(draft, self.target)

    def _checked(self, draft: Path, *, whole: bool) -> Checked | None:
        from edgead.config.reading import read_station
        from edgead.line.links import check_addresses

        try:
            if whole:
                return check_file(draft)
            check_addresses(read_station(draft))
            return None
        except EdgeadError as error:
            told = str(error).replace(str(draft), str(self.target)).replace(draft.name, self.target.name)
            raise type(error)(told, hint=error.hint) from error

    def _beside(self) -> Path:
        """An empty file beside the target: paths in it mean the same. Raises StorageError."""
        try:
            handle, name = tempfile.mkstemp(".yaml", f".{self.target.stem}.", self.target.absolute().parent)
        except OSError as error:
            raise _unwritten(self.target, error) from error
        os.close(handle)
        return Path(name)

    def _text(self, answers: Answers) -> str:
        return rendered(answers, self.target)


def _unwritten(target: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {target}: {error.strerror or error}", hint="choose another folder, or its permissions")


def drafted(
    target: Path,
    given: Answers,
    ask: Callable[[Question, str, str], str] | None,
    *,
    force: bool = False,
    defaults: bool = False,
) -> Drafted:
    """Ask what was not given, and write the file.

    Args:
        target: the file.
        given: answers that are there already, by key.
        ask: gets a question, its default ("": none) and what was wrong with the answer before (""); None: nobody can be asked.
        force: replace a file that is there.
        defaults: take the default of whatever was not given.

    Raises:
        BadInput: an answer that cannot be, one that is missing and cannot be asked for, or the file is there.
        BundleError, BundleMismatch: of the bundle.
        StorageError: it cannot be written.
    """
    draft = Draft(target, force=force)
    if ask is None and not defaults:
        _need_all(given)
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        if not question.applies(answers):
            if question.key in given:
                raise BadInput(f"{question.flag}: not with --trigger {answers.get('trigger')}", hint="leave it out")
            continue
        answers[question.key] = _answer(question, draft, answers, given, None if defaults else ask)
    checked = draft.write(answers)
    return Drafted(target, answers, tuple(_notes(answers)), checked.warnings)


def _need_all(given: Answers) -> None:
    missing = [one.flag for one in QUESTIONS if one.key not in given and one.applies(given)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise BadInput(
            f"{', '.join(missing)} {verb} missing, and nobody can be asked here", hint="give them, or --yes for defaults"
        )


def _answer(
    question: Question,
    draft: Draft,
    answers: dict[str, str],
    given: Answers,
    ask: Callable[[Question, str, str], str] | None,
) -> str:
    def check(answer: str) -> str:
        if not answer:
            raise BadInput(f"{question.flag} is missing", hint=question.example)
        question.check(answer, answers)
        draft.check({**answers, question.key: answer}, whole=question.key == "bundle")
        return answer

    if question.key in given:
        return check(given[question.key])
    default = question.default(answers)
    if ask is None:
        return check(default)
    trouble = ""
    while True:
        answer = ask(question, default, trouble)
        try:
            return check(answer)
        except StorageError:
            raise
        except EdgeadError as error:
            trouble = f"{error}" + (f" -> {error.hint}" if error.hint else "")


# The questions ---------------------------------------------------------------------------------------------------------------


def cameras_here() -> list[Offer]:
    """Cameras that are attached; looking takes a second or two."""
    from edgead.runtime.cameras.discover import attached

    found, _ = attached()
    return [Offer(camera.address, f"{camera.model}, {camera.kind}") for camera in found]


def bundles_here(folder: Path) -> list[Offer]:
    """Bundles in a folder."""
    return [Offer(str(path), "a bundle") for path in sorted(folder.glob("*.edgead")) if path.is_dir()]


def plcs_here() -> list[Offer]:
    """Neighbours of this machine that take connections on a port of PLCs."""
    from edgead.line.neighbours import answering, neighbours

    return [Offer(f"{one.type}:{one.host}", f"takes connections on port {one.port}") for one in answering(neighbours())]


def _first(offers: Sequence[Offer]) -> str:
    return offers[0].answer if offers else ""


def _only(offers: Sequence[Offer]) -> str:
    return offers[0].answer if len(offers) == 1 else ""


def _check_name(answer: str, _: Answers) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", answer):
        raise BadInput(f"{answer[:60]!r} cannot be a name", hint="letters, digits, _ . and -")


def _check_camera(answer: str, _: Answers) -> None:
    from edgead.passwords import is_plain
    from edgead.runtime.cameras import check_address

    if is_plain("address", answer):
        raise BadInput("a password would stand in the file", hint="write ${NAME} in its place, and set NAME in the environment")
    if "${" not in answer:
        check_address(answer)


def _check_bundle(answer: str, _: Answers) -> None:
    from edgead.bundle import Bundle

    Bundle.open(Path(answer).expanduser())


def _check_plc(answer: str, _: Answers) -> None:
    plc_section(answer)


def _check_trigger(answer: str, answers: Answers) -> None:
    source = str(trigger_section(answer)["source"])
    if source == "plc" and answers.get("plc") == "none":
        raise BadInput("there is no PLC that could trigger", hint="answer --plc with one, or choose another trigger")
    if source == "camera":
        from edgead.runtime.cameras import check_address

        if not check_address(answers["camera"]):
            raise BadInput("a recording has no trigger line", hint="choose free: each of its pictures gets a verdict")


def _check_budget(answer: str, _: Answers) -> None:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", answer) or not float(answer) > 0:
        raise BadInput(f"{answer[:60]!r} are no milliseconds", hint="give a number above 0, such as 200")


def _name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:100] or "line-1"


QUESTIONS = (
    Question("name", "What is this station called?", "--name line-3", lambda _: _name(), _check_name),
    Question(
        "camera",
        "Where do pictures come from?",
        "--camera usb:0, rtsp://..., gige:..., a folder, hot:FOLDER, sim; edgead cameras lists what is attached",
        lambda _: _first(cameras_here()) or SIMULATED,
        _check_camera,
    ),
    Question(
        "bundle",
        "Which bundle judges them?",
        "--bundle part.edgead, which edgead export writes",
        lambda _: _only(bundles_here(Path())),
        _check_bundle,
    ),
    Question(
        "plc",
        "Which PLC is told?",
        "--plc none, modbus-server, modbus-client:10.0.0.9, s7:10.0.0.9, ethernetip:10.0.0.9",
        lambda _: "none",
        _check_plc,
    ),
    Question(
        "trigger",
        "What says that a part is there?",
        "--trigger free (no trigger: every picture), plc, camera (its own line), interval:500 (ms), gpio:17 (line)",
        lambda answers: "free" if answers.get("plc", "none") == "none" else "plc",
        _check_trigger,
    ),
    Question(
        "budget_ms",
        "Within how many milliseconds of the trigger must the verdict be there?",
        f"--budget-ms {BUDGET_MS}; later is UNKNOWN, never OK",
        lambda _: BUDGET_MS,
        _check_budget,
        lambda answers: answers.get("trigger", "") not in ("", "free"),
    ),
)


def plc_section(answer: str) -> dict[str, Any] | None:
    """``"s7:10.0.0.9"`` as the section `plc`; None for "none". Raises BadInput."""
    from edgead.runtime.listening import check_host

    kind, _, where = answer.partition(":")
    if answer == "none":
        return None
    if kind not in PLCS:
        why = "needs certificates or users" if kind.startswith("opcua") else "is none that is set up by its host alone"
        raise BadInput(
            f"PLC {kind[:60]!r} {why}",
            hint=f"choose none, {', '.join(PLCS)}; or none, and write the section plc by hand (edgead station schema)",
        )
    host, port = _host_port(where)
    if not host and kind != "modbus-server":
        raise BadInput(f"{kind} needs the PLC's host", hint=f"for example {kind}:10.0.0.9")
    if host:
        check_host(host)
    key = "bind" if kind == "modbus-server" else "host"
    return {"type": kind, **({key: host} if host else {}), **({"port": port} if port is not None else {})}


def _host_port(text: str) -> tuple[str, int | None]:
    """``"10.0.0.9:5020"``, ``"10.0.0.9"``, ``"[::1]:502"``, ``"::1"``. Raises BadInput."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    host, port = text, None
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port is None:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise BadInput(f"{port[:60]!r} is not a port", hint="1 to 65535")
    return host, int(port)


def trigger_section(answer: str) -> dict[str, Any]:
    """``"interval:500"`` as the section `trigger`. Raises BadInput."""
    kind, _, value = answer.partition(":")
    if kind in ("free", "plc", "camera") and not value:
        return {"source": kind}
    if kind == "interval" and re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value) and float(value) > 0:
        return {"source": kind, "every_ms": float(value)}
    if kind == "gpio" and re.fullmatch(r"\d{1,5}", value):
        return {"source": kind, "line": int(value)}
    raise BadInput(f"trigger {answer[:60]!r} is not known", hint="choose free, plc, camera, interval:500 or gpio:17")


# The file --------------------------------------------------------------------------------------------------------------------


def rendered(answers: Answers, target: Path) -> str:
    """The file's text. Raises BadInput: an answer that no file can hold."""
    plc, trigger = plc_section(answers["plc"]), trigger_section(answers["trigger"])
    camera: list[tuple[str, Any, str]] = [
        ("name", CAMERA, "of the camera, for logs and records"),
        ("address", _address(answers["camera"]), "where pictures come from; edgead cameras lists what is attached"),
        ("bundle", _below(answers["bundle"], target), "what judges them, written by edgead export"),
    ]
    if "budget_ms" in answers:
        camera.append(("budget_ms", float(answers["budget_ms"]), "from the trigger to the verdict; later is UNKNOWN, never OK"))
    camera.append(("trigger", trigger, _TRIGGERS[trigger["source"]]))
    if plc is not None:
        camera.append(("plc", plc, "what it must do: edgead plc-map, edgead docs handshake"))
    lines = [(f"  {'-' if i == 0 else ' '} {key}: {_plain(value)}", told) for i, (key, value, told) in enumerate(camera)]
    width = min(60, max(len(line) for line, _ in lines))
    return _FILE.format(
        name=_plain(answers["name"]),
        file=target.name,
        camera="\n".join(f"{line:<{width}}  # {told}" for line, told in lines),
        log="" if plc is not None else _LOG,
    )


_TRIGGERS = {
    "free": "none: the newest picture, again and again; of a recording or a hot folder, each one",
    "plc": "the PLC's part-present bit",
    "camera": "the camera's own line: each picture is a part",
    "interval": "a part every so many milliseconds",
    "gpio": "a line of /dev/gpiochip0; chip: another",
}

_LOG = """
    outputs:
      - {type: log}    # a line for each part; also gpio, mqtt, webhook, command"""

_FILE = """\
# Written by edgead init. All keys: edgead station schema. After a change: edgead station check {file}
name: {name}

cameras:
{camera}{log}

storage:
  folder: data                             # records of all parts; pictures of those that are not OK
  pictures: {{max_mb: 2000, max_days: 30}}

supervision:
  log: text
  # http: 127.0.0.1:9108                   # /metrics, /healthz, /readyz
"""


def _address(answer: str) -> str:
    """What names files is made absolute: the station may be started from anywhere."""
    if "${" in answer:  # nobody knows yet where that is
        return answer
    scheme, colon, rest = answer.partition(":")
    if scheme in ("hot", "folder") and colon:
        return f"{scheme}:{Path(rest).expanduser().absolute()}"
    from edgead.runtime.cameras import names_files

    return str(Path(answer).expanduser().absolute()) if names_files(answer) else answer


def _below(bundle: str, target: Path) -> str:
    """The bundle's path as seen from the file where it lies below, else the whole path."""
    if not bundle:
        return "part.edgead"
    path, folder = Path(bundle).expanduser().absolute(), target.absolute().parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _plain(value: Any) -> str:
    """As YAML, on one line. Raises BadInput."""
    import yaml

    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    try:
        str(value).encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"{str(value)[:60]!a} is no text that a file can hold", hint="rename it") from None
    text: str = yaml.safe_dump(value, allow_unicode=True, width=10**6, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _notes(answers: Answers) -> list[str]:
    """What is left to do before it runs."""
    notes = []
    kinds = [answers["plc"].partition(":")[0], answers["trigger"].partition(":")[0]]
    for kind in kinds:
        module, extra = _PACKAGES.get(kind, ("", ""))
        if module and find_spec(module) is None:
            notes.append(f"{kind} needs pip install 'edgead[{extra}]'")
    if answers["plc"] == "modbus-server":
        notes.append("modbus-server listens on 127.0.0.1: name the box's address on the PLC's network (bind:)")
    if answers["camera"].startswith("sim"):
        notes.append("the camera is simulated: put the real one's address in its place (edgead cameras)")
    return notes
