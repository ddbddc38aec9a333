"""edgead's own certificates under clocks that are wrong: the server starts, and what edgead made it makes again when it must."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

pytest.importorskip("asyncua", reason="edgead[opcua] is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edgead.errors import BadInput
from edgead.runtime.plc import certificates as opcua_certificates
from edgead.runtime.plc.certificates import Certificate, make_identity, read_certificate
from edgead.runtime.records import wallclock
from edgead.runtime.vision.entry import identity_of

URI = "urn:edgead:station"
DAY = timedelta(days=1)
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def pair(folder: Path) -> tuple[Path, Path]:
    return folder / "opcua.pem", folder / "opcua.key"


def entered(folder: Path) -> Certificate:
    """As at a start of the station."""
    return identity_of(*pair(folder), None, uri=URI, bind="127.0.0.1").certificate


def former(folder: Path, made: datetime) -> bytes:
    """The pair that an earlier edgead made when the clock said `made`; returns the certificate."""
    make_identity(*pair(folder), uri=URI, valid=(made - DAY, made + 3650 * DAY))
    return pair(folder)[0].read_bytes()


def test_a_pair_that_edgead_makes_is_valid_under_any_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = entered(tmp_path)
    monkeypatch.setattr(
        wallclock, "BELIEVED", (datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc))
    )
    for year in (1970, 2026, 2031, 2038, 2298, 9999):
        assert certificate.problem(datetime(year, 1, 1, 0, 0, 1, tzinfo=timezone.utc)) == ""


@pytest.mark.parametrize("made", [datetime(1970, 1, 2, tzinfo=timezone.utc), datetime(2046, 1, 1, tzinfo=timezone.utc)])
def test_a_pair_that_edgead_made_under_a_wrong_clock_is_signed_anew_with_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, made: datetime
) -> None:
    before, key = former(tmp_path, made), pair(tmp_path)[1].read_bytes()
    renewed = entered(tmp_path)
    assert renewed.problem() == "" and pair(tmp_path)[0].read_bytes() != before
    assert pair(tmp_path)[1].read_bytes() == key and pair(tmp_path)[1].stat().st_mode & 0o077 == 0
    assert len(caplog.records) == 1 and "clients must trust it again" in caplog.text
    assert f"this computer's clock says {datetime.now(timezone.utc):%Y-%m-%d}" in caplog.text
    assert entered(tmp_path) == renewed  # once


def test_a_folder_that_cannot_be_written_keeps_the_old_one_and_the_station_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, text: str) -> None:
        raise OSError(30, "Read-only file system")

    before = former(tmp_path, datetime(1970, 1, 2, tzinfo=timezone.utc))
    monkeypatch.setattr(opcua_certificates, "replace_file", refuse)
    entered(tmp_path)
    assert pair(tmp_path)[0].read_bytes() == before
    assert "a new one cannot be made" in caplog.text and "Read-only file system" in caplog.text


def somebodys(folder: Path, valid: tuple[datetime, datetime], *, issuer: str = "station", extended: bool = True) -> bytes:
    """A certificate with our name in it that we did not make."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = key if issuer == "station" else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "station")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=False)
    )
    if extended:
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    plain = (serial := serialization).Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption()
    pair(folder)[0].write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pair(folder)[1].write_bytes(key.private_bytes(*plain))
    return pair(folder)[0].read_bytes()


@pytest.mark.parametrize("made", [{"issuer": "plant"}, {}, {"extended": False}])
def test_somebody_elses_certificate_is_used_as_it_is_and_its_dates_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, made: dict[str, str]
) -> None:
    before = somebodys(tmp_path, (NOW - 3652 * DAY, NOW - DAY), **made)  # type: ignore[arg-type]
    assert entered(tmp_path).not_after == NOW - DAY
    assert pair(tmp_path)[0].read_bytes() == before
    assert f"expired on {NOW - DAY:%Y-%m-%d} (this computer's clock says {NOW:%Y-%m-%d}" in caplog.text


def test_a_clock_that_is_plainly_wrong_judges_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    somebodys(tmp_path, (NOW - DAY, NOW + DAY))
    read = read_certificate(pair(tmp_path)[0])
    for year in (1970, 2000, 2298):
        assert read.problem(datetime(year, 1, 1, tzinfo=timezone.utc)) == ""
    assert "valid from" in read.problem(NOW - 2 * DAY) and "expired on" in read.problem(NOW + 2 * DAY)


def test_what_a_power_cut_leaves_of_a_pair_is_made_anew(tmp_path: Path) -> None:
    entered(tmp_path)
    for left in (pair(tmp_path), pair(tmp_path)[1:], pair(tmp_path)[:1]):
        for path in left:
            path.write_bytes(b"")
        if len(left) == 1 and left[0].suffix == ".pem":
            with pytest.raises(BadInput, match="cannot read the certificate"):
                entered(tmp_path)  # a key without its certificate may be somebody's
            pair(tmp_path)[1].unlink()
        assert entered(tmp_path).problem() == ""


def test_a_pair_made_in_1970_serves_today(tmp_path: Path) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("needs libfaketime: apt-get install faketime")
    code = (
        "import sys; from pathlib import Path; from edgead.runtime.vision.entry import identity_of as i;"
        f"i(Path(sys.argv[1]), Path(sys.argv[2]), None, uri={URI!r}, bind='127.0.0.1')"
    )
    for clock in ("1970-01-01 00:10:00", "2031-05-05 00:00:00"):
        folder = tmp_path / clock[:4]
        folder.mkdir()
        subprocess.run(
            ["faketime", clock, sys.executable, "-c", code, *map(str, pair(folder))], check=True, timeout=5 * PATIENCE_S
        )
        made = pair(folder)[0].read_bytes()
        assert entered(folder).problem() == "" and pair(folder)[0].read_bytes() == made
