"""Check a station.yaml without opening a camera, print the JSON schema for editors, or an example to start from.

edgead station example > station.yaml
edgead station check station.yaml
edgead run station.yaml
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import actions, argument, verb

EXAMPLE = """\
# yaml-language-server: $schema=station.schema.json     (edgead station schema > station.schema.json)
name: line-3

cameras:
  - name: top
    address: sim:fps=5,defect_rate=0.1        # usb:0, rtsp://user:${CAM_PASSWORD}@10.0.0.5/stream, a folder, ...
    bundle: flange.edgead                     # written by edgead export; paths are relative to this file
    budget_ms: 200                            # from the trigger to the verdict; later is UNKNOWN, never OK
    trigger: {source: interval, every_ms: 500}     # or plc, gpio, camera, free
    # plc: {type: modbus-client, host: 10.0.0.9}   # with trigger: {source: plc}; register map: edgead plc-map
    outputs:
      - {type: log}

storage:
  folder: data                                # records.db and pictures
  pictures: {max_mb: 2000, max_days: 30}

supervision:
  http: 127.0.0.1:9108                        # /metrics, /healthz, /readyz
"""


@verb("Validate a file and the bundles that it names; no camera is opened.", "validate a file and the bundles it names")
@argument("file", type=PATH, metavar="FILE", help="a station.yaml")
@JSON
def check(file: Path, as_json: bool) -> int:
    """0 when the file is right."""
    from edgead.cli._console import console
    from edgead.line.checking import check_file

    found = check_file(file)
    if as_json:
        print_json("station", found, action="check")
        return 0
    for warning in found.warnings:
        console().print(f"warning: {warning}", markup=False)
    for one in found.bundles:
        told = f"{one.camera}: {one.bundle} holds {one.engine}, threshold {one.threshold:.4g}"
        console().print(told, markup=False)
    count = len(found.cameras)
    console().print(f"{file} is right: {count} camera{'s' if count > 1 else ''}", markup=False)
    return 0


@dataclass(frozen=True, slots=True)
class Schema:
    """What editors check a file by.

    Attributes:
        document: a JSON schema, draft 2020-12; without --json this alone is printed.
    """

    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A file to start from.

    Attributes:
        text: of it.
    """

    text: str


@verb("Print the JSON schema of station.yaml, for editors.", "print the JSON schema")
@JSON
def schema(as_json: bool) -> int:
    from edgead.config.reading import schema as schema_of_files

    found = schema_of_files()
    print_json("station", Schema(found), action="schema") if as_json else print(json.dumps(found, indent=2))
    return 0


@verb("Print a file to start from.", "print a file to start from")
@JSON
def example(as_json: bool) -> int:
    print_json("station", Example(EXAMPLE), action="example") if as_json else print(EXAMPLE, end="")
    return 0


command = actions(__doc__, check=check, schema=schema, example=example)
