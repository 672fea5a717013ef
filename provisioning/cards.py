"""`moskvenok cards`: enrol what people bring, make what the city gives out, and say what a card is.

The issuer's commands, at a desk in the city or the school's office. They write numbers of cards
into one file that the issuer names, and nowhere else; a master key is never read where a device is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.model import CorruptData, SetupProblem, UidKind
from provisioning.output import (
    CONFIG_DEFAULT,
    CONFIG_VARIABLE,
    config_option,
    json_option,
    print_json,
)
from provisioning.roster import (
    PERSON,
    Roster,
    RosterLine,
    masked,
    read_class_list,
    reader_profile,
)

if TYPE_CHECKING:
    from edge.readers.dialogue import Evidence, Failure
    from edge.readers.pcsc_desk import PcscDesk
    from provisioning.card_desk import Shown, Table
    from provisioning.card_keys import Ceremony, Kind

WAIT_S = 60  # Our choice: a class comes one by one.
F = TypeVar("F", bound=Callable[..., Any])


def desk_options(function: F) -> F:
    """Where the card lies, and how long it is waited for."""
    virtual = click.option(
        "--virtual",
        multiple=True,
        metavar="CARD",
        help="Training: this model card instead of a real one. Repeat it for more.",
    )
    wait = click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(min=0),
        default=WAIT_S,
        show_default=True,
        help="Seconds to wait for each card.",
    )
    return virtual(wait(function))


def keys_options(function: F) -> F:
    keys = click.option(
        "--keys",
        "keys_path",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The key ceremony file. Never on a device.",
    )
    profile = click.option("--profile", help="Which kind of card, as the key file names it.")
    return keys(profile(function))


def out_option(function: F) -> F:
    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        required=True,
        help="The roster, .csv or .jsonl: the only place a card's number is written to.",
    )(function)


@click.group("cards", context_settings={"help_option_names": ["-h", "--help"]})
def cards() -> None:
    """Enrol, make and examine cards, wristbands and social cards."""


# ------------------------------------------------------------------------------- enrol


@cards.command("enrol")
@click.option("--reader", default="", help="As in provision; default: the first PC/SC reader.")
@click.option("--class-list", type=click.Path(dir_okay=False, path_type=Path),
              help="CSV with a column person: one card for each.")  # fmt: skip
@click.option("--person", multiple=True, help="Whose card; repeat it for more.")
@out_option
@keys_options
@desk_options
def enrol(
    reader: str,
    class_list: Path | None,
    person: tuple[str, ...],
    out: Path,
    keys_path: Path | None,
    profile: str | None,
    virtual: tuple[str, ...],
    wait_s: float,
) -> None:
    """Read cards one by one and write a roster line for each.

    A card counts as much as it proves at this desk: with --keys and --profile it must prove itself
    by that kind, without them it is its number (tier 1; tier 0 at 125 kHz).
    """
    from provisioning.card_desk import Table

    people = _people(class_list, person)
    kind = _kind(keys_path, profile)
    roster = Roster(out)
    table = Table(virtual)
    waiting = [name for name in people if name not in roster.people]
    if done := len(people) - len(waiting):
        click.echo(f"{done} of {len(people)} are in {out} already")
    book = None if kind is None else kind[1]
    with table.reader(reader, book) as shown:
        for number, name in enumerate(waiting, start=1):
            click.echo(f"{number} of {len(waiting)}: {name}: show the card")
            line, uid = _next_line(table, shown, roster, name, kind, wait_s)
            roster.add(line)
            click.echo(f"  card {masked(uid)}, tier {line.tier}{_of(line)}")
    click.echo(f"{len(waiting)} written to {out}; carry it to the city and delete it here")


def _next_line(
    table: Table,
    shown: Shown,
    roster: Roster,
    person: str,
    kind: tuple[Kind, Ceremony] | None,
    wait_s: float,
) -> tuple[RosterLine, bytes]:
    """The line of the first good card that is shown; what is wrong with others is said."""
    from edge.readers.reader import ReadFailed
    from provisioning.card_desk import FAILURE_WORDS

    while True:
        table.next_card()
        event = shown.next(wait_s)
        if event is None:
            raise SetupProblem(f"no card within {wait_s:g} s; what was read is kept, go on later")
        if isinstance(event, ReadFailed):
            click.echo(f"  not this one: {FAILURE_WORDS[event.failure]}")
            continue
        problem = ""
        holder = roster.holder_of(event.uid)
        if event.is_ambiguous:
            problem = "this reader gives a part of the number only; use another to enrol"
        elif holder and holder != person:
            problem = f"{holder} has it already"
        elif kind is not None and event.tier < kind[0].profile.tier:
            failure = None if event.evidence is None else event.evidence.failure
            why = "" if failure is None else f": {FAILURE_WORDS[failure]}"
            problem = f"it did not prove itself as {kind[0].profile.profile_id}{why}"
        if problem:
            click.echo(f"  not this one, card {masked(event.uid)}: {problem}")
            continue
        proven = kind is not None
        version = None if event.evidence is None else event.evidence.key_version
        line = RosterLine(
            person=person,
            uid=event.uid.hex(),
            kind=event.kind.name.lower(),
            tier=int(event.tier),
            profile=kind[0].profile.profile_id if kind is not None else "",
            key_version=version if proven else None,
            reader=reader_profile(shown.settings),
        )
        return line, event.uid


def _people(class_list: Path | None, person: tuple[str, ...]) -> list[str]:
    if (class_list is None) == (not person):
        raise SetupProblem("give --class-list FILE or --person ID, one of them")
    people = list(person) if class_list is None else read_class_list(class_list)
    for name in people:
        if not PERSON.fullmatch(name):
            raise SetupProblem(
                f'--person "{name[:40]}": write the city\'s id: letters, digits, . _ -'
            )
    if len(set(people)) < len(people):
        raise SetupProblem("--person: the same id twice; give each once")
    return people


def _of(line: RosterLine) -> str:
    return f", {line.profile} key version {line.key_version}" if line.profile else ""


# ------------------------------------------------------------------------------- issue


@cards.command("issue")
@click.option("--person", required=True, help="Whose card it will be.")
@click.option("--pcsc", default="", help="How the reader's name begins; default: the first.")
@click.option("--again", is_flag=True, help="The person's line is there: replace nothing, add one.")
@out_option
@keys_options
@desk_options
@config_option
def issue(
    person: str,
    pcsc: str,
    again: bool,
    out: Path,
    keys_path: Path | None,
    profile: str | None,
    virtual: tuple[str, ...],
    wait_s: float,
    config: Path,
) -> None:
    """Make a card of the city out of a blank DESFire EV2/EV3 or NTAG 424, and prove it.

    A card torn away in the middle is gone on with: lay it down and run the same again.
    """
    from provisioning.card_desk import Table, prove

    refuse_on_device(config)
    if keys_path is None or profile is None:
        raise SetupProblem("give --keys FILE and --profile NAME: what the card is to become")
    _people(None, (person,))
    found = _kind(keys_path, profile)
    assert found is not None
    kind, book = found
    roster = Roster(out)
    if person in roster.people and not again:
        raise SetupProblem(f"{person} has a line in {out} already; --again makes a second card")
    table = Table(virtual)
    with table.writer(pcsc) as desk:
        table.next_card()
        uid = _waited_uid(desk, wait_s)
        click.echo(f"card {masked(uid)} on {desk.name}: hold it still")
        _make(desk, kind, uid)
        evidence = prove(desk, book)
        _accept(evidence, kind, uid)
        line = RosterLine(
            person=person,
            uid=uid.hex(),
            kind=UidKind.ISO14443.name.lower(),
            tier=int(kind.profile.tier),
            profile=kind.profile.profile_id,
            key_version=kind.key_version,
            reader="pcsc",
        )
        roster.add(line)
    click.echo(f"made and proven: {kind.profile.profile_id}, tier {line.tier}; written to {out}")


def refuse_on_device(config: Path) -> None:
    """A master key beside a device is a city's keys in a school's cupboard."""
    named = Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_DEFAULT)
    places = dict.fromkeys((config, named, Path(CONFIG_DEFAULT)))
    for path in [*places, *(place.parent / "identity" for place in places)]:
        try:
            is_here = path.exists()
        except PermissionError:
            is_here = True  # Whose it is may not look there; something is.
        if is_here:
            raise SetupProblem(
                f"{path} is here: this is a device, and a master key never is on one; make cards "
                "at the issuer's desk"
            )


def _waited_uid(desk: PcscDesk, wait_s: float) -> bytes:
    """The real UID of the card that is laid down. It derives every key, so it must be real."""
    from edge.readers.dialogue import Failure
    from provisioning.card_desk import FAILURE_WORDS, prove

    click.echo(f"lay the blank card on {desk.name}")
    if not desk.wait_for(present=True, limit_s=wait_s):
        raise SetupProblem(f"no card within {wait_s:g} s; lay it down and run this again")
    shown = prove(desk, None)
    if isinstance(shown, Failure):
        done = ' If it was made here before, "enrol" it.' if shown == "random_uid" else ""
        raise SetupProblem(f"this card cannot be made: {FAILURE_WORDS[shown]}.{done}")
    if len(shown.uid) != 7:
        raise SetupProblem(f"card {masked(shown.uid)}: no blank DESFire or NTAG 424")
    return shown.uid


def _make(desk: PcscDesk, kind: Kind, uid: bytes) -> None:
    from edge.readers.dialogue import Failure
    from edge.readers.issue_desfire import issue_desfire
    from edge.readers.issue_ntag424 import issue_ntag424
    from edge.readers.personalise import Issuing, Trouble, carry
    from edge.readers.profile import Family
    from provisioning.card_desk import FAILURE_WORDS

    issuing: Issuing
    if kind.profile.family is Family.DESFIRE_EV2:
        plan = kind.desfire_plan(uid)
        issuing = issue_desfire(uid, plan, random_bytes=secrets.token_bytes)
    elif kind.profile.family in (Family.NTAG424, Family.NTAG424_SUN):
        issuing = issue_ntag424(uid, kind.ntag_plan(uid), random_bytes=secrets.token_bytes)
    else:
        raise SetupProblem(
            f'"issue" makes desfire_ev2, ntag424 and ntag424_sun; {kind.profile.family} comes '
            'personalised from its maker: "enrol" it'
        )
    with desk.card() as transmit:
        made = carry(issuing, transmit=transmit)
    if isinstance(made, Trouble):
        raise SetupProblem(
            f"at the {made.step}: {FAILURE_WORDS[made.failure]}; nothing is in the roster. "
            f'If it was made here before, "enrol" it as {kind.profile.profile_id}'
        )
    if isinstance(made, Failure):
        raise SetupProblem(f"{FAILURE_WORDS[made]}; lay it down and run the same again")


def _accept(evidence: Evidence | Failure, kind: Kind, uid: bytes) -> None:
    """Only a card that proves itself as a lane will ask it is given out."""
    from edge.readers.dialogue import Evidence
    from provisioning.card_desk import FAILURE_WORDS

    if isinstance(evidence, Evidence):
        if evidence.uid == uid and evidence.tier is kind.profile.tier:
            return
        why = evidence.failure
    else:
        why = evidence
    words = "it proved less than it should" if why is None else FAILURE_WORDS[why]
    raise SetupProblem(f"written, but it does not prove itself: {words}; keep this card back")


def _kind(
    keys_path: Path | None, profile: str | None, config: Path | None = None
) -> tuple[Kind, Ceremony] | None:
    if (keys_path is None) != (profile is None):
        raise SetupProblem("--keys and --profile go together: which kind of card, and its keys")
    if keys_path is None or profile is None:
        return None
    from provisioning.card_keys import read_ceremony

    refuse_on_device(config or Path(CONFIG_DEFAULT))
    ceremony = read_ceremony(keys_path)
    return ceremony.kind(profile), ceremony.only(profile)


# ----------------------------------------------------------------------------- inspect


@cards.command("inspect")
@click.option("--pcsc", default="", help="How the reader's name begins; default: the first.")
@keys_options
@desk_options
@config_option
@json_option
def inspect(
    pcsc: str,
    keys_path: Path | None,
    profile: str | None,
    virtual: tuple[str, ...],
    wait_s: float,
    config: Path,
    as_json: bool,
) -> None:
    """Say what a card is, what it proves, and on a device whether it would be let in, and why not.

    Changes nothing, on the card and on the device.
    """
    from provisioning.card_desk import Table
    from provisioning.card_inspect import Report, look

    kind = _kind(keys_path, profile, config)
    table = Table(virtual)
    with table.writer(pcsc) as desk:
        table.next_card()
        if not as_json:
            click.echo(f"lay the card on {desk.name}")
        if not desk.wait_for(present=True, limit_s=wait_s):
            raise SetupProblem(f"no card within {wait_s:g} s; lay it down and run this again")
        try:
            report: Report = look(desk, None if kind is None else kind[1], config)
        except CorruptData as problem:
            raise SetupProblem(f"the lists here cannot be read: {problem}") from problem
    if as_json:
        print_json(report.facts())
        return
    for sentence in report.sentences():
        click.echo(f"- {sentence}")
