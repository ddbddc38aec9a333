"""What the project says of itself in several places is the same."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import edgead

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert cited is not None and cited[1] == edgead.__version__
    assert f"({edgead.__version__})" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        wheels = re.findall(r"edgead-([\d.]+)-py3", page.read_text("utf-8"))
        assert set(wheels) <= {edgead.__version__}, f"{page.name} installs another version"


def test_the_sdist_takes_along_whatever_git_knows() -> None:
    """By MANIFEST.in and the packages; a folder that nobody named would be missing from it."""
    if not (ROOT / ".git").exists():
        return  # the sdist itself
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    manifest = (ROOT / "MANIFEST.in").read_text("utf-8").split()
    named = {"edgead", ".gitignore", "MANIFEST.in", "README.md", "LICENSE", "pyproject.toml", "setup.py", *manifest}
    assert sorted({file.split("/")[0] for file in listed} - named) == []


def test_an_address_that_the_package_tells_leads_somewhere() -> None:
    """None is told until there is one (docs/licences.md)."""
    urls = re.findall(r"https?://[^\s\"']+", (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.urls]")[2])
    assert not [url for url in urls if re.search(r"example\.|localhost|TODO|your|placeholder", url, re.I)]
    assert urls or "[project.urls]` of pyproject.toml" in (ROOT / "docs/licences.md").read_text("utf-8")


def test_the_readme_stays_what_one_reads() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150, "details belong in docs/"
