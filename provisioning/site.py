"""`moskvenok site`: the school's own broker, on this device: Mosquitto's configuration and ACL.

Mutual TLS with what the device has: its certificate is the broker's, and the city's authority says
who may come in. A device writes under its own name and reads its school's; nothing is kept on disk,
nothing retained, everything bounded. A key in the device's TPM serves as well: then a file for
OpenSSL stands beside, and Mosquitto is started with it. Whether the school uses this broker is the
city's to say (the site settings name it), and whom the devices believe is their roster's: the
broker only carries.

Seen on Mosquitto 2.0.11: the key is read as the user of the `user` line; a new certificate is read
at SIGHUP or at the next start; a pattern without `%u` is told of in the log and works.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from edge import config as device_config
from edge.messages import MESSAGE_BYTES_MAX
from edge.model import SetupProblem
from edge.settings import DeviceSettings
from edge.trust import is_in_tpm, usable_key
from provisioning.files import make_folder, write_whole
from provisioning.output import config_option, json_option, print_json
from sync.session import INBOUND_PACKET_BYTES_MAX, MQTTS_PORT
from sync.topics import check_site_id

CONNECTIONS_MAX: Final = 128  # Our choice: twice the devices of the largest roster.
QUEUED_MAX: Final = 1_000  # Our choice, of each device: what is lost beyond is asked for.
IN_FLIGHT_MAX: Final = 64  # Our choice: a burst of a till's batches.
MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024  # Our choice: a till is a small machine.
KEEPALIVE_S_MAX: Final = 120  # Our choice: who is gone is forgotten within three minutes.
FOLDER: Final = "broker"  # Beside device.toml.


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBroker:
    """Where everything lies: `mosquitto -c configuration`."""

    configuration: Path
    access: Path
    pid: Path
    openssl: Path | None = None  # For a key in the TPM.

    @property
    def start(self) -> str:
        """The command that starts it."""
        with_tpm = "" if self.openssl is None else f"OPENSSL_CONF={self.openssl} "
        return f"{with_tpm}mosquitto -c {self.configuration}"


def write_site_broker(
    settings: DeviceSettings, *, folder: Path, address: str, port: int
) -> SiteBroker:
    """Both files, whole. `SetupProblem` when the device has no identity yet."""
    for path, what in (
        (settings.authority_path, "the city's authority"),
        (settings.certificate_path, "this device's certificate"),
        (settings.key_path, "this device's key"),
    ):
        if not path.is_file():
            raise SetupProblem(f'{path}: {what} is not there; run "moskvenok provision" first')
    openssl = folder / "openssl.cnf"
    with_tpm = is_in_tpm(settings.key_path)
    files = SiteBroker(
        configuration=folder / "mosquitto.conf",
        access=folder / "acl",
        pid=folder / "mosquitto.pid",
        openssl=openssl if with_tpm else None,
    )
    make_folder(folder)
    if with_tpm:
        with usable_key(settings.key_path, settings.authority_path):
            write_whole(openssl, render_openssl().encode())
    write_whole(files.access, render_access(settings.site_id).encode())
    text = render_configuration(
        settings, files, address=address, port=port, user=settings.key_path.owner()
    )
    write_whole(files.configuration, text.encode())
    return files


def render_access(site: str) -> str:
    """What is not granted is denied. `%u` is the name in the client's certificate."""
    check_site_id(site)
    return f"pattern write peer/{site}/%u/#\npattern read peer/{site}/#\n"


def render_configuration(
    settings: DeviceSettings, files: SiteBroker, *, address: str, port: int, user: str
) -> str:
    return f"""# Written by "moskvenok site"; run it again to change it.
listener {port} {address}
allow_anonymous false
cafile {settings.authority_path}
certfile {settings.certificate_path}
keyfile {settings.key_path}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {files.access}
persistence false
retain_available false
max_qos 1
set_tcp_nodelay true
max_connections {CONNECTIONS_MAX}
max_packet_size {INBOUND_PACKET_BYTES_MAX}
message_size_limit {MESSAGE_BYTES_MAX}
max_inflight_messages {IN_FLIGHT_MAX}
max_queued_messages {QUEUED_MAX}
max_keepalive {KEEPALIVE_S_MAX}
memory_limit {MEMORY_BYTES_MAX}
pid_file {files.pid}
log_dest stderr
user {user}
"""


def render_openssl() -> str:
    """What makes OpenSSL, in a program that knows nothing of it, open a key in the TPM."""
    from edge.tpm_openssl import PROPERTIES, TCTI_DEFAULT

    return f"""# Written by "moskvenok site", for a device whose key is in its TPM.
openssl_conf = init
[init]
providers = providers
alg_section = algorithms
[providers]
default = default_provider
tpm2 = tpm2_provider
[default_provider]
activate = 1
[tpm2_provider]
activate = 1
tcti = {TCTI_DEFAULT}
[algorithms]
default_properties = {PROPERTIES.decode()}
"""


@click.command()
@config_option
@click.option(
    "--address",
    default="0.0.0.0",
    show_default=True,
    help="Where it listens.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=MQTTS_PORT, show_default=True, help="Its port."
)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="For its files.")
@json_option
def site(config: Path, address: str, port: int, folder: Path | None, as_json: bool) -> None:
    """Write the configuration of the school's own broker, for this device to carry it."""
    if not address or set(address) & set(" \t\n\r"):
        raise SetupProblem(f"--address {address!r}: not an address; write one like 192.0.2.7")
    settings = device_config.load(config.resolve())
    place = folder or settings.source.resolve().parent / FOLDER
    files = write_site_broker(settings, folder=place.resolve(), address=address, port=port)
    if as_json:
        print_json(
            {
                "ok": True,
                "device": settings.device_id,
                "configuration": str(files.configuration),
                "access": str(files.access),
                "openssl": str(files.openssl or ""),
                "port": port,
            }
        )
        return
    click.echo(f"written: {files.configuration}")
    click.echo(f"written: {files.access}")
    if files.openssl is not None:
        click.echo(f"written: {files.openssl}")
    click.echo(f"start it:      {files.start}")
    click.echo(f"tell the city: broker of {settings.site_id} on device {settings.device_id},")
    click.echo(f"               mqtts://ADDRESS OF THIS DEVICE:{port}")
