"""`moskvenok broker config`: Mosquitto's configuration and access list for the city's own broker.

For the engineer who runs the city's side, or a technician who sets up a broker for a test: no
reference city, no database. Mutual TLS; the name in a client's certificate is its user and its
client id, so who lies about either gains nothing. Nothing is kept on disk: devices and city keep
what matters, and a broker that lost everything costs a reconnect.

Seen on Mosquitto 2.0.11: an issuing certificate alone is no trust anchor; a revocation list past
its date locks everybody out; a new access list is read at SIGHUP and holds for live sessions at
once, a new revocation list only for new ones, so a revoked device stands on both; 3.1.1 answers a
publish that is forbidden like any other, and a forbidden subscription is granted and stays silent.

Who was revoked stays so. A run that would let somebody in again, because a list was forgotten or
has lost a line, writes nothing and names them; to let one in again is said by name.
"""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.certificates import is_root
from edge.messages import MESSAGE_BYTES_MAX
from edge.model import SetupProblem
from provisioning.broker_access import (
    denied_in,
    read_access,
    read_devices,
    read_revoked,
    render_access,
)
from provisioning.files import read_whole, write_whole
from provisioning.output import json_option, print_json
from sync.session import INBOUND_PACKET_BYTES_MAX, KEEPALIVE_S, MQTTS_PORT

