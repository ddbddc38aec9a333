"""`edgead score --on ray`: a real cluster of two workers says the same as the processes of this machine, row for row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from edgead.cli.main import main
from tests.cli.test_run import write_bundle
from tests.jobs.test_scoring import table, write

pytest.importorskip("ray", reason="pip install 'edgead[ray]'")

PATIENCE_S = 600.0
"""A cluster starts in 10 s on an idle machine; Ray itself gives up after 30 s, and is asked again."""

DRIVER = """
import json, sys
from pathlib import Path
from edgead.errors import EdgeadError
from edgead.jobs.factory.run import FactoryRequest, factory
from edgead.jobs.scoring.job import ScoreRequest, score
from edgead.jobs.scoring.onray import connect

ray, mine = connect("ray", 2)
bundle, folder = Path(sys.argv[1]), Path(sys.argv[2])
told = []
for source, out, more in (
    ("archive", "ray.parquet", {"maps": ("npz", folder / "maps")}),
    ("poisoned", "poisoned.parquet", {}),
    ("archive", "none.parquet", {"workers": 3}),
):
    try:
        found = score(ScoreRequest(bundle, str(folder / source), folder / out, cluster="ray", **more))
        told.append([found.pictures, found.workers, dict(found.verdicts)])
    except EdgeadError as error:
        told.append(str(error))
found = factory(FactoryRequest(folder / "products.yaml", folder / "out", cluster="ray"))
told.append([[one.state, one.step, one.why] for one in found.products])
ray.shutdown()
print(json.dumps(told))
"""
"""One cluster for all, in a process of its own: Ray keeps threads for as long as its process lives."""

POISON = """
import cv2, os, signal
real = cv2.imdecode
def imdecode(data, flags):
    if b'POISON' in data.tobytes():
        os.kill(os.getpid(), signal.SIGKILL)
    return real(data, flags)
cv2.imdecode = imdecode
"""


def test_a_cluster_says_the_same_row_for_row_and_survives_a_picture_that_kills(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead")
    for i in range(200):
        write(tmp_path / "archive" / f"{i:03d}.png", i + 50)
    for i in range(20):
        write(tmp_path / "poisoned" / f"{i:02d}.bmp", i)
    with (tmp_path / "poisoned/07.bmp").open("ab") as file:
        file.write(b"POISON")
    (tmp_path / "products.yaml").write_text("products:\n- {name: odd, good: archive, options: {coresett: 3}}\n")
    (tmp_path / "archive/torn.png").write_bytes(b"torn")
    (tmp_path / "site/sitecustomize.py").parent.mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(POISON)
    path = os.pathsep.join((str(tmp_path / "site"), str(Path(__file__).resolve().parents[2])))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(bundle), str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole, poisoned, too_many, products = json.loads(done.stdout.splitlines()[-1])
    assert whole == [201, 2, {"OK": 150, "NG": 50, "UNKNOWN": 1}]
    assert too_many == "--workers 3: the cluster has 2 CPUs"
    assert products == [["failed", "train", "patchcore has no option coresett"]]
    assert poisoned == [20, 2, {"OK": 19, "UNKNOWN": 1}]
    rows = table(tmp_path / "poisoned.parquet")
    assert [row["verdict"] for row in rows].index("UNKNOWN") == 7 and "died twice" in rows[7]["cause"]

    local = ["score", str(bundle), str(tmp_path / "archive"), "-o", str(tmp_path / "local.parquet")]
    assert main([*local, "--maps", "npz", str(tmp_path / "maps-here")]) == 0
    assert table(tmp_path / "ray.parquet") == table(tmp_path / "local.parquet")
    here, there = (sorted(folder.rglob("*.npz")) for folder in (tmp_path / "maps-here", tmp_path / "maps"))
    assert [file.read_bytes() for file in here] == [file.read_bytes() for file in there] and len(here) == 200
    assert pyarrow.parquet.read_schema(tmp_path / "ray.parquet") == pyarrow.parquet.read_schema(tmp_path / "local.parquet")
