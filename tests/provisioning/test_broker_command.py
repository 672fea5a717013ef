"""Goal: `moskvenok broker config` writes files that mean what is meant, replaces nothing unasked,
and tells of every line, file and date that would leave a broker open, shut or not started.

Method: the command, with certificates made here; the access list read back by the rules of
Mosquitto (denials first, `%u` the name) and held against that of the reference city, which was
written on its own. A real Mosquitto runs with it in `test_broker_config_mosquitto.py`.
"""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from getpass import getuser
from itertools import product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.certificates import new_key
from edge.model import SetupProblem, Station
from edge.trust import read_key, write_secret
from hil.city.batches import Sender
from hil.city.mosquitto import render_access as render_of_the_reference_city
from provisioning import broker
from provisioning.broker_access import (
    Member,
    denied_in,
    read_devices,
    read_revoked,
    render_access,
)
from sync.topics import Side, TopicKind, publisher_of
from tests.provisioning.conftest import Run
from tests.provisioning.enrolment_city import certificate, pem

NOW = datetime.now(UTC)
OTHER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another city")])
DEVICES = (
    "station,device,site,note\nentrance,gate-1,s1,x\ntill,till-1,s1,\nadmission,museum-1,s2,\n"
)


class Folder:
    """What a city engineer has."""

    def __init__(self, path: Path) -> None:
        self.path, self.out = path, path / "broker"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = certificate("root", self.key.public_key(), "root", self.key, NOW, ca=True)
        (path / "ca.pem").write_text(pem(self.root))
        write_secret(path / "server.key", new_key())
        self.leaf(NOW)
        (path / "devices.csv").write_text(DEVICES)

    def leaf(self, begins: datetime) -> None:
        key = read_key(self.path / "server.key").public_key()
        made = certificate(
            "broker", key, "root", self.key, begins,
            life=timedelta(days=90), purpose=ExtendedKeyUsageOID.SERVER_AUTH, host="broker.test",
        )  # fmt: skip
        (self.path / "server.crt").write_text(pem(made))

    def crl(
        self,
        *,
        ends: timedelta,
        issuer: x509.Name | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=issuer or self.root.subject,
            last_update=NOW - timedelta(days=60),
            next_update=NOW + ends,
        )
        made = builder.sign(key or self.key, hashes.SHA256())
        (self.path / "crl.pem").write_bytes(made.public_bytes(Encoding.PEM))

    def options(self, *more: object, **instead: object) -> list[str]:
        found: dict[str, object] = {
            "out": self.out,
            "authority": self.path / "ca.pem",
            "certificate": self.path / "server.crt",
            "key": self.path / "server.key",
            "devices": self.path / "devices.csv",
            "user": getuser(),
        } | instead
        words = [str(word) for name, value in found.items() for word in (f"--{name}", value)]
        return ["broker", "config", *words, *map(str, more)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def lines_of(folder: Folder) -> list[str]:
    return (folder.out / "mosquitto.conf").read_text().splitlines()


def test_the_configuration_lets_nobody_in_without_a_certificate(run: Run, folder: Folder) -> None:
    folder.crl(ends=timedelta(days=30))
    crl = folder.path / "crl.pem"
    result = run(*folder.options("--json", "--port", 8884, crl=crl))
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["ok"] and told["devices"] == 3 and told["remarks"] == []
    assert set(told["written"]) == {told["configuration"], told["access"]}
    for line in (
        "listener 8884 0.0.0.0",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        f"crlfile {crl}",
        f"acl_file {folder.out}/acl",
        f"user {getuser()}",
        "persistence false",
        "set_tcp_nodelay true",
    ):
        assert line in lines_of(folder)
    for path in folder.out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.out.stat().st_mode) == 0o700


