"""Topic names: built, parsed, and who may publish what. Pure.

One table (`_FORMS`) says it all: building, parsing, subscribing and the broker's access list come
from it, so they cannot disagree. Ids come from a certificate or a configuration and are checked
once at the door (`check_device_id`, `check_site_id`); a topic that came over the wire is parsed,
and what is none of ours is `None`, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache
from typing import Final

from edge.messages import Stream
from edge.model import SetupProblem, Station

PREFIX: Final = "mk/v1/"
ID_CHARS_MAX: Final = 64  # Certificate subjects: ub-common-name of RFC 5280, appendix A.1.
TOPIC_CHARS_MAX: Final = 192  # Our choice: prefix, two ids and the longest form, with room.

# No dots: NATS turns a topic's slashes into dots and refuses both together. No slashes, plus or
# hash either: an id with one would write into another's topics.
_ID_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

HAND_IN: Final = "up/for"  # Behind it the device whose signed facts a till hands in.

CITY_SCOPE: Final = "city/museum"  # The one list that covers more than one site.


@unique
class ScopeKind(StrEnum):
    """What a list of a site is about."""

    PEOPLE = "people"
    MONEY = "money"
    MENU = "menu"
    SETTINGS = "settings"


@unique
class TopicKind(StrEnum):
    STATUS = "status"
    HELLO = "hello"
    WELCOME = "welcome"
    UP = "up"
    ACK = "ack"
    HEAD = "head"
    DELTA = "delta"
    PULL = "pull"
    PUSH = "push"
    ORDER = "order"
    HEALTH = "health"
    RENEW = "renew"
    RENEWED = "renewed"
    ROOT = "root"


@unique
class Side(StrEnum):
    DEVICE = "device"
    CITY = "city"


@unique
class Of(StrEnum):
    """What a topic belongs to: the first word of its name."""

    DEVICE = "d"
    SCOPE = "s"
    CITY = "c"  # Everybody reads it.


@dataclass(frozen=True, slots=True)
class _Form:
    publisher: Side
    of: Of
    qos: int  # As its publisher sends it, and a device asks to be given it.
    retained: bool


_FORMS: Final[dict[TopicKind, _Form]] = {
    TopicKind.STATUS: _Form(Side.DEVICE, of=Of.DEVICE, qos=1, retained=True),
    TopicKind.HELLO: _Form(Side.DEVICE, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.WELCOME: _Form(Side.CITY, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.UP: _Form(Side.DEVICE, of=Of.DEVICE, qos=1, retained=False),
    # Each says what the ones before it said: one that is lost is made good by the next, or by the
    # pump, which sends again what is not acknowledged in time. The broker need not account for it.
    TopicKind.ACK: _Form(Side.CITY, of=Of.DEVICE, qos=0, retained=False),
    TopicKind.HEAD: _Form(Side.CITY, of=Of.SCOPE, qos=1, retained=True),
    TopicKind.DELTA: _Form(Side.CITY, of=Of.SCOPE, qos=1, retained=False),
    TopicKind.PULL: _Form(Side.DEVICE, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.PUSH: _Form(Side.CITY, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.ORDER: _Form(Side.CITY, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.HEALTH: _Form(Side.DEVICE, of=Of.DEVICE, qos=0, retained=False),
    TopicKind.RENEW: _Form(Side.DEVICE, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.RENEWED: _Form(Side.CITY, of=Of.DEVICE, qos=1, retained=False),
    TopicKind.ROOT: _Form(Side.CITY, of=Of.CITY, qos=1, retained=True),
}
assert set(_FORMS) == set(TopicKind)

# Which lists a station needs. Order is urgency: people first, for the hot list travels in it.
_SCOPES: Final[dict[Station, tuple[ScopeKind, ...]]] = {
    Station.ENTRANCE: (ScopeKind.PEOPLE, ScopeKind.SETTINGS),
    Station.PRESCHOOL: (ScopeKind.PEOPLE, ScopeKind.SETTINGS),
    Station.TILL: (ScopeKind.PEOPLE, ScopeKind.MONEY, ScopeKind.MENU, ScopeKind.SETTINGS),
    Station.ADMISSION: (ScopeKind.SETTINGS,),
}
assert set(_SCOPES) == set(Station)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic name taken apart. `device` or `scope` is set, never both; neither for all."""

    kind: TopicKind
    device: str = ""
    scope: str = ""
    stream: Stream | None = None  # Of `up` alone.

    @property
    def qos(self) -> int:
        return _FORMS[self.kind].qos

    @property
    def retained(self) -> bool:
        return _FORMS[self.kind].retained

    def name(self) -> str:
        """The name on the wire."""
        form = _FORMS[self.kind]
        assert (self.stream is not None) == (self.kind is TopicKind.UP)
        if form.of is Of.CITY:
            assert not self.device and not self.scope
            return f"{PREFIX}c/{self.kind}"
        if form.of is Of.SCOPE:
            assert is_scope(self.scope) and not self.device
            return f"{PREFIX}s/{self.scope}/{self.kind}"
        assert is_id(self.device) and not self.scope
        tail = f"/{self.stream}" if self.stream is not None else ""
        return f"{PREFIX}d/{self.device}/{self.kind}{tail}"


