"""Goal: the desk enrols who holds a claim and nobody else, and refuses in words that help.

Method: examples over the core, without HTTP: certificates are read back with `cryptography`, every
refusal is asked for its status.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.messages import digest_of
from edge.model import PassageResult, SetupProblem, Station
from hil.city.desk import CLAIM_FAILURES_MAX, Desk, Refused
from hil.city.intake import CityCore
from hil.city.keys import (
    CITY_SCOPE,
    PARTS,
    issue_server,
    open_keys,
    public_bytes,
    revocation_list,
    utc,
)
from tests.city.sham import EPOCH, NOON_MS, SITE, Sham, make_core, make_request

CLAIM = "CLAIM-0001"
CARDHOLDER = f"{SITE}c0001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def desk(core: CityCore) -> Desk:
    desk = Desk(core, ("mqtts://broker:8883",))
    desk.make_claim(NOON_MS, CLAIM)
    return desk


KEY = ec.generate_private_key(ec.SECP256R1())


def request(**changes: Any) -> dict[str, Any]:
    return {
        "claim": CLAIM,
        "device_id": "till-1",
        "site_id": SITE,
        "station": "till",
        "csr_pem": make_request(KEY),
        **changes,
    }


def refusal(work: Any, *arguments: Any, **named: Any) -> int:
    with pytest.raises(Refused) as caught:
        work(*arguments, **named)
    assert caught.value.error and caught.value.remedy
    return caught.value.status


def test_enrolment_gives_a_certificate_for_this_device_and_the_trust_to_begin_with(
    core: CityCore, desk: Desk
) -> None:
    done = desk.enrol(request(csr_pem=make_request(KEY, "till-2/evil")), NOON_MS)
    answer = done.answer
    assert done.devices_changed
    leaf = x509.load_pem_x509_certificate(answer["certificate_pem"].encode())
    issuing, root = x509.load_pem_x509_certificates(answer["chain_pem"].encode())
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["till-1"]  # Whatever the request said.
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert public_bytes(key) == public_bytes(KEY.public_key())
    for child, parent in ((leaf, issuing), (issuing, root), (root, root)):
        child.verify_directly_issued_by(parent)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_before_utc < utc(NOON_MS) < leaf.not_valid_after_utc
    assert answer["endpoints"] == ["mqtts://broker:8883"]
    assert answer["scopes"] == [f"{SITE}/{p}" for p in ("people", "money", "menu", "settings")]
    sham = Sham(core, "till-9")
    assert {key.role for key in sham.root().keys} == {"list", "freshness", "order", "release"}


def test_a_claim_is_for_one_device_and_key_and_safe_to_repeat(desk: Desk) -> None:
    first = desk.enrol(request(), NOON_MS).answer
    again = desk.enrol(request(), NOON_MS + 60_000).answer
    assert first["chain_pem"] == again["chain_pem"]
    other_key = make_request(ec.generate_private_key(ec.SECP256R1()))
    assert refusal(desk.enrol, request(csr_pem=other_key), NOON_MS) == 409
    assert refusal(desk.enrol, request(device_id="till-2"), NOON_MS) == 409
    assert desk.revoked_serials() == []


def test_a_new_claim_replaces_a_device_and_revokes_what_it_had(core: CityCore, desk: Desk) -> None:
    old = desk.enrol(request(), NOON_MS).answer["certificate_pem"]
    desk.make_claim(NOON_MS, "CLAIM-0002")
    new_key = make_request(ec.generate_private_key(ec.SECP256R1()))
    desk.enrol(request(claim="CLAIM-0002", csr_pem=new_key), NOON_MS)
    serial = x509.load_pem_x509_certificate(old.encode()).serial_number
    assert desk.revoked_serials() == [serial]
    crl = x509.load_pem_x509_crl(revocation_list(core.keys, [serial], utc(NOON_MS)))
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - utc(NOON_MS) > timedelta(days=7)
    desk.make_claim(NOON_MS, "CLAIM-0003")
    as_gate = request(claim="CLAIM-0003", station="entrance")
    assert refusal(desk.enrol, as_gate, NOON_MS) == 409


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"claim": "WRONG-CODE"}, 403),
        ({"claim": ""}, 400),
        ({"claim": None}, 400),
        ({"claim": "Ж" * 9}, 403),
        ({"device_id": "a/b"}, 400),
        ({"device_id": "UPPER"}, 400),
        ({"device_id": "city"}, 400),  # Its certificate would be the city's on the broker.
        ({"device_id": "x" * 65}, 400),
        ({"device_id": "till-1\nuser city"}, 400),
        ({"site_id": "s0002"}, 404),
        ({"station": "kitchen"}, 400),
        ({"csr_pem": None}, 400),
        ({"csr_pem": "rubbish"}, 400),
        ({"csr_pem": "x" * 10_000}, 400),
    ],
    ids=str,
)
def test_who_is_not_enrolled(desk: Desk, changes: dict[str, Any], status: int) -> None:
    assert refusal(desk.enrol, request(**changes), NOON_MS) == status
    assert desk.senders() == []
    assert desk.enrol(request(), NOON_MS).answer["certificate_pem"]  # The claim is still good.


def test_other_kinds_of_keys_are_refused(desk: Desk) -> None:
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ):
        pem = make_request(key)  # type: ignore[arg-type]
        assert refusal(desk.enrol, request(csr_pem=pem), NOON_MS) == 400


def test_a_request_must_be_signed_by_its_own_key(desk: Desk) -> None:
    """Else somebody's public key is enrolled by who never had the private one."""
    data = bytearray(x509.load_pem_x509_csr(make_request(KEY).encode()).public_bytes(Encoding.DER))
    data[-1] ^= 1  # In the signature.
    pem = x509.load_der_x509_csr(bytes(data)).public_bytes(Encoding.PEM).decode()
    assert refusal(desk.enrol, request(csr_pem=pem), NOON_MS) == 400


