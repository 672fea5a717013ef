"""Goal: no connection is configured that a technician could not have meant, and none without TLS
leaves the machine; what cannot be used is named with its remedy.

Method: tables of endpoints, right and wrong; real certificate files, each spoilt in turn.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from edge.model import SetupProblem
from sync.session import (
    CONNECT_MS_MAX,
    NO_CHECK_TIME,
    Endpoint,
    parse_endpoint,
    parse_endpoints,
    session_for,
    tls_context,
)
from tests.sync.pki import Authority


@pytest.mark.parametrize(
    ("text", "host", "port", "tls"),
    [
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtts://broker.example:443/", "broker.example", 443, True),
        (" mqtts://[2001:db8::1]:8884 ", "2001:db8::1", 8884, True),
        ("mqtt://localhost", "localhost", 1883, False),
        ("mqtt://127.3.2.1:9", "127.3.2.1", 9, False),
        ("mqtt://[::1]:18830", "::1", 18830, False),
    ],
)
def test_an_endpoint_is_read_and_said_again(text: str, host: str, port: int, tls: bool) -> None:
    endpoint = parse_endpoint(text)
    assert endpoint == Endpoint(host=host, port=port, tls=tls)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mqtt://broker.example", "without TLS"),
        ("mqtt://localhost.example", "without TLS"),
        ("mqtt://192.168.0.2", "without TLS"),
        ("http://broker.example", "mqtts://"),
        ("broker.example:8883", "mqtts://"),
        ("mqtts://", "no host"),
        ("mqtts://user:word@broker.example", "only a host"),
        ("mqtts://broker.example/path", "nothing may follow"),
        ("mqtts://broker.example:0", "port 0"),
        ("mqtts://broker.example:99999", "out of range"),
        ("mqtts://broker.example:x", "port"),
        ("mqtts://[::1", "IPv6"),
        ("", "mqtts://"),
    ],
)
def test_an_endpoint_nobody_meant_is_a_setup_problem(text: str, why: str) -> None:
    with pytest.raises(SetupProblem, match=why):
        parse_endpoint(text)


def test_all_wrong_endpoints_are_named_together() -> None:
    with pytest.raises(SetupProblem) as caught:
        parse_endpoints(["mqtts://good.example", "mqtt://bad.example", "ftp://worse.example"])
    assert "bad.example" in str(caught.value) and "worse.example" in str(caught.value)
    assert "good.example" not in str(caught.value)
    with pytest.raises(SetupProblem, match="0 endpoints"):
        parse_endpoints([])


def test_the_client_id_is_the_device_id() -> None:
    session = session_for("lane-1", None)
    assert (session.client_id, session.connect_ms_max) == ("lane-1", CONNECT_MS_MAX)
    with pytest.raises(SetupProblem):
        session_for("Lane 1", None)


def test_tls_checks_issuer_host_and_dates_and_only_the_dates_can_be_left_out(
    tmp_path: Path,
) -> None:
    city = Authority(tmp_path)
    mine = city.issue("lane-1")
    for check_time in (True, False):
        context = tls_context(
            ca_file=city.file,
            certificate_file=mine.certificate,
            key_file=mine.key,
            check_time=check_time,
        )
        assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert bool(context.verify_flags & NO_CHECK_TIME) is not check_time


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    city = Authority(tmp_path)
    mine, other = city.issue("lane-1"), city.issue("lane-2")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing\n")
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(mine.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    missing = tmp_path / "missing.pem"
    for ca_file, certificate, key_file, named in (
        (missing, mine.certificate, mine.key, missing),
        (garbage, mine.certificate, mine.key, garbage),
        (city.file, missing, mine.key, missing),
        (city.file, garbage, mine.key, garbage),
        (city.file, mine.certificate, missing, missing),
        (city.file, mine.certificate, garbage, garbage),
        (city.file, mine.certificate, other.key, other.key),
        (city.file, mine.certificate, locked, locked),
    ):
        with pytest.raises(SetupProblem, match=named.name):
            tls_context(ca_file=ca_file, certificate_file=certificate, key_file=key_file)
