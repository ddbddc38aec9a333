"""The handshake over EtherNet/IP against a real server process (cpppo) that is stopped, killed, slowed and restarted."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import BadInput
from edgead.runtime.plc.device import LinkError, PlcLink
from edgead.runtime.plc.ethernetip import EtherNetIpLink, EtherNetIpSettings, length, to_dints, words_of
from edgead.runtime.plc.signals import Direction, FromPlc, ToPlc, from_plc_of, to_plc_of
from tests.runtime._rig import LinkFaults
from tests.servers.plc import EtherNetIpPlc
from tests.waiting import PATIENCE_S


def link_to(host: str = "127.0.0.1", **settings: Any) -> EtherNetIpLink:
    return EtherNetIpLink(EtherNetIpSettings(host=host, **settings))


class TestEtherNetIp(LinkFaults):
    few, many = 3, 8
    heartbeat_timeout_s = 1.5
    slow_ms = 10
    plc_class = EtherNetIpPlc

    def new_link(self, port: int) -> PlcLink:
        return link_to(port=port, timeout_ms=500)


def test_the_arrays_keep_every_value() -> None:
    shown = ToPlc(*([True, False] * 4), True, 65535, 7, 2, 4_294_967_295, 0x12345678, 255, 9, -1.5)
    seen = FromPlc(True, False, True, False, True, 3, 0xDEADBEEF, 1, 12)
    assert to_plc_of(words_of(to_dints(shown), Direction.TO_PLC)) == shown
    assert from_plc_of(words_of(to_dints(seen), Direction.FROM_PLC)) == seen
    assert to_dints(shown) == [0b1_0101_0101, 65535, 7, 2, -1, 0x12345678, 255, 9, -0x40400000, 1]
    assert length(Direction.TO_PLC) == 10 and length(Direction.FROM_PLC) == 5


def test_a_counter_of_the_plc_that_leaves_16_bits_goes_on_counting() -> None:
    dints = to_dints(FromPlc())
    dints[1] = 65537
    assert from_plc_of(words_of(dints, Direction.FROM_PLC)).heartbeat == 1


def test_nobody_there_is_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        link = link_to(port=probe.getsockname()[1])
        with pytest.raises(LinkError, match="does not accept a connection") as caught:
            link.exchange(ToPlc())
    assert caught.value.cause == "connect" and "slot" in caught.value.hint
    link.close()
    link.close()
    with pytest.raises(LinkError, match="closed"):
        link.exchange(ToPlc())


@pytest.mark.parametrize("goes_on", [False, True], ids=["cut", "in pieces"])
def test_an_answer_that_breaks_off_or_trickles_ends_the_exchange(goes_on: bool) -> None:
    """A controller that loses power within an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(struct.pack("<HH", 0x65, 60_000) + bytes(30))  # of 60,024 bytes
                try:
                    while goes_on and not over.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    pass

        over, failed = threading.Event(), threading.Event()
        controller = threading.Thread(target=answer)
        controller.start()
        link = link_to(port=server.getsockname()[1], timeout_ms=200)

        def exchange() -> None:
            with pytest.raises(LinkError, match="does not accept a connection"):
                link.exchange(ToPlc())
            failed.set()

        threading.Thread(target=exchange, daemon=True).start()
        assert failed.wait(PATIENCE_S)
        over.set()
        controller.join()
        link.close()


def test_a_name_that_nobody_has_is_one_line() -> None:
    with pytest.raises(LinkError):
        link_to("no-such-host.invalid").exchange(ToPlc())


def test_wrong_tags_are_refused_by_name_and_a_slow_controller_is_a_timeout(tmp_path: Path) -> None:
    plc = EtherNetIpPlc(tmp_path)
    plc.start()
    for options, text, cause in (
        ({"to_plc_tag": "NoSuchTag"}, "refuses NoSuchTag", "refused"),
        ({"from_plc_tag": "Numbers"}, "the tag Numbers is INT, not DINT", "refused"),
        ({"to_plc_tag": "Edgead_FromPlc", "from_plc_tag": "Edgead_ToPlc"}, "refuses Edgead_FromPlc", "refused"),
    ):
        link = link_to(port=plc.port, timeout_ms=2000, **options)
        with pytest.raises(LinkError, match=text) as caught:
            link.exchange(ToPlc())
        assert caught.value.cause == cause and "DINT" in caught.value.hint
        link.close()
    link = link_to(port=plc.port, timeout_ms=1000)
    link.exchange(ToPlc())
    plc.pause()
    with pytest.raises(LinkError, match="does not answer") as caught:
        link.exchange(ToPlc(ready=True))
    assert caught.value.cause == "timeout"
    link.close()
    plc.kill()


@pytest.mark.parametrize(
    "options", [{"slot": 256}, {"to_plc_tag": ""}, {"to_plc_tag": "A", "from_plc_tag": "A"}, {"timeout_ms": 0}]
)
def test_addresses_that_cannot_be_are_bad_input(options: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        link_to(**options)