def is_id(text: str) -> bool:
    """Whether this can be a device's or a site's id."""
    return 0 < len(text) <= ID_CHARS_MAX and _ID_ALPHABET.issuperset(text)


def is_scope(text: str) -> bool:
    """Whether this names a list: `{site}/people` and its sisters, or `city/museum`."""
    if text == CITY_SCOPE:
        return True
    site, mark, kind = text.partition("/")
    return bool(mark) and is_id(site) and kind in {k.value for k in ScopeKind}


def check_device_id(text: str) -> str:
    """The id itself, or `SetupProblem`: it stands in the certificate and in every topic."""
    if not is_id(text):
        raise SetupProblem(_id_problem("device", text))
    return text


def check_site_id(text: str) -> str:
    """The id itself, or `SetupProblem`."""
    if not is_id(text):
        raise SetupProblem(_id_problem("site", text))
    return text


def scopes_of(site: str, station: Station) -> tuple[str, ...]:
    """The lists a station holds, the most urgent first."""
    assert is_id(site)
    own = tuple(f"{site}/{kind}" for kind in _SCOPES[station])
    return (CITY_SCOPE, *own) if station is Station.ADMISSION else own


def up(device: str, stream: Stream) -> str:
    return Topic(kind=TopicKind.UP, device=device, stream=stream).name()


def own(device: str, kind: TopicKind) -> str:
    """A device's topic of a kind that has no further part."""
    return Topic(kind=kind, device=device).name()


def of_scope(scope: str, kind: TopicKind) -> str:
    """`head` or `delta` of a list."""
    return Topic(kind=kind, scope=scope).name()


def parse(name: str) -> Topic | None:
    """The topic behind a name, or None when it is none of this wire's."""
    if len(name) > TOPIC_CHARS_MAX or not name.startswith(PREFIX):
        return None
    return _parse(name)


@lru_cache(maxsize=64)  # Our choice: a device listens to some twenty, and hears few all day.
def _parse(name: str) -> Topic | None:
    match name[len(PREFIX) :].split("/"):
        case ["d", device, "up", stream] if is_id(device) and stream in _STREAMS:
            return Topic(kind=TopicKind.UP, device=device, stream=Stream(stream))
        case ["d", device, kind] if is_id(device) and kind in _OF_DEVICE:
            return Topic(kind=TopicKind(kind), device=device)
        case ["s", site, list_kind, kind] if kind in _OF_SCOPE:
            scope = f"{site}/{list_kind}"
            return Topic(kind=TopicKind(kind), scope=scope) if is_scope(scope) else None
        case ["c", kind] if kind in _OF_CITY:
            return Topic(kind=TopicKind(kind))
    return None


