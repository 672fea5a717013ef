"""The whole run: who plays what, in which order. No rule of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.model import DeviceFault, Station
from hil.conformance import facts_checks
from hil.conformance.city_checks import (
    Inspector,
    NotOffered,
    check_bytes,
    check_late_will,
    check_orders,
    check_renewal,
    check_revoked,
)
from hil.conformance.keys_checks import check_foreign, check_keys
from hil.conformance.lists_checks import ListChecks
from hil.conformance.money_checks import MoneyChecks
from hil.conformance.player import Player
from hil.conformance.rules import Report, Rule

RESTART_S = 60.0  # Our choice: a city that is not back within a minute is not back.
ORDERS = (Rule.ORDER_SIGNED, Rule.ORDER_COUNTER, Rule.ORDER_PASSING)
LOOKED_AT = (Rule.BYTES_KEPT, *ORDERS, Rule.LATE_WILL, Rule.REVOKED, Rule.EARMARK_WAITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays. `entrance` asks for lists that are not its own; `revoked` is to be revoked."""

    main: Player
    entrance: Player | None = None
    revoked: Player | None = None
    inspector: Inspector | None = None
    restart: Callable[[], None] | None = None  # Kills the city and starts it again.


def play(cast: Cast, report: Report, say: Callable[[str], None] = lambda _text: None) -> Report:
    """All checks. A link that breaks inside one ends that check alone; what a city does not offer
    leaves the rules out that need it."""
    main, inspector = cast.main, cast.inspector
    lists = ListChecks(main)
    money = MoneyChecks(main, lists)

    def step(name: str, *works: Callable[[], None], asks: tuple[Rule, ...] = ()) -> None:
        say(name)
        for work in works:
            try:
                work()
            except NotOffered as absent:
                say(f"{name}: {absent}")
                for rule in asks:
                    report.leave_out(rule, str(absent))
            except DeviceFault as fault:
                say(f"{name}: {fault}")
                _mend(main)

    step("welcome", lambda: facts_checks.check_welcome(main))
    step(
        "facts",
        lambda: facts_checks.check_order(main),
        lambda: facts_checks.check_fork(main),
        lambda: facts_checks.check_restored(main),
        lambda: facts_checks.check_streams(main),
        lambda: facts_checks.check_aside(main),
        lambda: facts_checks.check_declared_gap(main),
    )
    people = f"{main.identity.site}/people"
    step("lists", lists.heads, lists.snapshots, lists.resume, lists.changes)
    if main.identity.station is Station.TILL:
        step("money", money.holds, money.returns, money.meals, money.split)
    step("keys", lambda: check_keys(main, lists.pictures.get(people)))
    if inspector is not None:
        configure = inspector.configure
        step("rows", lambda: lists.changed_rows(lambda: configure(main.device)))
    step("scopes", lambda: _foreign(cast))
    other = cast.entrance or main
    step("renewal", lambda: check_renewal(other))
    _city(cast, step)
    if inspector is not None and main.identity.station is Station.TILL:
        step("earmark", lambda: money.earmark(inspector), asks=(Rule.EARMARK_WAITS,))
    step(
        "rubbish",
        lambda: facts_checks.check_rubbish(main),
        lambda: facts_checks.check_oversize(main),
    )
    step("durable", lambda: facts_checks.check_durable(main))
    if cast.restart is not None:
        step("restart", lambda: _restart(cast))
    if inspector is not None:
        step("bytes", lambda: check_bytes(main, inspector), asks=(Rule.BYTES_KEPT,))
    _leave_out(cast, report)
    return report


def _city(cast: Cast, step: Callable[..., None]) -> None:
    inspector, revoked = cast.inspector, cast.revoked
    if inspector is None:
        return
    other = cast.entrance or cast.main
    step("orders", lambda: check_orders(other, inspector), asks=ORDERS)
    step("presence", lambda: check_late_will(other, inspector), asks=(Rule.LATE_WILL,))
    if revoked is not None:
        step("revoked", lambda: check_revoked(revoked, inspector), asks=(Rule.REVOKED,))


def _foreign(cast: Cast) -> None:
    """Another site's lists, and for an entrance the lists of tills."""
    site = cast.main.identity.site
    check_foreign(cast.main, (f"{site}-other/people", f"{site}-other/settings"))
    if cast.entrance is not None:
        check_foreign(cast.entrance, (f"{site}/money", f"{site}/menu"))


def _restart(cast: Cast) -> None:
    """A batch is acknowledged, the city is killed at once, and everything is still there."""
    assert cast.restart is not None
    main = cast.main
    facts_checks.begin(main, 3)
    cast.restart()
    waited_s = 0.0
    while main.hello() is None:
        waited_s += main.patience_s
        if waited_s > RESTART_S:
            main.report.check(Rule.RESTART_DURABLE, False, "the city did not come back")
            return
    facts_checks.check_durable(main, Rule.RESTART_DURABLE)


def _mend(player: Player) -> None:
    try:
        player.link.reopen()
    except DeviceFault:
        pass  # The next check says so too, and its rules stay untried.


def _leave_out(cast: Cast, report: Report) -> None:
    if cast.restart is None:
        report.leave_out(Rule.RESTART_DURABLE, "needs --restart")
    if cast.inspector is None:
        for rule in LOOKED_AT:
            report.leave_out(rule, "needs --http")
    elif cast.revoked is None:
        report.leave_out(Rule.REVOKED, "needs a third device: --http with three of --claim")
    if f"{cast.main.identity.site}/money" not in cast.main.identity.scopes:
        for rule in (
            *(Rule.HEAD_MOVES, Rule.DELTA, Rule.DELTA_PULL),
            *(Rule.SNAPSHOT_EQUALS, Rule.VECTOR, Rule.HOLD_SPENT, Rule.VOID_RETURNED),
            *(Rule.REFUND_CREDITED, Rule.REFUND_LINES, Rule.EMERGENCY_APART),
            *(Rule.MEAL_ONCE, Rule.SPLIT_ASIDE, Rule.EARMARK_WAITS),
        ):
            report.leave_out(rule, "needs a till to play")