def test_again_it_keeps_what_is_the_same_and_replaces_nothing_unasked(
    run: Run, folder: Folder
) -> None:
    assert run(*folder.options()).exit_code == 0
    result = run(*folder.options())
    assert result.exit_code == 0 and "as it was" in result.output and "written" not in result.output
    (folder.path / "devices.csv").write_text(DEVICES + "till,till-2,s1,\n")
    before = {path: path.read_bytes() for path in folder.out.iterdir()}
    result = run(*folder.options("--port", 9999))
    assert result.exit_code == 1 and "--force" in result.output
    assert {path: path.read_bytes() for path in folder.out.iterdir()} == before
    assert run(*folder.options("--force")).exit_code == 0
    assert "user till-2" in (folder.out / "acl").read_text()


def test_files_that_others_could_read_are_closed_again(run: Run, folder: Folder) -> None:
    assert run(*folder.options()).exit_code == 0
    (folder.out / "acl").chmod(0o666)
    assert run(*folder.options()).exit_code == 0
    assert stat.S_IMODE((folder.out / "acl").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device,site\na,b\n", "no column 'station'"),
        ("device,site,station\ngate 1,s1,entrance\n", "line 2: device id 'gate 1'"),
        ("device,site,station\ng1,s1/#,entrance\n", "line 2: site id 's1/#'"),
        ("device,site,station\ng1,s1,gate\n", "line 2: station 'gate'"),
        ("device,site,station\ng1,s1,till\ng2,s1,till\ng1,s2,till\n", "line 4: g1 stands there"),
        ("device,site,station\n+,s1,till\n", "line 2: device id '+'"),
        ('device,site,station\n"g1\ntopic readwrite #",s1,till\n', "device id"),
        ('device,site,station\n"g1,s1,till\n', "not CSV"),
        ("device,site,station\ncity,s1,till\n", "city is the city's own client and a device"),
        ("", "no column 'device'"),
        ("\xff\xfe", "not text in UTF-8"),
    ],
)  # fmt: skip
def test_a_list_of_devices_that_is_wrong_is_told_by_line(
    run: Run, folder: Folder, text: str, words: str
) -> None:
    (folder.path / "devices.csv").write_bytes(text.encode("latin-1"))
    result = run(*folder.options())
    assert result.exit_code == 1 and words in result.output, result.output
    assert not folder.out.exists()


def test_every_wrong_line_is_told_at_once_and_a_screen_of_them_at_most(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("device,site,station\n" + "g 1,s1,till\n" * 50)
    with pytest.raises(SetupProblem) as told:
        read_devices(path)
    assert str(told.value).count("\n") == 20 and str(told.value).endswith("and 30 more")


def test_the_revoked_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_text("# stolen\n\n till-2 \ngate-1\ngate-1\n")
    assert read_revoked(path) == ("gate-1", "till-2")
    path.write_text("gate-1\n#\n#topic\nx y\n")
    with pytest.raises(SetupProblem, match="line 4: device id 'x y'"):
        read_revoked(path)


def test_dates_and_chains_that_would_lock_everybody_out_are_told_before(
    run: Run, folder: Folder
) -> None:
    crl = folder.path / "crl.pem"
    folder.crl(ends=timedelta(days=-1))
    assert "locks every device out" in run(*folder.options(crl=crl)).output
    folder.crl(ends=timedelta(days=30), issuer=OTHER)
    assert "would let nobody in" in run(*folder.options(crl=crl)).output
    folder.crl(ends=timedelta(days=30), key=ec.generate_private_key(ec.SECP256R1()))
    assert "damaged, or of another key" in run(*folder.options(crl=crl)).output
    crl.write_text("no list")
    assert "no revocation list" in run(*folder.options(crl=crl)).output
    leaf = folder.path / "server.crt"
    assert "no root in it" in run(*folder.options(authority=leaf)).output
    assert "no certificates in PEM" in run(*folder.options(authority=crl)).output
    assert "is not there" in run(*folder.options(key=folder.path / "none")).output
    other = folder.path / "other.key"
    write_secret(other, new_key())
    assert "not the key of" in run(*folder.options(key=other)).output
    sealed = BestAvailableEncryption(b"secret")
    other.write_bytes(folder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    assert "without a passphrase" in run(*folder.options(key=other)).output
    folder.leaf(NOW - timedelta(days=400))
    assert "ended on" in run(*folder.options()).output
    assert not folder.out.exists()
    folder.leaf(NOW)
    folder.crl(ends=timedelta(days=3))
    result = run(*folder.options(crl=crl))
    assert result.exit_code == 0 and "make the next one" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("address", "0.0.0.0 evil"),
        ("address", "0.0.0.0\nallow_anonymous true"),
        ("user", "nobody-of-that-name"),
        ("city-client-id", "city\ntopic readwrite #"),
        ("city-client-id", "#"),
    ],
)
def test_nothing_typed_becomes_a_line_of_its_own(
    run: Run, folder: Folder, option: str, value: str
) -> None:
    result = run(*folder.options(**{option: value}))
    assert result.exit_code == 1 and not folder.out.exists()


