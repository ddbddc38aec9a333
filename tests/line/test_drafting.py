"""A station.yaml from six answers: whatever is answered, the file is right, or the answer was refused and nothing was written."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.config.reading import read_station
from edgead.errors import BadInput, BundleError, EdgeadError, StorageError
from edgead.line.checking import check_file
from edgead.line.drafting import QUESTIONS, Question, drafted, rendered
from edgead.line.neighbours import Answering, answering, neighbours
from tests.cli.test_run import write_bundle

WHOLE = {"name": "line-3", "camera": "sim", "plc": "none", "trigger": "free"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_bundle(tmp_path_factory.mktemp("bundle") / "part.edgead"))


def test_the_file_says_what_was_answered_and_where_more_is_to_be_found(tmp_path: Path, bundle: str) -> None:
    answers = WHOLE | {"bundle": bundle, "plc": "s7:10.0.0.9:1102", "trigger": "plc", "budget_ms": "150"}
    found = drafted(tmp_path / "station.yaml", answers, None)
    config = read_station(tmp_path / "station.yaml")
    camera = config.cameras[0]
    assert (config.name, camera.address, str(camera.bundle), camera.budget_ms) == ("line-3", "sim", bundle, 150)
    plc = camera.plc
    assert (plc.type, plc.host, plc.port, camera.trigger.source) == ("s7", "10.0.0.9", 1102, "plc")  # type: ignore[union-attr]
    assert config.storage is not None and config.storage.folder == tmp_path / "data"
    text = (tmp_path / "station.yaml").read_text("utf-8")
    assert all(word in text for word in ("# where pictures come from", "edgead station schema", "edgead plc-map"))
    assert check_file(found.file).cameras == ("top",)
    assert any("simulated" in note for note in found.notes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["station.yaml"]


def test_paths_hold_wherever_the_station_is_started(tmp_path: Path, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "part.edgead").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    drafted(Path("a.yaml"), WHOLE | {"camera": "hot:in?after=move", "bundle": "part.edgead"}, None)
    monkeypatch.chdir("/")
    camera = read_station(tmp_path / "a.yaml").cameras[0]
    assert (camera.address, camera.bundle) == (f"hot:{tmp_path}/in?after=move", tmp_path / "part.edgead")
    assert "bundle: part.edgead " in (tmp_path / "a.yaml").read_text("utf-8")


REFUSED = [
    ("name", "line 3", "cannot be a name"),
    ("name", "", "is missing"),
    ("camera", "nothing", "is not a camera"),
    ("camera", "no/such.mp4", "does not exist"),
    ("camera", "usb:0?exposure=1", "unknown camera setting"),
    ("camera", "rtsp://me:secret1@cam/x", "a password would stand in the file"),
    ("camera", "rtsp://me:${NOT_SET_AT_ALL}@cam/x", "is not set"),
    ("bundle", "nowhere.edgead", "nowhere.edgead"),
    ("plc", "s7", "needs the PLC's host"),
    ("plc", "s7:10.0.0.300", "is not an IP address"),
    ("plc", "modbus-client:plc:99999", "is not a port"),
    ("plc", "opcua-client:opc.tcp://plc", "needs certificates or users"),
    ("plc", "toaster:1", "is none that is set up"),
    ("trigger", "never", "is not known"),
    ("trigger", "interval:0", "is not known"),
    ("trigger", "gpio:99999", "line"),
    ("trigger", "plc", "there is no PLC"),
    ("trigger", "camera", "a recording has no trigger line"),
    ("budget_ms", "0", "are no milliseconds"),
    ("budget_ms", "soon", "are no milliseconds"),
]


@pytest.mark.parametrize(("key", "answer", "told"), REFUSED)
def test_a_wrong_answer_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, bundle: str, key: str, answer: str, told: str
) -> None:
    more = {"trigger": "interval:500", "budget_ms": "200"} if key in ("trigger", "budget_ms") else {}
    with pytest.raises(EdgeadError, match=told) as caught:
        drafted(tmp_path / "station.yaml", WHOLE | {"bundle": bundle} | more | {key: answer}, None)
    assert caught.value.exit_code in (2, 3)
    assert "\n" not in str(caught.value)
    assert "secret1" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "answer", "told"), REFUSED)
def test_on_a_terminal_it_is_asked_again_at_once_and_told_why(
    tmp_path: Path, bundle: str, key: str, answer: str, told: str
) -> None:
    answers = WHOLE | {"bundle": bundle, "budget_ms": "200"} | ({"trigger": "interval:500"} if key == "budget_ms" else {})
    asked: list[tuple[str, str]] = []

    def ask(question: Question, default: str, trouble: str) -> str:
        asked.append((question.key, trouble))
        return answer if question.key == key and not trouble else answers[question.key]

    drafted(tmp_path / "station.yaml", {}, ask)
    (again,) = [place for place, (_, trouble) in enumerate(asked) if trouble]
    assert asked[again][0] == asked[again - 1][0] == key
    assert told.replace("\\", "") in asked[again][1]
    assert check_file(tmp_path / "station.yaml")


def test_what_is_missing_is_one_line_where_nobody_can_be_asked(tmp_path: Path, bundle: str) -> None:
    with pytest.raises(BadInput, match=r"^--camera, --bundle, --trigger are missing, and nobody can be asked here$") as caught:
        drafted(tmp_path / "station.yaml", {"name": "a", "plc": "none"}, None)
    assert "--yes" in caught.value.hint
    with pytest.raises(BadInput, match=r"^--budget-ms is missing"):
        drafted(tmp_path / "station.yaml", WHOLE | {"bundle": bundle, "trigger": "interval:5"}, None)
    with pytest.raises(BadInput, match="--budget-ms: not with --trigger free"):
        drafted(tmp_path / "station.yaml", WHOLE | {"bundle": bundle, "budget_ms": "5"}, None)
    assert not list(tmp_path.iterdir())


def test_defaults_take_the_only_bundle_and_refuse_to_guess(tmp_path: Path, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "station.yaml"
    with pytest.raises(BadInput, match="--bundle is missing"):
        drafted(target, {"camera": "sim"}, None, defaults=True)
    (tmp_path / "a.edgead").symlink_to(bundle)
    assert drafted(target, {"camera": "sim"}, None, defaults=True).answers["bundle"] == "a.edgead"
    (tmp_path / "b.edgead").symlink_to(bundle)
    with pytest.raises(BadInput, match="--bundle is missing"):
        drafted(target, {"camera": "sim"}, None, defaults=True, force=True)


def test_another_file_is_replaced_only_when_that_is_said_and_stays_when_the_new_one_is_not_right(
    tmp_path: Path, bundle: str
) -> None:
    target = tmp_path / "station.yaml"
    target.write_text("mine", "utf-8")
    with pytest.raises(BadInput, match="is there already") as caught:
        drafted(target, WHOLE | {"bundle": bundle}, None)
    assert "--force" in caught.value.hint
    with pytest.raises(BundleError):
        drafted(target, WHOLE | {"bundle": str(tmp_path)}, None, force=True)
    assert target.read_text("utf-8") == "mine"
    drafted(target, WHOLE | {"bundle": bundle}, None, force=True)
    assert check_file(target)


@pytest.mark.parametrize("name", ["station.txt", "station", "folder.yaml", "link.yaml", "none/station.yaml", "file/station.yaml"])
def test_a_place_where_no_station_file_can_be(tmp_path: Path, bundle: str, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("/dev/null")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises((BadInput, StorageError)):
        drafted(tmp_path / name, WHOLE | {"bundle": bundle}, None, force=True)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").is_dir(), reason="no folder that nobody may write")
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(bundle: str) -> None:
    def ask(question: Question, default: str, trouble: str) -> str:
        raise AssertionError("asked")

    with pytest.raises(StorageError, match="cannot write") as caught:
        drafted(Path("/proc/sys/station.yaml"), {}, ask)
    assert caught.value.exit_code == 7


ANSWER = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["sim", "0", "usb:3", "hot:/x?after=delete", "rtsp://h/s", "free", "plc", "camera", "none", "modbus-server",
         "modbus-server:0.0.0.0:5020", "s7:[::1]:102", "interval:12.5", "gpio:3", "200", "a: b", "#", "${HOME}", "- x", "'", '"',
         "\\", "{", "null", "true", "1e3", "~", "&a", "*a", "!x", "%", "@", "`", "line\nbreak", "\t", "\0", "é中\U0001f600"]
    ),
)  # fmt: skip


@given(answers=st.fixed_dictionaries({question.key: ANSWER for question in QUESTIONS if question.key != "bundle"}))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_answered_the_file_is_right_or_the_answer_was_refused(
    tmp_path: Path, bundle: str, answers: dict[str, str]
) -> None:
    """Each answer on its own beside right ones, and all of them together."""
    target = tmp_path / "station.yaml"
    right = {"name": "a", "camera": "sim:fps=5", "bundle": bundle, "plc": "s7:plc", "trigger": "camera", "budget_ms": "5"}
    for given_ones in ({**right, **answers}, *({**right, key: answer} for key, answer in answers.items())):
        target.unlink(missing_ok=True)
        try:
            drafted(target, given_ones, None)
        except EdgeadError:
            assert not list(tmp_path.iterdir())
        else:
            config = read_station(target)
            assert (config.name, config.cameras[0].trigger.source) == (
                given_ones["name"],
                given_ones["trigger"].partition(":")[0],
            )
            assert "#" not in config.cameras[0].address


@pytest.mark.parametrize("camera", ["hot:${INCOMING}", "folder:${INCOMING}/day"])
def test_a_folder_that_the_environment_names_stays_as_it_is(tmp_path: Path, camera: str) -> None:
    answers = {"name": "a", "camera": camera, "bundle": "", "plc": "none", "trigger": "free"}
    text = rendered(answers, tmp_path / "station.yaml")
    assert yaml.safe_load(text)["cameras"][0]["address"] == camera


def test_plcs_are_known_by_their_port_and_neighbours_from_the_kernel(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    head = "IP address       HW type     Flags       HW address            Mask     Device\n"
    table.write_text(
        head
        + "10.0.0.9         0x1         0x2         00:1b:1b:aa:bb:cc     *        eth0\n"
        + "10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
        + "nonsense\n",
        "utf-8",
    )
    assert neighbours(table) == ["10.0.0.9"]
    assert neighbours(tmp_path / "none") == []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        port, nobody = server.getsockname()[1], closed.getsockname()[1]
        closed.close()
        found = answering(["127.0.0.1"], {"modbus-client": port, "s7": nobody})
    assert found == [Answering("modbus-client", "127.0.0.1", port)]
