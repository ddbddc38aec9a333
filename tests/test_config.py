"""station.yaml: what is wrong is named by key and line, secrets stay outside, nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.cli.main import main
from edgead.cli.station import EXAMPLE
from edgead.config.reading import read_station, schema
from edgead.config.station import StationConfig
from edgead.errors import BadInput
from edgead.words import one_line

GOOD = """\
name: line-3
cameras:
  - name: top
    address: sim
    bundle: bolt.edgead
    budget_ms: 200
    trigger: {source: plc}
    plc: {type: modbus-client, host: 10.0.0.9}
    outputs:
      - {type: log}
      - {type: gpio, ok: 3}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "station.yaml"
    file.write_text(text, "utf-8")
    return file


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read_station(written(tmp_path, GOOD + "storage: {folder: data}\n"))
    assert config.cameras[0].bundle == tmp_path / "bolt.edgead"
    assert config.storage is not None
    assert config.storage.folder == tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("budget_ms: 200", "budgt_ms: 200", 6, "cameras[0].budgt_ms: unknown key"),
        ("budget_ms: 200", "every_ms: 200", 6, "cameras[0].every_ms: does not belong here"),
        ("budget_ms: 200", "budget_ms: -1", 6, "cameras[0].budget_ms: input should be greater than 0"),
        ("budget_ms: 200", "budget_ms: fast", 6, "cameras[0].budget_ms: input should be a valid number"),
        ("budget_ms: 200", "budget_ms: .nan", 6, "finite"),
        ("    budget_ms: 200\n", "", 3, "a triggered camera needs budget_ms"),
        ("{source: plc}", "{source: plx}", 7, "source 'plx' is not known"),
        ("{type: log}", "{kind: log}", 10, "type is missing"),
        ("host: 10.0.0.9", "host: 10.0.0.9, port: 70000", 8, "cameras[0].plc.port: input should be less than or equal to 65535"),
        ("    plc: {type: modbus-client, host: 10.0.0.9}\n", "", 3, "needs the section plc"),
        ("name: line-3", "name: line 3", 1, "name: "),
        ("address: sim", "address: rtsp://u:secret@10.0.0.5/s", 4, "a password stands in the file"),
        ("address: sim", "address: rtsp://u:${EDGEAD_NOT_SET}@h/s", 4, "EDGEAD_NOT_SET is not set"),
        ("address: sim", "address: ${file:nothing.txt}", 4, "the secret in"),
        ("ok: 3", "ok: 3, ok: 4", 11, "ok is there twice, first in line 11"),
        ("name: line-3", "name: [line-3", 2, ""),
    ],
)
@pytest.mark.promise("Mistakes in it are named by key and line.")
def test_a_mistake_is_named_by_line_and_key(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BadInput) as caught:
        read_station(file)
    assert f"{file}, line {line}" in str(caught.value)
    assert words in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_a_misspelt_key_is_named_although_it_makes_another_one_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cameras\[0\]\.budle: unknown key") as caught:
        read_station(written(tmp_path, GOOD.replace("bundle: bolt", "budle: bolt")))
    assert caught.value.hint == "did you mean bundle?"


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAD_TEST_USER", "anna")
    (tmp_path / "pw").write_text("p:w@d\n", "utf-8")
    text = GOOD.replace("address: sim", "address: rtsp://${EDGEAD_TEST_USER}:${file:pw}@10.0.0.5/s")
    config = read_station(written(tmp_path, text))
    assert config.cameras[0].address == "rtsp://anna:p%3Aw%40d@10.0.0.5/s"
    assert config.secrets == ("anna", "p:w@d")  # for the logs, which leave them out


def test_a_secret_does_not_reach_the_message_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAD_TEST_PORT", "hunter2")
    with pytest.raises(BadInput) as caught:
        read_station(written(tmp_path, GOOD.replace("host: 10.0.0.9", "host: h, port: '${EDGEAD_TEST_PORT}'")))
    assert "port" in str(caught.value)
    assert "hunter2" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: modbus-client", "type: '${EDGEAD_TEST_S}'"),
        ("source: plc}", "source: '${EDGEAD_TEST_S}'}"),
        ("host: 10.0.0.9", "host: h, unit: '${EDGEAD_TEST_S}'"),
        ("name: top", "name: '${EDGEAD_TEST_S}!'"),
        ("budget_ms: 200", "budget_ms: ${EDGEAD_TEST_S}"),
        ("type: gpio, ok: 3", "type: '${EDGEAD_TEST_S}'"),
        ("- {type: gpio, ok: 3}", 2 * "- {type: mqtt, host: '${EDGEAD_TEST_S}', topic: a}\n      "),
        ("bundle: bolt.edgead", "bundle: '${EDGEAD_TEST_S}'"),
        ("- {type: log}", "- {type: mqtt, host: h, topic: '${EDGEAD_TEST_S}#'}"),
        ("- {type: log}", "- {type: other, name: '${EDGEAD_TEST_S}'}"),
    ],
)  # fmt: skip
def test_a_secret_is_never_echoed_wherever_it_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    monkeypatch.setenv("EDGEAD_TEST_S", "hunter2 s3cret/x")
    file = written(tmp_path, GOOD.replace(old, new))
    try:
        read_station(file)
    except BadInput as error:
        assert "hunter2" not in f"{error} {error.hint}"
    for verb in (["station", "check", str(file)], ["run", str(file)], ["run", str(file), "--debug"]):
        assert main(verb) in (2, 3)
        assert "hunter2" not in "".join(capsys.readouterr())


