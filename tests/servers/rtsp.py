"""An RTSP server with a test picture. Run by the system's Python: ``rtsp.py PORT`` prints "ready"; ``rtsp.py --check``."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def serve(port):
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(port))
    factory = GstRtspServer.RTSPMediaFactory(launch=PIPELINE, shared=True)
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "operator")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("operator", "s3cret"), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("operator", "media.factory.access", True)
    permissions.add_permission_for_role("operator", "media.factory.construct", True)
    factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/line", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


def check():
    names = ("videotestsrc", "x264enc", "rtph264pay")
    return 0 if all(Gst.ElementFactory.find(name) for name in names) else 1


if __name__ == "__main__":
    Gst.init(None)
    if sys.argv[1] == "--check":
        sys.exit(check())
    serve(int(sys.argv[1]))
