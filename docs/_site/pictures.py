"""Make the pictures of the documentation again: ``python docs/_site/pictures.py``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

IMAGES = Path(__file__).resolve().parents[1] / "images"
WIDTH_PX = 1100


def main() -> None:
    """docs/images/caught.jpg: what the demo caught, the upper two rows of its picture."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "edgead.cli.main", "demo", "--quick", "-o", f"{folder}/demo"], check=True)
        sheet = cv2.imread(f"{folder}/demo/caught.png")
    top = sheet[: round(sheet.shape[0] * 0.675)]
    small = cv2.resize(top, (WIDTH_PX, round(top.shape[0] * WIDTH_PX / top.shape[1])), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / "caught.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main()