def test_claims_cannot_be_guessed_for_long(desk: Desk) -> None:
    for _ in range(CLAIM_FAILURES_MAX):
        assert refusal(desk.enrol, request(claim="GUESS"), NOON_MS) == 403
    assert refusal(desk.enrol, request(), NOON_MS) == 429
    assert desk.enrol(request(), NOON_MS + 60_000).devices_changed


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("top_up", {"cardholder": "nobody", "amount_minor": 1}, 404),
        ("top_up", {"cardholder": CARDHOLDER}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": True}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": 0}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": 1.5}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": 2**80}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": 1, "purse": []}, 400),
        ("top_up", {"cardholder": CARDHOLDER, "amount_minor": 1, "purse": "gold"}, 404),
        ("ban", {"cardholder": CARDHOLDER, "category": "stones"}, 404),
        ("ban", {"cardholder": CARDHOLDER, "category": "pastry", "on": "yes"}, 400),
        ("ban", {"cardholder": CARDHOLDER}, 400),
        ("order", {"device": "ghost", "order": "open"}, 404),
        ("order", {"device": "ghost", "order": "OPEN;"}, 400),
        ("order", {"device": "ghost", "order": "open", "valid_s": 301}, 400),
    ],
    ids=str,
)
def test_what_the_desk_refuses(desk: Desk, verb: str, body: dict[str, Any], status: int) -> None:
    assert refusal(getattr(desk, verb), body, NOON_MS) == status


def test_blocking_needs_a_card_that_exists(desk: Desk) -> None:
    assert refusal(desk.block, {"card": "04ff"}, NOON_MS, on=True) == 404
    assert refusal(desk.block, {"cardholder": "nobody"}, NOON_MS, on=True) == 404
    assert refusal(desk.block, {}, NOON_MS, on=True) == 400
    blocked = desk.block({"cardholder": CARDHOLDER}, NOON_MS, on=True).answer
    # Card, wristband, a fob of each, and a card that proves itself.
    assert blocked == {"cards": 5, "blocked": True}
    uid = next(str(card["uid"]) for card in desk.cards() if card["label"] == "poor")
    assert desk.block({"card": uid.upper()}, NOON_MS, on=True).answer["cards"] == 1


def test_the_feed_and_the_facts_are_read_from_where_one_stopped(core: CityCore, desk: Desk) -> None:
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    gate.opened()
    gate.access()
    gate.passage(PassageResult.NOT_TAKEN)
    gate.passage()
    gate.passage(cardholder=f"{SITE}c0002")
    gate.send_all()
    feed = desk.feed(0)
    assert [line["cardholder"] for line in feed] == [f"{SITE}c0001", f"{SITE}c0002"]
    assert feed[0]["text"].endswith(" came 12:00") and feed[0]["kind"] == "came"
    assert desk.feed(feed[0]["id"]) == feed[1:]
    assert desk.feed(feed[1]["id"]) == []
    facts = desk.facts("gate-1", "main", EPOCH, 2)
    assert facts == gate.facts[2:]
    assert digest_of(facts[-1]) == desk.status()["cursors"][0]["digest"]
    assert refusal(desk.facts, "gate-1", "main", "x", 0) == 400
    assert refusal(desk.facts, "gate-1", "side", EPOCH, 0) == 400
    ledger = desk.ledger()
    assert ledger["zero"] and ledger["sum_minor_by_purse"] == {"main": 0}


def test_keys_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    now = datetime(2025, 9, 9, tzinfo=UTC)
    keys = open_keys(tmp_path / "k", SITE, now)
    again = open_keys(tmp_path / "k", SITE, now)
    assert again.scopes == keys.scopes and again.root_document == keys.root_document
    scopes = {CITY_SCOPE, *(f"{SITE}/{part}" for part in PARTS)}
    assert again.signing == keys.signing and set(keys.scopes) == scopes
    for path in (tmp_path / "k").iterdir():
        if path.name != "chain.pem":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o700
    secrets = [keys.signing["list"].seed, keys.scopes[f"{SITE}/people"].seal]
    assert not any(repr(secret) in repr(keys) for secret in secrets)
    with pytest.raises(SetupProblem, match="of site s0001"):
        open_keys(tmp_path / "k", "s0002", now)
    (tmp_path / "k" / "keys.json").write_text("{}")
    with pytest.raises(SetupProblem, match="restore the folder"):
        open_keys(tmp_path / "k", SITE, now)


def test_a_server_certificate_serves_and_no_more(core: CityCore) -> None:
    pem, _ = issue_server(core.keys, ("localhost", "127.0.0.1"), utc(NOON_MS))
    leaf, issuing = x509.load_pem_x509_certificates(pem.encode())
    leaf.verify_directly_issued_by(issuing)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


@pytest.mark.parametrize("per_s", [0, -1, True, 2.5, "20", 10**6])
def test_a_throttle_is_facts_a_second_or_none(core: CityCore, desk: Desk, per_s: object) -> None:
    till = Sham(core, "till-1")
    till.opened()
    assert desk.throttle({"per_s": 20}).answer == {"per_s": 20}
    assert till.send_all().throttle_per_s == 20
    assert refusal(desk.throttle, {"per_s": per_s}) == 400
    assert till.send_all().throttle_per_s == 20, "what is refused changes nothing"
    assert desk.throttle({}).answer == {"per_s": None}
    assert till.send_all().throttle_per_s is None
