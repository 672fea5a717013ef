"""Goal: what a till sold reaches the books though only a neighbour can bring it, and no neighbour
can put a word into a till's mouth.

Method: two tills of the sham city and one batch, signed by the one and brought by the other; then
by whom, for whom and signed by whom it should not be; then by the till itself as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edge.messages import Ack, PeerKind, decode_json, encode_peer, peer_signing_input
from edge.model import Station
from hil.city.intake import CityCore
from tests.city.sham import NOON_MS, SITE, Sham, make_core


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


def signed(by: Sham, payload: bytes, *, name: str = "", kind: PeerKind = PeerKind.SPEND) -> bytes:
    """As the till has published it in its school."""
    signature = by.key.sign(peer_signing_input(kind, payload), ec.ECDSA(hashes.SHA256()))
    return encode_peer(payload, name or by.device, signature)


def bring(carrier: Sham, device: str, data: bytes) -> Ack | None:
    """The carrier's acknowledgement, if there is one."""
    outs = carrier.core.receive(f"mk/v1/d/{carrier.device}/up/for/{device}", data, NOON_MS)
    acks = [out.payload for out in outs if out.topic == f"mk/v1/d/{carrier.device}/ack"]
    assert not [out for out in outs if out.topic == f"mk/v1/d/{device}/ack"]
    return decode_json(Ack, acks[0]) if acks else None


def balance(core: CityCore, number: int = 1) -> int:
    return core.ledger.balances(f"{SITE}a{number:04d}")["main"]


def test_a_neighbour_brings_what_a_dead_till_sold_and_it_counts_once(core: CityCore) -> None:
    dead, alive = Sham(core, "till-1"), Sham(core, "till-2")
    dead.opened()
    before = balance(core)
    dead.sale(1, 100)
    dead.sale(1, 20)
    ack = bring(alive, dead.device, signed(dead, dead.batch(1, 2)))
    assert ack is not None and (ack.device, ack.up_to, ack.problem) == (dead.device, 2, "")
    assert balance(core) == before - 100
    # A hole is asked for as ever; and the till itself comes back with all it has.
    dead.sale(1, 3)
    ahead = bring(alive, dead.device, signed(dead, dead.batch(4, 4)))
    assert ahead is not None and (ahead.up_to, ahead.rewind) == (2, True)
    late = bring(alive, dead.device, signed(dead, dead.batch(3, 3)))
    assert late is not None and late.up_to == 3
    assert dead.send_all().up_to == 4
    assert balance(core) == before - 123
    assert not {row[0] for row in core.store.rows("SELECT what FROM alarm")}


def test_what_it_sold_before_it_was_revoked_was_sold(core: CityCore) -> None:
    dead, alive = Sham(core, "till-1"), Sham(core, "till-2")
    dead.opened()
    with core.store.transaction():
        core.store.execute("UPDATE device SET revoked_ms = 1 WHERE device = ?", (dead.device,))
    ack = bring(alive, dead.device, signed(dead, dead.batch(1, 1)))
    assert ack is not None and ack.up_to == 1


def test_nobody_speaks_for_a_till_but_the_till(core: CityCore) -> None:
    dead, alive = Sham(core, "till-1"), Sham(core, "till-2")
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    dead.opened()
    before = balance(core)
    dead.sale(1, 100)
    payload = dead.batch(1, 2)
    good = signed(dead, payload)
    for carrier, device, data in (
        (alive, dead.device, signed(alive, payload)),
        (alive, dead.device, signed(alive, payload, name=dead.device)),
        (alive, dead.device, signed(dead, payload, kind=PeerKind.SIDE)),
        (alive, dead.device, good.replace(b'"total_minor":100', b'"total_minor":900')),
        (alive, dead.device, payload),
        (alive, dead.device, b""),
        (alive, alive.device, good),
        (alive, "till-9", good),
        (alive, gate.device, signed(gate, payload, name=gate.device)),
        (gate, dead.device, good),
    ):
        assert bring(carrier, device, data) is None
    assert balance(core) == before
    assert not core.store.rows("SELECT 1 FROM fact")
    alarms = core.store.rows("SELECT device FROM alarm WHERE what = 'corrupt_up'")
    assert {device for (device,) in alarms} == {alive.device, gate.device}
