"""The handshake over OPC UA against a real, encrypted server process, and edgead as a vision system that a stranger drives."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties
from asyncua.sync import Client

from edgead.clock import MonotonicClock
from edgead.errors import BadInput, OutputError, StorageError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.plc.certificates import make_identity, read_certificate, read_identity
from edgead.runtime.plc.device import LinkError, PlcDevice, PlcLink
from edgead.runtime.plc.opcua import OpcUaClientLink, OpcUaClientSettings, ThresholdNode, tags, write_order
from edgead.runtime.plc.signals import Direction, ToPlc
from edgead.runtime.vision import server as opcua_vision
from edgead.runtime.vision.entry import Users
from edgead.runtime.vision.server import OpcUaServer
from edgead.runtime.vision.settings import VisionSettings
from edgead.runtime.vision.states import VisionStates
from edgead.testing import FakeCamera, FakeClock, FakeEngine
from edgead.types import Inspection, StageTimes, Trigger, Verdict
from tests.runtime._rig import LinkFaults
from tests.servers.opcua_plc import PASSWORD, USER, OpcUaPlc, make_keys, opcua_link
from tests.waiting import PATIENCE_S, until

OK, NG = Verdict.OK, Verdict.NG
COUNTS = (ua.VariantType.UInt32, ua.VariantType.UInt32, ua.VariantType.Int32)
CLIENT = Path(__file__).resolve().parents[1] / "servers/vision_client.py"


@pytest.fixture(scope="module", autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


# The client link


class TestOpcUa(LinkFaults):
    plc_class = OpcUaPlc
    many: ClassVar[int] = 20

    def new_link(self, port: int) -> PlcLink:
        return opcua_link(port)


def test_the_threshold_is_a_variable_of_the_plc_and_a_wrong_one_costs_no_connection(tmp_path: Path) -> None:
    plc = OpcUaPlc(tmp_path, threshold=2.5)
    plc.start()
    given = {name: f"ns=2;s=edgead.{name}" for name in ("threshold", "to_plc.ready", "nothing")}
    given["elsewhere"] = "nsu=urn:nobody;s=threshold"
    links = {name: opcua_link(plc.port, threshold=ThresholdNode(node=node, min=1.0, max=3.0)) for name, node in given.items()}
    try:
        assert links["threshold"].threshold() == (2.5, f"the PLC at 127.0.0.1:{plc.port}")
        says = {"to_plc.ready": "holds bool", "nothing": "BadNodeIdUnknown", "elsewhere": "has no namespace"}
        for name, text in says.items():
            links[name].exchange(ToPlc())
            before = links[name]._client
            with pytest.raises(LinkError, match=text):
                links[name].threshold()
            links[name].exchange(ToPlc())
            assert links[name]._client is before, "the same session"
    finally:
        for link in links.values():
            link.close()
        plc.kill()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[OpcUaPlc]:
    plc = OpcUaPlc(tmp_path)
    plc.start()
    yield plc
    plc.kill()


def test_a_plc_with_one_session_gets_it_back_before_another_is_asked_for(tmp_path: Path) -> None:
    plc = OpcUaPlc(tmp_path, sessions=1)
    plc.start()
    link = opcua_link(plc.port, timeout_ms=500)
    link.exchange(ToPlc())
    for _ in range(3):
        plc.pause()
        with pytest.raises(LinkError, match=r"does not answer within 500 ms \(timeout_ms\)") as caught:
            link.exchange(ToPlc(ready=True))
        assert caught.value.cause == "timeout" and "timeout_ms" in caught.value.hint
        plc.resume()
        until(lambda: answers(link))  # this server never forgets a session that nobody closes
    link.close()
    told = [entry["session"] for entry in plc.log("session")]
    words = [word for word in told if word != "refused"]  # on a busy machine it is away more often
    assert words == ["new", "closed"] * (len(words) // 2) and len(words) >= 8
    plc.kill()


def test_a_session_that_was_made_too_late_is_closed_and_they_do_not_pile_up(tmp_path: Path) -> None:
    plc = OpcUaPlc(tmp_path, create_ms=1500)
    plc.start()
    link = opcua_link(plc.port, connect_timeout_ms=750)
    for _ in range(8):
        with pytest.raises(LinkError) as caught:
            link.exchange(ToPlc())
        assert caught.value.cause == "timeout"
        assert "750 ms (connect_timeout_ms)" in str(caught.value) or "has not closed 2 sessions" in str(caught.value)
    until(lambda: plc.log("session")[-1]["open"] == 0)
    assert max(entry["open"] for entry in plc.log("session")) <= 2
    link.close()
    plc.kill()


def test_a_plc_without_a_free_session_says_so(tmp_path: Path) -> None:
    plc = OpcUaPlc(tmp_path, sessions=1)
    plc.start()
    first, second = opcua_link(plc.port), opcua_link(plc.port)
    until(lambda: answers(first))
    with pytest.raises(LinkError, match="has no session left for us") as caught:
        second.exchange(ToPlc())
    assert caught.value.cause == "refused" and "sessions" in caught.value.hint
    first.close()
    until(lambda: answers(second))
    second.close()
    plc.kill()


def answers(link: OpcUaClientLink) -> bool:
    try:
        link.exchange(ToPlc())
    except LinkError:
        return False
    return True


def test_wrong_credentials_and_nodes_are_one_line_each_and_cost_no_verdict(
    started: OpcUaPlc, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    plc = started
    stranger = {"certificate": keys / "stranger.pem", "key": keys / "stranger.key"}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"password": "wrong-one"}, "login", "rejects user or password"),
        ({"user": None, "password": None}, "login", "rejects user or password"),
        (stranger, "certificate", "rejects the certificate"),
        ({"certificate": keys / "expired.pem", "key": keys / "expired.key"}, "certificate", "expired on"),
        ({"server_certificate": keys / "expired.pem"}, "certificate", "expired on"),
        (
            {"server_certificate": keys / "stranger.pem", "connect_timeout_ms": 500},
            "certificate",
            "does not answer our encrypted",
        ),
        ({"security": "none"}, "refused|connect", "the PLC at"),
        ({"node": "ns=2;s=nobody.{block}.{signal}"}, "refused", "from_plc.enable .* cannot be read: BadNodeIdUnknown"),
        ({"node": "nsu=urn:nobody;s=edgead.{block}.{signal}"}, "refused", "has no namespace urn:nobody"),
        ({"nodes": {"from_plc.part_id": "ns=0;i=2254"}}, "refused", "from_plc.part_id holds list, not a u32"),
        ({"nodes": {"to_plc.boot": "ns=0;i=2254"}}, "refused", "to_plc.boot holds list, not a u16"),
        ({"nodes": {"to_plc.boot": "ns=0;i=2259"}}, "refused", "to_plc.boot .* cannot be written: Bad"),
    ]
    said: list[str] = []
    for changes, cause, text in cases:
        device = PlcDevice(opcua_link(plc.port, **changes))
        until(lambda device=device, text=text: re.search(text, str(fault(device))), what=text)  # a busy machine has others, too
        found = fault(device)
        device.close()
        assert any(f"failed:{each}" in device.counts() for each in cause.split("|"))
        assert found is not None and found.hint and "\n" not in str(found)
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(set(warned)) == len(warned) > 0  # each once
        said += [record.getMessage() for record in caplog.records]
        caplog.clear()
    link = opcua_link(plc.port, node="nsu=urn:test:plc;s=edgead.{block}.{signal}")
    assert link.exchange(ToPlc()).reset
    link.close()
    assert plc.log() == []
    told = " ".join(said + [record.getMessage() for record in caplog.records])
    assert PASSWORD not in told and "wrong-one" not in told


def fault(device: PlcDevice) -> OutputError | None:
    """What keeps it from reaching the PLC now."""
    try:
        device.wait(0)
    except OutputError as error:
        return error
    return None


def test_a_half_written_block_never_says_more_than_the_whole_one() -> None:
    rising = [signal.name for signal in write_order(falling=False)]
    assert rising[-1] == "result_valid" and rising.index("result_part_id") < rising.index("trigger_ack")
    assert next(signal.name for signal in write_order(falling=True)) == "result_valid"
    assert {signal.name for signal in write_order(falling=True)} == set(rising)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"url": "http://plc"}, "opc.tcp://HOST"),
        ({"url": "opc.tcp://edgead:geheim@plc:4840"}, "carries no user or password"),
        ({"security": "Basic128"}, "unknown security"),
        ({"certificate": None}, "needs certificate, key and server_certificate"),
        ({"node": "ns=2;s=all"}, "needs {block} and {signal}"),
        ({"node": "edgead.{block}.{signal}"}, "is not a node id"),
        ({"nodes": {"to_plc.redy": "ns=2;i=4"}}, "no signal 'to_plc.redy'"),
        ({"nodes": {"to_plc.ready": "ns=2;i=4", "to_plc.busy": "ns=2;i=4"}}, "same node id"),
        ({"timeout_ms": 0.0}, "timeout_ms is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(keys: Path, changes: dict[str, Any], text: str) -> None:
    options: dict[str, Any] = {"url": "opc.tcp://plc:4840", "certificate": keys / "trusted.pem", "key": keys / "trusted.key"}
    options = {**options, "server_certificate": keys / "plc.pem", **changes}
    with pytest.raises(BadInput) as caught:
        OpcUaClientLink(OpcUaClientSettings(**options))
    assert text in str(caught.value) and "geheim" not in str(caught.value)


def test_nobody_there_is_one_line(keys: Path) -> None:
    link = opcua_link(9)
    with pytest.raises(LinkError, match="does not accept a connection") as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "connect" and caught.value.hint
    link.close()
    link.close()
    with pytest.raises(LinkError, match="closed"):
        link.exchange(ToPlc())


def test_node_ids_follow_the_pattern_and_the_table() -> None:
    made = tags('ns=3;s="edgead"."{block}"."{signal}"', {"from_plc.trigger": "ns=4;i=17"})
    assert made[Direction.TO_PLC, "heartbeat"] == 'ns=3;s="edgead"."to_plc"."heartbeat"'
    assert made[Direction.FROM_PLC, "heartbeat"] == 'ns=3;s="edgead"."from_plc"."heartbeat"'
    assert made[Direction.FROM_PLC, "trigger"] == "ns=4;i=17"


# Certificates


def test_a_self_signed_pair_is_private_and_overwrites_nothing(tmp_path: Path, keys: Path) -> None:
    made = make_identity(tmp_path / "a.pem", tmp_path / "a.key", uri="urn:line7:edgead", hosts=("10.0.0.5", "line7"))
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
    assert made.certificate.uri == "urn:line7:edgead" and made.certificate.problem() == ""
    assert b"PRIVATE" not in repr(made).encode()
    with pytest.raises(StorageError, match=r"cannot write .*a.pem: File exists"):
        make_identity(tmp_path / "a.pem", tmp_path / "a.key", uri="urn:x")
    with pytest.raises(BadInput, match="does not belong to"):
        read_identity(tmp_path / "a.pem", keys / "plc.key")
    with pytest.raises(BadInput, match="cannot be opened as a private key"):
        read_identity(tmp_path / "a.pem", tmp_path / "a.pem")
    with pytest.raises(BadInput, match="is not a certificate"):
        read_certificate(tmp_path / "a.key")
    with pytest.raises(BadInput, match="cannot read the certificate"):
        read_certificate(tmp_path / "none.pem")


# edgead as the server of OPC 40100-1


@pytest.fixture
def served(keys: Path) -> Iterator[Callable[..., OpcUaServer]]:
    made: list[OpcUaServer] = []

    def serve(**options: Any) -> OpcUaServer:
        given = {"certificate": keys / "plc.pem", "key": keys / "plc.key", "user": USER, "password": PASSWORD, **options}
        names = {field.name for field in fields(VisionSettings)} & set(given)
        settings = VisionSettings(**{"port": 0, **{name: given.pop(name) for name in names}})
        made.append(OpcUaServer(settings, **{"answer_timeout_s": 2.0, **given}))
        return made[-1]

    yield serve
    for server in made:
        server.close()


def drive(server: OpcUaServer, keys: Path, *parts: str, who: str = "trusted", password: str = PASSWORD) -> Any:
    """What the client process says; its last line of complaint when it fails."""
    files = [keys / "plc.pem", keys / f"{who}.pem", keys / f"{who}.key"]
    command = [sys.executable, CLIENT, f"opc.tcp://127.0.0.1:{server.port}/edgead", *files, USER, password, *parts]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.splitlines()[-1]


def test_a_client_that_knows_only_the_standard_drives_inspections(
    served: Callable[..., OpcUaServer], keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = served(trusted=[keys / "trusted.pem"])
    camera = FakeCamera([np.zeros((64, 64, 3), np.uint8)], clock=MonotonicClock(), loop=True)
    engine, told = FakeEngine([1.0, 3.0]), []
    settings = StationSettings(budget_ms=5000)
    station = Station(camera, engine, PreprocessRecipe(64, 64), 2.0, settings, [server], MonotonicClock(), triggers=server)
    station.on_inspection(told.append)
    with station:
        runner = threading.Thread(target=station.run, name="test-station")
        runner.start()
        said = drive(server, keys, "7", "box-8")
        refused = [drive(server, keys, "9", password="wrong-one"), drive(server, keys, "9", who="stranger")]
        assert "'jobs': 2" in str(station.health())
        station.stop()
        runner.join()
    job = ["StateChangedEventType", "JobStartedEventType", "ResultReadyEventType", "StateChangedEventType", "ReadyEventType"]
    first = {"error": 0, "same job": True, "part": "7", "state": 1, "content": ["OK", "", 1.0, 2.0]}
    second = {**first, "part": "box-8", "content": ["NG", "", 3.0, 2.0]}
    assert said == {
        "type": "VisionSystemType",
        "events": job + job,
        "results": [{**result, "again": [result["part"], result["content"], 0]} for result in (first, second)],
        "kept": [True, 1, ["box-8"], 0],
        "outer": "Operational",
    }
    assert "BadUserAccessDenied" in refused[0] and "BadCertificateUntrusted" in refused[1]
    assert [(i.trigger.part_id, i.verdict) for i in told if i.trigger] == [(7, OK), (None, NG)]
    assert server.counts() == {"jobs": 2, "results": 2, "refused:login": 1, "refused:certificate": 1}
    assert not any("wrong-one" in record.getMessage() or PASSWORD in record.getMessage() for record in caplog.records)


class Remote:
    """A client in this process: calls methods of the standard, and sees states and results."""

    def __init__(self, server: OpcUaServer, keys: Path, password: str = PASSWORD) -> None:
        self._client = Client(f"opc.tcp://127.0.0.1:{server.port}/edgead", timeout=PATIENCE_S)
        key = CertProperties(keys / "trusted.key", "pem")
        self._client.set_security(SecurityPolicyBasic256Sha256, keys / "trusted.pem", key, server_certificate=keys / "plc.pem")
        self._client.set_user(USER)
        self._client.set_password(password)
        try:
            self._client.connect()
        except BaseException:
            self._client.tloop.stop()  # a thread that would keep this process from ending
            raise
        self._index = self._client.get_namespace_index("http://opcfoundation.org/UA/MachineVision")
        self._system = self._client.nodes.objects.get_child(["3:edgead"])
        self._machine = self._child(self._system, "VisionStateMachine")
        self._automatic = self._child(self._machine, "AutomaticModeStateMachine")

    def close(self) -> None:
        self._client.disconnect()

    def _child(self, node: Any, name: str) -> Any:
        return node.get_child([f"{self._index}:{name}"])

    def state(self) -> str:
        """Of the inner machine, when it has one."""
        outer, inner = (node.get_child(["0:CurrentState"]).read_value().Text for node in (self._machine, self._automatic))
        return str(inner or outer)

    def call(self, name: str, *arguments: Any) -> Any:
        """The Error of a state machine's method (and the job of a start), or the name of the status code."""
        node = self._machine if name in ("Halt", "Reset", "SelectModeAutomatic") else self._automatic
        if not arguments and name != "SelectModeAutomatic":
            arguments = (ua.Variant(1, ua.VariantType.Int32), "because")
        try:
            return node.call_method(f"{self._index}:{name}", *arguments)
        except ua.UaStatusCodeError as error:
            return type(error).__name__

    def start(self, name: str, part: str = "", recipe: str = "") -> Any:
        ids = (ua.MeasIdDataType(Id="m"), ua.PartIdDataType(Id=part), ua.RecipeIdExternalDataType(Id=recipe))
        return self.call(name, *ids, ua.ProductIdDataType(Id="p"), ua.Variant([], ua.VariantType.Variant))

    def ask(self, owner: str, name: str, *arguments: Any) -> Any:
        """A method of a management object."""
        return self._child(self._system, owner).call_method(f"{self._index}:{name}", *arguments)

    def results(self, job: Any = None) -> list[tuple[str, str, str, int]]:
        """Part, verdict, cause and ResultState of what was inspected, of one job or of all."""
        nothing = (ua.MeasIdDataType(), ua.PartIdDataType(), ua.RecipeIdExternalDataType(), ua.RecipeIdInternalDataType())
        more = (ua.ConfigurationIdDataType(), ua.ConfigurationIdDataType(), ua.ProductIdDataType(), job or ua.JobIdDataType())
        numbers = [ua.Variant(0, kind) for kind in COUNTS]
        state = ua.Variant(0, ua.VariantType.Int32)
        found = self.ask("ResultManagement", "GetResultListFiltered", state, *nothing, *more, *numbers)[3]
        return [(r.PartId.Id, r.ResultContent[0].Value, r.ResultContent[1].Value, r.ResultState) for r in found or []]


