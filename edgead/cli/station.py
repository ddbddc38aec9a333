"""Check a station.yaml without opening a camera, print the JSON schema for editors, or an example to start from.

edgead station example > station.yaml
edgead station check station.yaml
edgead run station.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "check a station.yaml, print its schema or an example"

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `edgead station`."""
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    check = what.add_parser("check", help="validate a file and the bundles it names")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--debug", action="store_true", help="show the trace of an error")
    what.add_parser("schema", help="print the JSON schema")
    what.add_parser("example", help="print a file to start from")


def run(args: argparse.Namespace) -> int:
    """0 when the file is right."""
    if args.what == "example":
        print(EXAMPLE, end="")
        return 0
    if args.what == "schema":
        import json

        from edgead.config import schema

        print(json.dumps(schema(), indent=2))
        return 0
    return _check(args.file)


def _check(file: Path) -> int:
    from edgead.bundle import Bundle
    from edgead.cli._console import console
    from edgead.config import read_station
    from edgead.decision import Rule
    from edgead.engines import check_device
    from edgead.line.links import check_addresses
    from edgead.line.proof import check_reach
    from edgead.signing import read_trusted

    config = read_station(file)
    check_addresses(config)
    out, trusted = console(), read_trusted(config.trusted)
    for camera in config.cameras:
        wanted = [(path, camera.engine, sha256) for path, sha256 in camera.bundles]
        fallback = (camera.fallback_bundle, camera.fallback_engine, camera.fallback_sha256)
        for path, engine, sha256 in (*wanted, fallback):
            if path is not None:
                bundle = Bundle.open(path, sha256, trusted)
                record = bundle.manifest.engine(engine)
                check_device(record)
                rule = record.threshold.rule if camera.threshold is None else Rule(camera.threshold)
                check_reach(bundle, record, rule, bundle.golden(), lambda told: out.print(f"warning: {told}", markup=False))
                out.print(f"{camera.name}: {path} holds {record.name}, threshold {record.threshold.value:.4g}", markup=False)
    out.print(f"{file} is right: {len(config.cameras)} camera{'s' if len(config.cameras) > 1 else ''}", markup=False)
    return 0
