"""Goal: the conformance run finds the reference city good, and finds in a careless one exactly what
is careless about it.

Method: the whole run over a city in memory in virtual time, once for each fault the city can have;
the table says which rules each breaks, and every rule is broken by some fault. What devices have to
put up with (late, repeated or overtaken acknowledgements, lost deltas) breaks none.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.model import SetupProblem, Station
from hil.city.accounts import funding, move
from hil.city.faults import ABOUT, Fault, Faults, listing
from hil.city.keys import CityKeys
from hil.city.lists import Out
from hil.conformance.http_city import HttpCity
from hil.conformance.money_checks import MONEY_RULES, NOBODY_PAYS
from hil.conformance.player import Player
from hil.conformance.rules import WORDS, Report, Rule, Verdict
from hil.conformance.run import Cast, play
from tests.city.sham import SITE, city_keys
from tests.conformance.world import MemoryLink, World

STARTS = frozenset({Rule.ACK, Rule.STREAMS})  # Nothing of facts can be tried then.
BREAKS: dict[Fault, frozenset[Rule]] = {
    Fault.ACK_LATE: frozenset(),
    Fault.ACK_NEVER: STARTS,
    Fault.ACK_FUTURE: STARTS | {Rule.ACK_SENT},
    Fault.ACK_EPOCH: STARTS | {Rule.ACK_SENT},
    Fault.ACK_TWICE: frozenset(),
    Fault.ACK_REORDERED: frozenset(),
    Fault.ACK_PAST_GAP: frozenset({Rule.GAP}),
    Fault.FORGET: frozenset(
        {
            *(Rule.ACK_DURABLE, Rule.GAP, Rule.CHAIN, Rule.FORK, Rule.RESTORED, Rule.EPOCHS),
            *(Rule.STREAMS, Rule.POISON, Rule.UNKNOWN_KIND, Rule.DECLARED_GAP, Rule.RUBBISH),
            *(Rule.OVERSIZE, Rule.BYTES_KEPT, Rule.HEAD_MOVES),
        }
    ),
    Fault.SLOW: frozenset(),
    Fault.REPLAY_REFUSED: frozenset({Rule.REPLAY}),
    # Batches out of order overlap when they are sent again.
    Fault.OVERLAP_REFUSED: frozenset({Rule.OVERLAP, Rule.REORDERED}),
    Fault.FORK_UNSEEN: frozenset({Rule.FORK, Rule.CHAIN, Rule.ACK_DURABLE}),
    Fault.POISON_BLOCKS: frozenset({Rule.POISON}),
    Fault.KIND_BLOCKS: frozenset({Rule.UNKNOWN_KIND}),
    Fault.GAP_IGNORED: frozenset({Rule.DECLARED_GAP}),
    # It never hears the device again.
    Fault.RUBBISH_STOPS: frozenset({Rule.RUBBISH, Rule.ACK}),
    # What it acknowledged of the too long batch it does not have.
    Fault.OVERSIZE_TAKEN: frozenset({Rule.OVERSIZE, Rule.ACK_DURABLE, Rule.BYTES_KEPT}),
    Fault.BYTES_CHANGED: frozenset({Rule.BYTES_KEPT}),
    Fault.STREAM_DEAF: frozenset({Rule.STREAMS}),
    Fault.HOLD_UNSEEN: frozenset({Rule.HOLD_SPENT}),
    Fault.VOID_IGNORED: frozenset({Rule.VOID_RETURNED}),
    Fault.REFUND_IGNORED: frozenset({Rule.REFUND_CREDITED, Rule.REFUND_LINES}),
    Fault.REFUND_BY_SUM: frozenset({Rule.REFUND_LINES}),
    Fault.EMERGENCY_BILLED: frozenset({Rule.EMERGENCY_APART}),
    Fault.MEAL_TWICE: frozenset({Rule.MEAL_ONCE}),
    Fault.SPLIT_BILLED: frozenset({Rule.SPLIT_ASIDE}),
    Fault.EARMARK_HASTY: frozenset({Rule.EARMARK_WAITS}),
    Fault.WELCOME_NONCE: frozenset({Rule.WELCOME_NONCE}),
    Fault.WELCOME_TIME: frozenset({Rule.WELCOME_TIME}),
    Fault.WELCOME_MARKS: frozenset({Rule.WELCOME_MARKS, Rule.RESTORED, Rule.EPOCHS, Rule.STREAMS}),
    Fault.WELCOME_DIGESTS: frozenset({Rule.WELCOME_DIGESTS}),
    Fault.LATE_WILL: frozenset({Rule.LATE_WILL}),
    # A till that was served on would have to see an earmark too, and it is dark.
    Fault.REVOKED_SERVED: frozenset({Rule.REVOKED, Rule.EARMARK_WAITS}),
    Fault.RENEWAL_DEAF: frozenset({Rule.RENEWAL}),
    Fault.SIGNATURE: frozenset(
        {Rule.WELCOME_SIGNED, Rule.HEAD_SIGNED, Rule.MANIFEST, Rule.KEYS_SIGNED}
    ),
    Fault.FREEZE: frozenset({Rule.HEAD_WANTED, Rule.HEAD_MOVES}),
    Fault.ROLLBACK: frozenset({Rule.HEAD_WANTED, Rule.HEAD_MOVES}),
    Fault.MIX: frozenset({Rule.MANIFEST}),
    Fault.SCOPE: frozenset({Rule.MANIFEST}),
    Fault.SCOPE_OPEN: frozenset({Rule.SCOPES_APART}),
    Fault.HEAD_PASSING: frozenset({Rule.HEAD_RETAINED}),
    Fault.HEAD_STALE: frozenset({Rule.HEAD_FRESH}),
    Fault.HEAD_REPLAY: frozenset({Rule.HEAD_FORWARD}),
    # Its own pulls know nothing of that epoch.
    Fault.EPOCH_UNROOTED: frozenset({Rule.LIST_EPOCH, Rule.HEAD_WANTED, Rule.DELTA_PULL}),
    Fault.PULL_DEAF: frozenset({Rule.DELTA_PULL}),
    Fault.CHUNK_TRUNCATED: frozenset({Rule.CHUNKS}),
    Fault.CHUNK_BIG: frozenset({Rule.CHUNKS}),
    Fault.CHUNK_OTHER: frozenset({Rule.CHUNK_RESUME}),
    Fault.DELTA_GAP: frozenset(),
    Fault.DELTA_REPLAY: frozenset(),
    Fault.DELTA_BASE: frozenset({Rule.DELTA}),
    Fault.DELTA_LOSSY: frozenset({Rule.SET_DIGEST, Rule.SNAPSHOT_EQUALS}),
    Fault.SET_DIGEST: frozenset({Rule.SET_DIGEST}),
    Fault.VECTOR_MISSING: frozenset({Rule.VECTOR}),
    Fault.KEYS_OTHER: frozenset({Rule.KEYS_SEALED, Rule.RENEWAL}),
    Fault.SEAL_OTHER: frozenset({Rule.COLUMNS_SEALED}),
    Fault.ORDER_RETAINED: frozenset({Rule.ORDER_PASSING}),
    Fault.ORDER_SIGNATURE: frozenset({Rule.ORDER_SIGNED}),
    Fault.ORDER_COUNTER: frozenset({Rule.ORDER_COUNTER}),
}
# Which of a run's acknowledgements are lost is drawn; a process that ends ends the run in memory.
DRAWN = {Fault.ACK_LOST, Fault.CRASH_BEFORE_COMMIT, Fault.CRASH_AFTER_COMMIT}
LONG_CHUNK_BYTES = 70_000
# A run that restarts nothing cannot try it; its own tests stand below.
TRIED = set(Rule) - {Rule.RESTART_DURABLE}
PAGE = Path(__file__).parents[2] / "hil" / "city" / "README.md"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> CityKeys:
    return city_keys(tmp_path_factory.mktemp("keys"))


def run(folder: Path, keys: CityKeys, **faults: int) -> Report:
    """The whole run against a city with these faults."""
    switched, report = Faults(), Report()
    for name, value in faults.items():
        switched.switch(name, value)
    world = World(folder, keys, switched)
    try:
        return play(world.cast(report), report)
    finally:
        world.core.store.close()


def verdicts(report: Report, verdict: Verdict) -> set[Rule]:
    return {finding.rule for finding in report.findings() if finding.verdict is verdict}


def test_the_reference_city_keeps_every_rule(tmp_path: Path, keys: CityKeys) -> None:
    report = run(tmp_path, keys)
    assert verdicts(report, Verdict.KEPT) == TRIED and report.good()


@pytest.mark.parametrize("fault", [f for f in Fault if f not in DRAWN])
def test_a_careless_city_fails_on_exactly_what_it_breaks(
    tmp_path: Path, keys: CityKeys, fault: Fault
) -> None:
    report = run(tmp_path, keys, **{fault.value: ABOUT[fault].usual})
    assert verdicts(report, Verdict.BROKEN) == BREAKS[fault]
    assert report.good() is not bool(BREAKS[fault])
    if not BREAKS[fault]:
        assert verdicts(report, Verdict.KEPT) == TRIED


def test_a_lost_acknowledgement_is_seen(tmp_path: Path, keys: CityKeys) -> None:
    report = run(tmp_path, keys, **{Fault.ACK_LOST.value: 100})
    assert verdicts(report, Verdict.BROKEN) == STARTS


def test_a_message_too_long_for_any_device_is_seen(tmp_path: Path, keys: CityKeys) -> None:
    report = run(tmp_path, keys, **{Fault.CHUNK_BIG.value: LONG_CHUNK_BYTES})
    assert verdicts(report, Verdict.BROKEN) == {Rule.CHUNKS, Rule.SIZES}


def test_every_rule_is_broken_by_some_fault() -> None:
    assert set(BREAKS) == set(Fault) - DRAWN
    assert set().union(*BREAKS.values()) == TRIED - {Rule.SIZES}  # The test above has that.


def test_what_a_rule_stands_on_is_said(tmp_path: Path, keys: CityKeys) -> None:
    """A rule that could not be tried is not called kept, and not called broken either."""
    report = run(tmp_path, keys, **{Fault.CHUNK_TRUNCATED.value: 1})
    assert {Rule.SET_DIGEST, Rule.DELTA, Rule.VECTOR} <= verdicts(report, Verdict.NOT_TRIED)
    assert Rule.FORK in verdicts(report, Verdict.KEPT)


def test_what_the_run_was_not_given_is_left_out_and_does_not_count(
    tmp_path: Path, keys: CityKeys
) -> None:
    report = Report()
    world = World(tmp_path, keys, Faults())
    cast = replace(world.cast(report), inspector=None, revoked=None, entrance=None)
    play(cast, report)
    left_out = {
        *(Rule.BYTES_KEPT, Rule.ORDER_SIGNED, Rule.ORDER_COUNTER, Rule.ORDER_PASSING),
        *(Rule.LATE_WILL, Rule.REVOKED, Rule.EARMARK_WAITS, Rule.RESTART_DURABLE),
    }
    assert verdicts(report, Verdict.LEFT_OUT) == left_out and report.good()
    world.core.store.close()


def test_a_restart_that_forgets_is_seen(tmp_path: Path, keys: CityKeys) -> None:
    """The command of `--restart` puts an old copy of the books back."""
    report = Report()
    world = World(tmp_path, keys, Faults())
    world.key_desk.back_up({}, world.now_ms)
    cast = replace(
        world.cast(report),
        restart=lambda: world.deliver(
            list(world.key_desk.restore({}, world.now_ms).outs)  # Devices enrolled since are gone.
        ),
    )
    play(cast, report)
    assert verdicts(report, Verdict.BROKEN) >= {Rule.RESTART_DURABLE}
    assert Rule.ACK_DURABLE in verdicts(report, Verdict.KEPT)
    world.core.store.close()


def test_a_restart_counts_only_where_there_was_one(tmp_path: Path, keys: CityKeys) -> None:
    report = Report()
    world = World(tmp_path, keys, Faults())
    play(replace(world.cast(report), restart=lambda: None), report)
    assert verdicts(report, Verdict.KEPT) == set(Rule)
    world.core.store.close()
    without = {finding.rule: finding for finding in run(tmp_path, keys).findings()}
    assert without[Rule.RESTART_DURABLE].verdict is Verdict.LEFT_OUT
    assert without[Rule.RESTART_DURABLE].detail == "needs --restart"


def test_a_welcome_that_comes_after_its_time_is_not_taken_for_the_next(
    tmp_path: Path, keys: CityKeys
) -> None:
    report = Report()
    world = World(tmp_path, keys, Faults())
    player = world.cast(report).main
    held: list[Out] = []
    deliver = world.deliver
    world.deliver = lambda outs: held.extend(outs)  # type: ignore[method-assign]
    assert player.hello() is None and held
    world.deliver = lambda outs: deliver([*held, *outs])  # type: ignore[method-assign]
    assert player.hello() is not None
    assert not report.is_broken(Rule.WELCOME_NONCE)
    world.core.store.close()


# ------------------------------------------------------------------------- one city, often


def impoverish(world: World, but: int = 0) -> None:
    """Nobody has money any more, but for so many."""
    store, ledger = world.core.store, world.core.ledger
    rich = "SELECT account FROM person WHERE account IS NOT NULL AND suspended = 0 ORDER BY account"
    spared = {account for (account,) in store.rows(rich)[:but]}
    with store.transaction():
        for (account,) in store.rows("SELECT account FROM account"):
            for purse, amount in ledger.balances(account).items():
                if account in spared:
                    amount -= 1_000_000
                if amount:
                    taken = move(account, funding(SITE), purse, amount)
                    ledger.post("test", f"{account}/{purse}", taken, now_ms=world.now_ms)
                    world.core.publisher.touch_account(account, world.now_ms)
    world.advance(5_000)


def test_a_good_city_is_good_however_often_it_is_checked(tmp_path: Path, keys: CityKeys) -> None:
    """By devices of its own each time, which leave the roster in the end; the money of each is of
    the same child, the only one that has any."""
    world = World(tmp_path, keys, Faults())
    impoverish(world, but=1)
    for number in range(3):
        report = Report()
        cast = world.cast(report, f"run-{number}")
        play(cast, report)
        assert verdicts(report, Verdict.KEPT) == TRIED, number
        for player in (cast.main, cast.entrance):
            assert player is not None
            player.link.close()
            world.revoke(player.device)
    world.core.store.close()


def test_a_device_that_was_enrolled_by_hand_is_played_often(tmp_path: Path, keys: CityKeys) -> None:
    """The key it has is the one in force after each run, though a run renews it; and the
    certificate in its folder is the newest for it."""
    world = World(tmp_path, keys, Faults())
    first = world.cast(Report()).main
    first.link.close()
    before = ""
    for _ in range(3):
        report = Report()
        main = Player(
            first.identity,
            MemoryLink(world, first.identity.subscriptions),
            report,
            clock_s=lambda: world.now_ms / 1000,
        )
        play(Cast(main=main), report)
        main.link.close()
        assert not verdicts(report, Verdict.BROKEN) and report.good()
        assert Rule.COLUMNS_SEALED in verdicts(report, Verdict.KEPT)
        written = first.identity.certificate_path.read_text()
        row = world.core.store.one(
            "SELECT certificate, public_key FROM device WHERE device = ?", (main.device,)
        )
        assert row == (written, main.keys.public_point()) and written != before
        before = written
    world.core.store.close()


def test_other_tills_leave_the_earmark_out_and_are_named(tmp_path: Path, keys: CityKeys) -> None:
    report = Report()
    world = World(tmp_path, keys, Faults())
    world.enrol("till-of-the-school", Station.TILL)
    play(world.cast(report), report)
    found = {finding.rule: finding for finding in report.findings()}[Rule.EARMARK_WAITS]
    assert found.verdict is Verdict.LEFT_OUT and "till-of-the-school" in found.detail
    assert report.good()
    world.core.store.close()


def test_a_school_where_nobody_can_pay_is_told_so(tmp_path: Path, keys: CityKeys) -> None:
    report = Report()
    world = World(tmp_path, keys, Faults())
    impoverish(world)
    play(world.cast(report), report)
    left_out = {f.rule: f.detail for f in report.findings() if f.verdict is Verdict.LEFT_OUT}
    assert left_out == {Rule.RESTART_DURABLE: "needs --restart"} | dict.fromkeys(
        MONEY_RULES, NOBODY_PAYS
    )
    assert report.good()
    world.core.store.close()


# ------------------------------------------------------------------------ what it is asked


class PageCity(HttpCity):
    """The reference city behind HTTP that has nothing but these paths."""

    def __init__(self, world: World, offered: Container[str]) -> None:
        super().__init__("http://127.0.0.1:9")
        self._world = world
        self._offered = offered
        self.asked: set[str] = set()

    def ask(self, method: str, target: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        path = f"{method} {target.partition('?')[0]}"
        self.asked.add(path)
        if path not in self._offered:
            return 404, b'{"error": "Not Found"}'
        return self._world.ask(method, target, body)


def documented() -> list[str]:
    """The paths of the page's first block."""
    block = PAGE.read_text().partition("## HTTP")[2].partition("\n\n|")[2].partition("\n\n")[0]
    return re.findall(r"`((?:GET|POST) /[a-z-]+)`", block)


