"""The handshake over Siemens S7 against a real S7 server process that is stopped, killed, slowed and restarted."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import BadInput
from edgead.runtime.plc.device import LinkError, PlcLink
from edgead.runtime.plc.s7 import DB_BYTES, FROM_PLC_BYTE, S7Link, S7Settings
from edgead.runtime.plc.signals import FromPlc, ToPlc
from tests.runtime._rig import LinkFaults
from tests.servers.plc import S7Plc


def link_to(host: str = "127.0.0.1", **settings: Any) -> S7Link:
    return S7Link(S7Settings(host=host, **settings))


class TestS7(LinkFaults):
    plc_class = S7Plc

    def new_link(self, port: int) -> PlcLink:
        return link_to(db_number=7, port=port)


def test_a_plc_that_answers_too_slowly_is_a_timeout(tmp_path: Path) -> None:
    plc = S7Plc(tmp_path, answer_ms=1500)
    plc.start()
    link = link_to(db_number=7, port=plc.port, timeout_ms=500)
    with pytest.raises(LinkError, match="does not answer") as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "timeout" and caught.value.hint
    link.close()
    plc.kill()


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


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b"])
def test_a_name_that_nobody_has_is_one_line(name: str) -> None:
    with pytest.raises(LinkError, match="does not accept a connection"):
        link_to(name).exchange(ToPlc())


def test_a_missing_data_block_is_refused_and_the_hint_names_put_get(tmp_path: Path) -> None:
    plc = S7Plc(tmp_path)
    plc.start()
    link = link_to(db_number=8, port=plc.port)
    with pytest.raises(LinkError, match="refuses DB8") as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "refused"
    assert "PUT/GET" in caught.value.hint and "optimized block access" in caught.value.hint
    link.close()
    plc.kill()


def test_a_cpu_that_takes_no_connection_in_time_is_told_of_with_the_limit_and_what_may_be_full() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the connection is made by the kernel, and nobody answers
        link = link_to(port=server.getsockname()[1], timeout_ms=50)
        with pytest.raises(LinkError, match=r"does not accept a connection within 50 ms \(timeout_ms\)") as caught:
            link.exchange(ToPlc())
    assert "connection to spare" in caught.value.hint and "larger timeout_ms" in caught.value.hint
    link.close()


@pytest.mark.parametrize("options", [{"rack": 8}, {"slot": 32}, {"db_number": 0}, {"timeout_ms": 0.0}])
def test_addresses_that_cannot_be_are_bad_input(options: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        link_to(**options)


def test_the_data_block_is_as_the_map_says(tmp_path: Path) -> None:
    """A second, plain S7 client reads what the link wrote, at the bytes and bits of deploy/plc/s7.md."""
    from snap7.client import Client

    plc = S7Plc(tmp_path)
    plc.start()
    link = link_to(db_number=7, port=plc.port)
    shown = ToPlc(ready=True, error=True, reset_done=True, result_part_id=0x12345678, score=1.5)
    assert isinstance(link.exchange(shown), FromPlc)
    client = Client()
    client.connect("127.0.0.1", 0, 1, plc.port)
    data = client.db_read(7, 0, DB_BYTES)
    client.disconnect()
    assert (data[0], data[1]) == (0b1, 0b1000_0001)  # DBX0.0 reset_done; DBX1.0 ready, DBX1.7 error
    assert struct.unpack_from(">I", data, 12) == (0x12345678,) and struct.unpack_from(">f", data, 20) == (1.5,)
    assert FROM_PLC_BYTE == 26 and DB_BYTES == 40
    link.close()
    plc.kill()
