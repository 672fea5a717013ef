"""Goal: keys can be rotated, devices renewed and revoked, and books restored while devices look on,
and a device that follows the wire is never left with what it cannot check or open.

Method: a sham device over the core. After each change it takes the root document as its broker
would bring it, verifies everything with the keys that names, and opens ids, names and secrets with
its own cryptography.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.messages import (
    AnyPush,
    CardholderRow,
    CredentialRow,
    DeviceRow,
    Head,
    Hello,
    Manifest,
    Pull,
    PushKeys,
    PushManifest,
    Renew,
    Renewed,
    Root,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    Welcome,
    b64u,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    digest_of,
    encode_json,
)
from edge.model import ClockQuality, CorruptData, SetupProblem, Station
from edge.trust import (
    FileKeyStore,
    Verifier,
    open_root,
    open_scope_keys,
    unseal_column,
    write_secret,
)
from hil.city.crypto import credential_id
from hil.city.desk import Desk, Refused
from hil.city.intake import ROOT_TOPIC, CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import CityKeys, open_keys, public_bytes, utc
from hil.city.lists import Out
from hil.city.seed import seed_school
from hil.city.store import Store
from tests.city.sham import NOON_MS, SITE, Picture, Sham, make_request, small_school

PEOPLE = f"{SITE}/people"
CARDHOLDER, CREDENTIAL, ROSTER, DEVICE = 1, 2, 50, 51


class Town:
    """A core with keys of its own, which tests rotate, and both its desks."""

    def __init__(self, folder: Path, *, path: Path | str = ":memory:") -> None:
        self.folder = folder
        self.keys: CityKeys = open_keys(folder, SITE, utc(NOON_MS))
        self.core = CityCore(Store(path), self.keys, gather_ms=0)
        seed_school(self.core, small_school(), NOON_MS)
        self.core.start(NOON_MS)
        self.desk = Desk(self.core, ())
        self.key_desk = KeyDesk(self.core, self.desk, folder)
        self.till = Sham(self.core, "till-1")

    def root(self) -> Root:
        """What is retained, checked with the key the device was enrolled with."""
        out = self.core.root()
        assert out.topic == ROOT_TOPIC and out.retain
        return open_root(self.keys.root_public, decode_signed_lines(out.payload))

    def verifier(self) -> Verifier:
        return Verifier(self.root())

    def picture(self, part: str = "people") -> Picture:
        picture = Following(self, f"{SITE}/{part}")
        picture.fetch()
        return picture

    def manifest(self, part: str) -> Manifest:
        push = decode_push(self.till.pull(f"{SITE}/{part}")[0].payload)
        assert isinstance(push, PushManifest)
        return decode_pack(Manifest, self.verifier().open(SignedWhat.MANIFEST, push.signed))

    def scope_keys(self) -> SealedKeys:
        request = Pull(device="till-1", keys=(PEOPLE,))
        (out,) = self.core.receive("mk/v1/d/till-1/pull", encode_json(request), NOON_MS)
        push = decode_push(out.payload)
        return self.opened_keys(push)

    def opened_keys(self, push: AnyPush) -> SealedKeys:
        assert isinstance(push, PushKeys)
        return decode_pack(SealedKeys, self.verifier().open(SignedWhat.KEYS, push.signed))


class Following(Picture):
    """A picture that verifies with the newest root document and not with the enrolled one."""

    def __init__(self, town: Town, scope: str) -> None:
        super().__init__(_Follower(town), scope)


class _Follower(Sham):
    def __init__(self, town: Town) -> None:
        self.core, self.device = town.core, "till-1"
        self._town = town

    def root(self) -> Root:
        return self._town.root()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path / "city")


def key_store(folder: Path, key: ec.EllipticCurvePrivateKey) -> FileKeyStore:
    path = folder / "device.key"
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return FileKeyStore(path)


def leaves(outs: tuple[Out, ...]) -> list[str]:
    return [out.topic.rpartition("/")[2] for out in outs]


# ------------------------------------------------------------------------------ signing keys


@pytest.mark.parametrize("role", ["list", "freshness", "order", "release"])
def test_a_new_signing_key_is_named_first_and_the_old_one_still_counts(
    town: Town, role: str
) -> None:
    old = town.keys.signing[role]
    before = town.root()
    done = town.key_desk.rotate({"key": role}, NOON_MS)
    root = town.root()
    assert leaves(done.outs)[0] == "root" and root.version == before.version + 1
    ids = [key.key_id for key in root.keys if key.role == role]
    assert ids == [f"{role}-2", f"{role}-1"]
    for part in ("people", "money", "menu", "settings"):
        assert town.picture(part).rows
    for out in done.outs[1:]:
        town.verifier().open(SignedWhat.HEAD, decode_signed_lines(out.payload))
    signed = old.sign(SignedWhat.ORDER, b"{}")
    if role == "order":
        assert town.verifier().open(SignedWhat.ORDER, signed) == b"{}"


def test_a_key_that_was_stolen_is_named_no_more_and_nothing_it_signed_is_left(town: Town) -> None:
    people = town.picture()
    town.desk.block({"card": "pupil"}, NOON_MS, on=True)
    old = town.keys.signing["list"]
    town.key_desk.rotate({"key": "list", "distrust": True}, NOON_MS)
    with pytest.raises(CorruptData):
        town.verifier().open(SignedWhat.DELTA, old.sign(SignedWhat.DELTA, b"x"))
    # The delta of the block was signed by it: whoever missed that gets a snapshot instead.
    people.fetch()
    assert people.rows == town.picture().rows
    assert town.manifest("people").version == people.version


def test_keys_survive_a_restart_and_are_never_reused(tmp_path: Path, town: Town) -> None:
    seeds = {town.keys.signing["order"].seed}
    for number in range(2, 5):
        town.key_desk.rotate({"key": "order"}, NOON_MS)
        seeds.add(town.keys.signing["order"].seed)
        assert town.keys.signing["order"].key_id == f"order-{number}"
    again = open_keys(tmp_path / "city", SITE, utc(NOON_MS))
    assert again.root_document == town.keys.root_document and len(seeds) == 4
    assert again.signing == town.keys.signing and again.root_version == 4
    assert "seed" not in repr(again) and b64u(next(iter(seeds))) not in repr(again)


def test_a_city_that_ended_between_key_and_books_catches_up(tmp_path: Path) -> None:
    """The key file is written first; the books follow whenever the city is next there."""
    path = tmp_path / "city.db"
    town = Town(tmp_path / "city", path=path)
    town.keys.rotate_scope(PEOPLE, "identifier")
    town.keys.rotate_signing("list", NOON_MS)
    town.core.store.close()
    core = CityCore(Store(path), open_keys(tmp_path / "city", SITE, utc(NOON_MS)), gather_ms=0)
    core.start(NOON_MS)
    town.core, town.keys = core, core.keys
    town.till.core = core
    assert town.manifest("people").identifier_key_version == 2
    _check_ids(town)
    core.store.close()


# -------------------------------------------------------------------------------- scope keys


def _check_ids(town: Town) -> None:
    people = town.picture()
    key = town.keys.scopes[PEOPLE].identifier
    for card in small_school().cards:
        if card.cardholder_id is not None:
            row = people.body(
                CREDENTIAL, credential_id(key, card.uid_kind, card.uid), CredentialRow
            )
            assert row.cardholder_id == card.cardholder_id


@pytest.mark.parametrize("purpose", ["identifier", "seal"])
def test_a_new_scope_key_comes_before_the_list_that_needs_it(
    town: Town, tmp_path: Path, purpose: str
) -> None:
    held = town.picture().version
    gate = Sham(town.core, "gate-1", Station.ENTRANCE)
    done = town.key_desk.rotate({"key": purpose}, NOON_MS)
    topics = [out.topic for out in done.outs]
    pushed = [topics.index(f"mk/v1/d/{device}/push") for device in ("gate-1", "till-1")]
    assert max(pushed) < topics.index(f"mk/v1/s/{PEOPLE}/head")
    assert f"mk/v1/s/{PEOPLE}/delta" not in topics  # A delta does not name its keys.
    manifest = town.manifest("people")
    assert held is not None and manifest.version.number == held.number + 1
    versions = {"identifier": manifest.identifier_key_version, "seal": manifest.seal_key_version}
    assert versions == {"identifier": 1, "seal": 1, purpose: 2}
    store = key_store(tmp_path, town.till.key)
    pushes = [out.payload for out in done.outs if out.topic == "mk/v1/d/till-1/push"]
    keys: list[ScopeKey] = []
    for payload in pushes:
        keys += town.opened_keys(decode_push(payload)).keys
    opened = open_scope_keys(store, PEOPLE, keys)
    assert opened is not None
    assert set(getattr(opened, purpose)) == {1, 2}  # The former too: older pictures need it.
    people = town.picture()
    for person in small_school().people[:20]:
        row = people.body(CARDHOLDER, person.cardholder_id, CardholderRow)
        name = unseal_column(
            opened.seal,
            row.sealed_name,
            scope=PEOPLE,
            row_key=person.cardholder_id.encode(),
            column="name",
        )
        assert name == person.name
    _check_ids(town)
    assert gate.device  # It was served as well.


def test_a_block_still_finds_its_card_after_the_ids_changed(town: Town) -> None:
    town.key_desk.rotate({"key": "identifier"}, NOON_MS)
    people = town.picture()
    people.hear(list(town.desk.block({"card": "pupil"}, NOON_MS, on=True).outs))
    card = small_school().characters["pupil"]
    key = town.keys.scopes[PEOPLE].identifier
    assert (3, credential_id(key, card.uid_kind, card.uid)) in people.rows


def test_only_keys_that_there_are_can_be_rotated(town: Town) -> None:
    for request in ({}, {"key": "root"}, {"key": 5}, {"key": "list", "distrust": "yes"}):
        with pytest.raises(Refused):
            town.key_desk.rotate(request, NOON_MS)
    assert town.root().version == 1


# ------------------------------------------------------------------------ list epoch, backups


def test_a_new_list_epoch_begins_at_one_above_everything(town: Town) -> None:
    people = town.picture()
    town.desk.block({"card": "pupil"}, NOON_MS, on=True)
    done = town.key_desk.raise_list_epoch(NOON_MS)
    assert leaves(done.outs) == ["root", "head", "head", "head", "head", "head"]
    assert town.root().list_epoch == 2
    head = decode_json(Head, decode_signed_lines(done.outs[1].payload).payload)
    assert (head.version.list_epoch, head.version.number) == (2, 1)
    people.fetch()
    assert people.version == head.version
    town.desk.block({"card": "poor"}, NOON_MS, on=True)
    people.fetch()
    assert people.version is not None and people.version.number == 2


def test_a_city_restored_from_a_backup_asks_again_and_ends_with_the_same_books(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path / "city", path=tmp_path / "city.db")
    till = town.till
    till.opened()
    for number in range(1, 4):
        till.sale(number)
    till.send(1, 3)
    town.key_desk.back_up({"name": "noon"}, NOON_MS)
    town.desk.order({"device": "till-1", "order": "identify"}, NOON_MS)
    assert till.send(4, 4).up_to == 4
    ledger = town.desk.ledger()
    done = town.key_desk.restore({"name": "noon"}, NOON_MS)
    assert done.answer["list_epoch"] == 2
    ack = till.send(4, 4)
    assert ack.up_to == 4  # It had 3 again, and takes the fourth once more.
    assert town.desk.ledger() == ledger
    # An order that was given since must not meet its own counter again.
    assert town.desk.order({"device": "till-1", "order": "identify"}, NOON_MS).answer["counter"] > 1
    with pytest.raises(Refused):
        town.key_desk.restore({"name": "never"}, NOON_MS)
    with pytest.raises(Refused):
        town.key_desk.back_up({"name": "../up"}, NOON_MS)
    town.core.store.close()


# ------------------------------------------------------------------- renewal, revocation, desk


def renew(town: Town, key: ec.EllipticCurvePrivateKey) -> Renewed:
    request = Renew(device="till-1", csr_pem=make_request(key, "somebody"))
    (out,) = town.core.receive("mk/v1/d/till-1/renew", encode_json(request), NOON_MS)
    assert out.topic == "mk/v1/d/till-1/renewed" and not out.retain
    return decode_json(Renewed, out.payload)


def say_hello(town: Town, key: ec.EllipticCurvePrivateKey) -> Welcome:
    hello = Hello(
        device="till-1",
        site=SITE,
        station=Station.TILL,
        boot="b",
        connection=1,
        nonce="n",
        software="s",
        clock=ClockQuality.NTP,
        streams=(),
        held={},
        keys={},
        key=digest_of(public_bytes(key.public_key())),
    )
    out, *_ = town.core.receive("mk/v1/d/till-1/hello", encode_json(hello), NOON_MS)
    return decode_json(Welcome, decode_signed_lines(out.payload).payload)


def test_a_renewed_key_counts_from_the_hello_that_names_it(town: Town, tmp_path: Path) -> None:
    old, new = town.till.key, ec.generate_private_key(ec.SECP256R1())
    renewed = renew(town, new)
    leaf = x509.load_pem_x509_certificate(renewed.certificate_pem.encode())
    assert leaf.subject.rfc4514_string() == "CN=till-1"
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificates(renewed.chain_pem.encode())[0])
    old_store, new_store = key_store(tmp_path, old), None
    assert open_scope_keys(old_store, PEOPLE, list(town.scope_keys().keys)) is not None
    say_hello(town, old)  # The answer was lost, or is not tried yet.
    assert open_scope_keys(old_store, PEOPLE, list(town.scope_keys().keys)) is not None
    renew(town, new)
    say_hello(town, new)
    (tmp_path / "new").mkdir()
    new_store = key_store(tmp_path / "new", new)
    assert open_scope_keys(new_store, PEOPLE, list(town.scope_keys().keys)) is not None
    with pytest.raises(CorruptData):
        open_scope_keys(old_store, PEOPLE, list(town.scope_keys().keys))


def test_a_bad_request_for_renewal_changes_nothing(town: Town) -> None:
    other = Renew(device="till-2", csr_pem=make_request(town.till.key))
    bad = Renew(device="till-1", csr_pem="x" * 20_000)
    for payload in (b"{", encode_json(other), encode_json(bad)):
        assert town.core.receive("mk/v1/d/till-1/renew", payload, NOON_MS) == []
    assert town.core.store.rows("SELECT next_key FROM device") == [(None,)]


def test_a_revoked_device_is_served_nothing_until_it_is_enrolled_anew(town: Town) -> None:
    till = town.till
    till.opened()
    done = town.key_desk.revoke({"device": "till-1"}, NOON_MS)
    assert done.devices_changed and town.desk.senders() == []
    certificate = x509.load_pem_x509_certificate(str(till.answer["certificate_pem"]).encode())
    assert town.desk.revoked_serials() == [certificate.serial_number]
    assert town.core.receive("mk/v1/d/till-1/up/main", till.batch(1, 1), NOON_MS) == []
    assert till.pull(PEOPLE) == []
    again = Sham(town.core, "till-2")
    settings = Picture(again, f"{SITE}/settings")
    settings.fetch()
    assert {key for kind, key in settings.rows if kind == ROSTER} == {b"till-2"}
    with pytest.raises(Refused):
        town.key_desk.revoke({"device": "ghost"}, NOON_MS)
    town.desk.make_claim(NOON_MS, "claim-again")
    town.desk.enrol(
        {
            "claim": "claim-again",
            "device_id": "till-1",
            "site_id": SITE,
            "station": "till",
            "csr_pem": make_request(ec.generate_private_key(ec.SECP256R1())),
        },
        NOON_MS,
    )
    assert till.send(1, 1).up_to == 1


def test_settings_from_afar_are_a_row_of_the_settings_list(town: Town) -> None:
    settings = town.picture("settings")
    for version, values in ((1, {"health_s": 30}), (2, {"endpoints": ["mqtts://a:1", "b"]})):
        done = town.desk.configure({"device": "till-1", "values": values}, NOON_MS)
        assert done.answer["version"] == version
        settings.hear(list(done.outs))
        row = settings.body(DEVICE, "till-1", DeviceRow)
        assert row.version == version and set(row.values) == set(values)
    for request in ({"device": "ghost", "values": {}}, {"device": "till-1", "values": 5}):
        with pytest.raises(Refused):
            town.desk.configure(request, NOON_MS)


def test_an_order_carries_its_arguments(town: Town) -> None:
    request = {"device": "till-1", "order": "log_level", "process": "sync", "level": "debug"}
    (out,) = town.desk.order({**request, "minutes": 5}, NOON_MS).outs
    assert b'"process":"sync"' in out.payload and b'"minutes":5' in out.payload


def test_keys_for_more_sites_are_added_to_the_folder(tmp_path: Path) -> None:
    first = open_keys(tmp_path / "k", SITE, utc(NOON_MS))
    both = open_keys(tmp_path / "k", SITE, utc(NOON_MS), more_sites=("s0002",))
    assert set(both.scopes) - set(first.scopes) == {
        f"s0002/{part}" for part in ("people", "money", "menu", "settings")
    }
    assert both.scopes[PEOPLE] == first.scopes[PEOPLE]
    with pytest.raises(SetupProblem):
        open_keys(tmp_path / "k", "s0002", utc(NOON_MS))