NEEDED: dict[str, set[Rule]] = {
    "POST /orders": {Rule.ORDER_SIGNED, Rule.ORDER_COUNTER, Rule.ORDER_PASSING},
    "POST /configure": set(),
    "POST /revoke": {Rule.REVOKED},
    "GET /status": {Rule.LATE_WILL},
    "GET /facts": {Rule.BYTES_KEPT},
    "GET /settings": {Rule.EARMARK_WAITS},
    "POST /preorder": {Rule.EARMARK_WAITS},
}


def checked(folder: Path, keys: CityKeys, offered: Container[str]) -> tuple[Report, PageCity]:
    report = Report()
    world = World(folder, keys, Faults())
    city = PageCity(world, offered)
    play(replace(world.cast(report), inspector=city), report)
    world.core.store.close()
    return report, city


def test_a_city_that_offers_what_the_page_says_is_checked_whole(
    tmp_path: Path, keys: CityKeys
) -> None:
    report, city = checked(tmp_path, keys, documented())
    assert verdicts(report, Verdict.KEPT) == TRIED and report.good()
    assert city.asked == set(NEEDED)
    assert set(documented()) == {*NEEDED, "POST /enrol", "POST /claims"}


@pytest.mark.parametrize("absent", NEEDED)
def test_what_a_city_does_not_offer_is_left_out_with_its_reason(
    tmp_path: Path, keys: CityKeys, absent: str
) -> None:
    report, _ = checked(tmp_path, keys, set(NEEDED) - {absent})
    left_out = {f.rule: f.detail for f in report.findings() if f.verdict is Verdict.LEFT_OUT}
    del left_out[Rule.RESTART_DURABLE]
    if absent == "POST /revoke":  # The till that was to be revoked is on the roster still.
        assert "check-stolen" in left_out.pop(Rule.EARMARK_WAITS)
    assert set(left_out) == NEEDED[absent] and report.good()
    for words in left_out.values():
        assert words == f"the city answers {absent} with 404: Not Found"


# ----------------------------------------------------------------------------------- switches


def test_every_fault_has_its_line_of_help() -> None:
    lines = listing().splitlines()
    assert len(lines) == len(Fault)
    for fault, line in zip(Fault, lines, strict=True):
        assert line.startswith(fault.value) and line.endswith(ABOUT[fault].help)
    assert all((words and words[0].islower()) or words[0] == "`" for words in WORDS.values())


def test_faults_are_switched_by_name_with_a_value_and_off_again() -> None:
    faults = Faults()
    faults.switch_text("ack-late=500")
    faults.switch_text("freeze")
    assert faults[Fault.ACK_LATE] == 500 and faults[Fault.FREEZE] == 1 and faults.any()
    assert faults.listed()["ack-late"]["value"] == 500
    faults.switch("ack-late", False)
    faults.switch("freeze", 0)
    assert not faults.any()
    for name, value in (("ack-sometimes", 1), ("slow", -1), ("slow", "x"), ("slow", 10**9)):
        with pytest.raises(SetupProblem):
            faults.switch(name, value)
    for text in ("slow=", "slow=x", "slow=1e3", "=1"):
        with pytest.raises(SetupProblem):
            faults.switch_text(text)
