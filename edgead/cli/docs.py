"""Read the documentation here, without internet: all pages with their titles, or one of them.

edgead docs
edgead docs thresholds
edgead docs rtsp | less
"""

from __future__ import annotations

import re
import sys

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._verb import argument, verb


@verb(__doc__)
@argument("page", required=False, metavar="[PAGE]", help="its name, as messages and help say it (default: the list)")
@JSON
def command(page: str | None, as_json: bool) -> int:
    from edgead.cli._console import console
    from edgead.jobs import manual

    found = manual.pages() if page is None else [manual.page(page)]
    if as_json:
        print_json("docs", manual.Pages(tuple(found)))
        return 0
    if page is None:
        for one in found:
            if not one.name.startswith("decisions/"):
                console().print(f"{one.name:<22} {one.title}", markup=False)
        console().print("decisions/...          why things are as they are: edgead docs 0009-records", markup=False)
        return 0
    text = found[0].file.read_text("utf-8")
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        console().print(Markdown(re.sub(r"<!--.*?-->\n?", "", text, flags=re.S), hyperlinks=False))
    else:
        print(text, end="")
    return 0
