"""Checks of the way up: hello and welcome, acknowledgements, gaps, forks, poison, rubbish.

Each function plays one situation and notes what it saw of some rules. Where a situation does not
come about because something else is broken already, its own rules stay untried.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.messages import Ack, BatchHeader, Stream, Welcome, digest_of, encode_json
from hil.conformance.chain import Chain
from hil.conformance.player import Player
from hil.conformance.rules import Rule

UTC_MS_MIN = 1_735_689_600_000  # 2025-01-01: before this program was written.
CLOCKS_APART_MS_MAX = 5 * 60_000  # Our choice: the machine of a check is set by NTP.


def up_to(number: int) -> Callable[[Ack], bool]:
    """The acknowledgement of everything up to here, without complaint."""
    return lambda ack: ack.up_to == number and not ack.rewind and not ack.problem


def begin(player: Player, facts: int, *, stream: Stream = Stream.MAIN) -> Chain | None:
    """A new epoch of so many facts, all acknowledged; None when that fails, which is noted."""
    chain = player.new_chain(stream)
    chain.add_refusals(facts - 1)
    seen = player.send(chain, 1, facts, up_to(facts))
    if not player.report.check(Rule.ACK, not seen, f"facts 1 to {facts}: {seen}"):
        return None
    return chain


def marks(welcome: Welcome | None) -> dict[tuple[Stream, str], int]:
    if welcome is None:
        return {}
    return {(mark.stream, mark.epoch): mark.up_to for mark in welcome.high_water}


def check_welcome(player: Player) -> None:
    check, chain = player.report.check, player.new_chain()
    first, second = player.hello(chain), player.hello(chain)
    if first is None or second is None:
        check(Rule.WELCOME_NONCE, False, "a hello was not answered")
        return
    now_ms = player.link.now_ms()
    check(
        Rule.WELCOME_TIME,
        UTC_MS_MIN <= first.utc_ms <= second.utc_ms
        and abs(now_ms - second.utc_ms) <= CLOCKS_APART_MS_MAX,
        f"it said {first.utc_ms}, then {second.utc_ms}; here it is {now_ms}",
    )
    key = chain.stream, chain.epoch
    check(
        Rule.WELCOME_MARKS,
        marks(second).get(key) == 0,
        f"of a stream it has nothing of it said {marks(second).get(key)}, not 0",
    )


def check_order(player: Player) -> None:
    """Replays, overlaps, holes and batches out of order."""
    check = player.report.check
    chain = begin(player, 2)
    if chain is None:
        return
    seen = player.send(chain, 1, 2, up_to(2))
    check(Rule.REPLAY, not seen, f"facts 1 to 2 again: {seen}")
    chain.add_refusals(2)
    seen = player.send(chain, 1, 4, up_to(4))
    check(Rule.OVERLAP, not seen, f"facts 1 to 4 with 1 and 2 held: {seen}")
    check_hole(player)
    chain = player.new_chain()
    chain.add_refusals(5)
    for first, last in ((3, 4), (5, 6), (1, 2)):
        player.send(chain, first, last, lambda _ack: True, wait_s=player.silence_s)
    seen = player.send(chain, 1, 6, up_to(6))
    check(Rule.REORDERED, not seen, f"facts 3-4, 5-6, 1-2, then 1-6: {seen}")


def check_hole(player: Player) -> None:
    chain = begin(player, 2)
    if chain is None:
        return
    chain.add_refusals(4)
    seen = player.send(chain, 5, 6, lambda ack: ack.rewind and ack.up_to == 2)
    player.report.check(Rule.GAP, not seen, f"facts 5 to 6 with 2 held: {seen}")
    seen = player.send(chain, 3, 6, up_to(6))
    player.report.check(Rule.GAP, not seen, f"sent again from 3 after the rewind: {seen}")


def check_fork(player: Player) -> None:
    """The same numbers with another history: a cloned device, or one put back from a copy."""
    check, chain = player.report.check, begin(player, 3)
    if chain is None:
        return
    clone = player.new_chain()
    clone.epoch, clone.facts = chain.epoch, chain.facts[:2]
    clone.add(clone.refusal(reader="another"))
    player.chains[chain.stream, chain.epoch] = chain
    seen = player.send(clone, 3, 3, lambda ack: ack.problem == "fork" and ack.up_to == 3)
    check(Rule.FORK, not seen, f"another fact 3: {seen}")
    chain.add_refusals(1)
    torn = chain.refusal(previous=digest_of(b"another history"), sequence=5)
    chain.add(torn)
    chain.sent_up_to = 4
    player.send(chain, 4, 4, up_to(4))
    seen = player.send(chain, 5, 5, lambda ack: ack.up_to > 4, wait_s=player.silence_s)
    held = marks(player.hello(chain)).get((chain.stream, chain.epoch))
    check(Rule.CHAIN, bool(seen) and held in (4, None), f"a torn fact 5: {seen}, then {held}")


def check_restored(player: Player) -> None:
    """A device put back from an old copy hears what the city has, and begins a new epoch."""
    check, chain = player.report.check, begin(player, 4)
    if chain is None:
        return
    key = chain.stream, chain.epoch
    welcome = player.hello(chain)
    held = marks(welcome).get(key)
    for mark in welcome.high_water if welcome is not None else ():
        if (mark.stream, mark.epoch) == key and mark.up_to == 4:
            right = mark.digest == digest_of(chain.facts[3])
            check(Rule.WELCOME_DIGESTS, right, f"at 4 the welcome says {mark.digest!r}")
    check(Rule.RESTORED, held == 4, f"of 4 acknowledged facts the welcome said {held}")
    fresh = player.new_chain(after_epoch=chain.epoch)
    fresh.add_refusals(1)
    seen = player.send(fresh, 1, 2, up_to(2))
    check(Rule.RESTORED, not seen, f"a new epoch after the copy: {seen}")
    held_both = marks(player.hello(chain, fresh))
    both = (held_both.get(key), held_both.get((fresh.stream, fresh.epoch)))
    check(Rule.EPOCHS, both == (4, 2), f"two epochs of 4 and 2 facts: the welcome said {both}")


def check_streams(player: Player) -> None:
    found: list[Chain] = []
    for stream in (Stream.AGENT, Stream.DIAG):
        chain = player.new_chain(stream)
        chain.add_refusals(1)
        seen = player.send(chain, 1, 2, up_to(2))
        if player.report.check(Rule.STREAMS, not seen, f"two facts of {stream}: {seen}"):
            found.append(chain)
    if found:
        held = marks(player.hello(*found))
        wanted = {(chain.stream, chain.epoch): 2 for chain in found}
        text = f"the welcome said {held}"
        player.report.check(Rule.STREAMS, wanted.items() <= held.items(), text)


def check_aside(player: Player) -> None:
    """What cannot be posted, and what nobody has heard of: neither may hold up a queue."""
    for rule, add in (
        (Rule.POISON, Chain.add_poison),
        (Rule.UNKNOWN_KIND, Chain.add_unknown_kind),
    ):
        chain = begin(player, 1)
        if chain is None:
            return
        add(chain)
        chain.add_refusals(1)
        seen = player.send(chain, 2, 3, up_to(3))
        player.report.check(rule, not seen, f"such a fact with a good one behind it: {seen}")


def check_declared_gap(player: Player) -> None:
    check, chain = player.report.check, begin(player, 2)
    if chain is None:
        return
    chain.add_refusals(8)
    seen = player.send(chain, 6, 6, up_to(6), gap=chain.gap(3, 5))
    if not check(Rule.DECLARED_GAP, not seen, f"3 to 5 declared lost, 6 behind it: {seen}"):
        return
    seen = player.send(
        chain, 9, 9, lambda ack: ack.up_to > 6, gap=chain.gap(8, 8), wait_s=player.silence_s
    )
    check(Rule.DECLARED_GAP, bool(seen), "8 declared lost though 7 never came: it moved")
    seen = player.send(chain, 10, 9, up_to(9), gap=chain.gap(7, 9))
    check(Rule.DECLARED_GAP, not seen, f"7 to 9 declared lost, with no fact behind: {seen}")


def check_rubbish(player: Player) -> None:
    """Nothing of it may be taken, and what comes after it must be."""
    chain = begin(player, 2)
    if chain is None:
        return
    chain.add_refusals(2)
    header = BatchHeader(
        device=player.device,
        stream=chain.stream,
        epoch=chain.epoch,
        first=3,
        count=2,
        digest=digest_of(chain.facts[3]),
    )
    other = encode_json(header).replace(player.device.encode(), b"somebody-else")
    spoiled = chain.facts[2].replace(b'"mono_ms"', b'"mono_xx"')
    rubbish: tuple[tuple[str, bytes], ...] = (
        ("up/main", b"\xff\xfe rubbish"),
        ("up/main", b""),
        ("up/main", b"[" * 5_000),
        ("up/main", encode_json(header)),  # It says two facts and has none.
        ("up/main", b"\n".join((other, *chain.facts[2:4]))),
        ("up/main", b"\n".join((encode_json(header), chain.facts[2], chain.facts[2]))),
        ("up/main", b"\n".join((encode_json(header), spoiled, chain.facts[3]))),
        ("hello", b"{"),
        ("hello", b'{"device":"%s"}' % player.device.encode()),
        ("pull", b'{"device":"%s","chunks":"x"}' % player.device.encode()),
        ("status", b"\0" * 100),
        ("health", b"[]"),
    )
    player.forget("ack")
    for leaf, payload in rubbish:
        player.say(leaf, payload)
    moved = player.await_ack(chain, lambda ack: ack.up_to > 2, player.silence_s)
    player.report.check(Rule.RUBBISH, bool(moved), "rubbish moved the high water")
    seen = player.send(chain, 3, 4, up_to(4))
    player.report.check(Rule.RUBBISH, not seen, f"a good batch after rubbish: {seen}")


def check_oversize(player: Player) -> None:
    chain = begin(player, 1)
    if chain is None:
        return
    for _ in range(5):
        chain.add_big()
    taken = not player.send(chain, 2, 6, lambda ack: ack.up_to > 1, wait_s=player.silence_s)
    player.report.check(Rule.OVERSIZE, not taken, "a batch of 75 kB was acknowledged")
    seen = player.send(chain, 2, 3, up_to(3))
    player.report.check(Rule.OVERSIZE, not seen, f"two of its facts in a batch that fits: {seen}")


def check_durable(player: Player, rule: Rule = Rule.ACK_DURABLE) -> None:
    """Everything that was acknowledged in this run is still known to the city."""
    if not player.acknowledged:
        return
    chains = [player.chains[key] for key in player.acknowledged][-32:]
    held = marks(player.hello(*chains))
    for chain in chains:
        key = chain.stream, chain.epoch
        said, has = player.acknowledged[key], held.get(key)
        if has is None:
            continue  # `welcome-marks` speaks of that.
        text = f"{chain.stream} was acknowledged up to {said}; the welcome says {has}"
        player.report.check(rule, has >= said, text)