Connect = Callable[[OpcUaServer], Remote]
Serve = Callable[..., OpcUaServer]


@pytest.fixture
def remote(keys: Path, served: Serve) -> Iterator[Connect]:
    made: list[Remote] = []

    def connect(server: OpcUaServer) -> Remote:
        made.append(Remote(server, keys))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def answer(server: OpcUaServer, verdict: Verdict, trigger: Trigger | None = None, deadline_ns: int | None = None) -> None:
    """The station's verdict on the next trigger."""
    trigger = trigger or server.wait(PATIENCE_S)
    assert trigger is not None
    server.signal(Inspection(1, verdict, "", 1.5, 2.0, None, StageTimes(), None, trigger, deadline_ns))


def go_on(server: OpcUaServer, clock: FakeClock, seconds: float) -> None:
    """Time goes by while the station lives."""
    for _ in range(math.ceil(seconds / 0.5)):
        clock.advance(0.5)
        server.heartbeat()


def test_states_follow_the_methods_and_each_job_has_exactly_one_result(served: Serve, remote: Connect) -> None:
    clock = FakeClock()
    server = served(clock=clock, pause_ms=1000)
    client = remote(server)
    assert client.state() == "Preoperational" and client.call("Stop") == "BadInvalidState"
    server.heartbeat()
    until(lambda: client.state() == "Ready")

    job, error = client.start("StartSingleJob", "21")
    assert error == 0 and client.state() == "SingleExecution"
    assert client.start("StartSingleJob", "22") == "BadInvalidState"
    trigger = server.wait(PATIENCE_S)
    assert trigger is not None and (trigger.part_id, trigger.source) == (21, "opcua")
    answer(server, NG, trigger)
    until(lambda: client.state() == "Ready")
    answer(server, OK, trigger)  # a second verdict on it is dropped
    until(lambda: server.counts().get("dropped"))
    assert client.results(job) == [("21", "NG", "", 1)]

    job, _ = client.start("StartSingleJob", "late")
    answer(server, OK, deadline_ns=clock.now_ns() - 1)
    until(lambda: client.state() == "Ready")
    assert client.results(job) == [("late", "UNKNOWN", "late_output", 4)]

    job, _ = client.start("StartSingleJob", "mute")
    go_on(server, clock, 2.5)
    until(lambda: client.state() == "Ready")
    assert client.results(job) == [("mute", "UNKNOWN", "no_answer", 4)] and server.wait(0) is None

    job, _ = client.start("StartSingleJob", "stopped")
    trigger = server.wait(PATIENCE_S)
    assert client.call("Abort") == 0 and client.state() == "Ready"
    answer(server, OK, trigger)
    until(lambda: server.counts()["dropped"] == 2)
    assert client.results(job) == [("stopped", "UNKNOWN", "aborted", 3)]

    assert client.call("Halt") == 0 and client.state() == "Halted"
    assert client.call("Halt") == client.call("SelectModeAutomatic") == client.start("StartSingleJob") == "BadInvalidState"
    assert client.call("Reset") == 0 and client.state() == "Preoperational"
    assert client.call("SelectModeAutomatic") == 0 and client.state() == "Ready"

    job, _ = client.start("StartSingleJob", "hang")
    clock.advance(1.1)
    until(lambda: client.state() == "Error")
    assert client.results(job) == [("hang", "UNKNOWN", "loop_stalled", 4)]
    server.heartbeat()
    until(lambda: client.state() == "Ready")

    server.signal(Inspection(77, NG, "", 3.0, 2.0, None, StageTimes(), None))  # without a job
    until(lambda: client.results()[-1] == ("77", "NG", "", 1))
    job, _ = client.start("StartSingleJob", "last")
    server.fail_safe()
    until(lambda: client.state() == "Preoperational")
    assert client.results(job) == [("last", "UNKNOWN", "stopped", 3)]
    assert server.counts()["results"] == 7


