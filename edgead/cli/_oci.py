"""What push and pull have in common."""

from __future__ import annotations

from edgead.cli._types import Parsed
from edgead.cli._verb import option
from edgead.oci.address import OciAddress

ADDRESS = Parsed(OciAddress.parse, "address")
PLAIN_HTTP = option("--plain-http", is_flag=True, help="without encryption (a registry of this machine is spoken to so anyway)")