FILE_MODE: Final = 0o600  # Mosquitto warns of an access list that others can read.
FOLDER_MODE: Final = 0o700
IN_FLIGHT_MAX: Final = 200  # Our choice: the city commits bursts; 20, the default, starves it.
QUEUED_MAX: Final = 100_000  # Our choice: 2,000 devices send a morning's backlog at once.
KEEPALIVE_S_MAX: Final = 120  # Our choice: who is gone is known to be within three minutes.
CRL_DAYS_LEFT: Final = 7  # Our choice: a week to make the next one; told, and nothing more.
BROKER_USER: Final = "mosquitto"  # Debian's package makes it.
CITY_CLIENT: Final = "city"
NAMES_SHOWN: Final = 20  # Our choice: a screen of them; the file has them all.
assert KEEPALIVE_S < KEEPALIVE_S_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The broker's own files, as they are named in its configuration."""

    authority: Path
    certificate: Path
    key: Path
    crl: Path | None = None

    def check(self, now: datetime) -> list[str]:
        """What to know of them; `SetupProblem` for what the broker could not run with."""
        for path, what in ((self.certificate, "certificate"), (self.key, "key")):
            if not read_whole(path):
                raise SetupProblem(f"{path}: the broker's {what} is not there; give --{what} FILE")
        issued = _certificates(self.certificate)[0]
        _check_key(self.key, issued, self.certificate)
        if issued.not_valid_after_utc <= now:
            raise SetupProblem(
                f"{self.certificate}: ended on {issued.not_valid_after_utc:%Y-%m-%d}"
            )
        chain = _certificates(self.authority)
        if not any(is_root(one) for one in chain):
            raise SetupProblem(
                f"{self.authority}: no root in it; Mosquitto believes no issuing certificate alone:"
                " put the whole chain up to the root into one file"
            )
        return [] if self.crl is None else _check_crl(self.crl, chain, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Where everything lies: `mosquitto -c configuration`."""

    configuration: Path
    access: Path
    pid: Path


def files_in(folder: Path) -> BrokerFiles:
    return BrokerFiles(
        configuration=folder / "mosquitto.conf", access=folder / "acl", pid=folder / "mosquitto.pid"
    )


def render_configuration(
    files: BrokerFiles, tls: Tls, *, address: str, port: int, user: str
) -> str:
    """One listener. Every path stands at the end of its line, and none may begin another."""
    for path in (files.configuration, tls.authority, tls.certificate, tls.key):
        _one_line(str(path))
    crl = "" if tls.crl is None else f"crlfile {_one_line(str(tls.crl))}\n"
    return f"""# Written by "moskvenok broker config"; run it again to change it.
listener {port} {_one_word(address, "--address")}
allow_anonymous false
cafile {tls.authority}
certfile {tls.certificate}
keyfile {tls.key}
{crl}tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {files.access}
persistence false
max_qos 1
set_tcp_nodelay true
max_packet_size {INBOUND_PACKET_BYTES_MAX}
message_size_limit {MESSAGE_BYTES_MAX}
max_inflight_messages {IN_FLIGHT_MAX}
max_queued_messages {QUEUED_MAX}
max_keepalive {KEEPALIVE_S_MAX}
pid_file {files.pid}
log_dest stderr
user {_one_word(user, "--user")}
"""


def check_denials(
    files: BrokerFiles, *, revoked: Collection[str], let_in: Collection[str], crl: Path | None
) -> tuple[str, ...]:
    """Whom of `let_in` the list in place denies. `SetupProblem` when somebody whom it denies would
    get in again without having been named, or by a certificate that was revoked."""
    both = sorted(set(let_in) & set(revoked))
    if both:
        raise SetupProblem(
            f"{_names(both)}: to be let in again, and on the list of the revoked; take it off one"
        )
    denied = denied_in(files.access)
    lost = [name for name in denied if name not in revoked and name not in let_in]
    if lost:
        raise SetupProblem(
            f"{files.access} denies {_names(lost)}, and the new one would not; give --revoked FILE"
            " that names whoever is still out, and --let-in DEVICE for each that may come in again;"
            " nothing was written"
        )
    crl_line = next((one for one in _lines(files.configuration) if one[:1] == ["crlfile"]), None)
    if crl_line is not None and crl is None:
        named = _names([" ".join(crl_line[1:])])
        raise SetupProblem(
            f"{files.configuration} names the revocation list {named}, and the new one would name"
            " none: every certificate on it would be good again; give --crl FILE. If there is to be"
            f" none, delete {files.configuration} first; nothing was written"
        )
    return tuple(name for name in denied if name in let_in)


def _lines(path: Path) -> list[list[str]]:
    """The words of each line."""
    text = (read_whole(path) or b"").decode(errors="replace")
    return [line.split() for line in text.splitlines()]


def _names(names: Sequence[str]) -> str:
    """Of a file that anybody may have written: as they may be shown."""
    shown = [name if name.isprintable() else repr(name) for name in names[:NAMES_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def write_files(texts: dict[Path, str], *, force: bool, user: str) -> list[Path]:
    """What was written; a file that says the same already is kept. Nothing is written when one
    says something else and there is no `force`."""
    there = {path: read_access(path) for path in texts}
    changed = [path for path, text in texts.items() if there[path] != text.encode()]
    in_the_way = [path for path in changed if there[path] is not None]
    if in_the_way and not force:
        raise SetupProblem(
            f"{', '.join(map(str, in_the_way))}: there already, and not the same; look at it, then"
            " add --force to replace it, or choose another --out"
        )
    for path in changed:
        write_whole(path, texts[path].encode(), mode=FILE_MODE)
    for path in texts:
        path.chmod(FILE_MODE)
        _give(path, user)
    return changed


def _make_folder(folder: Path, user: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    except OSError as error:
        raise SetupProblem(f"{folder}: cannot be made ({error.strerror})") from error
    _give(folder, user)


def _give(path: Path, user: str) -> None:
    """Mosquitto reads its access list again as its own user."""
    if os.geteuid() == 0:
        found = pwd.getpwnam(user)
        os.chown(path, found.pw_uid, found.pw_gid)


def _user(wanted: str | None) -> str:
    """As whom the broker is to run: who was named, Debian's user, or whoever runs this."""
    try:
        return pwd.getpwnam(wanted or BROKER_USER).pw_name
    except KeyError:
        if not wanted:
            return getpass.getuser()
    raise SetupProblem(
        f"--user {wanted!r:.40}: there is no such user on this machine; make it, or run this where"
        " the broker runs"
    )


def _unreadable(path: Path, user: str) -> list[str]:
    """A remark, when the broker's own user may not read its key."""
    found, who = path.stat(), pwd.getpwnam(user)
    mode, root = found.st_mode, who.pw_uid == 0
    mine = found.st_uid == who.pw_uid and mode & 0o400
    ours = found.st_gid in os.getgrouplist(user, who.pw_gid) and mode & 0o040
    if root or mine or ours or mode & 0o004:
        return []
    return [f"{path}: {user} may not read it, so the broker will not start: chown {user} {path}"]


def _certificates(path: Path) -> list[x509.Certificate]:
    data = read_whole(path)
    if data is None:
        raise SetupProblem(f"{path}: not there; name a file with certificates in PEM")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise SetupProblem(f"{path}: no certificates in PEM ({error})") from error


def _check_key(path: Path, issued: x509.Certificate, certificate: Path) -> None:
    try:
        key = load_pem_private_key(read_whole(path) or b"", password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise SetupProblem(
            f"{path}: no key in PEM without a passphrase, and nobody is there to type one when the"
            " broker starts; give it such a key"
        ) from error
    if key.public_key() != issued.public_key():
        raise SetupProblem(
            f"{path}: not the key of {certificate}; the broker would not start: give the pair"
        )


def _check_crl(path: Path, chain: list[x509.Certificate], now: datetime) -> list[str]:
    data = read_whole(path)
    try:
        crl = x509.load_pem_x509_crl(data or b"")
    except ValueError as error:
        raise SetupProblem(f"{path}: no revocation list in PEM ({error})") from error
    issuers = [one for one in chain if one.subject == crl.issuer]
    if not any(_has_signed(one, crl) for one in issuers):
        found = "damaged, or of another key" if issuers else "not in the authority's file"
        raise SetupProblem(
            f"{path}: by {crl.issuer.rfc4514_string()}, which is {found}: the broker would let"
            " nobody in; make the list with the authority that issues the devices' certificates"
        )
    until = crl.next_update_utc
    if until is None or until <= now:
        ended = "has no end" if until is None else f"ended on {until:%Y-%m-%d}"
        raise SetupProblem(
            f"{path}: {ended}; past its date a revocation list locks every device out: make a new"
            " one first"
        )
    if until - now < timedelta(days=CRL_DAYS_LEFT):
        return [f"{path} ends on {until:%Y-%m-%d}: past that, nobody gets in; make the next one"]
    return []


def _has_signed(issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):
        return False  # A key of a kind that signs no certificates.


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise SetupProblem(f"{text!r:.200}: a path with such characters; choose a plain one")
    return text


def _one_word(text: str, option: str) -> str:
    if not text or set(text) & set(" \t\n\r") or not text.isprintable():
        raise SetupProblem(f"{option} {text!r:.80}: not one word")
    return text


@click.group("broker")
def broker() -> None:
    """The city's own broker: Mosquitto's configuration and access list."""


@broker.command("config")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Its folder."
)
@click.option(
    "--authority",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Who issues the devices' certificates, up to the root, in one PEM file.",
)
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The broker's own, for the name by which devices reach it.",
)
@click.option(
    "--key", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Its key."
)
@click.option(
    "--crl", type=click.Path(dir_okay=False, path_type=Path), help="Certificates that were revoked."
)
@click.option(
    "--devices",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="CSV: device,site,station. Which lists each device reads.",
)
@click.option(
    "--revoked",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Devices that get nothing any more, one a line; with all who were denied before.",
)
@click.option(
    "--let-in",
    "let_in",
    multiple=True,
    metavar="DEVICE",
    help="One that is denied now, and may come in again; repeat it.",
)
@click.option(
    "--city-client-id",
    "cities",
    multiple=True,
    default=(CITY_CLIENT,),
    show_default=True,
    help="Name in the certificate of the city's own client; repeat it for more.",
)
@click.option("--address", default="0.0.0.0", show_default=True, help="Where it listens.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=MQTTS_PORT, show_default=True, help="Its port."
)
@click.option("--user", help="As whom Mosquitto runs.  [default: mosquitto, if there is one]")
@click.option(
    "--force", is_flag=True, help="Replace files that say something else; denials are not lost so."
)
@json_option
def config(
    out: Path,
    authority: Path,
    certificate: Path,
    key: Path,
    crl: Path | None,
    devices: Path,
    revoked: Path | None,
    let_in: tuple[str, ...],
    cities: tuple[str, ...],
    address: str,
    port: int,
    user: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the configuration and the access list of the city's broker.

    Each device writes its own topics and reads its own and its station's lists; the city's client
    the other way round. Run it again with --force whenever devices come or go, then send the broker
    SIGHUP: the new access list holds at once, for live sessions too.

    Whom the list in place denies stays out: a run whose --revoked does not name all of them is
    refused, with or without --force. --let-in DEVICE is the way back for one.
    """
    who, files = _user(user), files_in(out.resolve())
    tls = Tls(
        authority=authority.resolve(),
        certificate=certificate.resolve(),
        key=key.resolve(),
        crl=None if crl is None else crl.resolve(),
    )
    remarks = tls.check(datetime.now(UTC)) + _unreadable(tls.key, who)
    members = read_devices(devices)
    gone = () if revoked is None else read_revoked(revoked)
    back = check_denials(files, revoked=gone, let_in=let_in, crl=tls.crl)
    remarks += [f"{name} was denied, and is let in again" for name in back]
    remarks += [f"{name}: --let-in, and it was not denied" for name in let_in if name not in back]
    strange = sorted(set(gone) - {one.device for one in members})
    if strange:
        remarks.append(f"{_names(strange)}: revoked, and not among the devices; spelt right?")
    texts = {
        files.access: render_access(members, revoked=gone, cities=cities),
        files.configuration: render_configuration(files, tls, address=address, port=port, user=who),
    }
    _make_folder(out, who)
    written = write_files(texts, force=force, user=who)
    facts = {
        "configuration": str(files.configuration),
        "access": str(files.access),
        "written": [str(path) for path in written],
        "devices": sum(one.device not in gone for one in members),
        "revoked": len(gone),
        "let_in": list(back),
        "port": port,
        "remarks": remarks,
    }
    if as_json:
        print_json({"ok": True, **facts})
        return
    for path in texts:
        click.echo(f"{'written' if path in written else 'as it was'}: {path}")
    click.echo(f"{facts['devices']} devices, {facts['revoked']} revoked")
    click.echo(f"start it:     mosquitto -c {files.configuration}")
    click.echo(f"after a change: kill -HUP $(cat {files.pid})")
    for remark in remarks:
        click.echo(f"attention: {remark}")
