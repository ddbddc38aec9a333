"""Lab verbs on a line box: without torch each says in one line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

VERBS = {
    "train": (["patchcore", "pictures", "-o", "model"], "train"),
    "distill": (["pictures", "-o", "teacher.safetensors"], "train"),
    "import": (["model.ckpt", "-o", "model"], "train"),
    "export": (["model"], "export"),
    "demo": ([], "export"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_without_torch_a_lab_verb_names_the_extra(verb: str, tmp_path: Path) -> None:
    arguments, extra = VERBS[verb]
    code = f"import sys; sys.modules['torch'] = None; from edgead.cli.main import main; sys.exit(main({[verb, *arguments]!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "needs the package 'torch'" in done.stderr
    assert f"pip install 'edgead[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
