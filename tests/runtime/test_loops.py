"""Servers of a process that has no file descriptors left: they do not spin, and serve again when there are some."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from tests.waiting import PATIENCE_S

STARVED = textwrap.dedent("""
    import json, logging, os, resource, socket, sys, time
    from edgead.runtime.plc import loops
    from edgead.runtime.plc.modbus import ModbusServerLink, ModbusServerSettings

    logging.basicConfig(stream=sys.stderr)
    calls = []
    def counted(self, loop, context, real=loops.LoopFaults.__call__):
        calls.append(context["message"])
        real(self, loop, context)
    loops.LoopFaults.__call__ = counted
    link = ModbusServerLink(ModbusServerSettings(), any_port=True)
    clients = [socket.socket() for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    eaten = []
    try:
        while True:
            eaten.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for client in clients:
        client.settimeout(60)
        client.connect(("127.0.0.1", link.port))
    closed = [client.recv(1) == b"" for client in clients]
    spun = len(calls)
    for each in eaten:
        os.close(each)
    request = bytes.fromhex("000100000006ff030000000d")
    while True:
        client = socket.create_connection(("127.0.0.1", link.port), timeout=60)
        client.sendall(request)
        try:
            if answer := client.recv(100):
                break
        except OSError:
            pass
        client.close()
    link.close()
    print(json.dumps({"closed": closed, "spun": spun, "answer": len(answer)}))
""")


def test_a_server_without_file_descriptors_hangs_up_instead_of_spinning_and_serves_again_later() -> None:
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["closed"] == [True] * 5 and found["answer"] > 20
    assert found["spun"] <= 5  # asyncio by itself tells it a hundred times for each client that waits
    assert "no file descriptors are left" in done.stderr and "ulimit -n" in done.stderr
