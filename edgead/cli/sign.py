"""Sign a bundle, so that a box takes no other: who holds the private key vouches for every byte of it.

  edgead sign --new-key line.pem          makes line.pem (keep it off the line) and line.pub (goes to the boxes)
  edgead sign part.edgead --key line.pem  signs the bundle as it is now
  edgead verify part.edgead --trusted line.pub      or run, inspect; `trusted: [line.pub]` in a station.yaml

Keys are ed25519 in PEM; `openssl genpkey -algorithm ed25519 -out line.pem` makes one, too, also one with a password. What changes
the bundle later (edgead threshold, an engine built or first measured on the device) takes the signature away: sign it again.
See docs/security.md. Needs the package cryptography: pip install 'edgead[sign]'.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from edgead.errors import BadInput

SUMMARY = "sign a bundle, so that a box takes no other"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `edgead sign`."""
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE", help="NAME.edgead folder")
    parser.add_argument("--key", type=Path, metavar="KEY.pem", help="the private key")
    parser.add_argument("--new-key", type=Path, metavar="KEY.pem", help="make a key pair, KEY.pem and KEY.pub")


def run(args: argparse.Namespace) -> int:
    """Make a key, or sign."""
    from edgead.bundle import Bundle, sign_bundle
    from edgead.cli._console import console
    from edgead.signing import new_key

    if args.new_key is not None:
        if args.key is not None or args.bundle is not None:
            raise BadInput("--new-key goes alone", hint="make the key first, then sign with it")
        public, key = new_key(args.new_key)
        console().print(f"wrote {args.new_key} (secret) and {public} ({key.fingerprint}, for the boxes)", markup=False)
        return 0
    if args.bundle is None or args.key is None:
        raise BadInput("a bundle and the key to sign it with are needed", hint="edgead sign BUNDLE --key KEY.pem")
    bundle = Bundle.open(args.bundle)
    key = sign_bundle(bundle, args.key, lambda: _password(args.key))
    console().print(f"signed {bundle.path} with {args.key} ({key.fingerprint})\nsha256 {bundle.digest}", markup=False)
    return 0


def _password(file: Path) -> str:
    if not sys.stdin.isatty():
        raise BadInput(f"{file} has a password, and nobody is here to give it", hint="run it at a terminal")
    return getpass.getpass(f"password of {file}: ")
