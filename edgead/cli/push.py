"""Put a bundle into an OCI registry (Docker's, Harbor, GitLab, Zot, ...), from where boxes pull it by its digest.

  edgead push bolt.edgead oci://registry.plant:5000/line/bolt:7
  edgead pull oci://registry.plant:5000/line/bolt@sha256:... -o bolt.edgead      on the box, with the digest that push printed

The bundle goes as it is, with its signature, as one layer; the same bundle always has the same digest. Logins are Docker's
(docker login), or EDGEAD_REGISTRY_USER and EDGEAD_REGISTRY_PASSWORD. See edgead docs fleet. Needs: pip install 'edgead[oci]'.
"""

from __future__ import annotations

from pathlib import Path

from edgead.cli._json import print_json
from edgead.cli._oci import ADDRESS, PLAIN_HTTP
from edgead.cli._options import JSON, TRUSTED
from edgead.cli._types import PATH
from edgead.cli._verb import argument, verb
from edgead.oci.address import OciAddress


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@argument("address", type=ADDRESS, metavar="ADDRESS", help="oci://registry/name:tag")
@TRUSTED
@PLAIN_HTTP
@JSON
def command(bundle: Path, address: OciAddress, trusted: tuple[Path, ...], plain_http: bool, as_json: bool) -> int:
    from edgead.cli._console import told_progress
    from edgead.oci.transfer import push
    from edgead.signing import read_trusted

    with told_progress() as progress:
        done = push(bundle, address, plain_http=plain_http, trusted=read_trusted(trusted), progress=progress)
    if as_json:
        print_json("push", done)
        return 0
    from edgead.cli._console import console

    signed = "with its signature" if done.signed else "not signed"
    console().print(f"pushed {done.bundle} to {done.address} ({done.bytes / 2**20:.1f} MiB, {signed})", markup=False)
    console().print(f"sha256 {done.sha256}\npull it by its digest: {done.pinned}", markup=False)
    return 0
