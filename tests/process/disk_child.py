"""A process of its own that records on a disk that may refuse: `python -m tests.process.disk_child
FOLDER TAPS`. For runs under strace, which injects the refusals.

Says on standard output what it has committed (`<epoch>.<sequence> <kind>`, after the commit and
never before), what was refused (`refused`), and at its end `no_money <0 or 1>`. A refused sale is
tried no more; a refused access is counted and declared with the next fact, as a gate does it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge.messages import Unrecorded
from edge.model import DeviceFault, Station
from edge.offline_cache.record import open_journal
from tests.support import facts
from tests.support.times import at


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def main(folder: Path, taps: int) -> None:
    journal = open_journal(
        folder / "journal.db",
        device="till-1",
        site="school-7",
        station=Station.TILL,
        machine="m",
        moment=at(),
    )
    say("ready")
    unrecorded = 0
    for number in range(taps):
        moment = at(number)
        kind = "sale" if number % 2 else "access"
        make = facts.sale if number % 2 else facts.access
        try:
            if unrecorded:
                with journal.record(moment) as tap:
                    tap.add(Unrecorded(**tap.stamp(moment), counts={"access": unrecorded}))
                say(f"declared {unrecorded}")
                unrecorded = 0
            with journal.record(moment) as tap:
                key = tap.add(make(tap.stamp(moment)))
            say(f"{key} {kind}")
        except DeviceFault:
            say(f"refused {kind}")
            unrecorded += kind == "access"
            journal.probe(moment)
    say(f"left {unrecorded}")
    say(f"no_money {int(bool(journal.no_money))}")
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
