"""Goal: tills with their real journals, stores and lookups around the reference city's own books:
whatever is lost, late, doubled, cut off, killed or put back from an image, an account goes below
zero by (N - 1) CAP at most (an image put back: by once more the cap), and when the faults stop all
agree to the kopeck and every fact is booked once.

Method: a hypothesis state machine over `tests/support/till_town.py`. edge and sync of each till
are stepped, killed and put back apart. After every step the bound; at the end everything is said
again until nothing is new, and the city's ledger is compared with a book that no fault reaches.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from edge.messages import Stream
from edge.offline_cache import outbox
from edge.pos import decision
from hil.city.debits import Debits
from tests.city.sham import NOON_MS
from tests.support.till_town import ANNS, Town

NIGHTLY = bool(os.environ.get("NIGHTLY"))
TILL = st.integers(0, 3)


class Tills(RuleBasedStateMachine):
    """`tills` is fixed by the test; None draws it."""

    tills: int | None = None
    keys: Path

    @initialize(count=st.sampled_from((1, 2, 2, 3, 4)), spent=st.integers(9, 17))
    def open(self, count: int, spent: int) -> None:
        """Most of the money is gone at the first till, and everybody knows."""
        self.made = tempfile.TemporaryDirectory(dir=self.keys)
        self.town = Town(Path(self.made.name), self.keys, self.tills or count)
        self.town.tills[0].sell(min(spent, 10))
        self.quiet()
        self.town.tills[0].sell(max(0, spent - 10) or 1)
        self.quiet()

    def quiet(self) -> None:
        self.town.heal(Random(0))

    def till(self, number: int) -> Any:
        return self.town.tills[number % len(self.town.tills)]

    @rule(number=TILL, quantity=st.sampled_from((1, 1, 2, 3, 4)))
    def sell(self, number: int, quantity: int) -> None:
        self.till(number).sell(quantity)

    @rule(number=TILL)
    def void(self, number: int) -> None:
        self.till(number).void()

    @rule(number=TILL)
    def look(self, number: int) -> None:
        self.till(number).look()

    @rule(number=TILL)
    def talk(self, number: int) -> None:
        self.till(number).talk()

    @rule(times=st.integers(1, 6), place=st.integers(0, 59), again=st.booleans())
    def deliver(self, times: int, place: int, again: bool) -> None:
        for _ in range(times):
            if self.town.air:
                message = self.town.air[place % len(self.town.air)]
                if not again:
                    self.town.air.remove(message)
                self.town.tills[message.to].hear(message)

    @rule(to=TILL, sender=TILL)
    def lose(self, to: int, sender: int) -> None:
        """All that is on its way between two."""
        to, name = to % len(self.town.tills), self.till(sender).device
        self.town.air = [m for m in self.town.air if (m.to, m.sender) != (to, name)]

    @rule(number=TILL, lost=st.booleans())
    def upload(self, number: int, lost: bool) -> None:
        self.till(number).upload(lost=lost)

    @rule(number=TILL)
    def fetch(self, number: int) -> None:
        self.till(number).fetch()

    @rule(number=TILL)
    def all_is_well_with_one(self, number: int) -> None:
        """For a while everything arrives at this till, and from it."""
        till = self.till(number)
        for one in (*self.town.tills, till):
            one.look()
            one.talk()
        mine = [
            m for m in self.town.air if self.town.tills[m.to] is till or m.sender == till.device
        ]
        for message in mine:
            self.town.air.remove(message)
            self.town.tills[message.to].hear(message)
        till.look()

    @rule(amount=st.sampled_from((5_000, 20_000)))
    def parent_tops_up(self, amount: int) -> None:
        self.town.desk.top_up({"account": ANNS, "amount_minor": amount}, NOON_MS)
        self.town.topped_up += amount

    @rule(amount=st.sampled_from((4_000, 9_000)))
    def parent_transfers(self, amount: int) -> None:
        self.town.transfer(amount)

    @rule(seconds=st.sampled_from((1, 3, 30)))
    def wait(self, seconds: int) -> None:
        self.town.now_ms += seconds * 1_000
        for till in self.town.tills:
            till.step()

    @rule(number=TILL)
    def kill_edge(self, number: int) -> None:
        self.till(number).crash_edge()

    @rule(number=TILL)
    def kill_sync(self, number: int) -> None:
        self.till(number).crash_sync()

    @rule(number=TILL)
    def save_image(self, number: int) -> None:
        self.till(number).save_image()

    @rule(number=TILL)
    def restore(self, number: int) -> None:
        if self.town.restored == 0:
            self.till(number).restore()

    @invariant()
    def bound(self) -> None:
        assert self.town.overdraft <= self.town.bound

    def teardown(self) -> None:
        if not hasattr(self, "town"):
            return
        try:
            self.quiet()
            self.check()
        finally:
            self.town.close()
            self.made.cleanup()

    def check(self) -> None:
        """Everybody agrees; the city has booked what the journals hold, each key once."""
        town = self.town
        assert town.overdraft <= town.bound
        assert set(town.core.ledger.sums().values()) <= {0}
        for till in town.tills:
            # What a till lost with its disk its neighbours still count: they hand it in, which
            # `tests/process/test_peers_mosquitto.py` shows.
            shown, balance = town.shown(till), town.balance()
            assert shown == balance or (town.restored and shown < balance), till.device
        waiting = town.core.store.rows("SELECT count(*) FROM debit WHERE state = 'earmarked'")
        assert waiting[0][0] == 0, "posted or released"
        if not town.restored:
            spent = sum(town.handed.values())
            assert town.balance() == town.opening + town.topped_up - spent - town.debited()
        booked = {
            (device, epoch, int(sequence))
            for device, epoch, sequence in town.core.store.rows(
                "SELECT device, epoch, sequence FROM fact WHERE stream = 'main'"
            )
        }
        for till in town.tills:
            db = till.journal.writer.db
            for life in outbox.lives(db, Stream.MAIN):
                bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 24)
                for sequence in range(1, 1 + len(bodies[: life.sent_head])):
                    assert (till.device, life.epoch, sequence) in booked


@pytest.fixture(autouse=True)
def keys(tmp_path: Path) -> None:
    Tills.keys = tmp_path


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Tills,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not NIGHTLY,
            database=None,
            # A failure is told as it is: to shrink it takes minutes.
            phases=(Phase.generate,),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_the_bound_holds_and_every_kopeck_is_found_again() -> None:
    run(100 if NIGHTLY else 6, 60 if NIGHTLY else 30)


# --------------------------------------------------------- a rule off: the same town breaks


def dark(town: Town) -> None:
    """Two tills that hear neither each other nor the city sell what they can."""
    for till in town.tills:
        till.sell(10)
        till.sell(7)
        for _ in range(3):
            till.sell(1)


def spent_behind_its_back(town: Town) -> None:
    """One till in the dark, and a parent who moves money meanwhile."""
    town.tills[0].sell(10)
    town.tills[0].sell(7)
    town.transfer(9_000)


def both_hold(town: Town) -> None:
    """Each sets nearly all aside before it hears of the other; then everything is heard."""
    assert all(till.counter.busy for till in town.tills)
    for _ in range(36):
        town.now_ms += 50
        for till in town.tills:
            till.look()
            till.talk()
        while town.air:
            message = town.air.pop(0)
            town.tills[message.to].hear(message)


def without_cap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decision, "room_minor", lambda *_args, **_named: None)


def without_base_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Debits, "confirmed_up_to", lambda _self: None)


def without_second_check(patch: pytest.MonkeyPatch) -> None:
    """Off from when the holds stand: before, it is the first check."""
    patch.setattr(decision, "available_minor", lambda *_args: 10**9)


@pytest.mark.parametrize(
    ("tills", "happens", "switch_off"),
    [
        (2, dark, without_cap),
        (1, spent_behind_its_back, without_base_seen),
        (2, both_hold, without_second_check),
    ],
)
def test_a_rule_switched_off_is_missed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tills: int,
    happens: Callable[[Town], None],
    switch_off: Callable[[pytest.MonkeyPatch], None],
) -> None:
    for name, broken in (("with", False), ("without", True)):
        folder = tmp_path / name
        folder.mkdir()
        town = Town(folder, tmp_path, tills)
        town.heal(Random(0))
        with monkeypatch.context() as patch:
            if happens is both_hold:
                for till in town.tills:
                    till.sell(17, pause_ms=0)
            if broken:
                switch_off(patch)
            happens(town)
            assert (town.overdraft > town.bound) is broken, name
        town.close()