PASSWORDS = {
    "EDGEAD_TEST_U": "op:1",
    "EDGEAD_TEST_P": "a#b/c?d%41@e:f g",
    "EDGEAD_TEST_BOTH": "op:a/b",
    "EDGEAD_TEST_HOST": "10.0.0.5:554",
    "EDGEAD_TEST_URL": "rtsp://u:p@h/s",
}
CODED = "a%23b%2Fc%3Fd%2541%40e%3Af%20g"


@pytest.mark.parametrize(
    ("address", "filled"),
    [
        ("rtsp://op:${EDGEAD_TEST_P}@10.0.0.5/s", f"rtsp://op:{CODED}@10.0.0.5/s"),
        ("rtsp://${EDGEAD_TEST_U}:${EDGEAD_TEST_P}@${EDGEAD_TEST_HOST}/s", f"rtsp://op%3A1:{CODED}@10.0.0.5:554/s"),
        ("rtsp://op:${file:dir/pw}@h/a@b", f"rtsp://op:{CODED}@h/a@b"),
        ("rtsp://${EDGEAD_TEST_BOTH}@h/s", "rtsp://op:a%2Fb@h/s"),
        ("http://h/cgi?user=op&pw=${EDGEAD_TEST_P}&n=1", f"http://h/cgi?user=op&pw={CODED}&n=1"),
        ("gst:rtspsrc location=rtsp://op:${EDGEAD_TEST_P}@h/s ! x", f"gst:rtspsrc location=rtsp://op:{CODED}@h/s ! x"),
        ("${EDGEAD_TEST_URL}", "rtsp://u:p@h/s"),  # what is an address already stays one
        ("rtsp://${EDGEAD_TEST_HOST}/s", "rtsp://10.0.0.5:554/s"),
    ],
)
def test_a_password_in_an_address_may_hold_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, filled: str
) -> None:
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "pw").write_text(PASSWORDS["EDGEAD_TEST_P"], "utf-8")
    config = read_station(written(tmp_path, GOOD.replace("address: sim", f"address: '{address}'")))
    assert config.cameras[0].address == filled
    assert one_line(f"open {filled} failed").count("a%23b") == 0


PLAIN = """name: a
cameras:
  - {name: top, bundle: b, address: sim, budget_ms: 1, trigger: {source: interval, every_ms: 1}, outputs: [
    OUTPUT
    ]}
"""


@pytest.mark.parametrize(
    "output",
    [
        "{type: mqtt, host: h, topic: t, password: x}",
        "{type: mqtt, host: h, topic: t, 'password': 1234}",
        '{type: mqtt, host: h, topic: t, "pass\\x77ord": x}',
        "{type: mqtt, host: h, topic: t, ? password : x}",
        "{type: other, name: n, options: {deep: [{PassWord: x}]}}",
        "{type: other, name: n, options: {api_key: x}}",
        "{type: other, name: n, options: {apiKey: x}}",
        "{type: other, name: n, options: {clientSecret: x}}",
        "{type: other, name: n, options: {db-pwd: x}}",
        "{type: other, name: n, options: {access.token: x}}",
        "{type: webhook, url: 'https://h/', headers: {Authorization: Bearer abcdef}}",
        "{type: webhook, url: 'https://h/', headers: {X-Api-Key: x}}",
        "{type: webhook, url: 'https://h/', headers: {Cookie: sid=1}}",
        "{type: webhook, url: 'https://h/', headers: {X-Custom: Bearer abcdef}}",
        "{type: webhook, url: 'https://h/?a=1&token=x'}",
        "{type: webhook, url: 'https://h/?Api_Key=x'}",
        "{type: webhook, url: 'https://h/?key=x'}",
        "{type: webhook, url: 'https://h/?p%61ssword=x'}",
        "{type: webhook, url: 'https://h/;pwd=x'}",
        "{type: webhook, url: 'https://h/user=admin_password=x_channel=1'}",
        "{type: webhook, url: 'https://u:p@h/'}",
        "{type: webhook, url: 'https://u:p/q@h/'}",
        "{type: webhook, url: 'https://u:p${HOME}@h/'}",
        "{type: command, on_ng: 'notify --password x'}",
        "{type: command, on_ng: 'notify --token=x'}",
        "{type: command, on_ng: 'curl -H \"Authorization: Bearer abcdef\" h'}",
    ],
)
def test_a_plain_password_is_refused_however_it_is_written(tmp_path: Path, output: str) -> None:
    with pytest.raises(BadInput, match=r"line [45]: .*: a password stands in the file"):
        read_station(written(tmp_path, PLAIN.replace("OUTPUT", output)))


