"""An RTSP server whose pictures carry the time at which they were made; for the system's Python: ``rtsp_clock.py PORT FPS``."""

import sys
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import pixel_clock  # noqa: E402

PIPELINE = (
    "( appsrc name=pictures is-live=true format=time do-timestamp=true "
    "caps=video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 bitrate=800 ! "
    "rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def picture():
    blocks, below = pixel_clock.rows(pixel_clock.now())
    half = pixel_clock.HEIGHT // 2
    return blocks * half + below * half + b"\x80" * (pixel_clock.WIDTH * pixel_clock.HEIGHT // 2)


class Factory(GstRtspServer.RTSPMediaFactory):
    def __init__(self, rate):
        super().__init__()
        self.set_shared(True)
        self._rate = rate

    def do_create_element(self, url):
        return Gst.parse_launch(PIPELINE.format(width=pixel_clock.WIDTH, height=pixel_clock.HEIGHT, rate=self._rate))

    def do_configure(self, media):
        source = media.get_element().get_by_name_recurse_up("pictures")

        def push():
            data = picture()
            buffer = Gst.Buffer.new_allocate(None, len(data), None)
            buffer.fill(0, data)
            buffer.duration = Gst.SECOND // self._rate
            return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

        GLib.timeout_add(1000 // self._rate, push)


if __name__ == "__main__":
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
    server.get_mount_points().add_factory("/line", Factory(int(sys.argv[2])))
    if not server.attach(None):
        sys.exit(f"port {sys.argv[1]} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()
