"""Who may in and do what: users, roles, sessions, tokens, and addresses that others could reach."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.dashboard.app import ANSWERS
from edgead.dashboard.serving import Address
from edgead.dashboard.users import read_users
from edgead.errors import BadInput
from tests.dashboard.client import Client
from tests.dashboard.served import PASSWORD, PEOPLE, Served, write_people, write_station
from tests.vouched import write_vouched

REVIEW = "/api/part/line-1/top/1/review"


@pytest.fixture
def station(tmp_path: Path) -> Path:
    write_vouched(tmp_path / "part.edgead")
    return write_station(tmp_path)


def test_each_role_may_do_what_the_ones_before_may_and_no_more(station: Path, tmp_path: Path) -> None:
    """Every address is asked by everybody: refused are exactly those whose role is too low."""
    users, _ = write_people(tmp_path)
    ranks = ["nobody", *PEOPLE.values()]
    with Served(station, users) as served:
        clients = {"nobody": served.client(), **{role: served.client(name) for name, role in PEOPLE.items()}}
        for method, address, needed, _ in ANSWERS:
            if address in ("/api/login", "/api/logout"):
                continue
            path = address.format(station="line-1", camera="top", seq=1)
            for rank, role in enumerate(ranks):
                client = clients[role]
                status = client.ask(path)[0] if method == "GET" else client.post(path, {})[0]
                refused = status in (401, 403)
                assert refused == (rank < ranks.index(needed)), (method, path, role, status)
                assert status == 401 or role != "nobody" or needed == "nobody"


def test_who_has_not_logged_in_sees_nothing_but_the_pages_themselves(station: Path, tmp_path: Path) -> None:
    with Served(station, write_people(tmp_path)[0]) as served:
        client = served.client()
        session = client.get("/api/session")
        assert (session["user"], session["role"], session["login"]) == ("", "", True)
        with client.stream() as stream:
            assert stream.status == 401
        assert client.ask("/proof/line-1/top")[0] == 401


def test_a_kiosk_looks_without_a_login_and_changes_nothing(station: Path, tmp_path: Path) -> None:
    with Served(station, write_people(tmp_path)[0], kiosk=True) as served:
        client = served.client()
        assert client.get("/api/session")["role"] == "viewer" and client.get("/api/line")["stations"]
        assert client.post(REVIEW, {"label": "confirmed"})[0] == 403
        assert client.post("/api/threshold", {"camera": "line-1/top", "threshold": 1})[0] == 403
        assert served.client("erna").get("/api/session")["role"] == "engineer"


def test_a_session_ends_by_logging_out_by_time_and_with_its_user(station: Path, tmp_path: Path) -> None:
    users, _ = write_people(tmp_path)
    with Served(station, users) as served:
        client = served.client("otto")
        stolen = Client(served.url)
        stolen.cookie = client.cookie
        served.pass_time(7)
        assert client.get("/api/session")["user"] == "otto"
        served.pass_time(7)
        assert client.get("/api/session")["user"] == "otto", "it was used meanwhile"
        assert client.post("/api/logout", {})[0] == 200
        assert stolen.get("/api/session")["user"] == "", "the cookie is worth nothing any more"
        client = served.client("otto")
        served.pass_time(9)
        assert client.ask("/api/line")[0] == 401, "nobody used it"
        client = served.client("otto")
        for _ in range(4):
            served.pass_time(7)
            client.ask("/api/line")
        assert client.ask("/api/line")[0] == 401, "none lasts longer than a day"
        client = served.client("otto")
        assert main(["users", "remove", "otto", "--users", str(users)]) == 0
        assert client.ask("/api/line")[0] == 401, "who is removed is out at once"


def test_the_cookie_is_for_the_browser_alone(station: Path, tmp_path: Path) -> None:
    users, _ = write_people(tmp_path)
    with Served(station, users) as served:
        client = served.client("erna")
        told = client.headers["set-cookie"]
        assert "HttpOnly" in told and "SameSite=strict" in told and "Secure" not in told
        assert client.cookie.partition("=")[2] not in repr(vars(served)), "the server remembers only its hash"


def test_a_token_logs_in_until_its_day_is_over(station: Path, tmp_path: Path) -> None:
    users, tokens = write_people(tmp_path)
    with Served(station, users) as served:
        client = served.client()
        status, told = client.post("/api/login", {"token": tokens["vera"]})
        assert (status, told["user"], told["role"]) == (200, "vera", "viewer")
        assert client.get("/api/line")["stations"]
        assert client.post("/api/login", {"token": tokens["vera"][:-1]})[0] == 401
        served.pass_time(25)
        status, told = client.post("/api/login", {"token": tokens["vera"]})
        assert status == 401 and "any more" in told["error"]
    assert all(token not in users.read_text() for token in tokens.values())


def test_guessing_is_slowed_down_and_does_not_lock_out_others_for_long(station: Path, tmp_path: Path) -> None:
    with Served(station, write_people(tmp_path)[0]) as served:
        client = served.client()
        statuses = [client.post("/api/login", {"name": "erna", "password": f"guess {i}"})[0] for i in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert client.post("/api/login", {"name": "erna", "password": PASSWORD})[0] == 429, "not even the right one"
        served.pass_time(0.1)
        assert client.post("/api/login", {"name": "erna", "password": PASSWORD})[0] == 200


def test_many_guesses_at_once_are_as_many_guesses(station: Path, tmp_path: Path) -> None:
    """Not as many as come before the first one is found wrong."""
    with Served(station, write_people(tmp_path)[0]) as served, ThreadPoolExecutor(30) as pool:
        clients = [served.client() for _ in range(30)]
        told = pool.map(lambda client: client.post("/api/login", {"name": "erna", "password": "a guess of mine"})[0], clients)
        assert sorted(told) == [401] * 10 + [429] * 20


def test_over_tls_the_cookie_goes_nowhere_else(station: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "line.pem", tmp_path / "line.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=line",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with Served(station, write_people(tmp_path)[0], tls=(cert, key)) as served:
        client = served.client("erna")
        assert "Secure" in client.headers["set-cookie"] and "strict-transport-security" in client.headers
        assert client.get("/api/line")["stations"]
        assert client.post("/api/logout", {}, {"Origin": f"http://{client.host}"})[0] == 403
    with pytest.raises(BadInput, match="PEM"):
        Address("127.0.0.1", 0, key, cert).check_tls()


def test_behind_a_proxy_each_browser_is_counted_by_itself(station: Path, tmp_path: Path) -> None:
    """What the browser itself writes into the header stands before what the proxy adds, and counts for nothing."""
    with Served(station, write_people(tmp_path)[0], proxied=True, names=["line.example"]) as served:
        client = served.client()

        def login(number: int, address: str, password: str) -> int:
            told = {"Host": "line.example", "Origin": "https://line.example", "X-Forwarded-For": f"9.9.9.{number}, {address}"}
            return client.post("/api/login", {"name": f"nobody{number}", "password": password}, told)[0]

        assert [login(i, "10.0.0.1", "x") for i in range(11)] == [401] * 10 + [429]
        assert login(12, "10.0.0.2", "x") == 401
        assert served.client is not None and "max-age" in client.headers["strict-transport-security"]


def test_users_are_kept_in_a_file_that_only_its_owner_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "users.json"

    def users(*arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgead.cli.main", "users", *arguments, "--users", str(file)]
        return subprocess.run(command, input=password, capture_output=True, text=True, check=False)

    assert users("add", "anna", "--role", "operator", password=f"{PASSWORD}\n").returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in file.read_text() and "$argon2id$" in file.read_text()
    short = users("add", "bert", "--role", "viewer", password="short\n")
    assert short.returncode == 2 and "5 characters" in short.stderr and "short" not in short.stderr
    assert main(["users", "add", "../x", "--role", "viewer", "--users", str(file)]) == 2
    assert main(["users", "token", "wall", "--role", "viewer", "--users", str(file), "--days", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["role"] == "viewer" and told["token"] not in file.read_text()
    assert {name: user.role for name, user in read_users(file).items()} == {"anna": "operator", "wall": "viewer"}
    assert main(["users", "remove", "nobody", "--users", str(file)]) == 2
    file.chmod(0o644)
    assert main(["users", "list", "--users", str(file)]) == 2
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--http", "0.0.0.0:8080"], "no users are configured"),
        (["--http", "[::]:8080", "--tls-cert", "c.pem", "--tls-key", "k.pem"], "no users are configured"),
        (["--behind-proxy"], "no users are configured"),
        (["--http", "127.example:8080"], "no users are configured"),
        (["--http", "[::ffff:10.0.0.5]:8080"], "no users are configured"),
        (["--http", "10.0.0.5:8080", "--users", "users.json"], "in plain sight"),
        (["--http", "0.0.0.0:8080", "--users", "users.json", "--tls-cert", "c.pem"], "its key"),
        (["--behind-proxy", "--users", "users.json", "--tls-cert", "c.pem", "--tls-key", "k.pem"], "the proxy's"),
        (["--kiosk"], "without users"),
        (["--http", "8080"], "no address"),
        (["--http", "127.0.0.1:99999"], "no address"),
        (["--shifts", "25:00=early"], "shift"),
        (["--shifts", "06:00=early,06:00=late"], "same time"),
        (["--users", "nowhere.json"], "there is no file"),
        (["--host-name", "a b"], "host name"),
    ],
)
def test_what_would_be_open_to_others_or_makes_no_sense_is_refused_at_the_start(
    station: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "users.json" in options:
        write_people(tmp_path)
    assert main(["dashboard", str(station), *options]) == 2
    told = capsys.readouterr().err
    assert words in told and "->" in told and "Traceback" not in told


@pytest.mark.parametrize(("typed", "words"), [(b"\xff" * 12, "no text"), (b"", "0 characters")])
def test_a_password_that_cannot_be_one_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: bytes, words: str
) -> None:
    for errors in ("strict", "surrogateescape"):  # as locales have it
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8", errors))
        assert main(["users", "add", "anna", "--role", "viewer", "--users", str(tmp_path / "users.json")]) == 2
        assert words in capsys.readouterr().err


def test_two_stations_of_one_name_are_refused(station: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(station.read_text())
    assert main(["dashboard", str(station), str(other)]) == 2
    assert "both called line-1" in capsys.readouterr().err


def test_without_its_packages_the_verb_names_the_extra(station: Path) -> None:
    code = "import sys; sys.modules['starlette'] = None; from edgead.cli.main import main; "
    code += f"sys.exit(main(['dashboard', {str(station)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install 'edgead[dashboard]'" in done.stderr
