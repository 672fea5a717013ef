"""Orders of the city, as edge carries them out: judge, record the answer, then act.

sync has checked signature, device and counter, and carries out some orders itself
(`edge/order_rules.py` says which). The window and the counter are checked again here, for an order
may have waited. The answer is a fact with the counter, recorded before acting; what came of it is
a further fact. An accepted order that nothing came of because the process ended is not acted on
later: `not_done`. What outlives the process (lockdown) is written with the fact that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edge import logs
from edge.gate import Gate
from edge.lasting import Lasting
from edge.messages import Order, OrderAnswer, OrderOutcome, decode_json, digest_of
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache import standing
from edge.offline_cache.lookup import Cache
from edge.offline_cache.outbox import RESTARTED
from edge.offline_cache.record import Journal
from edge.order_rules import Here, Process, Word, carried_by, judge


class Actions(Protocol):
    """What the agent does when an order asks for it. None of it fails or blocks."""

    def lock_down(self, on: bool, moment: Moment) -> None: ...

    def identify(self) -> None: ...

    def restart(self) -> None: ...

    def set_log_level(self, level: str, minutes: int, moment: Moment) -> None: ...


class Orders:
    """Takes what waits in the inbox, one by one, in the order of their counters."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        gates: Mapping[str, Gate],
        *,
        here: Here,
        actions: Actions,
        count: Callable[[str], None],
    ) -> None:
        self._cache = cache
        self._journal = journal
        self._gates = gates
        self._here = here
        self._actions = actions
        self._count = count
        self._passed = 0  # Orders up to here are answered, or sync's.
        self._failing = Lasting()
        self._log = logs.get("orders")

    def take(self, moment: Moment) -> None:
        """Answer what waits. What cannot be recorded is not acted on, and asked again later."""
        try:
            after = max(self._passed, self._journal.last_counter())
            for counter, payload in self._cache.waiting_orders(after):
                self._take_one(counter, payload, moment)
                self._passed = counter
            self._failing.over()
        except (DeviceFault, CorruptData) as problem:
            self._count("orders_failed")
            if self._failing.is_news(str(problem), now_ms=moment.mono_ms):
                self._log.error("cannot answer orders", reason=str(problem))

    def _take_one(self, counter: int, payload: bytes, moment: Moment) -> None:
        """One that cannot be read holds up no other: it is refused under its counter."""
        try:
            order = decode_json(Order, payload)
            if order.counter != counter:
                raise CorruptData(f"order {counter}: says that it is {order.counter}")
        except CorruptData as problem:
            self._count("orders_undecodable")
            self._log.error("an order cannot be read", counter=counter, reason=str(problem))
            self._record_answer(counter, "", payload, moment, why="undecodable")
            return
        if carried_by(order) is Process.EDGE:
            self._answer(order, payload, moment)

    def close_unacted(self, moment: Moment) -> None:
        """At start: accepted before the process ended, and nothing came of it."""
        for counter in self._journal.unacted_orders():
            self._record_outcome(counter, moment, RESTARTED)

    def _answer(self, order: Order, payload: bytes, moment: Moment) -> None:
        why = judge(order, moment=moment, here=self._here)
        point = order.access_point if not why else None
        key = self._record_answer(
            order.counter, order.order, payload, moment, why=why, access_point=point
        )
        if not why:
            self._act(order, key, moment)

    def _record_answer(
        self,
        counter: int,
        order: str,
        payload: bytes,
        moment: Moment,
        *,
        why: str,
        access_point: str | None = None,
    ) -> str:
        """`why` is empty when it is accepted. The answer's own key."""
        with self._journal.record(moment, order_digest=digest_of(payload)) as answering:
            key = answering.add(
                OrderAnswer(
                    **answering.stamp(moment),
                    counter=counter,
                    order=order[:64],
                    accepted=not why,
                    why=why,
                    access_point=access_point,
                )
            )
        self._count("orders_refused" if why else "orders_accepted")
        return key

    def _act(self, order: Order, key: str, moment: Moment) -> None:
        """Carry it out; `key` names the answer's fact."""
        match Word(order.order):
            case Word.OPEN_ONCE:
                assert order.access_point is not None
                gate = self._gates[order.access_point]
                shut = gate.shut_why or ("" if gate.open_once(key, moment) else "lane_busy")
                self._record_outcome(order.counter, moment, shut)
            case Word.LOCKDOWN_ON | Word.LOCKDOWN_OFF:
                on = order.order == Word.LOCKDOWN_ON
                self._record_outcome(order.counter, moment, "", lockdown=on)
                self._actions.lock_down(on, moment)
            case Word.IDENTIFY:
                self._actions.identify()
                self._record_outcome(order.counter, moment, "")
            case Word.SET_LOG_LEVEL:
                self._actions.set_log_level(order.level, order.minutes, moment)
                self._record_outcome(order.counter, moment, "")
            case Word.RESTART:
                # First the fact: afterwards there is nobody to write it.
                self._record_outcome(order.counter, moment, "")
                self._actions.restart()
            case word:
                raise AssertionError(f"{word} is carried out by sync")

    def _record_outcome(
        self, counter: int, moment: Moment, why: str, *, lockdown: bool | None = None
    ) -> None:
        """`why` is empty when it was done. A lockdown is on disk in the same moment."""
        with self._journal.record(moment) as ending:
            if lockdown is not None:
                standing.set_lockdown(ending.db, lockdown)
            ending.add(OrderOutcome(**ending.stamp(moment), counter=counter, done=not why, why=why))
