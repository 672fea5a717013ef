"""Goal: a clustered broker that is none of Mosquitto's kin carries everything, and loses nothing
when one of its servers dies in the middle of a drain.

Method: three real NATS servers with JetStream and their MQTT listener (3.1.1), mutual TLS, users
mapped from certificates with the rights of the city's access list (`nats_cluster.py`). Two devices
drain; the server that all of them use is killed by SIGKILL, stays away for a while and comes back
(with NIGHTLY=1 each server in turn). At the end the city's books are the journals, fact for fact.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from edge.model import Station
from hil.city.batches import Sender
from tests.process.chaos import Chaos, Kill
from tests.process.nats_cluster import NatsCluster, Node, nats_program
from tests.process.school import SITE

NIGHT = bool(os.environ.get("NIGHTLY"))
FACTS = 30_000 if NIGHT else 3_000
KILLED_AT = (20, 45, 70) if NIGHT else (45,)  # Per cent of the drain: each server, or the first.
SEED = int(os.environ.get("CHAOS_SEED") or 7)
SHARES = (("entrance", FACTS // 2), ("till", FACTS // 2))
AWAY_S = 1.0  # Our choice: the others have chosen leaders anew by then.

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_one_server_of_three_is_killed_in_the_middle_of_a_drain(tmp_path: Path) -> None:
    nats_program()
    print(f"seed {SEED}, {FACTS} facts")
    devices = [
        Sender(device=f"{SITE}-{kind}-{number}", site=SITE, station=Station(kind))
        for number, (kind, _) in enumerate(SHARES, start=1)
    ]
    cluster = NatsCluster(devices)
    with Chaos(tmp_path, SEED, cluster, SHARES) as chaos:

        def kill(node: Node, _draw: random.Random) -> None:
            cluster.wait_until_healthy()  # Two of three away are no broker at all.
            assert node.process is not None
            node.process.kill()
            time.sleep(AWAY_S)
            node.process.start()

        began_s = time.monotonic()
        chaos.run(
            [
                Kill(
                    at=chaos.wanted * share // 100,
                    what=node.name,
                    do=lambda draw, node=node: kill(node, draw),  # type: ignore[misc]
                )
                for node, share in zip(cluster.nodes, KILLED_AT, strict=False)
            ]
        )
        took_s = time.monotonic() - began_s
        problems, meant = chaos.settle()
        assert problems == [], problems
        assert chaos.kills == {f"n{number}": 1 for number in range(len(KILLED_AT))}
        assert sum(chaos.heads().values()) >= chaos.wanted
        print(
            f"{sum(meant.facts.values())} facts in {took_s:.0f} s, killed: {dict(chaos.kills)};"
            " missing 0, doubled 0"
        )
