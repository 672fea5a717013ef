"""Goal: a topic name means one thing both ways, and nobody may publish or read another's.

Method: exhaust all kinds, streams and list kinds; garble names by hypothesis; hold what a device
may do against every topic of two devices and two sites.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages import Stream
from edge.model import SetupProblem, Station
from sync.topics import (
    CITY_SCOPE,
    ID_CHARS_MAX,
    TOPIC_CHARS_MAX,
    ScopeKind,
    Side,
    Topic,
    TopicKind,
    check_device_id,
    check_site_id,
    city_read_patterns,
    city_write_patterns,
    device_may_publish,
    device_may_read,
    device_read_patterns,
    device_write_patterns,
    heard_at_most_once,
    is_scope,
    of_scope,
    own,
    parse,
    publisher_of,
    scope_read_topics,
    scopes_of,
    subscriptions,
    up,
)

LONGEST = "z" * ID_CHARS_MAX


def every_topic(device: str, site: str) -> list[Topic]:
    topics = [Topic(kind=TopicKind.UP, device=device, stream=stream) for stream in Stream]
    for kind in TopicKind:
        if kind in (TopicKind.HEAD, TopicKind.DELTA):
            topics += [Topic(kind=kind, scope=f"{site}/{part}") for part in ScopeKind]
        elif kind is TopicKind.ROOT:
            topics.append(Topic(kind=kind))
        elif kind is not TopicKind.UP:
            topics.append(Topic(kind=kind, device=device))
    return topics


@pytest.mark.parametrize("name", ["a", "lane-1", LONGEST])
def test_every_topic_is_read_back_as_it_was_built(name: str) -> None:
    topics = [*every_topic(name, name), Topic(kind=TopicKind.HEAD, scope=CITY_SCOPE)]
    names = [topic.name() for topic in topics]
    assert [parse(text) for text in names] == topics
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= TOPIC_CHARS_MAX
    assert not any(mark in text for text in names for mark in "+#. ")


def test_the_names_are_those_of_the_wire() -> None:
    assert up("till-7", Stream.MAIN) == "mk/v1/d/till-7/up/main"
    assert own("till-7", TopicKind.WELCOME) == "mk/v1/d/till-7/welcome"
    assert of_scope("school-5/people", TopicKind.HEAD) == "mk/v1/s/school-5/people/head"
    assert Topic(kind=TopicKind.ROOT).name() == "mk/v1/c/root"
    status, health = (parse(own("a", kind)) for kind in (TopicKind.STATUS, TopicKind.HEALTH))
    assert status is not None and status.retained and status.qos == 1
    assert health is not None and not health.retained and health.qos == 0


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "mk",
                    "v1",
                    "d",
                    "s",
                    "c",
                    "root",
                    "up",
                    "main",
                    "people",
                    "head",
                    "ack",
                    "a",
                    "",
                    "+",
                    "A",
                ]
            ),
            max_size=8,
        ).map("/".join),
    )
)
def test_whatever_is_parsed_is_built_back_the_same(name: str) -> None:
    topic = parse(name)
    assert topic is None or topic.name() == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mk/v2/d/a/ack",
        "mk/v1/d//ack",
        "mk/v1/d/a b/ack",
        "mk/v1/d/A/ack",
        "mk/v1/d/a.b/ack",
        "mk/v1/d/a/up",
        "mk/v1/d/a/up/other",
        "mk/v1/d/a/up/main/x",
        "mk/v1/d/a/head",
        "mk/v1/s/site/people/ack",
        "mk/v1/s/site/pupils/head",
        "mk/v1/s/site/museum/head",
        "mk/v1/d/" + "a" * (ID_CHARS_MAX + 1) + "/ack",
        "mk/v1/c/head",
        "mk/v1/c/root/x",
        "mk/v1/d/a/root",
        "mk/v1/s/site/people/root",
        "mk/v1/d/а/ack",  # Cyrillic.
    ],
)
def test_a_name_that_is_none_of_ours_is_nothing(name: str) -> None:
    assert parse(name) is None


@pytest.mark.parametrize("text", ["", "a/b", "a+b", "a#", "A", "a.b", "a" * 65, "щ", "a\n"])
def test_an_id_that_could_write_elsewhere_is_a_setup_problem(text: str) -> None:
    with pytest.raises(SetupProblem, match="a-z, 0-9 and -"):
        check_device_id(text)
    with pytest.raises(SetupProblem, match="site id"):
        check_site_id(text)
    assert not is_scope(f"{text}/people")


def test_a_device_may_publish_and_read_its_own_and_nothing_else() -> None:
    scopes = scopes_of("site-a", Station.ENTRANCE)
    for device, site in product(("lane-1", "lane-2"), ("site-a", "site-b")):
        for topic in every_topic(device, site):
            from_device = publisher_of(topic.kind) is Side.DEVICE
            mine = topic.device == "lane-1"
            assert device_may_publish("lane-1", topic) is (from_device and mine)
            listed = topic.scope in ("site-a/people", "site-a/settings")
            everybodys = topic.kind is TopicKind.ROOT
            readable = not from_device and (mine or listed or everybodys)
            assert device_may_read("lane-1", scopes, topic) is readable
            assert (topic.name() in subscriptions("lane-1", scopes)) is readable


def test_the_broker_is_given_the_same_rules() -> None:
    assert set(device_write_patterns("%u")) == {
        f"mk/v1/d/%u/{kind}"
        for kind in (
            *("status", "hello", "pull", "health", "renew"),
            *("up/main", "up/agent", "up/diag", "up/for/+"),
        )
    }
    assert set(device_read_patterns("%u")) == {
        f"mk/v1/d/%u/{kind}" for kind in ("welcome", "ack", "push", "order", "renewed")
    } | {"mk/v1/c/root"}
    assert scope_read_topics(("s/people", CITY_SCOPE)) == (
        *("mk/v1/s/s/people/head", "mk/v1/s/s/people/delta"),
        *("mk/v1/s/city/museum/head", "mk/v1/s/city/museum/delta"),
    )
    assert set(city_read_patterns()) == set(device_write_patterns("+"))
    assert set(city_write_patterns()) == set(device_read_patterns("+")) | {
        "mk/v1/s/+/+/head",
        "mk/v1/s/+/+/delta",
    }
    assert subscriptions("lane-1", ())[0] == "mk/v1/c/root", "its keys check all the others"


def test_acknowledgements_alone_are_heard_at_most_once() -> None:
    """Any other message that is lost would be missed until the next connection."""
    assert heard_at_most_once("till-7") == {"mk/v1/d/till-7/ack"}
    sent = {kind: parse(own("a", kind)) for kind in (TopicKind.ACK, TopicKind.WELCOME)}
    qos = {kind: topic.qos for kind, topic in sent.items() if topic is not None}
    assert qos == {TopicKind.ACK: 0, TopicKind.WELCOME: 1}, "the city's part is the same"


def test_each_station_holds_the_lists_it_needs_and_people_come_first() -> None:
    assert scopes_of("s", Station.TILL) == ("s/people", "s/money", "s/menu", "s/settings")
    for station in (Station.ENTRANCE, Station.PRESCHOOL):
        assert scopes_of("s", station) == ("s/people", "s/settings")
    assert scopes_of("s", Station.ADMISSION) == (CITY_SCOPE, "s/settings")
    assert all(is_scope(scope) for station in Station for scope in scopes_of("s", station))