def subscriptions(device: str, scopes: Iterable[str]) -> tuple[str, ...]:
    """All that a device listens to, by full name: no wildcard, so nothing else can arrive."""
    everybodys = tuple(Topic(kind=TopicKind(kind)).name() for kind in sorted(_OF_CITY))
    mine = tuple(
        own(device, kind)
        for kind, form in _FORMS.items()
        if form.publisher is Side.CITY and form.of is Of.DEVICE
    )
    lists = tuple(of_scope(scope, kind) for scope in scopes for kind in _SCOPE_KINDS)
    return everybodys + mine + lists  # The root first: the rest is checked with its keys.


def heard_at_most_once(device: str) -> frozenset[str]:
    """Of what a device listens to, what it subscribes to with QoS 0; all else with QoS 1."""
    return frozenset(
        own(device, kind)
        for kind, form in _FORMS.items()
        if form.publisher is Side.CITY and form.of is Of.DEVICE and form.qos == 0
    )


def publisher_of(kind: TopicKind) -> Side:
    return _FORMS[kind].publisher


def device_may_publish(device: str, topic: Topic) -> bool:
    """A device writes its own up topics and nothing else; the broker's access list says so too."""
    return _FORMS[topic.kind].publisher is Side.DEVICE and topic.device == device


def device_may_read(device: str, scopes: Iterable[str], topic: Topic) -> bool:
    """Its own down topics, the lists of its scopes, and what is for everybody."""
    form = _FORMS[topic.kind]
    if form.publisher is not Side.CITY or form.of is Of.CITY:
        return form.publisher is Side.CITY
    return topic.scope in tuple(scopes) if form.of is Of.SCOPE else topic.device == device


def device_write_patterns(device: str = "+") -> tuple[str, ...]:
    """Filters of all that a device may write; `device` may be a broker's own place holder, such
    as Mosquitto's `%u`."""
    return _of_devices(Side.DEVICE, device)


def device_read_patterns(device: str = "+") -> tuple[str, ...]:
    """Filters of what every device reads: its own down topics and what is for everybody (its
    scopes' come from its site and station: `scope_read_topics`)."""
    return _of_devices(Side.CITY, device) + _of_everybody()


def scope_read_topics(scopes: Iterable[str]) -> tuple[str, ...]:
    """What a device reads of its lists, by full name."""
    return tuple(of_scope(scope, kind) for scope in scopes for kind in _SCOPE_KINDS)


def city_write_patterns() -> tuple[str, ...]:
    """Filters of all that the city writes: what no device does."""
    lists = tuple(f"{PREFIX}s/+/+/{kind}" for kind in _SCOPE_KINDS)
    return _of_devices(Side.CITY, "+") + lists + _of_everybody()


def city_read_patterns() -> tuple[str, ...]:
    """Filters of what the city reads: all that devices write."""
    return _of_devices(Side.DEVICE, "+")


def _of_devices(publisher: Side, device: str) -> tuple[str, ...]:
    """No wildcard where the names are known: it would grant what is added later."""
    found: list[str] = []
    for kind, form in _FORMS.items():
        if form.publisher is not publisher or form.of is not Of.DEVICE:
            continue
        tails = (*Stream, HAND_IN.removeprefix("up/") + "/+") if kind is TopicKind.UP else ("",)
        found += [f"{PREFIX}d/{device}/{kind}" + (f"/{tail}" if tail else "") for tail in tails]
    return tuple(found)


def _of_everybody() -> tuple[str, ...]:
    return tuple(f"{PREFIX}c/{kind}" for kind in sorted(_OF_CITY))


_STREAMS: Final = frozenset(stream.value for stream in Stream)
_SCOPE_KINDS: Final = tuple(kind for kind, form in _FORMS.items() if form.of is Of.SCOPE)
_OF_SCOPE: Final = frozenset(kind.value for kind in _SCOPE_KINDS)
_OF_CITY: Final = frozenset(kind.value for kind, form in _FORMS.items() if form.of is Of.CITY)
_OF_DEVICE: Final = frozenset(
    kind.value for kind, form in _FORMS.items() if form.of is Of.DEVICE and kind is not TopicKind.UP
)


def _id_problem(what: str, text: str) -> str:
    return (
        f"{what} id {text[:80]!r}: only a-z, 0-9 and - are allowed, 1 to {ID_CHARS_MAX} characters;"
        " correct it in the enrolment"
    )
