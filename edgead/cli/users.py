"""Who may use the dashboard (edgead docs dashboard): a file of names and roles that only its owner may read.

  edgead users add anna --role operator --users users.json     asks for a password; echo PASSWORD | ... takes it from there
  edgead users token andon --role viewer --users users.json    a token for a program or a screen; it is shown once
  edgead users remove anna --users users.json                  is out at once, also where logged in
  edgead users list --users users.json

Roles: viewer looks; operator also reviews, relabels and changes the recipe; engineer also changes thresholds. A dashboard that
runs takes changes at once.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, whole
from edgead.cli._verb import actions, argument, option, verb
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.dashboard.users import User

ROLES = ("viewer", "operator", "engineer")


@dataclass(frozen=True, slots=True)
class Listed:
    """One user.

    Attributes:
        name: to log in with.
        role: viewer, operator or engineer.
        password: whether there is one.
        tokens: labels of the tokens, with the dates until which they are valid.
    """

    name: str
    role: str
    password: bool
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A new token.

    Attributes:
        name: whose it is.
        role: of that user.
        token: what to log in with; it is shown this once.
    """

    name: str
    role: str
    token: str


@dataclass(frozen=True, slots=True)
class UserList:
    """All users of a file.

    Attributes:
        file: of them.
        users: by name.
    """

    file: Path
    users: tuple[Listed, ...]


FILE = option("--users", "file", type=PATH, required=True, metavar="FILE", help="the file of users (edgead users): who may in")
ROLE = option("--role", type=click.Choice(ROLES), required=True, help="what they may do (see above)")


@verb("Add a user, or give one another password and role.", "add a user, or change password and role")
@argument("name", metavar="NAME", help="to log in with")
@ROLE
@FILE
@JSON
def add(name: str, role: str, file: Path, as_json: bool) -> int:
    from edgead.dashboard.users import with_user, write_users

    users = with_user(_read(file), name, role, None)  # what is wrong with the name is told before a password is asked for
    users = with_user(users, name, role, _password())
    write_users(file, users)
    if as_json:
        print_json("users", _listed(users[name]), action="add")
    else:
        print(f"{name} is {role} in {file}")
    return 0


@verb("Make a token: for programs and screens, in place of a password. It is shown once and written nowhere.", "make a token")
@argument("name", metavar="NAME", help="whose it is; added where there is none")
@ROLE
@FILE
@option("--days", type=whole(1, 36_500), metavar="N", help="valid for so many days (default: until it is removed)")
@option("--label", metavar="TEXT", default="token", show_default=True, help="what it is for")
@JSON
def token(name: str, role: str, file: Path, days: int | None, label: str, as_json: bool) -> int:
    from edgead.dashboard.users import with_token, with_user, write_users

    users, made = with_token(with_user(_read(file), name, role, None), name, label, days)
    write_users(file, users)
    if as_json:
        print_json("users", Made(name, role, made), action="token")
    else:
        print(made)
    return 0


@verb("Remove a user with all tokens; who is logged in is out at once.", "remove a user")
@argument("name", metavar="NAME", help="who")
@FILE
@JSON
def remove(name: str, file: Path, as_json: bool) -> int:
    from edgead.dashboard.users import read_users, write_users

    users = read_users(file)
    if name not in users:
        raise BadInput(f"there is no user {name} in {file}", hint=f"there are: {', '.join(users) or 'none'}")
    write_users(file, {other: user for other, user in users.items() if other != name})
    if as_json:
        print_json("users", _listed(users[name]), action="remove")
    else:
        print(f"{name} is removed from {file}")
    return 0


@verb("List the users.", "list the users")
@FILE
@JSON
def list_(file: Path, as_json: bool) -> int:
    from edgead.dashboard.users import read_users

    found = tuple(map(_listed, read_users(file).values()))
    if as_json:
        print_json("users", UserList(file, found), action="list")
        return 0
    for one in found:
        how = [*(["password"] if one.password else []), *one.tokens]
        print(f"{one.name:<20} {one.role:<10} {', '.join(how) or 'cannot log in'}")
    return 0


def _listed(user: User) -> Listed:
    tokens = tuple(f"{one.label} until {one.until}" if one.until else one.label for one in user.tokens)
    return Listed(user.name, user.role, bool(user.password), tokens)


def _read(file: Path) -> dict[str, User]:
    from edgead.dashboard.users import read_users

    return read_users(file) if file.exists() else {}


def _password() -> str:
    try:
        if sys.stdin.isatty():
            first = getpass.getpass("password: ")
            if first != getpass.getpass("once more: "):
                raise BadInput("the two are not the same", hint="try again")
            return first
        return sys.stdin.readline(2000).rstrip("\n")
    except EOFError:
        raise BadInput("no password was given", hint="type it, or echo PASSWORD | edgead users add ...") from None
    except UnicodeDecodeError:
        raise BadInput("the password holds bytes that are no text", hint="give it in UTF-8") from None


command = actions(__doc__, add=add, token=token, remove=remove, list=list_)
