"""What stands on the command line of `edgead serve`: names, versions, addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.errors import BadInput
from edgead.serving.wanted import Address, Named, check_names


@pytest.mark.parametrize(
    ("text", "name", "version", "path"),
    [
        ("part.edgead", "part", "", "part.edgead"),
        ("bundles/left cap.edgead/", "left_cap", "", "bundles/left cap.edgead"),
        ("cap=a/b.edgead", "cap", "", "a/b.edgead"),
        ("cap:2=a=b.edgead", "cap", "2", "a=b.edgead"),
        ("./x=y.edgead", "x_y", "", "./x=y.edgead"),
    ],
)
def test_a_bundle_has_a_name_and_perhaps_a_version(text: str, name: str, version: str, path: str) -> None:
    assert Named.parse(text) == Named(name, version, Path(path))


def test_a_folder_that_is_there_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert Named.parse("a=b").path == Path("a=b")


@pytest.mark.parametrize("text", ["=a.edgead", ":1=a", "cap:=a", "c p=a", "cap:1/2=a", "-x=a", "cap:a:b=x", "ä=x", "/"])
def test_what_cannot_be_a_name_is_told(text: str) -> None:
    with pytest.raises(BadInput, match=r"cannot be the|names no version") as told:
        Named.parse(text)
    assert told.value.hint


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("a/part.edgead", "b/part.edgead"), "would both be called part"),
        (("part:1=a", "part:1=b"), "would both be called part:1"),
        (("part=a", "part:1=b"), "a has no version, and another bundle of the name part has one"),
    ],
)
def test_two_bundles_never_answer_to_the_same_name(texts: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_names([Named.parse(text) for text in texts])
    check_names([Named.parse(text) for text in ("part:1=a", "part:2=b", "cap=a")])


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000), True),
        ("[::1]:0", Address("::1", 0), True),
        ("localhost:1", Address("localhost", 1), True),
        ("0.0.0.0:8000", Address("0.0.0.0", 8000), False),
        ("[::]:8000", Address("::", 8000), False),
        ("box-7.plant:65535", Address("box-7.plant", 65535), False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address, local: bool) -> None:
    assert Address.parse(text) == address
    assert address.is_loopback is local
    assert address.at(address.port) == text


@pytest.mark.parametrize(
    "text", ["8000", ":8000", "127.0.0.1", "127.0.0.1:", "::1:80", "a:65536", "a:-1", "1.2.3:80", "a b:80", "a:٣"]
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(BadInput) as told:
        Address.parse(text)
    assert told.value.hint