def test_a_folder_whose_name_would_end_a_line_is_refused(run: Run, folder: Folder) -> None:
    folder.out = folder.path / "a\nallow_anonymous true"
    result = run(*folder.options())
    assert result.exit_code == 1 and "choose a plain one" in result.output
    assert not folder.out.exists()


def test_a_key_that_the_brokers_user_may_not_read_is_told(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = folder.path / "server.key"
    (told,) = broker._unreadable(key, "nobody")
    assert f"chown nobody {key}" in told
    key.chmod(0o644)
    assert broker._unreadable(key, "nobody") == []


# ------------------------------------------------------------------------- who is out stays out


def revoke(folder: Folder, *names: str) -> Path:
    path = folder.path / "revoked.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def contents(folder: Folder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.out.iterdir()}


@pytest.mark.parametrize("more", [(), ("--force",)])
@pytest.mark.parametrize("left", [None, (), ("till-1",)])
def test_a_run_that_forgets_who_was_revoked_names_them_and_writes_nothing(
    run: Run, folder: Folder, more: tuple[str, ...], left: tuple[str, ...] | None
) -> None:
    """Without the list, with one that is empty, with one that has lost a line."""
    assert run(*folder.options(revoked=revoke(folder, "till-1", "ghost"))).exit_code == 0
    before = contents(folder)
    given = {} if left is None else {"revoked": revoke(folder, *left)}
    result = run(*folder.options(*more, **given))
    assert result.exit_code == 1 and "nothing was written" in result.output
    assert "denies ghost" in result.output and "--let-in DEVICE" in result.output
    assert ("till-1" in result.output) is (left != ("till-1",))
    assert contents(folder) == before


@pytest.mark.slow
def test_every_way_of_running_it_again_keeps_out_who_is_out(run: Run, folder: Folder) -> None:
    """All lists that can be given after all that were, of three devices; a device gets in again
    exactly when it is named."""
    names = ("gate-1", "till-1", "ghost")
    sets = [{name for name, on in zip(names, bits, strict=True) if on} for bits in
            product((False, True), repeat=3)]  # fmt: skip
    for before, after, back in product(sets, repeat=3):
        for path in folder.out.glob("*"):
            path.unlink()
        assert run(*folder.options(revoked=revoke(folder, *before))).exit_code == 0
        words = [word for name in back for word in ("--let-in", name)]
        result = run(*folder.options("--force", *words, revoked=revoke(folder, *after)))
        good = before <= after | back and not after & back
        assert (result.exit_code == 0) is good, (before, after, back, result.output)
        text = (folder.out / "acl").read_text()
        out = after if good else before
        for name in names:
            assert ("topic deny #" in text.partition(f"user {name}\n")[2].partition("\n\n")[0]) is (
                name in out
            )


def test_who_is_let_in_again_is_told(run: Run, folder: Folder) -> None:
    assert run(*folder.options(revoked=revoke(folder, "till-1"))).exit_code == 0
    result = run(*folder.options("--force", "--json", "--let-in", "till-1", "--let-in", "gate-1"))
    told = json.loads(result.output)
    assert result.exit_code == 0 and told["let_in"] == ["till-1"] and told["revoked"] == 0
    assert told["remarks"] == [
        "till-1 was denied, and is let in again", "gate-1: --let-in, and it was not denied",
    ]  # fmt: skip
    assert allows((folder.out / "acl").read_text(), "till-1", "read", "mk/v1/s/s1/money/head")


def test_a_name_among_the_revoked_that_no_device_has_is_told(run: Run, folder: Folder) -> None:
    """It may be of a device that went; or a slip, and then another is let in that should be out."""
    given = revoke(folder, "till-1", "tlil-1", "ghost")
    told = json.loads(run(*folder.options("--json", revoked=given)).output)
    assert told["remarks"] == ["ghost, tlil-1: revoked, and not among the devices; spelt right?"]
    assert told["revoked"] == 3, "they stay out all the same"
    known = revoke(folder, "till-1", "gate-1")
    words = ("--force", "--json", "--let-in", "ghost", "--let-in", "tlil-1")
    told = json.loads(run(*folder.options(*words, revoked=known)).output)
    assert not [remark for remark in told["remarks"] if "spelt right" in remark]


def test_a_contradiction_is_refused(run: Run, folder: Folder) -> None:
    result = run(*folder.options("--let-in", "till-1", revoked=revoke(folder, "till-1", "gate-1")))
    assert result.exit_code == 1 and "till-1: to be let in again, and on the list" in result.output
    assert not folder.out.exists()


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("user till-9\ntopic deny #\n", ["till-9"]),
        ("user till-9\r\n  topic   deny   mk/#\r\n", ["till-9"]),
        ("user b\ntopic read x\ntopic deny #\nuser a\ntopic deny #", ["a", "b"]),
        ("topic deny #\npattern deny #\nuser till-9\ntopic read deny\n", []),
        ("# user till-9\n# topic deny #\n", []),
        ("user \udcff\ntopic deny #\n", ["\ufffd"]),
        ("", []),
    ],
)  # fmt: skip
def test_denials_are_read_as_somebody_may_have_written_them(
    tmp_path: Path, text: str, denied: list[str]
) -> None:
    path = tmp_path / "acl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert list(denied_in(path)) == denied


