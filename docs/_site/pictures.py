"""Make the pictures of the documentation again, all or those that are named: ``python docs/_site/pictures.py [NAME...]``.

Run in the repository, with chromium; about ten minutes on two cores. ``--work FOLDER`` keeps pictures, model and bundle, and
takes those that are there. Look at each before it is committed.
"""

from __future__ import annotations

import argparse
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs/images"
WIDTH_PX = 1100
PATIENCE_MS = 120_000
EDGEAD = (sys.executable, "-m", "edgead.cli.main")
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


class Work:
    """A folder with what the pictures are of; each is made when it is wanted first.

    Args:
        folder: empty, or what an earlier run left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def edgead(self, *arguments: str) -> None:
        subprocess.run([*EDGEAD, *arguments], cwd=self.folder, check=True, env=ENV)

    def made(self, name: str, *arguments: str) -> Path:
        """`name`, which this command writes."""
        if not (self.folder / name).exists():
            self.edgead(*arguments)
        return self.folder / name

    @property
    def demo(self) -> Path:
        self.made("edgead-demo", "demo", "--quick")
        return Path("edgead-demo")  # what the pages show of it

    @property
    def bundle(self) -> Path:
        self.made("seen.html", "train", "patchcore", f"{self.demo}/data", "-o", "model", "--size", "128", "--report", "seen.html")
        self.made("part.edgead", "export", "model", "-o", "part.edgead", "--backend", "openvino", "--report", "report.html")
        return self.folder / "part.edgead"


@contextmanager
def page(address: str, height: int = 800, width: int = WIDTH_PX) -> Iterator[Any]:
    """A page in a browser, by day."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        shown.set_default_timeout(PATIENCE_MS)
        shown.goto(address)
        yield shown
        browser.close()


def write(name: str, picture: Any) -> None:
    """docs/images/NAME.webp, no wider than a page."""
    height, width = picture.shape[:2]
    if width > WIDTH_PX:
        picture = cv2.resize(picture, (WIDTH_PX, round(height * WIDTH_PX / width)), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / f"{name}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, 80])


def shoot(name: str, file: Path, height: int, work: Work) -> None:
    """The upper part of a page that a verb wrote."""
    shot = work.folder / f"{name}.png"
    with page(file.resolve().as_uri(), height) as shown:
        shown.screenshot(path=shot)
    write(name, cv2.imread(str(shot)))


def caught(work: Work) -> None:
    """What the demo caught, the upper two rows of its picture."""
    sheet = cv2.imread(str(work.folder / work.demo / "caught.png"))
    assert sheet is not None
    top = sheet[: round(sheet.shape[0] * 0.675)]
    small = cv2.resize(top, (WIDTH_PX, round(top.shape[0] * WIDTH_PX / top.shape[1])), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / "caught.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 82])


def seen(work: Work) -> None:
    """`edgead train --report`."""
    shoot("seen", work.bundle.parent / "seen.html", 900, work)


def report(work: Work) -> None:
    """`edgead export --report`."""
    shoot("report", work.bundle.parent / "report.html", 760, work)


def evaluate(work: Work) -> None:
    """`edgead evaluate --html`."""
    arguments = (work.bundle.name, f"{work.demo}/data/test", "--html", "gallery.html")
    shoot("evaluate", work.made("gallery.html", "evaluate", *arguments), 900, work)


def show(work: Work) -> None:
    """`edgead show`: the map over a defect."""
    some = (f"{work.demo}/data/test/{kind}/000.png" for kind in ("bad_print", "chipped_edge", "fibre"))
    work.made("shown", "show", work.bundle.name, *some, "-o", "shown")
    shoot("show", work.folder / "shown/index.html", 460, work)


def times(work: Work) -> None:
    """`edgead bench --plot`."""
    drawn = work.made("times.png", "bench", work.bundle.name, "--rounds", "20", "--no-cold", "--plot", "times.png")
    write("bench", cv2.imread(str(drawn)))


def preview(work: Work) -> None:
    """`edgead capture --preview`, after some pictures."""
    shutil.rmtree(work.folder / "taken", ignore_errors=True)
    at = ("--preview", "127.0.0.1:8097")
    command = [*EDGEAD, "capture", "--camera", "sim:fps=10,defect_rate=0", "-o", "taken", "--every-ms", "400", *at]
    taking = subprocess.Popen(command, cwd=work.folder, stderr=subprocess.PIPE, text=True, env=ENV)
    try:
        assert taking.stderr is not None
        said = next(line for line in taking.stderr if line.startswith("preview: "))
        with page(said.split()[1], 860) as shown:
            shown.wait_for_timeout(15_000)  # a good dozen of pictures
            shown.screenshot(path=work.folder / "preview.png")
    finally:
        taking.terminate()
        taking.communicate()
    write("capture", cv2.imread(str(work.folder / "preview.png")))


def aligned(work: Work) -> None:
    """The aligned.png of a training on parts that lie anywhere, turned anyhow."""
    sys.path.insert(0, str(ROOT))
    from tests.turned import draw_turned

    good = work.folder / "turned"
    good.mkdir(exist_ok=True)
    for seed in range(24):
        picture = draw_turned(seed, at=(80 + 7 * (seed * 5 % 12), 60 + 6 * (seed * 7 % 11)), angle=seed * 37 % 360)
        cv2.imwrite(str(good / f"{seed:02d}.png"), picture)
    work.made("straight", "train", "patchcore", "turned", "-o", "straight", "--size", "128", "--align", "silhouette")
    write("aligned", cv2.imread(str(work.folder / "straight/aligned.png")))


def terminal(work: Work) -> None:
    """`edgead verify` on a terminal of 80 columns."""
    from rich.console import Console
    from rich.text import Text

    typed = f"edgead verify {work.bundle.name}"
    said = Text.from_ansi(f"$ {typed}\n{_on_a_terminal(work, typed.split()[1:])}")
    drawn = Console(record=True, width=84, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    drawn.print(said)
    svg = work.folder / "terminal.svg"
    drawn.save_svg(str(svg), title="the line box")
    shot = work.folder / "terminal.png"
    with page(svg.resolve().as_uri(), 300) as shown:
        shown.locator("svg").screenshot(path=shot)
    write("verify", cv2.imread(str(shot)))


def _on_a_terminal(work: Work, arguments: list[str]) -> str:
    """Standard output with its colours."""
    ours, theirs = pty.openpty()
    env = {**ENV, "TERM": "xterm-256color", "COLUMNS": "80"}
    done = subprocess.Popen([*EDGEAD, *arguments], cwd=work.folder, stdout=theirs, stderr=subprocess.DEVNULL, env=env)
    os.close(theirs)
    told = b""
    try:
        while more := os.read(ours, 65536):
            told += more
    except OSError:
        pass  # it has ended
    os.close(ours)
    assert done.wait() == 0
    return told.decode("utf-8").replace("\r\n", "\n")


def dashboard(work: Work) -> None:
    """Those of docs/dashboard.md."""
    command = [sys.executable, "-m", "tests.dashboard.screenshots", str(work.folder / "dashboard"), "--docs"]
    subprocess.run(command, cwd=ROOT, check=True, env=ENV)


PICTURES: dict[str, Callable[[Work], None]] = {
    one.__name__: one for one in (caught, seen, report, evaluate, show, times, preview, aligned, terminal, dashboard)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)} (default: all)")
    parser.add_argument("--work", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    if unknown := set(asked.names) - PICTURES.keys():
        parser.error(f"no picture: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.work or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.names or PICTURES:
            print(f"{name} ...", flush=True)
            PICTURES[name](Work(folder))


if __name__ == "__main__":
    main()