def test_continuous_execution_triggers_until_stop(served: Serve, remote: Connect) -> None:
    clock = FakeClock()
    server = served(clock=clock, pause_ms=1000)
    client = remote(server)
    server.heartbeat()
    until(lambda: client.state() == "Ready")
    job, _ = client.start("StartContinuous", "batch")
    assert client.state() == "ContinuousExecution"
    for number, verdict in enumerate((OK, NG), start=1):
        answer(server, verdict)
        until(lambda number=number: len(client.results(job)) == number)
        assert server.wait(0.1) is None  # not before the pause is over
        go_on(server, clock, 1.0)
    trigger = server.wait(PATIENCE_S)
    assert client.call("Stop") == 0 and client.state() == "Ready"
    answer(server, OK, trigger)
    until(lambda: len(client.results(job)) == 3)
    assert [verdict for _, verdict, _, _ in client.results(job)] == ["OK", "NG", "OK"]
    go_on(server, clock, 1.0)
    assert server.wait(0.1) is None and client.state() == "Ready"


def test_a_recipe_is_asked_for_by_prepare_recipe(served: Serve, remote: Connect) -> None:
    server = served(clock=FakeClock(), recipes=(1, 2))
    client = remote(server)
    server.set_recipe(1)
    server.heartbeat()
    until(lambda: client.state() == "Ready")

    def prepare(name: str) -> tuple[Any, ...]:
        ids = (ua.RecipeIdExternalDataType(Id=name), ua.RecipeIdInternalDataType())
        internal, *rest = client.ask("RecipeManagement", "PrepareRecipe", *ids)
        return (internal.Id, *rest)

    assert prepare("3") == ("", False, -1) and client.state() == "Ready"
    assert prepare("2") == ("2", False, 0)
    assert server.recipe_request == 2 and client.state() == "Initialized"
    assert client.start("StartSingleJob") == "BadInvalidState"
    server.set_recipe(2)
    assert client.state() == "Ready" and prepare("2") == ("2", True, 0)
    assert client.start("StartSingleJob", recipe="1")[1] == -1 and client.state() == "Ready"
    assert prepare("1") == ("1", False, 0)
    server.refuse_recipe()
    assert server.recipe_request == 0 and client.state() == "Initialized"
    assert prepare("2") == ("2", True, 0) and client.state() == "Ready"
    configuration = client.ask("ConfigurationManagement", "GetConfigurationList", *[ua.Variant(0, k) for k in COUNTS])[3][0]
    assert client.ask("ConfigurationManagement", "ActivateConfiguration", configuration.InternalId) == 0


