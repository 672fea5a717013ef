"""`moskvenok provision`: from a claim and a few words to a device that can start.

Safe to run again, and safe to cut off anywhere: what is there and fits is kept, every file is
whole, and what the city answered is on disk in one piece before anything is made from it, so a
used claim is never needed twice. The list of steps is `visit`; files, certificates and the city
have modules of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import click

from edge import config
from edge.model import SetupProblem, Station
from edge.settings import DeviceSettings
from provisioning import identity
from provisioning.city import Answer, check_city, enrol
from provisioning.device_file import Body, compose, difference, same_meaning
from provisioning.files import make_folder, read_whole, write_whole
from provisioning.output import CONFIG_DEFAULT, config_option, json_option, print_json
from sync.topics import scopes_of

TIME_ZONE: Final = "Europe/Moscow"
RUNTIME_DEFAULT: Final = "/run/moskvenok"  # house.md, of an installed device.
STAND_IN: Final = "mqtts://city.invalid:8883"  # RFC 2606: a name that means nobody.


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the technician typed. Empty means: as it is, or as the city says."""

    config: Path
    device: str = ""
    site: str = ""
    station: str = ""
    time_zone: str = ""
    endpoints: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()
    template: Path | None = None
    config_from: Path | None = None
    runtime: str = ""
    simulated_taps: bool = False
    city: str = ""
    claim: str = field(default="", repr=False)
    city_ca: Path | None = None
    replace: bool = False
    new_city: bool = False
    renew: bool = False
    key: identity.KeyPlace = identity.KeyPlace.AUTO

    def changes(self, before: DeviceSettings | None) -> bool:
        """Whether anything was said about the file beyond what it is for."""
        parts = (self.endpoints, self.readers, self.lanes, self.template, self.config_from)
        if any(parts) or self.runtime or self.simulated_taps:
            return True
        said = (self.device, self.site, self.station, self.time_zone)
        if before is None:
            return any(said)
        found = (before.device_id, before.site_id, before.station.value, before.time_zone)
        return any(word and word != has for word, has in zip(said, found, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done, kept as it was, or wants attention."""

    part: str
    state: str  # done, kept, attention
    text: str


class AskCity(Protocol):
    def __call__(
        self,
        url: str,
        *,
        claim: str,
        device_id: str,
        site_id: str,
        station: str,
        csr_pem: str,
        authority: Path | None,
    ) -> Answer: ...


def visit(
    wish: Wish, *, tell: Callable[[Step], None], ask_city: AskCity = enrol, now: datetime
) -> DeviceSettings:
    """All of it, step by step. Raises `SetupProblem` before the claim is used where it can."""
    if wish.city:
        check_city(wish.city)
    there = _text(wish.config)
    # First without the city: a mistyped option must not cost the claim.
    asked = _wanted(wish, there, None)
    settings = _parsed(asked, wish.config)
    if there is not None and not wish.replace and not same_meaning(there, asked):
        raise SetupProblem(
            f"{wish.config}: differs from what was asked for:\n\n{difference(there, asked)}\n\n"
            "Nothing was changed. Run it again with --replace to put the new file in its place."
        )
    wish.config.parent.mkdir(parents=True, exist_ok=True)
    for folder in (settings.folders.identity, settings.folders.state, settings.folders.runtime):
        made = make_folder(folder)
        tell(Step(part="folder", state="done" if made else "kept", text=str(folder)))
    key = _device_key(wish, settings, tell)
    answer = _certificate(wish, settings, key, tell=tell, ask_city=ask_city, now=now)
    text, note = _final_text(wish, there, answer)
    if note:
        tell(Step(part="configuration", state="attention", text=note))
    settings = _parsed(text, wish.config)
    if text == there:
        tell(Step(part="configuration", state="kept", text=f"{wish.config}: as it was"))
    else:
        write_whole(wish.config, text.encode())
        tell(Step(part="configuration", state="done", text=f"{wish.config}: written and checked"))
    identity.forget_answer(settings)
    return settings


def _device_key(
    wish: Wish, settings: DeviceSettings, tell: Callable[[Step], None]
) -> identity.PrivateKey:
    key, made = identity.device_key(settings, wish.key)
    what = f"made; it never leaves this device; {made}" if made else "there already"
    tell(Step(part="key", state="done" if made else "kept", text=f"{settings.key_path}: {what}"))
    if closed := identity.closed_tpm(settings):
        tell(Step(part="key", state="attention", text=f"the agent may not use the TPM; {closed}"))
    return key


def _text(path: Path) -> str | None:
    data = read_whole(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        raise SetupProblem(f"{path}: not text; is this the right file?") from error


def _given(path: Path, option: str) -> str:
    text = _text(path)
    if text is None:
        raise SetupProblem(f"{option} {path}: there is no such file; check its name")
    return text


def _parsed(text: str, path: Path) -> DeviceSettings:
    return config.parse(text.encode(), path)


def _wanted(wish: Wish, there: str | None, answer: Answer | None) -> str:
    """The file that is asked for. What was not typed comes from the file that is there, and the
    brokers from the city; before it was asked, a stand-in takes their place."""
    before = _before(wish, there)
    if there is not None and not wish.changes(before):
        return there
    if wish.config_from is not None:
        return _whole_file(wish, _given(wish.config_from, "--config-from"))
    missing = [
        f"--{name}"
        for name, value in (("device", wish.device), ("site", wish.site), ("station", wish.station))
        if not value and before is None
    ]
    if missing:
        raise SetupProblem(f"{wish.config}: not there yet; give {', '.join(missing)}")
    endpoints = wish.endpoints or (answer.endpoints if answer is not None else ())
    if not endpoints:
        endpoints = before.endpoints if before is not None else (STAND_IN,)
    body = Body(
        device_id=wish.device or (before.device_id if before else ""),
        site_id=wish.site or (before.site_id if before else ""),
        station=wish.station or (before.station.value if before else ""),
        time_zone=wish.time_zone or (before.time_zone if before else TIME_ZONE),
        endpoints=endpoints,
        runtime=_runtime(wish),
        simulated_taps=wish.simulated_taps,
        readers=wish.readers,
        lanes=wish.lanes,
        template=_given(wish.template, "--template") if wish.template is not None else "",
    )
    return compose(body)


def _before(wish: Wish, there: str | None) -> DeviceSettings | None:
    """The settings in force, as far as they can be read."""
    try:
        return None if there is None else _parsed(there, wish.config)
    except config.ConfigProblem:
        return None  # It will show as a difference; nothing is taken from a broken file.


def _runtime(wish: Wish) -> str:
    if wish.runtime:
        return wish.runtime
    return RUNTIME_DEFAULT if str(wish.config) == CONFIG_DEFAULT else ""


def _whole_file(wish: Wish, text: str) -> str:
    """`--config-from` is taken as it is: what else was typed must not contradict it."""
    settings = _parsed(text, wish.config_from or wish.config)
    for option, typed, found in (
        ("--device", wish.device, settings.device_id),
        ("--site", wish.site, settings.site_id),
        ("--station", wish.station, settings.station.value),
    ):
        if typed and typed != found:
            raise SetupProblem(
                f'{option} "{typed}": {wish.config_from} says "{found}"; mend one of the two'
            )
    others = (wish.readers, wish.lanes, wish.template, wish.endpoints, wish.runtime)
    if any((*others, wish.time_zone, wish.simulated_taps)):
        raise SetupProblem(
            f"--config-from {wish.config_from}: is a whole file; write readers, lanes and the rest "
            "into it, or use --template"
        )
    return text


def _final_text(wish: Wish, there: str | None, answer: Answer | None) -> tuple[str, str]:
    """The file to write, and what the technician should know about it."""
    asked = _wanted(wish, there, answer)
    if there is not None and (same_meaning(there, asked) or not wish.replace):
        asked = there  # Only the brokers can differ here: `visit` has compared the rest.
    endpoints = _parsed(asked, wish.config).endpoints
    if STAND_IN in endpoints:
        raise SetupProblem("no broker is known; give one with --endpoint mqtts://HOST:PORT")
    if answer is None or endpoints == answer.endpoints or not answer.endpoints:
        return asked, ""
    named = ", ".join(answer.endpoints)
    return asked, f"{wish.config}: its brokers are not those the city names: {named}"


def _certificate(
    wish: Wish,
    settings: DeviceSettings,
    key: identity.PrivateKey,
    *,
    tell: Callable[[Step], None],
    ask_city: AskCity,
    now: datetime,
) -> Answer | None:
    """Keep the certificate that is there and fits, else finish a visit that was cut off, else
    ask the city. The city's answer, or None when nothing was asked."""
    answer = identity.kept_answer(settings)
    found = "finished from the answer of the visit before"
    if answer is None or _misfit(settings, key, answer, now):
        why = _misfit(settings, key, identity.stored(settings), now)
        if not why and not wish.renew:
            until = _until(settings, key, now)
            kept = f"{settings.certificate_path}: fits, good until {until}"
            tell(Step(part="certificate", state="kept", text=kept))
            return None
        answer = _ask(wish, settings, key, why or "--renew was given", ask_city, now)
        identity.keep_answer(settings, answer)
        found = "made by the city and checked"
    identity.write_files(settings, answer)
    text = f"{settings.certificate_path}: {found}, good until {_until(settings, key, now)}"
    tell(Step(part="certificate", state="done", text=text))
    lacking = set(scopes_of(settings.site_id, settings.station)) - set(answer.scopes)
    if lacking:
        told = (
            f"the city gives this device no {', '.join(sorted(lacking))}; check its station there"
        )
        tell(Step(part="lists", state="attention", text=told))
    return answer


def _misfit(
    settings: DeviceSettings, key: identity.PrivateKey, answer: Answer | None, now: datetime
) -> str:
    if answer is None:
        return "this device has no certificate yet"
    try:
        identity.check(answer, device_id=settings.device_id, public_key=key.public_key(), now=now)
    except identity.Misfit as problem:
        return str(problem)
    return ""


def _ask(
    wish: Wish,
    settings: DeviceSettings,
    key: identity.PrivateKey,
    why: str,
    ask_city: AskCity,
    now: datetime,
) -> Answer:
    if not (wish.city and wish.claim):
        raise SetupProblem(
            f"{why}; ask the city for a claim, then run it again with --city URL --claim CODE"
        )
    request = identity.certificate_request(key, settings.device_id)
    with _in_software():
        answer = ask_city(
            wish.city,
            claim=wish.claim,
            device_id=settings.device_id,
            site_id=settings.site_id,
            station=settings.station.value,
            csr_pem=request,
            authority=wish.city_ca,
        )
    misfit = _misfit(settings, key, answer, now)
    if misfit:
        raise SetupProblem(
            f"{wish.city}: what the city sent does not fit: {misfit}. Nothing was changed; tell "
            "the city's operator"
        )
    if not identity.same_root(settings, answer) and not wish.new_city:
        raise SetupProblem(
            f"{wish.city}: has another root key than {settings.root_key_path}. If this device "
            "really moves to another city, run it again with --new-city; else do not go on"
        )
    return answer


def _in_software() -> AbstractContextManager[None]:
    """A TPM in use would check the city's web certificates too, and may not know their kind."""
    if "edge.tpm_openssl" not in sys.modules:
        return nullcontext()
    from edge.tpm_openssl import in_software

    return in_software()


def _until(settings: DeviceSettings, key: identity.PrivateKey, now: datetime) -> str:
    answer = identity.stored(settings)
    assert answer is not None
    leaf = identity.check(
        answer, device_id=settings.device_id, public_key=key.public_key(), now=now
    )
    return identity.utc_text(leaf.not_valid_after_utc)


def _print_step(step: Step) -> None:
    colour = {"done": "green", "kept": None, "attention": "yellow"}[step.state]
    click.echo(f"{click.style(f'{step.state:10}', fg=colour)} {step.part:14} {step.text}")


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("provision")
@config_option
@click.option("--city", default="", help="The city's address, https://HOST[:PORT].")
@click.option("--claim", default="", envvar="MOSKVENOK_CLAIM", help="The code the city gave you.")
@click.option("--city-ca", type=_FILE, help="Whom to trust for https, PEM; else the system's.")
@click.option("--device", default="", help="The device's id, as the claim was made for.")
@click.option("--site", default="", help="The school's id.")
@click.option("--station", type=click.Choice([str(kind) for kind in Station]), help="What it is.")
@click.option("--time-zone", default="", help=f"Of the school. [default: {TIME_ZONE}]")
@click.option("--endpoint", "endpoints", multiple=True, help="A broker; else the city names them.")
@click.option("--reader", "readers", multiple=True, help="ID:serial:PORT:FRAME[:KEY=VALUE...]")
@click.option("--lane", "lanes", multiple=True, help="LANE:DRIVER:POINT[,POINT...]")
@click.option("--template", type=_FILE, help="Readers and lanes from a file.")
@click.option("--config-from", type=_FILE, help="A whole device.toml, taken as it is.")
@click.option("--runtime", default="", help="The folder of the sockets.")
@click.option("--simulated-taps", is_flag=True, help="Let `tap` play cards: benches only.")
@click.option("--replace", is_flag=True, help="Put another file in place of this one.")
@click.option("--new-city", is_flag=True, help="Take the root key of another city.")
@click.option(
    "--key",
    type=click.Choice([str(place) for place in identity.KeyPlace]),
    default=str(identity.KeyPlace.AUTO),
    show_default=True,
    help="Where a new device key is: in this machine's TPM, if there is one, or in a file.",
)
@click.option("--renew", is_flag=True, help="Ask for a new certificate though this one fits.")
@json_option
def provision(as_json: bool, **typed: object) -> None:
    """Make the device's key, fetch its certificate, write its file. Safe to run again.

    \b
    A reader:  r1:serial:/dev/ttyUSB0:id12:access_point=north-in
               r1:pcsc:ACS ACR122U:access_point=north-in
    A lane:    north:lgpio:north-in=in:school:relay=17:rotation=27/low/up,\\
                           north-out=out:school:relay=22:rotation=23/low/up
    A pin:     17, 17/low (active at low level), 27/up (pulled up), 27/low/up
    """
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if not as_json:
            _print_step(step)

    typed["station"] = typed["station"] or ""
    typed["key"] = identity.KeyPlace(str(typed["key"]))
    wish = Wish(**typed)  # type: ignore[arg-type]  # click gives each option under its field's name
    settings = visit(wish, tell=tell, now=datetime.now(UTC))
    if as_json:
        facts = [{"part": s.part, "state": s.state, "text": s.text} for s in steps]
        print_json(
            {"ok": True, "device": settings.device_id, "config": str(wish.config), "steps": facts}
        )
    else:
        click.echo('\nStart the agent, then run "moskvenok doctor".')
