"""The process beside a relay board's owner: switches everything off when its owner is gone.

`relay_board.py` starts it with the open port's number and the bytes that switch all relays off.
It waits at its standard input: one byte means that its owner let go in order and there is nothing
to do; the end of it means that the owner is no more, however it went. Signals do not end it before
that. A program of its own, standard library only, so that it is small and ready soon.
"""

from __future__ import annotations

import os
import select
import signal
import sys

DONE = b"."
TRIES = 5  # Our choice: a port that takes nothing for five seconds is gone with its board.
WAIT_S = 1.0


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    port, data = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
    if os.read(0, 1) == DONE:
        return
    for _ in range(TRIES):
        select.select([], [port], [], WAIT_S)
        try:
            data = data[os.write(port, data) :]
        except BlockingIOError:
            continue
        if not data:
            return


if __name__ == "__main__":
    main()