def test_a_server_that_cannot_be_is_refused_in_one_line(keys: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"user": None}, "needs user and password"),
        ({"pause_ms": 0.0}, "above 0 s"),
        ({"trusted": (keys / "none.pem",)}, "cannot read the certificate"),
        ({"bind": "10.0.0.300"}, "is not an IP address"),
    ]
    for changes, text in cases:
        options: dict[str, Any] = {"certificate": keys / "plc.pem", "key": keys / "plc.key", "user": USER, "password": PASSWORD}
        with pytest.raises(BadInput) as caught:
            OpcUaServer(VisionSettings(**{"port": 0, **options, **changes}), answer_timeout_s=2.0)
        assert text in str(caught.value)


def test_an_address_that_another_program_holds_is_served_as_soon_as_it_is_free(
    served: Callable[..., OpcUaServer], keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opcua_vision, "RETRY_S", 0.05)
    told: list[tuple[str, str]] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = served(port=port)
        server.watch(lambda name, text: told.append((name, text)))
        server.heartbeat()
        assert told[0][0] == "OPC UA server" and "Address already in use" in told[0][1]
    until(lambda: told[1:] == [("OPC UA server", "")])
    client = Remote(server, keys)
    until(lambda: client.state() == "Ready")
    client.close()
    assert caplog.text.count("Address already in use") == 1


