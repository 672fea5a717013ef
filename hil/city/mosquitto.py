"""Files for a real Mosquitto in front of this city: configuration, access list, CRL, server key.

Who may write what is decided here and nowhere else on that broker: a device writes its own up
topics, reads its own down topics and the lists its kind of station needs; the city everything.
Traps this keeps to (seen on 2.0.11): the issuing certificate alone is no trust anchor; a CRL past
its date locks everyone out; a forbidden subscription is granted and stays silent; a new access list
or CRL needs SIGHUP and leaves live sessions alone.
"""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hil.city.batches import Sender
from hil.city.keys import (
    CITY_NAME,
    DEVICE_ID,
    CityKeys,
    issue_server,
    revocation_list,
    write_private,
)
from hil.city.lists import SCOPE_PARTS

# A device's own topics (names in WIRE), each named: a `#` would grant what is added later.
UP: Final = ("status", "hello", "pull", "renew", "health", "up/main", "up/agent", "up/diag")
DOWN: Final = ("welcome", "ack", "push", "renewed", "order")
PACKET_BYTES_MAX: Final = 128 * 1024  # Our choice: a message of 64 KiB with its envelope, twice.
IN_FLIGHT_MAX: Final = 200  # Our choice: the city commits bursts; 20, the default, starves it.
QUEUED_MAX: Final = 100_000  # Our choice: 2,000 devices send a morning's backlog at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Where everything lies: `mosquitto -c configuration`."""

    folder: Path
    configuration: Path
    access: Path
    revoked: Path
    pid: Path


def broker_files(folder: Path) -> BrokerFiles:
    return BrokerFiles(
        folder=folder,
        configuration=folder / "mosquitto.conf",
        access=folder / "acl",
        revoked=folder / "crl.pem",
        pid=folder / "mosquitto.pid",
    )


def write_broker(
    folder: Path,
    port: int,
    keys: CityKeys,
    now: datetime,
    *,
    names: Sequence[str] = ("localhost", "127.0.0.1"),
    host: str = "127.0.0.1",
    senders: Iterable[Sender] = (),
    revoked: Iterable[int] = (),
) -> BrokerFiles:
    """Writes all of it into a folder of its own. `names`: under which devices reach the broker."""
    folder.mkdir(parents=True, exist_ok=True)
    files = broker_files(folder)
    certificate, key = issue_server(keys, names, now)
    write_private(folder / "server.pem", certificate.encode())
    write_private(folder / "server.key", key.encode())
    write_private(folder / "chain.pem", keys.chain_pem.encode())
    write_access(files, keys, senders, revoked, now)
    write_private(files.configuration, render_configuration(files, host, port).encode())
    return files


def write_access(
    files: BrokerFiles,
    keys: CityKeys,
    senders: Iterable[Sender],
    revoked: Iterable[int],
    now: datetime,
) -> None:
    write_private(files.access, render_access(senders).encode())
    write_private(files.revoked, revocation_list(keys, revoked, now))


def reload_broker(files: BrokerFiles) -> bool:
    """Tells the running broker to read access list and CRL again. False when none runs."""
    try:
        pid = int(files.pid.read_text().strip())
        # A broker that was killed leaves its file, and its number may be another's by now.
        if Path(f"/proc/{pid}/comm").read_text().strip() != "mosquitto":
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True


def render_configuration(files: BrokerFiles, host: str, port: int) -> str:
    """TLS with client certificates; the name in the certificate is user and client id."""
    return f"""per_listener_settings true
listener {port} {host}
allow_anonymous false
cafile {files.folder}/chain.pem
certfile {files.folder}/server.pem
keyfile {files.folder}/server.key
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
crlfile {files.revoked}
acl_file {files.access}
set_tcp_nodelay true
max_packet_size {PACKET_BYTES_MAX}
max_inflight_messages {IN_FLIGHT_MAX}
max_queued_messages {QUEUED_MAX}
pid_file {files.pid}
log_dest file {files.folder}/mosquitto.log
user {getpass.getuser()}
"""


def render_access(senders: Iterable[Sender]) -> str:
    """The access list. What it does not grant is denied."""
    lines = ["# %u is the name in the client's certificate."]
    lines += [f"pattern write mk/v1/d/%u/{topic}" for topic in UP]
    lines += ["pattern write mk/v1/d/%u/up/for/+"]  # A dead neighbour's, by that one's signature.
    lines += [f"pattern read mk/v1/d/%u/{topic}" for topic in DOWN]
    lines += ["pattern read mk/v1/c/root"]
    lines += ["", f"user {CITY_NAME}", "topic readwrite mk/v1/#"]
    for sender in senders:
        # A name with more in it than these would end its line or write into another's topics.
        assert DEVICE_ID.fullmatch(sender.device) and DEVICE_ID.fullmatch(sender.site)
        assert sender.device != CITY_NAME
        lines += ["", f"user {sender.device}"]
        for part in SCOPE_PARTS[sender.station]:
            lines += [
                f"topic read mk/v1/s/{sender.site}/{part}/head",
                f"topic read mk/v1/s/{sender.site}/{part}/delta",
            ]
    return "\n".join(lines) + "\n"
