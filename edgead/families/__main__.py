"""``python -m edgead.families``: write the tables of options into the families' pages (README.md) in this checkout."""

from __future__ import annotations

from pathlib import Path

from edgead.families import FAMILIES

BEGIN, END = "<!-- begin options -->\n", "\n<!-- end options -->"


def main() -> None:
    """Only ours have pages here."""
    for name, family in FAMILIES.items():
        if family.fit:
            page = Path(__file__).parent / name / "README.md"
            before, rest = page.read_text("utf-8").split(BEGIN)
            page.write_text(f"{before}{BEGIN}{family.options_type().table()}{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
