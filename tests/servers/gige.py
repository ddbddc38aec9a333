"""A GigE Vision camera on the loopback interface: Aravis's own fake camera, in its own process.

Run by the system's Python: ``gige.py SERIAL LOST_PER_THOUSAND`` prints "ready"; ``gige.py --check``. It is the class behind
``arv-fake-gv-camera-0.8 -i lo -s SERIAL -r LOST``, whose Debian package brings GTK along. GigE Vision's control port is fixed
(UDP 3956), so one runs on a machine at a time: a lock makes the second one wait.
"""

import fcntl
import sys
import tempfile
from pathlib import Path

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402

LOCK = Path(tempfile.gettempdir()) / "edgead-test-gige.lock"


def serve(serial, lost_per_thousand):
    lock = LOCK.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    camera = Aravis.GvFakeCamera.new("127.0.0.1", serial)
    camera.set_property("gvsp-lost-ratio", lost_per_thousand / 1000)
    if not camera.is_running():
        sys.exit("the fake camera does not run: is UDP port 3956 taken?")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    if sys.argv[1] != "--check":
        serve(sys.argv[1], float(sys.argv[2]))
