"""Goal: a device that takes snapshots and deltas in any way holds exactly what the city holds.

Method: a picture in the test verifies every signature and hash, applies deltas only on their base
and recomputes the set digest from its rows. Changes are drawn by hypothesis and heard, missed or
pulled. For money, each version's balances must be the opening balances less exactly those sales
that its own vector includes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    CHUNK_BYTES_MAX,
    AccountRow,
    CredentialRow,
    Delta,
    HotRow,
    Pull,
    PushKeys,
    PushManifest,
    Row,
    SaleFact,
    SealedKeys,
    Signed,
    Stream,
    VersionMark,
    decode_fact,
    decode_pack,
    decode_push,
    encode_json,
)
from edge.model import Station
from hil.city.chunks import pack_chunks, unpack_rows
from hil.city.crypto import credential_id
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.lists import HEAD_REFRESH_MS
from hil.city.parents import ParentDesk
from hil.city.store import StreamKey
from tests.city.sham import EPOCH, NOON_MS, SITE, Picture, Sham, make_core, small_school

CARDHOLDER, CREDENTIAL, HOT, ACCOUNT, PRODUCT, SITE_KIND, SCHEDULE, ROSTER = (
    *(1, 2, 3, 16),
    *(32, 48, 49, 50),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def till(core: CityCore) -> Sham:
    return Sham(core, "till-1")


@pytest.fixture
def desk(core: CityCore) -> Desk:
    return Desk(core, ())


def test_a_snapshot_is_the_school(core: CityCore, till: Sham) -> None:
    school = small_school()
    pictures = {part: Picture(till, f"{SITE}/{part}") for part in ("people", "money", "menu")}
    for picture in pictures.values():
        picture.fetch()
    people = pictures["people"]
    kinds = [kind for kind, _ in people.rows]
    assert kinds.count(CARDHOLDER) == len(school.people)
    cards = (*school.cards, *school.smart_cards, *school.later_cards)
    known = [card for card in cards if card.cardholder_id is not None]
    assert kinds.count(CREDENTIAL) == len(known)
    key = core.keys.scopes[f"{SITE}/people"].identifier
    for card in known:
        identifier = credential_id(key, card.uid_kind, card.uid)
        assert (
            people.body(CREDENTIAL, identifier, CredentialRow).cardholder_id == card.cardholder_id
        )
        assert ((HOT, identifier) in people.rows) is (card.hot != "")
    stranger = school.characters["stranger"]
    identifier = credential_id(key, stranger.uid_kind, stranger.uid)
    assert (CREDENTIAL, identifier) not in people.rows
    for account in school.accounts:
        money = pictures["money"].body(ACCOUNT, account.account_id, AccountRow)
        assert money.balance_minor_by_purse == {"main": account.balance_minor}
        assert money.banned_categories == account.banned_categories
        assert money.day_limit_minor == account.day_limit_minor
    assert [kind for kind, _ in pictures["menu"].rows] == [PRODUCT] * 60


def test_no_name_stands_open_in_any_list(core: CityCore) -> None:
    bodies = b"".join(row[0] for row in core.store.rows("SELECT body FROM list_row"))
    for person in small_school().people:
        assert person.name.encode() not in bodies
    for card in small_school().cards:
        assert card.uid not in bodies


def test_a_block_is_one_small_delta_at_once(core: CityCore, till: Sham, desk: Desk) -> None:
    people = Picture(till, f"{SITE}/people")
    people.fetch()
    outs = list(desk.block({"card": "pupil"}, NOON_MS, on=True).outs)
    topics = [out.topic.removeprefix("mk/v1/s/") for out in outs]
    assert topics[:2] == [f"{SITE}/people/delta", f"{SITE}/people/head"]
    assert topics[2:] == ["city/museum/delta", "city/museum/head"]  # A pupil: its row goes there.
    delta = decode_pack(Delta, decode_pack(Signed, outs[0].payload).payload)
    assert [row.kind for row in delta.upserts] == [HOT] and len(outs[0].payload) < 400
    people.hear(outs)
    card = small_school().characters["pupil"]
    key = core.keys.scopes[f"{SITE}/people"].identifier
    identifier = credential_id(key, card.uid_kind, card.uid)
    assert people.body(HOT, identifier, HotRow).why == "blocked"
    people.hear(list(desk.block({"card": "pupil"}, NOON_MS, on=False).outs))
    assert (HOT, identifier) not in people.rows
    assert desk.block({"card": "pupil"}, NOON_MS, on=False).outs == ()


def test_who_missed_deltas_pulls_exactly_those(till: Sham, desk: Desk) -> None:
    people = Picture(till, f"{SITE}/people")
    people.fetch()
    start = people.version
    for card in ("pupil", "poor", "staff"):
        desk.block({"card": card}, NOON_MS, on=True)
    outs = till.pull(people.scope, have=start)
    assert [out.topic.rpartition("/")[2] for out in outs] == ["push"] * 3
    people.fetch()
    assert people.version == VersionMark(1, 4)


def test_who_has_the_newest_hears_the_head_again(till: Sham) -> None:
    menu = Picture(till, f"{SITE}/menu")
    menu.fetch()
    (out,) = till.pull(menu.scope, have=menu.version)
    assert out.retain and menu.check(out.payload).version == menu.version


@pytest.mark.parametrize("have", [VersionMark(1, 99), VersionMark(2, 1), VersionMark(1, -4)])
def test_who_holds_what_never_was_gets_a_snapshot(till: Sham, have: VersionMark) -> None:
    (out,) = till.pull(f"{SITE}/menu", have=have)
    assert isinstance(decode_push(out.payload), PushManifest)


def test_a_long_chain_gives_way_to_a_new_snapshot(till: Sham, desk: Desk) -> None:
    people = Picture(till, f"{SITE}/people")
    people.fetch()
    for _ in range(40):
        desk.block({"card": "pupil"}, NOON_MS, on=True)
        desk.block({"card": "pupil"}, NOON_MS, on=False)
    fresh = Picture(till, f"{SITE}/people")
    outs = till.pull(fresh.scope)
    assert [out.topic.rpartition("/")[2] for out in outs] == ["push", "head"]
    fresh.fetch()
    people.fetch()
    assert (fresh.version, fresh.rows) == (people.version, people.rows)


def test_a_chain_heavier_than_a_snapshot_gives_way_to_it(core: CityCore, till: Sham) -> None:
    menu = Picture(till, f"{SITE}/menu")
    menu.fetch()
    for price_minor in range(1, 11):
        with core.store.transaction():
            core.store.execute("UPDATE product SET price_minor = ?", (price_minor,))
            core.publisher.refresh("menu", NOON_MS)
    pushes = [decode_push(out.payload) for out in till.pull(menu.scope, have=menu.version)[:1]]
    assert isinstance(pushes[0], PushManifest)
    menu.fetch()
    assert menu.version == VersionMark(1, 11)


def test_a_change_too_big_for_one_message_is_a_snapshot_and_no_delta(
    core: CityCore, till: Sham
) -> None:
    menu = Picture(till, f"{SITE}/menu")
    menu.fetch()
    with core.store.transaction():
        # Incompressible names: 60 products of 3 KiB each.
        for (product,) in core.store.rows("SELECT product FROM product"):
            name = core.store.rows("SELECT hex(randomblob(1500))")[0][0]
            core.store.execute("UPDATE product SET name = ? WHERE product = ?", (name, product))
        outs = core.publisher.refresh("menu", NOON_MS)
    assert [out.topic.rpartition("/")[2] for out in outs] == ["head"]
    head = menu.check(outs[0].payload)
    assert head.version == head.snapshot_version == VersionMark(1, 2)
    menu.fetch()
    assert menu.version == head.version
    menu.hear(outs)


def test_chunks_fit_their_message_and_give_the_rows_back() -> None:
    assert [unpack_rows(chunk) for chunk in pack_chunks([])] == [[]]
    noise = [
        Row(1, n.to_bytes(4, "big"), bytes((n * k) % 251 for k in range(3000))) for n in range(300)
    ]
    chunks = list(pack_chunks(noise))
    assert len(chunks) > 1 and max(map(len, chunks)) <= CHUNK_BYTES_MAX
    assert [row for chunk in chunks for row in unpack_rows(chunk)] == noise


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_deltas_reproduce_the_snapshot(folder: Path, data: st.DataObject) -> None:
    """One picture hears everything, one misses at random and pulls, one comes at the end."""
    core = make_core(folder)
    till, desk = Sham(core, "till-1"), Desk(core, ())
    scopes = [f"{SITE}/people", f"{SITE}/money"]
    hearing = [Picture(till, scope) for scope in scopes]
    missing = [Picture(till, scope) for scope in scopes]
    for picture in (*hearing, *missing):
        picture.fetch()
    labels = st.sampled_from(("pupil", "poor", "staff", "blocked", "guardian"))
    pupils = st.integers(1, 5).map(lambda n: f"{SITE}c{n:04d}")
    for _ in range(data.draw(st.integers(0, 12))):
        what = data.draw(st.sampled_from(("block", "unblock", "top_up", "ban", "limit", "pull")))
        if what in ("block", "unblock"):
            done = desk.block({"card": data.draw(labels)}, NOON_MS, on=what == "block")
        elif what == "top_up":
            done = desk.top_up({"cardholder": data.draw(pupils), "amount_minor": 100}, NOON_MS)
        elif what == "ban":
            request = {"cardholder": data.draw(pupils), "category": "pastry"}
            done = desk.ban({**request, "on": data.draw(st.booleans())}, NOON_MS)
        elif what == "limit":
            limit = data.draw(st.sampled_from((None, 0, 100_00)))
            wish = {"cardholder": data.draw(pupils), "day_limit_minor": limit}
            done = ParentDesk(core, desk).limit(wish, NOON_MS)
        else:
            for picture in missing:
                picture.fetch()
            continue
        for picture in hearing:
            picture.hear(list(done.outs))
    for scope, heard, missed in zip(scopes, hearing, missing, strict=True):
        missed.fetch()
        fresh = Picture(till, scope)
        fresh.fetch()
        assert heard.rows == missed.rows == fresh.rows
        assert heard.version == missed.version == fresh.version
        assert heard.vector == missed.vector == fresh.vector
    core.store.close()


# -------------------------------------------------------------------------------------- money


def included(till: Sham, picture: Picture, account: str) -> int:
    """What the facts up to the picture's vector have taken from the account."""
    up_to = {(e.device, e.stream, e.epoch): e.sequence for e in picture.vector}
    key = StreamKey(device=till.device, stream=Stream.MAIN, epoch=EPOCH)
    facts = till.facts[: up_to.get(key.parts, 0)]
    sales = [fact for fact in map(decode_fact, facts) if isinstance(fact, SaleFact)]
    return sum(sale.total_minor for sale in sales if sale.account == account)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_money_version_agrees_with_its_own_vector(folder: Path, data: st.DataObject) -> None:
    core = make_core(folder, gather_ms=data.draw(st.sampled_from((0, 2_000))))
    tills = [Sham(core, "till-1"), Sham(core, "till-2")]
    for till in tills:
        till.opened()
        for number in data.draw(st.lists(st.integers(1, 4), max_size=12)):
            till.sale(number)
    picture = Picture(tills[0], f"{SITE}/money")
    picture.fetch()
    opening = {account.account_id: account.balance_minor for account in small_school().accounts}

    def check() -> None:
        for number in range(1, 5):
            account = f"{SITE}a{number:04d}"
            taken = sum(included(till, picture, account) for till in tills)
            body = picture.body(ACCOUNT, account, AccountRow)
            assert body.balance_minor_by_purse["main"] == opening[account] - taken
            assert body.spent_day_minor == taken
            assert body.spent_date == ("2025-09-09" if taken else "")

    sent, now_ms = [0, 0], NOON_MS
    for _ in range(data.draw(st.integers(1, 12))):
        now_ms += data.draw(st.sampled_from((0, 500, 2_000)))
        number = data.draw(st.integers(0, 1))
        till, first = tills[number], sent[number] + 1
        outs = []
        if first <= len(till.facts):
            last = data.draw(st.integers(first, len(till.facts)))
            topic = f"mk/v1/d/{till.device}/up/main"
            outs = core.receive(topic, till.batch(first, last), now_ms)
            sent[number] = last
        outs += core.tick(now_ms)
        picture.hear(outs)
        check()
    picture.hear(core.tick(now_ms + 2_000))
    check()
    vector = {entry.device: entry.sequence for entry in picture.vector}
    assert vector == {till.device: n for till, n in zip(tills, sent, strict=True) if n}
    core.store.close()


