"""Sign a bundle, so that a box takes no other: who holds the private key vouches for every byte of it.

  edgead sign --new-key line.pem          makes line.pem (keep it off the line) and line.pub (goes to the boxes)
  edgead sign part.edgead --key line.pem  signs the bundle as it is now
  edgead verify part.edgead --trusted line.pub      or run, inspect; `trusted: [line.pub]` in a station.yaml

Keys are ed25519 in PEM; `openssl genpkey -algorithm ed25519 -out line.pem` makes one, too, also one with a password. What changes
the bundle later (edgead threshold, an engine built or first measured on the device) takes the signature away: sign it again.
See edgead docs security. Needs the package cryptography: pip install 'edgead[sign]'.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature.

    Attributes:
        bundle: the bundle that is signed.
        sha256: of the bundle.
        key: the file of the private key.
        fingerprint: of the key, as `edgead inspect --trusted` shows it.
    """

    bundle: Path
    sha256: str
    key: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key pair.

    Attributes:
        key: the file of the private key.
        public: the file for the boxes.
        fingerprint: of both.
    """

    key: Path
    public: Path
    fingerprint: str


@verb(__doc__)
@argument("bundle", type=PATH, required=False, metavar="[BUNDLE]", help="NAME.edgead folder")
@option("--key", type=PATH, metavar="KEY.pem", help="the private key")
@option("--new-key", type=PATH, metavar="KEY.pem", help="make a key pair, KEY.pem and KEY.pub")
@JSON
def command(bundle: Path | None, key: Path | None, new_key: Path | None, as_json: bool) -> int:
    """Make a key, or sign."""
    if new_key is not None:
        if key is not None or bundle is not None:
            raise BadInput("--new-key goes alone", hint="make the key first, then sign with it")
        _tell(_made(new_key), as_json=as_json)
    elif bundle is None or key is None:
        raise BadInput("a bundle and the key to sign it with are needed", hint="edgead sign BUNDLE --key KEY.pem")
    else:
        _tell(_signed(bundle, key), as_json=as_json)
    return 0


def _made(file: Path) -> NewKey:
    from edgead.signing import new_key

    public, made = new_key(file)
    return NewKey(file, public, made.fingerprint)


def _signed(path: Path, key: Path) -> Signed:
    from edgead.bundle import Bundle, sign_bundle

    bundle = Bundle.open(path)
    by = sign_bundle(bundle, key, lambda: _password(key))
    return Signed(bundle.path, bundle.digest, key, by.fingerprint)


def _tell(done: Signed | NewKey, *, as_json: bool) -> None:
    from edgead.cli._console import console

    if as_json:
        print_json("sign", done, action="new-key" if isinstance(done, NewKey) else "sign")
    elif isinstance(done, NewKey):
        console().print(f"wrote {done.key} (secret) and {done.public} ({done.fingerprint}, for the boxes)", markup=False)
    else:
        console().print(f"signed {done.bundle} with {done.key} ({done.fingerprint})\nsha256 {done.sha256}", markup=False)


def _password(file: Path) -> str:
    if not sys.stdin.isatty():
        raise BadInput(f"{file} has a password, and nobody is here to give it", hint="run it at a terminal")
    return getpass.getpass(f"password of {file}: ")
