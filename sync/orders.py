"""Orders of the city that sync carries out itself: lists, identity, logs, releases, itself.

The same rules as edge's (`edge/orders.py`): judge, record the answer in the `agent` stream, then
act; what came of it is a further fact. Some take a while: they stay open until `finish`, or until
their time is over. What was open when the process ended is closed as not done at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge import logs
from edge.messages import Order, OrderAnswer, OrderOutcome, decode_json
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache import standing
from edge.offline_cache.record import StreamWriter
from edge.order_rules import Here, Process, Word, carried_by, judge

OPEN_MS_MAX: Final = 15 * 60_000  # Our choice: a snapshot of a large city over a poor line.
# A release restarts us, on purpose; and it may come over a night of a poor line.
LASTING: Final = frozenset({Word.UPDATE})
LASTING_MS_MAX: Final = 24 * 60 * 60_000  # Our choice: of running time, after each start anew.

# "" is done, a word is why not, None is begun: `finish` follows.
Act = Callable[[Order, Moment], str | None]
Refuse = Callable[[Order, Moment], str]


class SyncOrders:
    """Takes what waits in the inbox and is sync's, in the order of the counters."""

    def __init__(
        self,
        agent: StreamWriter,
        *,
        here: Here,
        acts: Mapping[Word, tuple[Refuse, Act]],
        count: Callable[[str], None],
    ) -> None:
        self._agent = agent
        self._db = agent.writer.db
        self._here = here
        self._acts = acts
        self._count = count
        self._open = standing.open_orders(self._db)
        self._since_ms: dict[int, int] = {}
        self._log = logs.get("orders")

    @property
    def open(self) -> Mapping[int, str]:
        """Begun, and not ended yet: counter -> word."""
        return self._open

    def close_unacted(self, moment: Moment) -> None:
        """At start: accepted before the process ended, and nothing came of it. What lasts longer
        than a process goes on."""
        for counter, word in tuple(self._open.items()):
            if word in LASTING:
                self._since_ms[counter] = moment.mono_ms
            else:
                self.finish(counter, "restarted", moment)

    def take(self, moment: Moment) -> None:
        """Answer and carry out what waits. `DeviceFault`: not recorded, so not done either."""
        for counter, payload in standing.orders_after_answered(self._db):
            try:
                order = decode_json(Order, payload)
            except CorruptData as problem:
                # It holds up no other. edge refuses it, under its counter.
                self._count("orders_undecodable")
                self._log.error("an order cannot be read", counter=counter, reason=str(problem))
                order = None
            if order is not None and carried_by(order) is Process.SYNC:
                self._answer(order, moment)
            else:
                with self._agent.writer.transaction() as db:
                    standing.set_answered(db, counter)

    def step(self, moment: Moment) -> None:
        """What was begun and takes too long is over."""
        for counter, since_ms in tuple(self._since_ms.items()):
            lasting = self._open.get(counter) in LASTING
            if moment.mono_ms - since_ms >= (LASTING_MS_MAX if lasting else OPEN_MS_MAX):
                self.finish(counter, "timeout", moment)

    def finish(self, counter: int, why: str, moment: Moment) -> None:
        """What came of an order that was begun; `why` is empty when it was done."""
        if counter not in self._open:
            return  # Its time was over already.
        rest = {number: word for number, word in self._open.items() if number != counter}
        with self._agent.recording() as ending:
            standing.set_open_orders(ending.db, rest)
            ending.add(OrderOutcome(**ending.stamp(moment), counter=counter, done=not why, why=why))
        self._open = rest
        self._since_ms.pop(counter, None)

    def _answer(self, order: Order, moment: Moment) -> None:
        why = judge(order, moment=moment, here=self._here)
        refuse, act = self._acts[Word(order.order)]
        why = why or refuse(order, moment)
        begun = self._open if why else {**self._open, order.counter: order.order}
        with self._agent.recording() as answering:
            standing.set_answered(answering.db, order.counter)
            standing.set_open_orders(answering.db, dict(begun))
            answering.add(
                OrderAnswer(
                    **answering.stamp(moment),
                    counter=order.counter,
                    order=order.order,
                    accepted=not why,
                    why=why,
                )
            )
        self._open = begun
        self._count("orders_refused" if why else "orders_accepted")
        if why:
            return
        self._since_ms[order.counter] = moment.mono_ms
        try:
            came = act(order, moment)
        except DeviceFault as fault:
            self._log.error("an order failed", order=order.order, reason=str(fault))
            came = "failed"
        if came is not None:
            self.finish(order.counter, came, moment)


def never(_order: Order, _moment: Moment) -> str:
    """For orders that nothing stands against but the rules all share."""
    return ""
