"""The documentation's pages go into the wheel, where `edgead docs` finds them; all else is in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithPages(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # they are read where they are
        for page in sorted(Path("docs").rglob("*.md")):
            target = Path(self.build_lib, "edgead", page)
            self.mkpath(str(target.parent))
            self.copy_file(str(page), str(target))


setup(cmdclass={"build_py": WithPages})