@pytest.mark.parametrize(
    "output",
    [
        "{type: mqtt, host: h, topic: t, user: u, password: '${HOME}'}",
        "{type: mqtt, host: h, topic: t, password: null}  # password: x",
        "{type: mqtt, host: h, topic: t, cert: a.pem, key: a.key}",
        "{type: webhook, url: 'https://h:8080/a@b', headers: {Authorization: 'Bearer ${HOME}'}}",
        "{type: webhook, url: 'https://h/?token=${HOME}&author=me'}",
        "{type: command, on_ng: 'notify --pin 17 --token ${HOME} --token-file f'}",
    ],
)
def test_what_is_no_plain_password_is_none(tmp_path: Path, output: str) -> None:
    assert read_station(written(tmp_path, PLAIN.replace("OUTPUT", output))).name == "a"


@pytest.mark.parametrize(
    "text", ["", "- a\n", "just words\n", "\x00", "a: &a [*a]\n", "a: !!python/object/new:os.system [true]\n"]
)
def test_what_is_no_station_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput):
        read_station(written(tmp_path, text))


def test_a_bomb_of_anchors_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(BadInput, match="unfolds"):
        read_station(written(tmp_path, "\n".join(lines)))


@settings(deadline=None)  # the first one imports pydantic
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput) as caught:
        read_station(file)
    assert "\n" not in str(caught.value)


def test_the_schema_knows_every_key_with_its_meaning() -> None:
    known = json.dumps(schema())
    for field in fields(StationConfig):
        assert f'"{field.name}"' in known
    assert "later is UNKNOWN" in known  # docstrings of fields reach the editor


def test_the_example_is_right(tmp_path: Path) -> None:
    assert read_station(written(tmp_path, EXAMPLE)).name == "line-3"


IMPOSSIBLE = [
    ("plc: {type: modbus-client, host: 10.0.0.9}", "plc: {type: modbus-server, bind: 10.0.0.300}", "top: plc.bind: '10.0.0.300'"),
    ("host: 10.0.0.9", "host: 10.0.0.900", "top: plc.host: '10.0.0.900' is not an IP address"),
    ("- {type: log}", "- {type: mqtt, host: 'a b', topic: t, tls: false}", "top: outputs.mqtt.host: 'a b' is not a host name"),
    ("cameras:", "supervision: {http: '127.0.0.256:80'}\ncameras:", "supervision.http: '127.0.0.256' is not an IP address"),
]


@pytest.mark.parametrize(("old", "new", "words"), IMPOSSIBLE)
def test_an_address_that_can_never_be_one_is_refused_before_anything_is_opened(
    tmp_path: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in GOOD
    file = str(written(tmp_path, GOOD.replace(old, new, 1)))
    for verb in (["station", "check", file], ["run", file]):
        assert main(verb) == 2
        assert words in capsys.readouterr().err


def test_options_that_mean_nothing_without_or_with_a_trigger_are_refused(tmp_path: Path) -> None:
    free = "name: s\ncameras: [{name: a, address: sim, bundle: b.edgead, %s}]"
    for key in ("trigger_delay_ms: 5", "frame_window_ms: 5", "max_waiting: 3", "combine: all"):
        with pytest.raises(BadInput, match=f"a: {key.partition(':')[0]} is for cameras with a trigger"):
            read_station(written(tmp_path, free % key))
    read_station(written(tmp_path, free % "max_age_ms: 5"))
    with pytest.raises(BadInput, match="max_age_ms is for cameras without a trigger"):
        read_station(written(tmp_path, free % "max_age_ms: 5, budget_ms: 9, trigger: {source: interval, every_ms: 50}"))


def test_check_names_a_bundle_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["station", "check", str(written(tmp_path, EXAMPLE))]) == 3
    assert "flange.edgead is not a bundle: it does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("threshold: true", "threshold is "),
        ("budget_ms: yes", "budget_ms is "),
        ("sha256:", "sha256 is "),
        ("sha256: ~", "sha256 is "),
    ],
)
def test_a_yes_is_no_number_and_an_empty_pin_is_no_pin(tmp_path: Path, line: str, says: str) -> None:
    """Neither a threshold of 1 nor a bundle that nobody checks."""
    camera = ["address: 'sim:'", "bundle: part.edgead", "trigger: {source: free}", line]
    if not line.startswith("budget"):
        camera.append("budget_ms: 100")
    text = "name: cell\ncameras:\n  - name: top\n" + "".join(f"    {one}\n" for one in camera)
    (tmp_path / "station.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_station(tmp_path / "station.yaml")
    assert says in str(caught.value)


def test_a_list_of_trusted_keys_without_a_key_is_refused(tmp_path: Path) -> None:
    text = "name: cell\ntrusted: []\ncameras:\n  - {name: top, address: 'sim:', bundle: p.edgead, trigger: {source: free}}\n"
    (tmp_path / "station.yaml").write_text(text)
    with pytest.raises(BadInput, match="trusted"):
        read_station(tmp_path / "station.yaml")
