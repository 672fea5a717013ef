"""Orders of the city, as edge answers them: judge, record the answer, then act.

sync has checked the signature, the device and the window; the window and the counter are checked
again here, for an order may have waited. The answer is a fact with the counter, recorded before
acting; what came of it is a further fact. An accepted order that nothing came of because the
process ended is not acted on later: `not_done`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge import logs
from edge.gate import Gate
from edge.messages import Order, OrderAnswer, OrderOutcome, decode_json, digest_of
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal

OPEN_ONCE = "open_once"


def judge(order: Order, *, moment: Moment, access_points: frozenset[str]) -> str:
    """Why the order is refused, or "" when it is accepted. Pure."""
    if order.order != OPEN_ONCE:
        return "unknown_order"
    if order.access_point not in access_points:
        return "not_here"
    if not moment.clock_trusted:
        return "clock"
    if moment.wall_ms < order.not_before_utc_ms:
        return "early"
    if moment.wall_ms >= order.not_after_utc_ms:
        return "late"
    return ""


class Orders:
    """Takes what waits in the inbox, one by one, in the order of their counters."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        gates: Mapping[str, Gate],
        count: Callable[[str], None],
    ) -> None:
        self._cache = cache
        self._journal = journal
        self._gates = gates
        self._count = count
        self._log = logs.get("orders")

    def take(self, moment: Moment) -> None:
        """Answer what waits. What cannot be recorded is not acted on, and asked again later."""
        try:
            waiting = self._cache.waiting_orders(self._journal.last_counter())
            for counter, payload in waiting:
                self._answer(counter, payload, moment)
        except (DeviceFault, CorruptData) as problem:
            self._count("orders_failed")
            self._log.error("cannot answer orders", reason=str(problem))

    def close_unacted(self, moment: Moment) -> None:
        """At start: accepted before the process ended, and nothing came of it."""
        for counter in self._journal.unacted_orders():
            self._record_outcome(counter, moment, done=False, why="restarted")

    def _answer(self, counter: int, payload: bytes, moment: Moment) -> None:
        order = decode_json(Order, payload)
        assert order.counter == counter
        why = judge(order, moment=moment, access_points=frozenset(self._gates))
        with self._journal.record(moment, order_digest=digest_of(payload)) as answering:
            key = answering.add(
                OrderAnswer(
                    **answering.stamp(moment),
                    counter=counter,
                    order=order.order,
                    accepted=not why,
                    why=why,
                    access_point=order.access_point,
                )
            )
        self._count("orders_refused" if why else "orders_accepted")
        if why:
            return
        assert order.access_point is not None
        opened = self._gates[order.access_point].open_once(key, moment)
        self._record_outcome(counter, moment, done=opened, why="" if opened else "lane_busy")

    def _record_outcome(self, counter: int, moment: Moment, *, done: bool, why: str) -> None:
        with self._journal.record(moment) as ending:
            ending.add(OrderOutcome(**ending.stamp(moment), counter=counter, done=done, why=why))