def test_money_waits_for_company_and_no_longer(folder: Path) -> None:
    core = make_core(folder, gather_ms=2_000)
    desk = Desk(core, ())
    request = {"cardholder": f"{SITE}c0001", "amount_minor": 100}
    assert desk.top_up(request, NOON_MS).outs == ()
    assert core.tick(NOON_MS + 1_999) == []
    outs = core.tick(NOON_MS + 2_000)
    assert [out.topic for out in outs] == [f"mk/v1/s/{SITE}/money/{n}" for n in ("delta", "head")]
    assert core.tick(NOON_MS + 9_000) == []
    # A ban does not wait, and takes with it what does.
    desk.top_up(request, NOON_MS + 10_000)
    ban = {"cardholder": f"{SITE}c0002", "category": "chocolate"}
    outs = list(desk.ban(ban, NOON_MS + 10_001).outs)
    delta = decode_pack(Delta, decode_pack(Signed, outs[0].payload).payload)
    assert len(delta.upserts) == 2


def test_a_till_hears_that_its_refusals_are_included_too(core: CityCore, till: Sham) -> None:
    """Else it could never drop facts that moved no money."""
    picture = Picture(till, f"{SITE}/money")
    picture.fetch()
    till.opened()
    till.access()
    outs = core.receive("mk/v1/d/till-1/up/main", till.batch(1, 2), NOON_MS)
    picture.hear(outs)
    assert [(entry.device, entry.sequence) for entry in picture.vector] == [("till-1", 2)]


