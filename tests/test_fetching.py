"""Fetching a file: whole and checked at its place, or not there at all; one clear line whatever the network does."""

import hashlib
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.errors import BadInput, StorageError, WeightsMissing
from edgead.fetching import SLOWEST, Progress, _NoDowngrade, check_url, fetch, read_pointer
from tests.servers.files import Served, file_server

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MOST = 2_000_000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    file = Served(CONTENT)
    with file_server({"/weights.pth": file}) as address:
        yield file, f"{address}/weights.pth"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_its_progress_is_told(served: tuple[Served, str], tmp_path: Path) -> None:
    told: list[Progress] = []
    target = tmp_path / "new" / "weights.pth"
    assert fetch(served[1], target, sha256=DIGEST, most_bytes=MOST, report=told.append) == DIGEST
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["weights.pth"]
    assert told[-1] == Progress(len(CONTENT), len(CONTENT))


def test_what_broke_off_is_taken_up_where_it_ended(served: tuple[Served, str], tmp_path: Path) -> None:
    file, url = served
    target = tmp_path / "weights.pth"
    file.cut_after = 300_000
    with pytest.raises(WeightsMissing, match="broke off") as caught:
        fetch(url, target, sha256=DIGEST, most_bytes=MOST)
    assert caught.value.exit_code == 5 and "goes on" in caught.value.hint
    assert not target.exists()
    file.cut_after = None
    fetch(url, target, sha256=DIGEST, most_bytes=MOST)
    assert file.asked == ["", "bytes=300000-"]
    assert target.read_bytes() == CONTENT and left(tmp_path) == ["weights.pth"]


@pytest.mark.parametrize("change", ["etag", "ranges", "no etag"])
def test_it_begins_anew_where_the_rest_may_be_of_another_file(served: tuple[Served, str], tmp_path: Path, change: str) -> None:
    file, url = served
    if change == "no etag":
        file.etag = ""
    file.content, file.cut_after = b"x" * len(CONTENT), 300_000
    with pytest.raises(WeightsMissing):
        fetch(url, tmp_path / "weights.pth", sha256=DIGEST, most_bytes=MOST)
    file.content, file.cut_after = CONTENT, None
    file.etag = '"two"' if change == "etag" else file.etag
    file.ranges = change != "ranges"
    fetch(url, tmp_path / "weights.pth", sha256=DIGEST, most_bytes=MOST)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_another_file_is_refused_and_the_old_one_stays(served: tuple[Served, str], tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"old")
    with pytest.raises(BadInput, match=f"SHA-256 {DIGEST[:16]}"):
        fetch(served[1], tmp_path / "weights.pth", sha256="0" * 64, most_bytes=MOST)
    assert (tmp_path / "weights.pth").read_bytes() == b"old" and left(tmp_path) == ["weights.pth"]


def test_a_file_whose_content_is_refused_does_not_get_its_place(served: tuple[Served, str], tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise BadInput(f"{path.stat().st_size} bytes are none", hint="-")

    with pytest.raises(BadInput, match="1024000 bytes are none"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST, check=refuse)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_file_without_end_is_cut_off(served: tuple[Served, str], tmp_path: Path, length: bool) -> None:
    served[0].length = length
    with pytest.raises(BadInput, match="bytes"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=500_000)
    assert not (tmp_path / "weights.pth").exists()


def test_a_file_of_another_size_than_told_is_refused(served: tuple[Served, str], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1,024,000 bytes long"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST, size=17)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_what_the_server_says_is_told(served: tuple[Served, str], tmp_path: Path, status: int) -> None:
    served[0].status = status
    with pytest.raises(WeightsMissing, match=f"the server says {status}"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST)
    assert not (tmp_path / "weights.pth").exists()


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_without_a_network_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"cannot be reached: .*refused") as caught:
        fetch(f"http://127.0.0.1:{closed_port()}/weights.pth", tmp_path / "weights.pth", most_bytes=MOST)
    assert "\n" not in str(caught.value) and "copy it" in caught.value.hint and caught.value.exit_code == 5


def test_a_proxy_is_asked_and_its_password_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied = Served(CONTENT)
    with file_server({"http://weights.invalid/weights.pth": proxied}) as address:
        monkeypatch.setenv("http_proxy", address)
        fetch("http://weights.invalid/weights.pth", tmp_path / "weights.pth", sha256=DIGEST, most_bytes=MOST)
    assert proxied.asked == [""]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{closed_port()}")
    with pytest.raises(WeightsMissing) as caught:
        fetch("http://weights.invalid/other.pth", tmp_path / "other.pth", most_bytes=MOST)
    assert "secret" not in str(caught.value) + caught.value.hint


def test_a_server_that_never_answers_is_given_up(served: tuple[Served, str], tmp_path: Path) -> None:
    served[0].silent = True
    with pytest.raises(WeightsMissing, match="timed out"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST, timeout_s=0.2)


def test_a_server_that_drips_is_given_up(served: tuple[Served, str], tmp_path: Path) -> None:
    hours = iter(range(100))
    with pytest.raises(WeightsMissing, match=f"less than {SLOWEST} bytes a second"):
        fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST, clock=lambda: 3600.0 * next(hours))


def test_a_place_that_cannot_be_written_is_told(served: tuple[Served, str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(StorageError, match="cannot be written"):
        fetch(served[1], tmp_path / "cache" / "weights.pth", most_bytes=MOST)


def test_two_processes_do_not_write_one_file(served: tuple[Served, str], tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".weights.pth.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process"):
            fetch(served[1], tmp_path / "weights.pth", most_bytes=MOST)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://mirror.example/weights.pth", "not encrypted"),
        ("ftp://mirror.example/weights.pth", "no(t a)? web address"),
        ("file:///etc/passwd", "web address"),
        ("https:///weights.pth", "web address"),
        ("weights.pth", "web address"),
        ("https://host:port/weights.pth", "web address"),
        ("https://host/we ights.pth", "web address"),
        ("https://[::1/x", "web address"),
        ("", "web address"),
    ],
)
def test_addresses_that_are_none_or_not_safe_are_refused(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        check_url(url, known=False)
    assert caught.value.hint


def test_an_encrypted_address_leads_to_no_other() -> None:
    request = urllib.request.Request("https://host/weights.pth")
    with pytest.raises(WeightsMissing, match="not encrypted"):
        _NoDowngrade().redirect_request(request, None, 302, "", {}, "http://elsewhere/weights.pth")


def test_the_publishers_pointer_tells_checksum_and_size() -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{DIGEST}\nsize 1024000\n".encode()
    with file_server({"/raw": Served(pointer), "/page": Served(b"<html>" + pointer)}) as address:
        assert read_pointer(f"{address}/raw") == (DIGEST, 1_024_000)
        with pytest.raises(BadInput, match="no checksum"):
            read_pointer(f"{address}/page")
