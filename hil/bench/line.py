"""Facts up and a block down over Mosquitto with TLS, as real processes, beside bare paho.

Facts: days of an entrance wait in the journal; sync drains them to a city without books, and for
comparison to the reference city. The limit is paho to paho at QoS 1 through the same broker and
TLS with the same bytes, where nobody reads a file, keeps a mark or answers.

Two limits are shown. The one that counts has as many batches in flight as sync may have: the
window of 8 is a rule of the wire (what a lost link costs, what a till's memory holds), not
something to be faster by. The other has paho's own default of 20. Both are harder than what sync
does: a message is done when the broker has it, where sync's batch is done when the city's answer
has come back through the broker, twice the way and twice the messages. Rounds of both alternate
and their median counts, so that a busy moment of the machine falls on either.

Blocks: from the request to the city until `edge` refuses the card at the lane.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final
from zoneinfo import ZoneInfo

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.clock import Clock
from edge.machine import machine_id
from edge.messages import (
    BATCH_BYTES_MAX,
    BATCH_ROWS_MAX,
    AccessFact,
    BatchHeader,
    Stream,
    VersionMark,
    digest_of,
    encode_batch,
)
from edge.model import AccessReason, Direction, Outcome, UidKind
from edge.offline_cache import marks, outbox
from edge.offline_cache.apply import in_force
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import FileKind, open_reader, reading
from edge.settings import DeviceSettings
from hil.bench.bare_city import BareCity
from hil.bench.figures import Figure, figure, percentile
from hil.bench.town import DEVICE, SEED, SITE, Town, until
from hil.city.bridge import CLIENT_ID
from hil.city.keys import city_client, open_keys, utc
from hil.world.school import make_school
from sync.pump import WINDOW_BATCHES_MAX

# Our choice: a drain of more than a second, many times the looks at its marks (sync keeps the first
# mark and the last at once) and what begins with a connection. paho sends a third of it three times
# over, for all of that stands in memory.
OF_PAHO, TIMES = 120_000, 3
FACTS: Final = TIMES * OF_PAHO
SINGLES: Final = 20_000
ROUNDS: Final = 3
MARKS_S: Final = 0.02  # Our choice: how often the marks are read; each look costs what is measured.
A_COMMIT: Final = 500  # Facts made at once when the backlog is made.
ANSWER_S: Final = 30.0
PAHO_IN_FLIGHT: Final = 20  # paho's own default.
BLOCKS: Final = 120
SHARE_MIN, TIMES_MIN, CPU_US_MAX, BLOCK_MS_MAX = 0.5, 10.0, 20.0, 500.0  # promises.md.


def measure(folder: Path) -> list[Figure]:
    with Town(folder / "line") as town:
        facts = fill(town.settings)
        booked_per_s, _ = drain(town)
        town.sync.stop()
        town.city.stop()
        rounds = [_round(town, facts) for _ in range(ROUNDS)]
        town.start(town.city)
        town.find_city()
        blocks_ms = block(town)
        bare_ms = echo(town)
    return of_facts(rounds, booked_per_s) + of_blocks(blocks_ms, bare_ms)


def of_facts(
    rounds: Sequence[tuple[float, float, float, float, float]], booked_per_s: float
) -> list[Figure]:
    per_s, cpu_us, plain_per_s, default_per_s, single_per_s = map(median, zip(*rounds, strict=True))
    return [
        figure(
            "facts a second to a city's acknowledgement, TLS",
            per_s,
            "/s",
            limit=plain_per_s,
            limit_name=f"paho to paho, QoS 1, same batches, {WINDOW_BATCHES_MAX} in flight as here",
            goal=f">= {SHARE_MIN:.0%} of it",
            ok=per_s >= SHARE_MIN * plain_per_s,
        ),
        figure(
            "the same, beside paho's own default",
            per_s,
            "/s",
            limit=default_per_s,
            limit_name=f"paho to paho, QoS 1, same batches, {PAHO_IN_FLIGHT} in flight",
            goal="shown",
            ok=True,
        ),
        figure(
            "the same, beside one fact a message",
            per_s,
            "/s",
            limit=single_per_s,
            limit_name="paho to paho, QoS 1, one a message",
            goal=f">= {TIMES_MIN:g} x",
            ok=per_s >= TIMES_MIN * single_per_s,
        ),
        figure(
            "the same, to the reference city, which posts and commits",
            booked_per_s,
            "/s",
            limit=per_s,
            limit_name="to a city without books",
            goal="shown",
            ok=True,
        ),
        figure(
            "processor time of sync per fact while draining",
            cpu_us,
            "µs",
            limit=1e6 / plain_per_s,
            limit_name="wall time of paho per fact",
            goal=f"<= {CPU_US_MAX:g} µs",
            ok=cpu_us <= CPU_US_MAX,
        ),
    ]


def of_blocks(blocks_ms: Sequence[float], bare_ms: Sequence[float]) -> list[Figure]:
    return [
        figure(
            f"block in the city -> refused at the lane ({name})",
            percentile(blocks_ms, share),
            "ms",
            limit=percentile(bare_ms, share),
            limit_name="one request to the city",
            goal=f"p99 <= {BLOCK_MS_MAX:g} ms",
            ok=percentile(blocks_ms, 0.99) <= BLOCK_MS_MAX,
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    ]


# ------------------------------------------------------------------------------------ facts


def _round(town: Town, facts: Sequence[bytes]) -> tuple[float, float, float, float, float]:
    """Facts a second of sync, its processor time of each in µs; then of paho, in batches with as
    many in flight as sync, in batches with its default, and one by one."""
    batches = batches_of(facts)
    of_batch = len(facts) / len(batches)
    with BareCity(town):
        per_s, cpu_us = drain(town)  # It knows of nothing: all of it is sent again.
        town.sync.stop()
    return (
        per_s,
        cpu_us,
        of_batch * plain(town, batches, times=TIMES, in_flight=WINDOW_BATCHES_MAX),
        of_batch * plain(town, batches, times=TIMES, in_flight=PAHO_IN_FLIGHT),
        plain(town, facts[:SINGLES], times=1, in_flight=PAHO_IN_FLIGHT),
    )


def fill(settings: DeviceSettings) -> list[bytes]:
    """A backlog of refusals and grants as edge records them; the bytes of its first ones."""
    clock = Clock(ZoneInfo(settings.time_zone))
    journal = open_journal(
        settings.journal_path,
        device=settings.device_id,
        site=settings.site_id,
        station=settings.station,
        machine=machine_id(),
        moment=clock.moment(),
    )
    while journal.head < FACTS:
        moment = clock.moment()
        with journal.record(moment) as filling:
            for number in range(A_COMMIT):
                filling.add(
                    AccessFact(
                        **filling.stamp(moment),
                        access_point="north-in",
                        zone="school",
                        direction=Direction.IN,
                        reader="r1",
                        tier=1,
                        credential=f"{number:022}",
                        cardholder=f"{SITE}c{number:04}",
                        outcome=Outcome.GRANT,
                        reason=AccessReason.AUTHORIZED,
                        caveats=(),
                        people=VersionMark(1, 7),
                        list_age_s=60,
                        read_age_ms=12,
                    )
                )
    db = journal.writer.db
    life = outbox.lives(db, Stream.MAIN)[-1]
    facts = outbox.next_facts(db, life.life, 1, rows_max=OF_PAHO, bytes_max=1 << 30)
    journal.close()
    return facts


def drain(town: Town) -> tuple[float, float]:
    """Facts a second from the first acknowledgement to the last, and processor time of each."""
    town.start(town.sync)
    until(lambda: 0 < acknowledged(town) < FACTS, "the first facts", look_s=MARKS_S)
    had, began, cpu_s = acknowledged(town), time.perf_counter(), town.sync.cpu_s()
    until(lambda: acknowledged(town) >= FACTS, "all facts", look_s=MARKS_S)
    taken_s, count = time.perf_counter() - began, FACTS - had
    return count / taken_s, 1e6 * (town.sync.cpu_s() - cpu_s) / count


def acknowledged(town: Town) -> int:
    db = open_reader(town.settings.sync_path, FileKind.SYNC)
    if db is None:
        return 0
    try:
        with reading(db):
            seen = marks.store_view(db, Stream.MAIN).seen
            return max((one.acknowledged for one in seen.values()), default=0)
    finally:
        db.close()


def batches_of(facts: Sequence[bytes]) -> list[bytes]:
    """As the pump makes them."""
    made: list[bytes] = []
    rows: list[bytes] = []
    for fact in (*facts, b""):
        size = sum(map(len, rows)) + len(fact)
        if rows and (not fact or len(rows) == BATCH_ROWS_MAX or size > BATCH_BYTES_MAX):
            header = BatchHeader(
                device=DEVICE,
                stream=Stream.MAIN,
                epoch="0" * 16,
                first=1,
                count=len(rows),
                digest=digest_of(rows[-1]),
            )
            made.append(encode_batch(header, rows))
            rows = []
        rows.append(fact)
    return made


def plain(town: Town, messages: Sequence[bytes], *, times: int, in_flight: int) -> float:
    """Messages a second from a publisher in a process of its own to a subscriber that counts,
    which is paho too."""
    now = utc(time.time_ns() // 1_000_000)
    keys = open_keys(town.city_folder, SITE, now)
    settings = town.settings
    came: list[float] = []
    subscribed = threading.Event()
    listener = mqtt.Client(CallbackAPIVersion.VERSION2, CLIENT_ID, protocol=mqtt.MQTTv311)
    tls = ssl.create_default_context(cafile=str(keys.chain_path))
    tls.load_cert_chain(*city_client(keys, now))
    listener.tls_set_context(tls)
    listener.on_socket_open = no_delay
    listener.on_subscribe = lambda *_: subscribed.set()
    listener.on_message = lambda *_: came.append(time.perf_counter())
    listener.connect("127.0.0.1", town.broker_port)
    listener.loop_start()
    listener.subscribe(f"mk/v1/d/{DEVICE}/up/main", 1)
    assert subscribed.wait(ANSWER_S), "the subscriber of plain paho"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        identity = settings.authority_path, settings.certificate_path, settings.key_path
        port = town.broker_port
        pool.submit(publish_all, port, identity, list(messages), times, in_flight).result()
    count = times * len(messages)
    until(lambda: len(came) == count, "all messages of plain paho")
    listener.disconnect()
    listener.loop_stop()
    return (count - 1) / (came[-1] - came[0])


def publish_all(
    port: int, identity: tuple[Path, Path, Path], messages: list[bytes], times: int, in_flight: int
) -> None:
    """All of them so many times, until the last PUBACK."""
    authority, certificate, key = identity
    client = mqtt.Client(CallbackAPIVersion.VERSION2, DEVICE, protocol=mqtt.MQTTv311)
    tls = ssl.create_default_context(cafile=str(authority))
    tls.load_cert_chain(certificate, key)
    client.tls_set_context(tls)
    client.max_inflight_messages_set(in_flight)
    client.max_queued_messages_set(0)
    connected, done = threading.Event(), threading.Event()
    left = [times * len(messages)]

    def on_publish(*_: object) -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    client.on_connect = lambda *_: connected.set()
    client.on_publish = on_publish
    client.on_socket_open = no_delay
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(ANSWER_S), "the publisher of plain paho"
    topic = f"mk/v1/d/{DEVICE}/up/main"
    for message in times * messages:
        client.publish(topic, message, qos=1)
    assert done.wait(300), "the broker stopped answering"
    client.disconnect()
    client.loop_stop()


def no_delay(_client: object, _userdata: object, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# ----------------------------------------------------------------------------------- blocks


def block(town: Town) -> list[float]:
    """Milliseconds from before the city is asked until `edge` has refused the card."""
    town.start(town.edge)
    town.start(town.sync)
    town.wait_connected()
    scope = f"{SITE}/people"
    until(
        lambda: scope in town.ask_station("edge", {"request": "status"}).get("lists", {}),
        "the list of people",
    )
    school = make_school(SEED, SITE)
    cards = [
        card
        for card in school.cards
        if card.uid_kind is UidKind.ISO14443
        and card.cardholder_id is not None
        and not (card.label or card.profile or card.hot)
    ][:BLOCKS]
    assert len(cards) == BLOCKS
    taken_ms = []
    for card in cards:
        before = list_number(town)
        began = time.perf_counter()
        town.ask_city("POST", "/block", {"card": card.uid.hex()})
        # Shown before it is there it would be let in, and the lane be taken for seconds.
        until(lambda known=before: list_number(town) > known, "the block")  # type: ignore[misc]
        assert refused(town, card.uid), "who has the list refuses"
        taken_ms.append(1000 * (time.perf_counter() - began))
    return taken_ms


def list_number(town: Town) -> int:
    """Of the list of people in force."""
    db = open_reader(town.settings.sync_path, FileKind.SYNC)
    assert db is not None
    try:
        pointer = in_force(db, f"{SITE}/people")
    finally:
        db.close()
    return 0 if pointer is None else pointer.floor.number


def refused(town: Town, uid: bytes) -> bool:
    """Shown at the lane now: whether it is refused as blocked."""
    tap = {"request": "tap", "reader": "r1", "uid": uid.hex(), "kind": 1}
    assert town.ask_station("edge", tap).get("ok"), "edge takes taps"
    screens = town.ask_station("edge", {"request": "screen"})["screens"]
    return bool(screens[0]["reason"] == AccessReason.HOT_LISTED.value)


def echo(town: Town) -> list[float]:
    """What a request to the city alone takes."""
    taken_ms = []
    for _ in range(BLOCKS):
        began = time.perf_counter()
        town.ask_city("GET", "/status")
        taken_ms.append(1000 * (time.perf_counter() - began))
    return taken_ms