def test_heads_are_issued_anew_and_stay_the_same_version(core: CityCore, till: Sham) -> None:
    assert core.tick(NOON_MS + HEAD_REFRESH_MS - 1) == []
    outs = core.tick(NOON_MS + HEAD_REFRESH_MS)
    assert len(outs) == 5 and all(out.retain for out in outs)
    menu = Picture(till, f"{SITE}/menu")
    head = next(menu.check(out.payload) for out in outs if "/menu/" in out.topic)
    assert head.issued_utc_ms == NOON_MS + HEAD_REFRESH_MS


# --------------------------------------------------------------------------- roles and keys


def test_an_entrance_may_not_read_money(core: CityCore) -> None:
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    assert gate.answer["scopes"] == [f"{SITE}/people", f"{SITE}/settings"]
    assert gate.pull(f"{SITE}/money") == []
    request = Pull(device="gate-1", keys=(f"{SITE}/people", f"{SITE}/money"))
    assert core.receive("mk/v1/d/gate-1/pull", encode_json(request), NOON_MS) == []


def test_scope_keys_come_sealed_for_this_device_alone(core: CityCore, till: Sham) -> None:
    scope = f"{SITE}/people"
    request = Pull(device="till-1", keys=(scope,))
    (out,) = core.receive("mk/v1/d/till-1/pull", encode_json(request), NOON_MS)
    push = decode_push(out.payload)
    assert isinstance(push, PushKeys)
    opened = {}
    assert push.signed.key_id == core.keys.signing["list"].key_id
    told = decode_pack(SealedKeys, push.signed.payload)
    assert told.device == "till-1"
    for key in told.keys:
        form, point, nonce, sealed = (
            *(key.sealed[:1], key.sealed[1:66]),
            *(key.sealed[66:78], key.sealed[78:]),
        )
        assert form == b"\x01"
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        mine = till.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        derived = HKDF(
            algorithm=hashes.SHA256(), length=32, salt=point + mine, info=b"moskvenok/v1/scope-key"
        ).derive(till.key.exchange(ec.ECDH(), public))
        associated = f"{scope}\0{key.purpose}\0{key.version}".encode()
        opened[key.purpose] = AESGCM(derived).decrypt(nonce, sealed, associated)
    mine_keys = core.keys.scopes[scope]
    assert opened == {"identifier": mine_keys.identifier, "seal": mine_keys.seal}


def test_the_roster_names_every_enrolled_device(core: CityCore, till: Sham) -> None:
    Sham(core, "gate-1", Station.ENTRANCE)
    picture = Picture(till, f"{SITE}/settings")
    picture.fetch()
    assert {key for kind, key in picture.rows if kind == ROSTER} == {b"till-1", b"gate-1"}
    assert (SITE_KIND, b"site") in picture.rows
    assert (SCHEDULE, b"always") in picture.rows


def test_a_restart_publishes_nothing_new(folder: Path, tmp_path: Path) -> None:
    core = make_core(folder, path=tmp_path / "city.db")
    Sham(core, "till-1")
    before = json.dumps(Desk(core, ()).status()["versions"])
    core.store.close()
    again = make_core(folder, path=tmp_path / "city.db")
    assert json.dumps(Desk(again, ()).status()["versions"]) == before
    again.store.close()