def test_whoever_enters_can_beside_any_number_of_idle_connections(
    served: Callable[..., OpcUaServer], keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = served()
    with ExitStack() as idle:
        for _ in range(4 * opcua_vision.MAX_CONNECTIONS):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        server.heartbeat()
        client = Remote(server, keys)
        until(lambda: client.state() == "Ready")
        client.close()
    assert "refused a client at 127.0.0.1: more than 32 are connected" in caplog.text


def test_nobody_there_and_a_state_in_which_no_job_starts_are_told_with_the_way_out(
    served: Serve, remote: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    server = served(clock=clock)
    server.heartbeat()
    assert server.conditions() == {}
    clock.advance(2 * opcua_vision.ALONE_S)
    server.heartbeat()
    alone = server.conditions()["opcua client"]
    assert alone.blocks and f"the OPC UA server on 127.0.0.1:{server.port}: no client has a session" in alone.text
    until(lambda: "no client has a session" in caplog.text)
    client = remote(server)
    until(lambda: "opcua client" not in server.conditions())
    until(lambda: client.state() == "Ready")
    assert client.call("Halt") == 0
    until(lambda: server.heartbeat() or clock.advance(1.0) or "opcua state" in server.conditions())
    halted = server.conditions()["opcua state"]
    assert halted.blocks and "is Halted" in halted.text and "Reset, then SelectModeAutomatic" in halted.text
    assert client.call("Reset") == 0
    until(lambda: server.heartbeat() or client.call("SelectModeAutomatic") == 0 or client.state() == "Ready")
    until(lambda: "opcua state" not in server.conditions())


def test_clients_that_are_refused_are_told_for_a_while(served: Serve, keys: Path) -> None:
    clock = FakeClock()
    server = served(clock=clock)
    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
        Remote(server, keys, "wrong-one")
    told = server.conditions()["opcua refused"]
    assert not told.blocks and "refused a client at 127.0.0.1 with a wrong user or password" in told.text
    clock.advance(opcua_vision.REFUSED_S)
    assert "opcua refused" not in server.conditions()


def test_who_guesses_passwords_waits_longer_and_longer_and_others_do_not(caplog: pytest.LogCaptureFixture) -> None:
    said: list[tuple[str, str]] = []
    peer, now_s = ["10.0.0.7"], [0.0]
    users = Users((USER, PASSWORD), False, lambda cause, what: said.append((cause, what)), lambda: peer[0], lambda: now_s[0])

    def enter(password: str) -> bool:
        return users.get_user(None, USER, password) is not None

    tried = 0
    for _ in range(12 * 600):  # twelve a second, ten minutes long
        now_s[0] += 1 / 12
        before = len(said)
        assert not enter("guess")
        tried += said[before][0] == "login"
    assert tried < 20
    assert not enter(PASSWORD)  # while it must wait, a right one is refused as a wrong one
    assert "at 10.0.0.7 with a wrong user or password for the 5th time; it must wait for 4 s" in [what for _, what in said]
    peer[0] = "10.0.0.8"
    assert enter(PASSWORD)
    peer[0] = "10.0.0.7"
    now_s[0] += 61
    assert enter(PASSWORD) and not enter("typing") and enter(PASSWORD)


def test_a_password_that_is_guessed_is_told_with_the_address_it_came_from(
    served: Callable[..., OpcUaServer], keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = served()
    for _ in range(5):
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            Remote(server, keys, "wrong-one")
    counts = server.counts()  # how many were barred depends on how long a client of this machine takes
    assert counts["refused:login"] >= 4 and sum(counts.values()) == 5
    assert "refused a client at 127.0.0.1 with a wrong user or password for the 4th time" in caplog.text


def test_transitions_that_the_standard_does_not_have_are_not_made() -> None:
    states = VisionStates()
    assert states.go("PreoperationalToReady") is None and states.go("HaltedToPreoperational") is None
    assert not states.end("Abort") and not states.start(continuous=True) and states.state == "Preoperational"
    made = states.loop(runs=True, stalled=False)
    assert [step.transition for step in made] == ["PreoperationalToInitializedAuto", "InitializedToReadyAuto"]
    assert [step.transition for step in states.loop(runs=True, stalled=True)] == ["OperationalToErrorAuto"]