def test_a_list_in_place_that_cannot_be_read_is_not_replaced(run: Run, folder: Folder) -> None:
    (folder.out / "acl").mkdir(parents=True)
    result = run(*folder.options("--force"))
    assert result.exit_code == 1 and "acl: cannot be read" in result.output
    (folder.out / "acl").rmdir()
    (folder.out / "acl").symlink_to(folder.path / "elsewhere")
    assert "acl: cannot be read" in run(*folder.options("--force")).output


def test_the_revocation_list_is_not_forgotten_either(run: Run, folder: Folder) -> None:
    """Whoever stands on it alone would get in again."""
    folder.crl(ends=timedelta(days=30))
    crl = folder.path / "crl.pem"
    assert run(*folder.options(crl=crl)).exit_code == 0
    before = contents(folder)
    result = run(*folder.options("--force"))
    assert result.exit_code == 1 and f"revocation list {crl}" in result.output
    assert "give --crl FILE" in result.output and contents(folder) == before
    newer = crl.rename(folder.path / "newer.pem")
    assert run(*folder.options("--force", crl=newer)).exit_code == 0
    assert f"crlfile {newer}" in lines_of(folder)
    (folder.out / "mosquitto.conf").unlink()
    assert run(*folder.options()).exit_code == 0, "the way that the message names"


@pytest.mark.slow
def test_the_list_of_a_whole_city_is_written_again(run: Run, folder: Folder) -> None:
    """12,000 devices, and 100 more a year later."""
    lines = [f"s{number:04d}-till-{number % 7},s{number:04d},till\n" for number in range(12_000)]
    for count in (11_900, 12_000):
        (folder.path / "devices.csv").write_text("device,site,station\n" + "".join(lines[:count]))
        result = run(*folder.options("--force"))
        assert result.exit_code == 0 and f"{count} devices" in result.output, result.output[:300]


# ------------------------------------------------------------------------------ the list


