"""The PLC process of opcua.py, and the keys of both sides, seen from a test."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edgead.runtime.plc.certificates import VALID, make_identity
from edgead.runtime.plc.opcua import OpcUaClientLink, OpcUaClientSettings
from tests.servers.plc import ModbusPlc

USER, PASSWORD = "edgead", "s3cret-of-the-plc"


def make_keys(folder: Path) -> Path:
    """The folder with the identities of a PLC, of a client that it trusts, of one that it does not, and of an expired one."""
    today = datetime.now(timezone.utc)
    past = today - timedelta(days=3), today - timedelta(days=1)
    for name, valid in (("plc", VALID), ("trusted", VALID), ("stranger", VALID), ("expired", past)):
        make_identity(folder / f"{name}.pem", folder / f"{name}.key", uri=f"urn:test:{name}", valid=valid)
    os.environ["EDGEAD_TEST_KEYS"] = str(folder)  # for the process
    return folder


class OpcUaPlc(ModbusPlc):
    """A real OPC UA server with a PLC's program; encrypted, for one user and one certificate alone."""

    module = "tests.servers.opcua"


def opcua_link(port: int, **changes: Any) -> OpcUaClientLink:
    """A link to a PLC on this port, with everything right but for `changes`."""
    keys = Path(os.environ["EDGEAD_TEST_KEYS"])
    options: dict[str, Any] = {
        "certificate": keys / "trusted.pem",
        "key": keys / "trusted.key",
        "server_certificate": keys / "plc.pem",
        "user": USER,
        "password": PASSWORD,
    }
    return OpcUaClientLink(OpcUaClientSettings(url=f"opc.tcp://127.0.0.1:{port}/plc", **{**options, **changes}))
