"""Goal: a visit ends with a device that can start, or with the device as it was and a sentence
that says what to do; cut off anywhere, the next run finishes it without a new claim.

Method: a real authority behind a real HTTP server; every rename and every write of a visit is cut
in turn; every file that comes from the city is spoilt in turn.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge import config
from edge.messages import decode_signed_lines, from_b64u
from edge.trust import FileKeyStore, open_root
from provisioning.cli import GOOD, YOURS
from sync.session import tls_context
from tests.provisioning.conftest import LANE, Run
from tests.provisioning.enrolment_city import CLAIM, DAY, ENDPOINT, EnrolmentCity, certificate, pem


def test_a_first_visit_makes_everything_the_agent_reads(installed: Path) -> None:
    settings = config.load(installed)
    assert settings.endpoints == (ENDPOINT,)
    store = FileKeyStore(settings.key_path)
    leaf = x509.load_pem_x509_certificates(settings.certificate_path.read_bytes())
    assert [_common_name(one) for one in leaf] == ["gate-1", "issuing"]
    public = leaf[0].public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert FileKeyStore(settings.key_path).public_point() == store.public_point()
    authority = x509.load_pem_x509_certificates(settings.authority_path.read_bytes())
    assert [_common_name(one) for one in authority] == ["issuing", "root"]
    root_public = from_b64u(settings.root_key_path.read_text().strip())
    document = decode_signed_lines(settings.root_document_path.read_bytes())
    assert open_root(root_public, document).version == 1
    tls_context(
        ca_file=settings.authority_path,
        certificate_file=settings.certificate_path,
        key_file=settings.key_path,
    )
    for folder in (settings.folders.identity, settings.folders.state, settings.folders.runtime):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in settings.folders.identity.iterdir()}
    public_files = ("device.crt", "authority.pem", "root.pub", "root.json")
    assert modes == {"device.key": 0o600} | dict.fromkeys(public_files, 0o660)
    assert stat.S_IMODE(installed.stat().st_mode) == 0o660


def test_the_city_learns_the_request_and_never_the_key(
    city: EnrolmentCity, installed: Path
) -> None:
    (asked,) = city.asked
    assert set(asked) == {"claim", "device_id", "site_id", "station", "csr_pem"}
    assert "PRIVATE" not in json.dumps(asked)


def test_the_second_run_keeps_everything_and_asks_nobody(
    run: Run, arguments: list[str], installed: Path, city: EnrolmentCity
) -> None:
    before = _files(installed.parent)
    for again in (arguments, ["provision", "--config", str(installed)]):
        result = run(*again, "--json")
        assert result.exit_code == GOOD, result.output
        states = {step["part"]: step["state"] for step in json.loads(result.stdout)["steps"]}
        assert set(states.values()) == {"kept"}
    assert _files(installed.parent) == before
    assert len(city.asked) == 1


def test_a_typing_error_costs_no_claim(run: Run, arguments: list[str], city: EnrolmentCity) -> None:
    arguments[arguments.index(LANE)] = LANE.replace("relay=17", "relay=99")
    result = run(*arguments)
    assert result.exit_code == YOURS
    assert "lanes[0].access_points[0].relay.pin: 99" in result.stderr
    assert city.asked == []


def test_what_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    result = run("provision", "--config", tmp_path / "device.toml", "--site", "school-7")
    assert result.exit_code == YOURS
    assert "give --device, --station" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_claim_the_key_is_made_and_the_claim_asked_for(
    run: Run, arguments: list[str], tmp_path: Path, city: EnrolmentCity
) -> None:
    place = arguments.index("--claim")
    without = arguments[:place] + arguments[place + 2 :]
    result = run(*without)
    assert result.exit_code == YOURS
    assert "ask the city for a claim" in result.stderr
    key = (tmp_path / "identity/device.key").read_bytes()
    assert run(*arguments).exit_code == GOOD
    assert (tmp_path / "identity/device.key").read_bytes() == key


def test_a_wrong_claim_is_told_in_the_citys_words(
    run: Run, arguments: list[str], tmp_path: Path
) -> None:
    arguments[arguments.index(CLAIM)] = "0000"
    result = run(*arguments)
    assert result.exit_code == YOURS
    assert "claim code unknown; ask for a new one" in result.stderr
    assert [path.name for path in (tmp_path / "identity").iterdir()] == ["device.key"]
    assert not (tmp_path / "device.toml").exists()


def _other_key(city: EnrolmentCity) -> None:
    city.public_key = ec.generate_private_key(ec.SECP256R1()).public_key()


def _other_name(city: EnrolmentCity) -> None:
    city.name = "gate-2"


def _ended(city: EnrolmentCity) -> None:
    city.life = timedelta(0)


def _not_begun(city: EnrolmentCity) -> None:
    city.begins = 5 * DAY


def _server_purpose(city: EnrolmentCity) -> None:
    city.purpose = ExtendedKeyUsageOID.SERVER_AUTH


def _no_root(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(chain_pem=pem(city.issuing))


def _no_issuer(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(chain_pem=pem(city.root))


def _issuer_is_no_authority(city: EnrolmentCity) -> None:
    plain = certificate(
        "issuing", city.issuing_key.public_key(), "root", city.root_key, datetime.now(UTC)
    )
    city.spoil = lambda answer: answer.update(chain_pem=pem(plain) + pem(city.root))


def _strange_root(city: EnrolmentCity) -> None:
    """The same names, other keys: only the signatures tell."""
    other = EnrolmentCity()
    city.spoil = lambda answer: answer.update(chain_pem=pem(city.issuing) + pem(other.root))


def _no_pem(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(certificate_pem="nothing")


def _long_chain(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(chain_pem=answer["chain_pem"] * 3)


def _root_document_of_another_key(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(
        root_document=EnrolmentCity().root_document().decode()
    )


def _root_document_changed(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(
        root_document=answer["root_document"].replace('"version":1', '"version":2')
    )


def _root_document_without_signature(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(root_document="{}")


def _short_root_key(city: EnrolmentCity) -> None:
    city.spoil = lambda answer: answer.update(root_public_b64u="AAAA")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_key, "for another key"),
        (_other_name, 'this device is "gate-1"'),
        (_ended, "ended on"),
        (_not_begun, "is the clock right"),
        (_server_purpose, "not meant for a client"),
        (_no_root, "chain breaks"),
        (_no_issuer, "chain breaks"),
        (_issuer_is_no_authority, "chain breaks"),
        (_strange_root, "chain breaks"),
        (_no_pem, "not PEM"),
        (_long_chain, "a chain of 6"),
        (_root_document_of_another_key, "not signed by the enrolled root key"),
        (_root_document_changed, "not signed by the enrolled root key"),
        (_root_document_without_signature, "signature line"),
        (_short_root_key, "not signed by the enrolled root key"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_trace(
    run: Run,
    arguments: list[str],
    tmp_path: Path,
    city: EnrolmentCity,
    spoil: Callable[[EnrolmentCity], None],
    said: str,
) -> None:
    spoil(city)
    result = run(*arguments)
    assert result.exit_code == YOURS, result.output
    assert said in result.stderr and "Nothing was changed" in result.stderr
    assert [path.name for path in (tmp_path / "identity").iterdir()] == ["device.key"]
    assert not (tmp_path / "device.toml").exists()


def _status(number: int) -> Callable[[EnrolmentCity], None]:
    def spoil(city: EnrolmentCity) -> None:
        city.status = number

    return spoil


def _raw(data: bytes) -> Callable[[EnrolmentCity], None]:
    def spoil(city: EnrolmentCity) -> None:
        city.raw = data

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_status(409), "refuses: the desk is closed; come again"),
        (_status(500), "has a fault: the desk is closed; try again"),
        (_status(302), "sends us elsewhere"),
        (_raw(b"{" + b" " * 70_000), "more than 65536 bytes"),
        (_raw(b"<html>"), "not a city's answer"),
        (_raw(b"{}"), "not a city's answer"),
        (_raw(b"\xff"), "not a city's answer"),
    ],
)
def test_an_answer_that_is_none_is_told(
    run: Run,
    arguments: list[str],
    city: EnrolmentCity,
    spoil: Callable[[EnrolmentCity], None],
    said: str,
) -> None:
    spoil(city)
    result = run(*arguments)
    assert result.exit_code == YOURS, result.output
    assert said in result.stderr


def test_what_the_city_says_cannot_play_with_the_terminal(
    run: Run, arguments: list[str], city: EnrolmentCity
) -> None:
    city.status = 400
    city.raw = json.dumps({"error": "\x1b[2Jgone\x07", "do": "x" * 4000}).encode()
    result = run(*arguments)
    assert "gone" in result.stderr and "\x1b" not in result.stderr and "\x07" not in result.stderr
    assert len(result.stderr) < 1000


def test_nobody_at_that_address(run: Run, arguments: list[str], city: EnrolmentCity) -> None:
    arguments[arguments.index(city.url)] = "http://127.0.0.1:9"
    result = run(*arguments)
    assert result.exit_code == YOURS
    assert "no answer" in result.stderr and "check the network cable" in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        *("http://city.example", "http://10.0.0.1", "ftp://127.0.0.1", "city.example", "https://"),
        *("https://user:secret@city.example", "https://city.example/?claim=1", "http://[::2]:80"),
        *("https://city.example:port", "http://localhost.example"),
    ],
)
def test_a_claim_is_sent_nowhere_unsafe(
    run: Run, arguments: list[str], city: EnrolmentCity, tmp_path: Path, url: str
) -> None:
    arguments[arguments.index(city.url)] = url
    result = run(*arguments)
    assert result.exit_code == YOURS
    assert "--city" in result.stderr and "secret" not in result.stderr
    assert list(tmp_path.iterdir()) == []


class Cut(BaseException):
    """The power goes."""


@pytest.mark.slow
def test_cut_off_anywhere_the_next_run_finishes(
    run: Run, arguments: list[str], tmp_path: Path, city: EnrolmentCity
) -> None:
    """Before and after each rename and each unlink; then once more without a cut, in a city where
    the claim is used up for any other key."""
    cuts = 0
    city.claim_once = True
    for at in range(100):
        folder = tmp_path / str(at)
        folder.mkdir()
        there = [arg.replace(str(tmp_path), str(folder)) for arg in arguments]
        city.asked.clear()
        city.key_of_claim = None
        with pytest.MonkeyPatch.context() as patch:
            if not _cut_at(patch, at, partial(run, *there)):
                break
        cuts += 1
        assert _whole(folder), sorted(_files(folder))
        certain = (folder / "identity/enrolment.json").exists()
        result = run(*there)
        assert result.exit_code == GOOD, (at, result.output)
        assert config.load(folder / "device.toml").device_id == "gate-1"
        left = {path.name for path in (folder / "identity").iterdir()}
        assert left == {"device.key", "device.crt", "authority.pem", "root.pub", "root.json"}
        if certain:
            assert len(city.asked) == 1, "the answer was on disk: no second question"
    # Key, answer, four files, configuration; each before and after; and what is unlinked: two
    # candidates of the device's own renewal, and the answer at the end.
    assert cuts == 2 * 7 + 2 * 3


def _cut_at(patch: pytest.MonkeyPatch, at: int, visit: Callable[[], Any]) -> bool:
    """Run the visit and cut it at the given moment; False when it ended before."""
    moments = iter(range(1000))
    was: dict[str, Callable[..., Any]] = {"replace": Path.replace, "unlink": Path.unlink}

    def cutting(name: str) -> Callable[..., Any]:
        def step(self: Path, *args: Any, **kwargs: Any) -> Any:
            if next(moments) == at:
                raise Cut
            result = was[name](self, *args, **kwargs)
            if next(moments) == at:
                raise Cut
            return result

        return step

    for name in was:
        patch.setattr(Path, name, cutting(name))
    try:
        result = visit()
    except Cut:
        return True
    assert result.exit_code == GOOD, result.output
    return False


def _whole(folder: Path) -> bool:
    """Every file that a reader may open is whole; what is beside it with .new does not count."""
    for path in folder.rglob("*.*"):
        if path.suffix == ".toml":
            config.load(path)
        elif path.suffix in (".pem", ".crt"):
            x509.load_pem_x509_certificates(path.read_bytes())
        elif path.suffix == ".key":
            FileKeyStore(path)
        elif path.suffix == ".json":
            assert path.read_bytes()
    return True


def test_a_different_file_is_shown_and_left_alone(
    run: Run, arguments: list[str], installed: Path, city: EnrolmentCity
) -> None:
    before = _files(installed.parent)
    arguments[arguments.index(LANE)] = LANE.replace("relay=17", "relay=18")
    result = run(*arguments)
    assert result.exit_code == YOURS
    assert "-relay = { pin = 17 }" in result.stderr and "+relay = { pin = 18 }" in result.stderr
    assert "--replace" in result.stderr
    assert _files(installed.parent) == before
    assert run(*arguments, "--replace").exit_code == GOOD
    settings = config.load(installed)
    assert settings.lanes[0].access_points[0].relay.pin == 18
    assert settings.endpoints == (ENDPOINT,)  # Kept from the file, though nobody asked the city.
    assert len(city.asked) == 1


def test_a_remark_in_the_file_is_no_difference(
    run: Run, arguments: list[str], installed: Path
) -> None:
    text = "# Gate by the canteen.\n" + installed.read_text()
    installed.write_text(text)
    assert run(*arguments).exit_code == GOOD
    assert installed.read_text() == text


def test_a_broken_file_is_never_overwritten_unasked(
    run: Run, arguments: list[str], installed: Path
) -> None:
    installed.write_text("[device\n")
    assert run("provision", "--config", installed).exit_code == YOURS
    assert run(*arguments).exit_code == YOURS
    assert installed.read_text() == "[device\n"
    result = run(*arguments, "--replace", "--endpoint", ENDPOINT)
    assert result.exit_code == GOOD, result.output
    assert config.load(installed).endpoints == (ENDPOINT,)


def test_a_lost_file_wants_a_broker_when_nobody_is_asked(
    run: Run, arguments: list[str], installed: Path
) -> None:
    installed.unlink()
    result = run(*arguments)
    assert result.exit_code == YOURS and "--endpoint" in result.stderr
    assert run(*arguments, "--endpoint", ENDPOINT).exit_code == GOOD


def _certificate_gone(folder: Path) -> None:
    (folder / "device.crt").unlink()


def _key_gone(folder: Path) -> None:
    (folder / "device.key").unlink()


def _root_gone(folder: Path) -> None:
    (folder / "root.json").unlink()


def _certificate_garbage(folder: Path) -> None:
    (folder / "device.crt").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("hurt", [_certificate_gone, _key_gone, _root_gone, _certificate_garbage])
def test_an_identity_that_no_longer_fits_is_renewed(
    run: Run, installed: Path, city: EnrolmentCity, hurt: Callable[[Path], None]
) -> None:
    hurt(installed.parent / "identity")
    result = run("provision", "--config", installed)
    assert result.exit_code == YOURS and "--claim" in result.stderr
    result = run("provision", "--config", installed, "--city", city.url, "--claim", CLAIM)
    assert result.exit_code == GOOD, result.output
    assert len(city.asked) == 2
    assert run("provision", "--config", installed).exit_code == GOOD


def test_an_ended_certificate_is_renewed_for_the_same_key(
    run: Run, installed: Path, city: EnrolmentCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    city.begins = 100 * DAY
    later = SimpleNamespace(now=lambda zone: datetime.now(zone) + 100 * DAY)
    monkeypatch.setattr("provisioning.enroll.datetime", later)
    key = (installed.parent / "identity/device.key").read_bytes()
    result = run("provision", "--config", installed)
    assert result.exit_code == YOURS and "ended on" in result.stderr
    result = run("provision", "--config", installed, "--city", city.url, "--claim", CLAIM)
    assert result.exit_code == GOOD, result.output
    assert (installed.parent / "identity/device.key").read_bytes() == key


def test_renew_asks_though_it_fits(run: Run, installed: Path, city: EnrolmentCity) -> None:
    before = (installed.parent / "identity/device.crt").read_bytes()
    result = run(
        "provision", "--config", installed, "--renew", "--city", city.url, "--claim", CLAIM
    )
    assert result.exit_code == GOOD, result.output
    assert (installed.parent / "identity/device.crt").read_bytes() != before


def test_another_root_key_is_refused_unless_asked_for(
    run: Run, installed: Path, city: EnrolmentCity
) -> None:
    city.signing_key = EnrolmentCity().signing_key
    again = ("provision", "--config", installed, "--renew", "--city", city.url, "--claim", CLAIM)
    before = _files(installed.parent)
    for extra in ((), ("--replace",)):
        result = run(*again, *extra)
        assert result.exit_code == YOURS and "--new-city" in result.stderr
    assert _files(installed.parent) == before
    assert run(*again, "--new-city").exit_code == GOOD


def test_other_brokers_of_the_city_are_told_and_taken_when_asked(
    run: Run, arguments: list[str], installed: Path, city: EnrolmentCity
) -> None:
    city.spoil = lambda answer: answer.update(endpoints=["mqtts://new.example"])
    result = run(*arguments, "--renew")
    assert result.exit_code == GOOD
    assert "attention" in result.output and "mqtts://new.example" in result.output
    assert config.load(installed).endpoints == (ENDPOINT,)
    assert run(*arguments, "--renew", "--replace").exit_code == GOOD
    assert config.load(installed).endpoints == ("mqtts://new.example",)


def test_a_city_that_names_no_broker_costs_no_second_claim(
    run: Run, arguments: list[str], tmp_path: Path, city: EnrolmentCity
) -> None:
    city.spoil = lambda answer: answer.update(endpoints=[])
    result = run(*arguments)
    assert result.exit_code == YOURS and "--endpoint" in result.stderr
    assert run(*arguments, "--endpoint", ENDPOINT).exit_code == GOOD
    assert len(city.asked) == 1


def test_a_list_the_city_does_not_give_is_told(
    run: Run, arguments: list[str], city: EnrolmentCity
) -> None:
    city.spoil = lambda answer: answer.update(scopes=["school-7/people"])
    result = run(*arguments)
    assert result.exit_code == GOOD
    assert "gives this device no school-7/settings" in result.output


def test_a_whole_file_is_taken_as_it_is(
    run: Run, city: EnrolmentCity, installed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "device.toml"
    other.parent.mkdir()
    ready = tmp_path / "ready.toml"
    ready.write_text("# By hand.\n" + installed.read_text())
    base = ("provision", "--config", other, "--config-from", ready, "--city", city.url)
    for wrong in (("--device", "gate-2"), ("--reader", "r1:pcsc"), ("--station", "till")):
        assert run(*base, *wrong, "--claim", CLAIM).exit_code == YOURS
    result = run(*base, "--device", "gate-1", "--claim", CLAIM)
    assert result.exit_code == GOOD, result.output
    assert other.read_text() == ready.read_text()
    missing = run("provision", "--config", other, "--config-from", tmp_path / "none.toml")
    assert missing.exit_code == YOURS and "no such file" in missing.stderr


def test_a_key_that_others_can_read_stops_the_visit(run: Run, installed: Path) -> None:
    (installed.parent / "identity/device.key").chmod(0o644)
    result = run("provision", "--config", installed)
    assert result.exit_code == YOURS and "chmod 600" in result.stderr


def test_the_claim_is_nowhere_on_the_disk_or_screen(
    run: Run, arguments: list[str], tmp_path: Path
) -> None:
    result = run(*arguments)
    assert CLAIM not in result.output
    assert all(CLAIM.encode() not in data for data in _files(tmp_path).values())


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _common_name(one: x509.Certificate) -> str:
    return str(one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
