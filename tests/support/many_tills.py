"""A school of tills, its city and its parents in a few numbers: one account, one purse, and links
that lose, delay, reorder and double everything. All from one seed.

Every third seed is a *duel*: two tills, so little money and so few sales that each of them matters,
in short scenes where all but one thing stands still: a report travels and its facts do not, a base
lands between two sales of one till alone, a till falls silent between its hold and the sale. There
the rules that only a few worlds in a million need are needed soon.

A till is two processes. edge decides on a look at journal, store and base, and commits later;
between the two anything may happen. sync keeps facts and reports, and what it had in memory alone
is gone when it crashes. What may be sold, what is covered and who has a hole is asked of the
product's kernels; what the city applies and posts is counted here anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from edge.messages import PeerLife, RosterRow
from edge.model import (
    Account,
    Cardholder,
    Category,
    Credential,
    ListState,
    Now,
    Presentation,
    Product,
    PurchaseReason,
    PurchaseView,
    Spend,
    Station,
    Version,
)
from edge.offline_cache.peers import Known, PeerState
from edge.offline_cache.purchases import Above, peer_tills
from edge.pos.basket import Basket
from edge.pos.decision import HeldAmount, PurchaseDecision, PurchasePolicy, decide_purchase
from edge.pos.ledger import MAIN_STREAM, available_minor
from sync.peer_state import Report, is_backed

PURSE: Final = "hot"
DAY: Final = "2026-03-02"
NOW: Final = Now(utc_s=1_772_440_000, minute_of_week=12 * 60, clock_trusted=True)
PEOPLE = ListState(version=Version(list_epoch=1, number=1), age_s=60)
CREDENTIAL = Credential(
    credential_id="k", cardholder_id="c", tier=1, valid_from_utc_s=0, valid_until_utc_s=2**40
)
CARDHOLDER = Cardholder(
    cardholder_id="c",
    category=Category.PUPIL,
    account_id="a",
    suspended=False,
    here=True,
    windows_by_zone={},
)
SHOWN = Presentation(credential_id="k", age_ms=0, tier=1)


# What happens, and how often: one of the weights, drawn for each seed.
_WEATHER: Final = (
    ("sell", (10, 20, 40)),
    ("commit", (10, 40)),
    ("go_on", (5, 20)),
    ("gossip", (5, 20, 40)),
    ("note", (5, 20, 40)),
    ("beat", (5, 20, 40)),
    ("deliver", (10, 20, 40)),
    ("talk", (0, 0, 10, 30)),
    ("upload", (0, 0, 5, 20)),
    ("publish", (0, 5, 10)),
    ("take_base", (0, 5, 20)),
    ("void", (0, 0, 2)),
    ("top_up", (0, 0, 1)),
    ("earmark", (0, 0, 5)),
    ("settle", (0, 10)),
    ("crash_edge", (0, 0, 0, 1, 3)),
    ("crash_sync", (0, 0, 1, 3)),
    ("lose_store", (0, 0, 0, 1, 2)),
)
# A duel goes in scenes. Of each: what one till does (and, after the bar, the other) while nothing
# else happens, in this order; now and then something of it is left out.
_SCENES: Final = (
    "sell commit",  # In silence.
    "sell commit go_on commit",
    "upload upload publish take_base",  # With the city, and nobody else.
    "upload upload publish | take_base",  # And the other has the base.
    "| beat | deliver gossip gossip note",  # It hears the other out,
    "| beat | deliver gossip gossip",  # and has nothing of it in its own journal,
    "| beat | deliver",  # or hears a report without facts.
    "beat | deliver",
    "go_on commit",
    "crash_edge | crash_sync",
)
LEFT_OUT: Final = 0.05
DUEL_EVERY: Final = 3


@dataclass(frozen=True)
class Rules:
    """The rules, and what it is like without one of them."""

    is_backed: Callable[[Report, Callable[[str], int]], bool] = is_backed
    second_check: bool = True  # Of a hold that is covered: what is available still suffices.
    holds_wait: bool = True
    base_seen_wait: bool = True  # The city's, before it posts.
    has_cap: bool = True
    no_hole: bool = True  # Nothing is sold where facts are missing; off, cover stands alone.
    reborn_waits: bool = True  # A till that may have forgotten what it reported.


@dataclass(frozen=True, slots=True)
class Fact:
    kind: str  # opened, sale, hold, sold, released, void, base_seen
    amount: int = 0  # Of a sale or hold; of what `sold` and `released` end, or `void` undoes.
    version: int = 0  # Of base_seen.
    more: int = 0  # Of `sold`: what was sold above the hold.

    @property
    def spends(self) -> int:
        """What it adds to what the tail counts as spent."""
        if self.kind in ("sale", "hold"):
            return self.amount
        return self.more if self.kind == "sold" else -self.given_back

    @property
    def given_back(self) -> int:
        return self.amount if self.kind in ("released", "void") else 0

    @property
    def sells(self) -> int:
        """What was handed over by it."""
        if self.kind in ("sale", "sold"):
            return self.amount + self.more
        return -self.amount if self.kind == "void" else 0


@dataclass(slots=True)
class Beat:
    """A heartbeat on its way. `order` is its sender's count, which outlives a start."""

    sender: int
    order: int
    store: str
    seen: dict[tuple[int, str], int]
    lives: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class Base:
    version: int = 0
    balance: int = 0
    money: int = 0  # Counts credits, earmarks and debits: the same, and nothing but facts differs.
    vector: dict[tuple[int, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """What edge saw when it decided, and what it is about to record."""

    fact: Fact


class Till:
    def __init__(self, number: int, base: Base) -> None:
        self.number, self.base = number, base
        self.name = f"t{number}"
        self.epochs: list[tuple[str, list[Fact]]] = []
        self.stores = 0
        self.seen: dict[tuple[int, str], int] = {}
        self.seen_store = ""
        self.told_base = 0  # The money version last told by base_seen, in this epoch.
        self.looked: Look | None = None
        self.held: tuple[int, int] | None = None  # Sequence and amount of the open hold.
        self.beats = 0
        self.new_store()

    # On disk, in sync.db.
    def new_store(self) -> None:
        """Another sync.db, and so another epoch."""
        self.stores += 1
        self.store = f"{self.name}s{self.stores}"
        self.known: dict[tuple[int, str], int] = {}
        self.reported: dict[int, Beat] = {}
        self.covers: dict[tuple[int, str], dict[str, int]] = {}
        self.waiting: dict[int, list[Report]] = {}  # In memory alone.
        self.heard: dict[int, int] = {}
        if self.held is not None:
            held, self.held = self.held, None
            self.facts.append(Fact("released", held[1]))
        self.looked = None
        self.epochs.append((f"{self.name}e{self.stores}", [Fact("opened")]))
        self.told_base = 0

    @property
    def epoch(self) -> str:
        return self.epochs[-1][0]

    @property
    def facts(self) -> list[Fact]:
        return self.epochs[-1][1]

    def up_to(self, who: int, epoch: str) -> int:
        return max(self.known.get((who, epoch), 0), self.base.vector.get((who, epoch), 0))


class World:
    """`step` does one thing at random; `check` holds after every one."""

    def __init__(self, seed: int, rules: Rules | None = None) -> None:
        self.random = Random(seed)
        self.duel = seed % DUEL_EVERY == 0
        draw = self.random
        self.rules = Rules() if rules is None else rules
        self.cap = draw.choice((1, 1, 1, 2))
        self.opening = draw.choice((1, 2, 2, 3))
        self.credits = 0
        self.earmarked: list[tuple[int, int | None]] = []  # Amount, and the version that shows it.
        self.debited = 0
        self.money = 0  # Changes of these.
        self.version = 0
        self.applied: dict[tuple[int, str], int] = {}
        self.confirmed: dict[int, tuple[str, int]] = {}  # Till -> epoch and version.
        self.posted = 0  # What the city has booked of facts.
        count = draw.choice((1, 2, 2, 2, 3, 4))
        if self.duel:
            count = 2
            self.opening, self.cap = draw.choice(((2, 1), (2, 1), (2, 1), (3, 1), (3, 2)))
        self.bases = [Base(balance=self.opening)]
        self.tills = [Till(n, self.bases[0]) for n in range(count)]
        self.only: Till | None = None
        self.together = draw.choice((0.0, 0.2, 0.6))
        self.amounts = draw.choice(((1,), (1, 2), (2,), (1, 1, 2, 3)))
        self.air: list[tuple[int, Beat]] = []
        self.facts_max = draw.randint(2, 5) * count
        self.made = 0
        self.worst = -self.opening
        self.trace: list[str] = []
        # Of a duel: tills that hear reports alone, and tills that no base reaches.
        self.deaf = {n for n in range(count) if self.duel and draw.random() < 0.5}
        self.dark = {n for n in range(count) if self.duel and draw.random() < 0.5}
        # Each seed has its own weather: some things often, some never, some till cut off.
        self.actions: list[Callable[[], None]] = []
        for action, weights in _WEATHER:
            self.actions += [getattr(self, action)] * draw.choice(weights)
        if self.duel:
            self.amounts, self.facts_max = draw.choice(((1,), (1,), (1, 2))), draw.randint(4, 6)
        self.cut = {
            (a, b)
            for a in range(count)
            for b in range(count)
            if a != b and not self.duel and draw.random() < 0.2
        }
        self.scene: list[tuple[str, Till]] = []  # Of a duel: what is still to happen.

    # ------------------------------------------------------------------------------ running

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One thing at one till; or, as bells ring for all, the same at each of them."""
        if self.duel:
            self.act()
            return
        action = self.random.choice(self.actions)
        tills: list[Till | None] = [None]
        if self.random.random() < self.together:
            tills = [*self.random.sample(self.tills, len(self.tills))]
        for self.only in tills:
            action()
            self.check()
        self.only = None

    def act(self) -> None:
        """The next thing in a duel's scene; behind the last one another scene begins."""
        if not self.scene:
            one, other = self.random.sample(self.tills, 2)
            for word in self.random.choice(_SCENES).split():
                if word == "|":
                    one, other = other, one
                elif self.random.random() >= LEFT_OUT:
                    self.scene.append((word, one))
        if self.scene:
            action, self.only = self.scene.pop(0)
            getattr(self, action)()
            self.check()
            self.only = None

    def check(self) -> None:
        sold = sum(f.sells for t in self.tills for _, facts in t.epochs for f in facts)
        overdraft = sold + self.debited - self.opening - self.credits
        self.worst = max(self.worst, overdraft)

    @property
    def bound(self) -> int:
        return (len(self.tills) - 1) * self.cap

    def check_shown(self) -> None:
        """Where everything is heard, what a till shows is the truth."""
        for till in self.tills:
            if till.base.money != self.money:
                continue
            peers = [t for t in self.tills if t is not till]
            heard = all(
                till.up_to(t.number, epoch) >= len(facts)
                for t in peers
                for epoch, facts in t.epochs
            )
            void = any(
                f.kind == "void" and n > till.base.vector.get((t.number, epoch), 0)
                for t in peers
                for epoch, facts in t.epochs
                for n, f in enumerate(facts, 1)
            )
            if heard and not void:
                assert self.shown(till) == self.truth(), f"till {till.number}"

    def truth(self) -> int:
        spent = sum(f.spends for t in self.tills for _, facts in t.epochs for f in facts)
        marked = sum(amount for amount, _ in self.earmarked)
        return self.opening + self.credits - spent - marked - self.debited

    # ---------------------------------------------------------------------- asking the product

    def view(self, till: Till) -> PurchaseView:
        tail: list[Spend] = []
        for other in self.tills:
            own = other is till
            for epoch, facts in other.epochs:
                last = len(facts) if own else till.known.get((other.number, epoch), 0)
                for sequence, fact in enumerate(facts[:last], 1):
                    if fact.kind in ("opened", "base_seen"):
                        continue
                    tail.append(
                        Spend(
                            device=other.name,
                            epoch=epoch,
                            sequence=sequence,
                            purse=PURSE,
                            amount_minor=fact.spends,
                            business_date=DAY,
                            own=own,
                            hold_ended=fact.kind in ("sold", "released"),
                        )
                    )
        vector = {
            (f"t{who}", MAIN_STREAM, epoch): up_to
            for (who, epoch), up_to in till.base.vector.items()
        }
        states = {
            f"t{who}": PeerState(
                device=f"t{who}",
                heard=True,
                store=beat.store,
                lives=tuple(PeerLife(epoch=e, held_from=1, head=h) for e, h in beat.lives),
                base=None,
                covers=till.covers.get((who, beat.store), {}),
            )
            for who, beat in till.reported.items()
        }
        known = {(f"t{who}", epoch): up_to for (who, epoch), up_to in till.known.items()}
        lived = till.epochs if self.rules.reborn_waits else till.epochs[-1:]
        epochs = frozenset(epoch for epoch, _ in lived)
        above = Above(states=states, known=Known(store=till.store, up_to=known), epochs=epochs)
        roster = {t.name: RosterRow(station=Station.TILL) for t in self.tills}
        mine = {key: n for key, n in vector.items() if key[0] != till.name}
        peers = peer_tills(roster, till.name, above, vector if self.rules.reborn_waits else mine)
        if not self.rules.no_hole and len(till.epochs) == 1:
            # A till in a later life may have forgotten what it reported: it goes on waiting.
            peers = tuple(replace(peer, complete=True) for peer in peers)
        return PurchaseView(
            people=PEOPLE,
            money=PEOPLE,
            hot_listed=False,
            credential=CREDENTIAL,
            cardholder=CARDHOLDER,
            account=_account(till.base.balance),
            tail=tuple(tail),
            vector=vector,
            peers=peers,
        )

    def decide(self, till: Till, amount: int, hold: HeldAmount | None) -> PurchaseDecision:
        view = self.view(till)
        if hold is not None and not self.rules.second_check:
            assert view.account is not None
            view = _richer(view)
        cap = self.cap if self.rules.has_cap else 1_000
        return decide_purchase(
            SHOWN,
            _basket(amount),
            view,
            NOW,
            DAY,
            PurchasePolicy(floor_limit_minor=cap, device=till.name),
            base_date=DAY,
            hold=hold,
        )

    def shown(self, till: Till) -> int:
        view = self.view(till)
        assert view.account is not None
        return available_minor(view.account, PURSE, view.tail, view.vector)

    # --------------------------------------------------------------------------------- edge

    def any_till(self) -> Till:
        return self.only or self.random.choice(self.tills)

    def sell(self) -> None:
        """Look and decide. The fact comes later, by `commit`."""
        till = self.any_till()
        if till.looked is not None or till.held is not None or self.made >= self.facts_max:
            return
        amount = self.random.choice(self.amounts)
        decision = self.decide(till, amount, None)
        if decision.sold:
            till.looked = Look(Fact("sale", amount))
        elif decision.needs_hold and self.made + 2 <= self.facts_max:
            till.looked = Look(Fact("hold", amount))

    def commit(self) -> None:
        till = self.any_till()
        if till.looked is not None:
            self.record(till, till.looked.fact)
            till.looked = None

    def record(self, till: Till, fact: Fact) -> None:
        till.facts.append(fact)
        self.made += fact.kind != "base_seen"
        if fact.kind == "hold":
            till.held = (len(till.facts), fact.amount)
        elif fact.kind in ("sold", "released"):
            till.held = None
        if fact.kind in ("sale", "sold"):
            self.tell_base(till)

    def tell_base(self, till: Till) -> None:
        if till.base.version > till.told_base:
            till.told_base = till.base.version
            till.facts.append(Fact("base_seen", version=till.base.version))

    def go_on(self) -> None:
        """A hold that waits: sold when covered, or released."""
        till = self.any_till()
        if till.held is None or till.looked is not None:
            return
        sequence, amount = till.held
        hold = HeldAmount(
            epoch=till.epoch,
            sequence=sequence,
            amount_minor_by_purse={PURSE: amount},
            business_date=DAY,
        )
        # Now and then a meal that was to pay a part was served elsewhere meanwhile.
        more = self.random.choice((0, 0, 0, 1, 2))
        decision = self.decide(till, amount + more, hold)
        forced = not self.rules.holds_wait and decision.reason is PurchaseReason.CAP
        if decision.sold or (forced and decision.needs_hold):
            till.looked = Look(Fact("sold", amount, more=more))
        elif not decision.needs_hold or self.random.random() < 0.03:
            till.looked = Look(Fact("released", amount))

    def void(self) -> None:
        till = self.any_till()
        undone = sum(f.kind == "void" for f in till.facts)
        sales = [f for f in till.facts if f.kind == "sale"]
        if till.looked is None and till.held is None and len(sales) > undone:
            self.record(till, Fact("void", sales[undone].amount))

    def note(self) -> None:
        """edge was rung: from here its decisions rest on this."""
        till = self.any_till()
        if till.looked is None:
            till.seen, till.seen_store = dict(till.known), till.store
            if till.held is None and self.random.random() < 0.5:
                self.tell_base(till)

    def crash_edge(self) -> None:
        """What was not committed is gone; an open hold is released at the next start."""
        till = self.any_till()
        till.looked = None
        if till.held is not None:
            self.record(till, Fact("released", till.held[1]))

    # --------------------------------------------------------------------------------- sync

    def gossip(self) -> None:
        """Some of what another till has done, up to what its heartbeat told, arrives in order."""
        me, other = self.any_till(), self.random.choice(self.tills)
        if me is other or (other.number, me.number) in self.cut or me.number in self.deaf:
            return
        beat = me.reported.get(other.number)
        for epoch, head in () if beat is None else beat.lives:
            up_to = me.up_to(other.number, epoch)
            if up_to < head:
                me.known[other.number, epoch] = self.random.randint(up_to + 1, head)
                self.confirm(me, other.number)
                return

    def beat(self) -> None:
        """One look at the journal, told to all; it may come late, twice, or never."""
        till = self.any_till()
        till.beats += 1
        beat = Beat(
            sender=till.number,
            order=till.beats,
            store=till.store,
            seen=dict(till.seen) if till.seen_store == till.store else {},
            lives=tuple((epoch, len(facts)) for epoch, facts in till.epochs),
        )
        for other in self.tills:
            if other is not till and (till.number, other.number) not in self.cut:
                self.air.append((other.number, beat))
        del self.air[:-40]

    def deliver(self) -> None:
        if not self.air:
            return
        mine = [n for n, (who, _) in enumerate(self.air) if self.only in (None, self.tills[who])]
        if not mine:
            return
        late = not self.duel or self.random.random() < 0.2
        place = self.random.choice(mine) if late else mine[-1]
        who, beat = self.air[place]
        if self.random.random() < 0.7:
            del self.air[place]
        self.hear(self.tills[who], beat)

    def hear(self, me: Till, beat: Beat) -> None:
        other = beat.sender
        if beat.order <= me.heard.get(other, 0):
            return
        me.heard[other] = beat.order
        before = me.reported.get(other)
        me.reported[other] = beat
        if before is not None and before.store != beat.store:
            me.waiting.pop(other, None)
        seen = {epoch: n for (who, epoch), n in beat.seen.items() if who == me.number}
        if seen:
            report = Report(store=beat.store, seen=seen, heads=dict(beat.lives))
            me.waiting.setdefault(other, []).append(report)
        self.confirm(me, other)

    def talk(self) -> None:
        """For a moment one hears another well."""
        me, other = self.any_till(), self.random.choice(self.tills)
        if me is other or (other.number, me.number) in self.cut:
            return
        if other.looked is None:
            other.seen, other.seen_store = dict(other.known), other.store
        other.beats += 1
        lives = tuple((epoch, len(facts)) for epoch, facts in other.epochs)
        seen = dict(other.seen) if other.seen_store == other.store else {}
        self.hear(me, Beat(other.number, other.beats, other.store, seen, lives))
        for epoch, head in lives if self.random.random() < 0.7 else ():
            me.known[other.number, epoch] = max(me.known.get((other.number, epoch), 0), head)
        self.confirm(me, other.number)

    def confirm(self, me: Till, other: int) -> None:
        left = []
        for report in me.waiting.get(other, []):
            if self.rules.is_backed(report, partial(me.up_to, other)):
                covers = me.covers.setdefault((other, report.store), {})
                for epoch, up_to in report.seen.items():
                    covers[epoch] = max(covers.get(epoch, 0), up_to)
            else:
                left.append(report)
        me.waiting[other] = left

    def crash_sync(self) -> None:
        self.any_till().waiting.clear()

    def lose_store(self) -> None:
        till = self.any_till()
        if len(till.epochs) < 3:
            till.new_store()

    # ----------------------------------------------------------------------- the city, parents

    def upload(self) -> None:
        """The next facts of one epoch, in order, applied with what they mean."""
        till = self.any_till()
        for epoch, facts in till.epochs:
            applied = self.applied.get((till.number, epoch), 0)
            if applied < len(facts):
                self.apply(till, epoch, facts[: self.random.randint(applied + 1, len(facts))])
                return

    def apply(self, till: Till, epoch: str, facts: list[Fact]) -> None:
        key = (till.number, epoch)
        for fact in facts[self.applied.get(key, 0) :]:
            self.posted += fact.spends
            if fact.kind == "opened":
                self.confirmed[till.number] = (epoch, 0)
            elif fact.kind == "base_seen" and self.confirmed[till.number][0] == epoch:
                self.confirmed[till.number] = (epoch, fact.version)
        self.applied[key] = len(facts)

    def balance(self) -> int:
        marked = sum(amount for amount, _ in self.earmarked)
        return self.opening + self.credits - self.posted - marked - self.debited

    def publish(self) -> None:
        self.version += 1
        self.earmarked = [
            (amount, self.version if shown is None else shown) for amount, shown in self.earmarked
        ]
        base = Base(self.version, self.balance(), self.money, dict(self.applied))
        self.bases = [*self.bases[-5:], base]

    def take_base(self) -> None:
        till = self.any_till()
        newer = [base for base in self.bases if base.version > till.base.version]
        if newer and till.looked is None and till.number not in self.dark:
            self.put_base(till, self.random.choice(newer))

    def put_base(self, till: Till, base: Base) -> None:
        till.base = base
        for other in self.tills:
            self.confirm(till, other.number)

    def top_up(self) -> None:
        if self.credits < 3:
            self.credits += 1
            self.money += 1

    def earmark(self) -> None:
        """A parent chooses a meal: set aside first."""
        amount = self.random.choice((1, 2))
        if self.balance() >= amount and self.debited + sum(a for a, _ in self.earmarked) < 4:
            self.earmarked.append((amount, None))
            self.money += 1

    def settle(self) -> None:
        """Post or release, the oldest first, what every till has confirmed."""
        while self.earmarked:
            amount, shown = self.earmarked[0]
            if self.rules.base_seen_wait:
                newest = [self.confirmed.get(t.number, ("", 0))[1] for t in self.tills]
                if shown is None or min(newest) < shown:
                    return
            later = sum(other for other, _ in self.earmarked[1:])
            self.earmarked.pop(0)
            self.money += 1
            if self.balance() - amount + later >= 0:
                self.debited += amount

    # ----------------------------------------------------------------------- the faults stop

    def heal(self) -> None:
        """Everything arrives: then everybody knows everything, and every rouble is where it is."""
        for set_of_faults in (self.cut, self.deaf, self.dark):
            set_of_faults.clear()
        self.air.clear()
        for till in self.tills:
            if till.looked is not None:
                self.record(till, till.looked.fact)
                till.looked = None
            if till.held is not None:
                self.record(till, Fact("released", till.held[1]))
        for _ in range(4):
            for till in self.tills:
                for epoch, facts in till.epochs:
                    self.apply(till, epoch, list(facts))
            self.settle()
            self.publish()
            for till in self.tills:
                self.put_base(till, self.bases[-1])
                till.seen, till.seen_store = dict(till.known), till.store
                self.tell_base(till)
            self._tell_all()
            self.check()

    def _tell_all(self) -> None:
        for till in self.tills:
            till.beats += 1
            lives = tuple((epoch, len(facts)) for epoch, facts in till.epochs)
            beat = Beat(till.number, till.beats, till.store, dict(till.seen), lives)
            for other in self.tills:
                if other is not till:
                    self.hear(other, beat)
                    for epoch, head in lives:
                        other.known[till.number, epoch] = head
                    self.confirm(other, till.number)

    def check_healed(self) -> None:
        assert not self.earmarked, "posted or released"
        booked = sum(f.spends for t in self.tills for _, facts in t.epochs for f in facts)
        assert self.posted == booked, "each fact once"
        for till in self.tills:
            assert self.shown(till) == self.truth() == self.balance()
            for other in self.tills:
                if other is not till:
                    state = self.view(till)
                    assert all(peer.complete for peer in state.peers)


def _account(balance: int) -> Account:
    return Account(
        account_id="a",
        suspended=False,
        balance_minor_by_purse={PURSE: balance},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_day_minor=0,
        spent_week_minor=0,
        spent_date="",
        banned_products=frozenset(),
        banned_categories=frozenset(),
    )


def _richer(view: PurchaseView) -> PurchaseView:
    assert view.account is not None
    return replace(view, account=_account(view.account.balance_minor_by_purse[PURSE] + 1_000))


def _basket(amount: int) -> Basket:
    made = _BASKETS.get(amount)
    if made is None:
        product = Product(
            product_id="p",
            name="p",
            category="c",
            price_minor=amount,
            allergens=frozenset(),
            allergens_checked=True,
            purse=PURSE,
        )
        basket = Basket().add(product)
        assert isinstance(basket, Basket)
        made = _BASKETS[amount] = basket
    return made


_BASKETS: dict[int, Basket] = {}
