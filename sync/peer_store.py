"""What the kernel of the school's own network wants kept -> one transaction of `sync.db`."""

from __future__ import annotations

from collections.abc import Iterable

from edge.model import Moment
from edge.offline_cache import peers
from edge.offline_cache.store import Connection, Writer
from sync.peer_answers import (
    Cover,
    Forget,
    Heard,
    MoveLife,
    StoreAnswer,
    TakeFacts,
    TakeReport,
    TakeSides,
)


def keep(writer: Writer, answers: Iterable[StoreAnswer], moment: Moment) -> None:
    """All of them or none; on disk when this returns."""
    with writer.transaction() as db:
        for answer in answers:
            _keep(db, answer, moment)


def _keep(db: Connection, answer: StoreAnswer, moment: Moment) -> None:
    match answer:
        case TakeFacts():
            peers.move_life(
                db,
                answer.device,
                answer.epoch,
                after=answer.after,
                up_to=answer.up_to,
                digest=answer.digest,
            )
            peers.take_facts(
                db,
                answer.device,
                answer.epoch,
                first=answer.first,
                facts=answer.facts,
                batch=(answer.batch_first, answer.batch_last),
                header=answer.header,
                signature=answer.signature,
            )
        case MoveLife(device=device, epoch=epoch, after=after, up_to=up_to, digest=digest):
            peers.move_life(db, device, epoch, after=after, up_to=up_to, digest=digest)
        case TakeSides(device=device, epoch=epoch, up_to=up_to, facts=facts):
            peers.take_sides(db, device, epoch, up_to, facts)
        case TakeReport(device=device, beat=beat):
            peers.store_report(db, device, beat)
        case Cover(device=device, store=store, epoch=epoch, up_to=up_to):
            peers.store_cover(db, device, store, epoch, up_to)
        case Heard(until_ms=until_ms):
            peers.store_heard(db, until_ms, moment.boot)
        case Forget(device=device):
            peers.forget(db, device)
