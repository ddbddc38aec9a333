"""A PLC process, the device that talks to it and the smallest station; and the fault suite that every link goes through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from edgead.errors import OutputError
from edgead.runtime.plc.device import LinkError, PlcDevice, PlcLink
from edgead.runtime.plc.signals import Fault, FromPlc, ToPlc
from edgead.types import Inspection, StageTimes, Verdict
from tests.servers.plc import ModbusPlc
from tests.waiting import PATIENCE_S, until


def truth(part_id: int) -> Verdict:
    """What this part is: each third one is bad."""
    return Verdict.NG if part_id % 3 == 0 else Verdict.OK


class Loop:
    """A thread that answers each trigger by the truth, and beats as long as `beating`."""

    def __init__(self, device: PlcDevice) -> None:
        self.device = device
        self.beating = True
        self.answered: list[int] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="test-loop")
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            if self.beating:
                self.device.heartbeat()
            try:
                trigger = self.device.wait(0.02)
            except OutputError:
                continue
            if trigger is not None and trigger.part_id is not None:
                verdict = Verdict.UNKNOWN if trigger.refused else truth(trigger.part_id)
                told = Inspection(1, verdict, trigger.refused, 1.25, 2.0, None, StageTimes(), None, trigger)
                self.device.signal(told)
                self.answered.append(trigger.part_id)


class Rig:
    """A PLC, the device and the loop; `link` makes a link to the PLC."""

    def __init__(self, plc: ModbusPlc, link: Callable[[], PlcLink], heartbeat_timeout_s: float) -> None:
        self.plc, self.link, self._timeout_s = plc, link, heartbeat_timeout_s
        self.plc.start()
        self.device = self.connect(boot=1)
        self.loop = Loop(self.device)

    def connect(self, boot: int) -> PlcDevice:
        return PlcDevice(self.link(), boot=boot, heartbeat_timeout_s=self._timeout_s)

    def close(self) -> None:
        self.loop.close()
        self.device.close()
        self.plc.kill()

    def parts(self) -> list[int]:
        return [entry["part"] for entry in self.plc.log()]

    def judge(self, *, mostly: int = 0) -> None:
        """One verdict for each part, in order, and no wrong OK; at least `mostly` of them right and from the station."""
        log = self.plc.log()
        ids = [entry["part"] for entry in log]
        assert ids == sorted(set(ids))
        for entry in log:
            assert entry["verdict"] in (truth(entry["part"]).value, "UNKNOWN")
        assert sum(entry["by"] == "station" and entry["verdict"] != "UNKNOWN" for entry in log) >= mostly


def share_the_block(rig: Rig) -> None:
    """A second station on the rig's block: both end safe and say so, and the first serves again when the second has gone."""
    rig.plc.want(5)
    until(lambda: len(rig.parts()) == 5)
    second = rig.connect(boot=2)
    loop = Loop(second)
    try:
        for device, other in ((rig.device, 2), (second, 1)):
            until(lambda device=device: "plc second_writer" in device.conditions())  # type: ignore[misc]
            assert f"boot number {other})" not in device.conditions()["plc second_writer"].text
            assert f"boot number {other} " in device.conditions()["plc second_writer"].text
        rig.plc.want(5)
        for _ in range(3):
            exchanges = second.counts()["exchanges"]
            until(lambda: second.counts()["exchanges"] > exchanges + 50)  # noqa: B023
        assert len(rig.parts()) == 5  # neither is ready
    finally:
        loop.close()
        second.close()
    until(lambda: len(rig.parts()) == 10)
    rig.judge(mostly=9)
    assert "plc second_writer" not in rig.device.conditions()


class LinkFaults:
    """What every link keeps, whatever is done to its peer: exactly one verdict for each trigger, as the PLC's own log shows.

    Attributes:
        few, many: parts of a short and a long run.
        heartbeat_timeout_s: of the device.
        plc_class, new_link: the PLC process, and a link to one that listens on this port.
    """

    few: ClassVar[int] = 5
    many: ClassVar[int] = 30
    heartbeat_timeout_s: ClassVar[float] = 0.4
    slow_ms: ClassVar[float] = 15
    plc_class: ClassVar[type[ModbusPlc]]

    def new_link(self, port: int) -> PlcLink:
        raise NotImplementedError

    def rig(self, folder: Path, **options: float) -> Rig:
        plc = self.plc_class(folder, **options)
        return Rig(plc, lambda: self.new_link(plc.port), self.heartbeat_timeout_s)

    @pytest.fixture
    def rigs(self, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
        made: list[Rig] = []

        def make(**options: float) -> Rig:
            made.append(self.rig(tmp_path, **options))
            return made[-1]

        yield make
        for rig in made:
            rig.close()

    def test_each_part_gets_its_verdict(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs(in_flight=2)
        rig.plc.want(self.many)
        until(lambda: len(rig.parts()) == self.many)
        rig.judge(mostly=self.many)
        assert rig.plc.log("ignored") == [] and rig.plc.log("error") == []

    def test_a_second_station_on_the_block_is_seen_by_both(self, rigs: Callable[..., Rig]) -> None:
        share_the_block(rigs())

    def test_a_plc_that_answers_slowly_still_gets_every_verdict(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs(answer_ms=self.slow_ms)
        rig.plc.want(self.few)
        until(lambda: len(rig.parts()) == self.few)
        rig.judge(mostly=self.few)

    def test_a_plc_that_is_stopped_and_goes_on(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs()
        rig.plc.want(self.many)
        until(lambda: len(rig.parts()) >= self.few)
        rig.plc.pause()
        until(lambda: rig.device.counts().get("error:plc_lost"))
        rig.plc.resume()
        until(lambda: len(rig.parts()) == self.many)
        rig.judge(mostly=self.many - self.few)
        until(lambda: {"error": Fault.PLC_LOST} in rig.plc.log("error"))

    def test_a_plc_that_is_killed_and_started_again(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs()
        rig.plc.want(1000)
        until(lambda: len(rig.parts()) >= self.few)
        rig.plc.kill()
        before = max(rig.loop.answered)
        until(lambda: rig.device.counts().get("failed:connect"))
        with pytest.raises(OutputError, match="the PLC at 127"):
            rig.device.wait(0)
        rig.plc.start(start_id=before + 100)
        rig.plc.want(self.few)
        until(lambda: len([part for part in rig.parts() if part > before + 100]) == self.few)
        rig.judge(mostly=2 * self.few - 2)

    def test_a_station_that_is_killed_and_started_again(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs()
        rig.plc.want(1000)
        until(lambda: len(rig.parts()) >= self.few)
        cut = threading.Event()

        def dead(to_plc: ToPlc) -> FromPlc:
            cut.set()
            raise LinkError("killed", cause="connect")

        rig.device._link.exchange = dead  # type: ignore[method-assign]
        assert cut.wait(PATIENCE_S)
        rig.loop.close()
        before = len(rig.parts())
        old, rig.device = rig.device, rig.connect(boot=2)
        rig.loop = Loop(rig.device)
        until(lambda: len(rig.parts()) >= before + self.few)
        old.close()
        rig.judge(mostly=before + self.few - 3)