def allows(text: str, user: str, verb: str, topic: str) -> bool:
    """What Mosquitto makes of the file: the user's denials, its grants, then the patterns."""
    grants: list[tuple[str, str]] = []
    section = ""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "user":
            section = words[1]
        elif words[0] == "pattern":
            grants.append((words[1], words[2].replace("%u", user)))
        elif section == user:
            if words[1] == "deny":
                assert words[2] == "#"
                return False
            grants.append((words[1], words[2]))
    return any(how in (verb, "readwrite") and matches(of, topic) for how, of in grants)


def matches(pattern: str, topic: str) -> bool:
    wanted, given = pattern.split("/"), topic.split("/")
    if pattern.endswith("#"):
        return given[: len(wanted) - 1] == wanted[:-1]
    pairs = zip(wanted, given, strict=False)
    return len(wanted) == len(given) and all(one in ("+", other) for one, other in pairs)


def test_it_grants_devices_just_what_the_reference_city_grants_them() -> None:
    """Two lists, written apart: neither can drift. Topics, verbs and names exhaustively."""
    people = [("gate", Station.ENTRANCE), ("garden", Station.PRESCHOOL), ("till", Station.TILL)]
    known = [(f"{name}-{site}", site, station) for site in ("s1", "s2") for name, station in people]
    ours = render_access(
        [Member(device=d, site=s, station=t) for d, s, t in known], cities=["city"]
    )
    theirs = render_of_the_reference_city(
        [Sender(device=d, site=s, station=t) for d, s, t in known]
    )
    words = [*TopicKind, "up/main", "up/agent", "up/diag", "up/other", "up/for", "up/for/x", "new"]
    topics = [f"mk/v1/d/{d}/{word}" for d, _, _ in known for word in words]
    parts = ("people", "money", "menu", "settings", "museum")
    topics += [
        f"mk/v1/s/{s}/{part}/{w}" for s in ("s1", "s2", "city") for part in parts for w in words
    ]
    topics += [f"mk/v1/c/{word}" for word in words] + ["peer/s1/gate-s1/side", "mk/v1/x", "$SYS/x"]
    granted = 0
    for (device, _, _), topic, verb in product(known, topics, ("read", "write")):
        granted += allows(ours, device, verb, topic)
        assert allows(ours, device, verb, topic) is allows(theirs, device, verb, topic), (
            device, verb, topic,
        )  # fmt: skip
    assert granted > 100


def test_a_museum_reads_the_citys_list_and_its_sites_settings() -> None:
    text = render_access(
        [Member(device="m", site="s1", station=Station.ADMISSION)], cities=["city"]
    )
    for scope, may in (("city/museum", True), ("s1/settings", True), ("s1/people", False)):
        assert allows(text, "m", "read", f"mk/v1/s/{scope}/head") is may


def test_the_city_reads_what_devices_write_and_writes_the_rest() -> None:
    text = render_access([], cities=["city", "city-2"])
    for name, kind in product(("city", "city-2"), TopicKind):
        topic = {
            TopicKind.UP: "mk/v1/d/x/up/main",
            TopicKind.HEAD: "mk/v1/s/s1/people/head",
            TopicKind.DELTA: "mk/v1/s/city/museum/delta",
            TopicKind.ROOT: "mk/v1/c/root",
        }.get(kind, f"mk/v1/d/x/{kind}")
        from_device = publisher_of(kind) is Side.DEVICE
        assert allows(text, name, "write", topic) is not from_device
        assert allows(text, name, "read", topic) is (from_device or kind is TopicKind.ROOT)
    assert not allows(text, "city-3", "write", "mk/v1/c/root")


def test_the_revoked_get_nothing_on_whatever_list_they_stand() -> None:
    members = [Member(device="t", site="s1", station=Station.TILL)]
    text = render_access(members, revoked=["t", "ghost"], cities=["city"])
    for name, verb in product(("t", "ghost"), ("read", "write")):
        for topic in (f"mk/v1/d/{name}/up/main", f"mk/v1/d/{name}/ack", "mk/v1/c/root"):
            assert not allows(text, name, verb, topic)
    with pytest.raises(SetupProblem, match="own client and a device"):
        render_access([], revoked=["city"], cities=["city"])
