"""A till's facts that a neighbour brings for it: taken by the till's own signature, else not.

The batch is what the till published to its peers, so whoever carries it can change nothing. It
goes the way of every batch; its key keeps a fact from counting twice.
"""

from __future__ import annotations

from edge.messages import PeerKind, Stream, decode_peer
from edge.model import CorruptData, Station
from hil.city.batches import Batches, Sender
from hil.city.crypto import signed_by_device
from hil.city.lists import Out
from hil.city.store import Store


class HandIn:
    """Keeps to the transaction of the caller."""

    def __init__(self, store: Store, batches: Batches) -> None:
        self._store = store
        self._batches = batches

    def receive(self, sender: Sender, other: str, payload: bytes, now_ms: int) -> list[Out]:
        """The acknowledgement, for who brought it. `CorruptData` when it proves nothing."""
        row = self._store.one("SELECT site, station, public_key FROM device WHERE device = ?",
                              (other,))  # fmt: skip
        if row is None or (row[0], row[1]) != (sender.site, Station.TILL.value):
            raise CorruptData("hand-in: for a device that is no till of the same school")
        if sender.station is not Station.TILL:
            raise CorruptData("hand-in: by a device that is no till")
        signed = decode_peer(payload)
        if signed.key_id != other or not signed_by_device(row[2], PeerKind.SPEND, signed):
            raise CorruptData("hand-in: not signed by the till that it is for")
        # Revoked or not: what it sold while it belonged to the school was sold.
        owner = Sender(device=other, site=row[0], station=Station.TILL)
        outs = self._batches.receive(owner, Stream.MAIN.value, signed.payload, now_ms)
        return [out._replace(topic=f"mk/v1/d/{sender.device}/ack") for out in outs]
