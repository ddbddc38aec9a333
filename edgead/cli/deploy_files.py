"""Write the files that a plant needs beside edgead into DIR, each kind in a folder of its own.

plc: register maps, tag lists, data block, Structured Text, numbers of the causes, schema of MQTT and webhooks.
systemd: the service, its account, rights on GPIO pins. udev, network: cameras. jetson: installer, power mode.
offline: a line box without internet. container: image files. ansible: a role for many boxes.
prometheus, grafana: alerts, a dashboard. station: station.schema.json, for editors.
"""

from __future__ import annotations

from pathlib import Path

import click

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb
from edgead.deploy import KINDS


@verb(__doc__)
@argument("folder", type=PATH, metavar="DIR", help="folder, made where it is absent")
@option("--only", type=click.Choice(KINDS), multiple=True, help="of this kind; may be given again (default: all)")
@option("--replace", is_flag=True, help="also files that were changed since (default: these are left, and nothing is written)")
@JSON
def command(folder: Path, only: tuple[str, ...], replace: bool, as_json: bool) -> int:
    from edgead.jobs.deploy_files import write_files

    written = write_files(folder, only or KINDS, replace)
    if as_json:
        print_json("deploy-files", written)
        return 0
    from edgead.cli._console import console

    for file in written.files:
        console().print(str(file), markup=False, soft_wrap=True)
    return 0
