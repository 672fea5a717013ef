"""Goal: whoever calls `moskvenok city check` wrongly reads about the options of this command, and
what to do.

Method: the command in this process, with addresses where nobody is, and against a city of one page
behind http and behind https with an authority of its own.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.model import DeviceFault, SetupProblem
from hil.conformance.city_checks import NotOffered
from hil.conformance.command import check
from hil.conformance.http_city import HttpCity
from hil.stick import stick
from tests.sync.pki import Authority

BROKER = ("--broker", "mqtt://127.0.0.1:1")
NOBODY = "http://127.0.0.1:1"


def problem(*options: str) -> str:
    """What the command ends with before it plays anything."""
    done = CliRunner().invoke(check, options)
    if isinstance(done.exception, SystemExit):
        assert done.exit_code == 2  # Click's own.
        return done.output
    assert isinstance(done.exception, SetupProblem | DeviceFault), done.exception
    return str(done.exception)


@contextmanager
def page(
    status: int, answer: bytes, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A city that says the same to everybody; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_args: object) -> None:
            pass  # Who does not trust us ends the handshake.

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--broker", "foo", "--http", NOBODY),
            ["broker 'foo'", "write mqtts://host:port in --broker"],
        ),
        ((*BROKER, "--http", "foo"), ["--http foo: not an address of a city"]),
        ((*BROKER, "--http", "http://city.test"), ["--http http://city.test: the claim would be"]),
        ((*BROKER, "--http", "https://[::1"), ["--http https://[::1"]),
        ((*BROKER, "--http", "https://a:b@city.test"), ["--http: leave user and password out"]),
        ((*BROKER, "--http", NOBODY), ["/claims: no answer", "check the network cable and --http"]),
        ((*BROKER, "--http", NOBODY, "--claim", "C-1"), ["/enrol: no answer", "cable and --http"]),
        (BROKER, ["give --http with --claim, or --identity"]),
        ((*BROKER, "--patience", "0"), ["0.0 is not in the range 0.5<=x<=600"]),
        ((*BROKER, "--patience", "-3"), ["-3.0 is not in the range 0.5<=x<=600"]),
        ((*BROKER, "--http", NOBODY, "--ca", "/nowhere.pem"), ["'/nowhere.pem' does not exist"]),
    ],
)
def test_a_wrong_option_is_called_by_its_name(options: tuple[str, ...], words: list[str]) -> None:
    said = problem(*options)
    assert all(word in said for word in words), said
    assert "--city" not in said and "device.toml" not in said


def test_an_unknown_site_is_told_in_the_citys_words() -> None:
    refusal = {"error": "no site 'nosite'", "do": "this city serves s0001"}
    with page(404, json.dumps(refusal).encode()) as (url, _):
        said = problem(*BROKER, "--http", url, "--site", "nosite")
        assert said.startswith("--site nosite: no claim for a device: ") and "--claim" in said
        assert "404: no site 'nosite'; this city serves s0001; check --site" in said
        said = problem(*BROKER, "--http", url, "--site", "nosite", "--claim", "C-1")
        assert "the city refuses: no site 'nosite'; this city serves s0001" in said
    with page(404, b"<html>") as (url, _):
        said = problem(*BROKER, "--http", url, "--claim", "C-1")
        assert "check --http, --claim and --site" in said


def test_help_says_what_it_needs_and_how_long_it_takes() -> None:
    said = " ".join(CliRunner().invoke(check, ["--help"]).output.split())
    for words in ("It needs a broker", "a child with money", "within a minute or two", "--ca FILE"):
        assert words in said


# ---------------------------------------------------------------------------------- answers


def test_what_a_city_does_not_offer_is_told_from_what_it_refuses() -> None:
    for status in (404, 405, 501):
        with page(status, b"") as (url, _), pytest.raises(NotOffered, match=f"with {status}$"):
            HttpCity(url).order("till", "open_once", "north")
    refusal = b'{"error": "not today", "do": "come again"}'
    with page(403, refusal) as (url, _), pytest.raises(DeviceFault) as caught:
        HttpCity(url).revoke("till")
    assert not isinstance(caught.value, NotOffered)
    assert str(caught.value) == "the city answers POST /revoke with 403: not today; come again"


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"\xff", b'{"devices": [{"device": "till"}]}'])
def test_an_answer_of_another_form_is_a_fault_in_words(answer: bytes) -> None:
    with page(200, answer) as (url, _):
        city = HttpCity(url)
        with pytest.raises(DeviceFault, match=r"/status: not the answer that hil/city/README\.md"):
            city.online("till")
        with pytest.raises(DeviceFault, match="/settings: not the answer"):
            city.order_meal("child", "2025-09-09", "soup")


def test_meal_slots_may_be_a_list_or_an_object_or_none() -> None:
    for slots in ('["lunch"]', '{"lunch": [660, 840]}'):
        answer = f'{{"meal_slots": {slots}, "preorder": "9f3c", "more": 1}}'
        with page(200, answer.encode()) as (url, _):
            assert HttpCity(url).order_meal("child", "2025-09-09", "soup") == "9f3c"
    with page(200, b'{"meal_slots": []}') as (url, asked):
        assert HttpCity(url).order_meal("child", "2025-09-09", "soup") is None
        assert asked == ["GET /settings"]


def test_a_city_may_lie_below_a_path() -> None:
    with page(200, b"{}") as (url, asked):
        HttpCity(f"{url}/test/city/").revoke("till")
        assert asked == ["POST /test/city/revoke"]


# ------------------------------------------------------------------------------------ https


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_a_city_with_an_authority_of_its_own_is_asked_with_ca(pki: Authority) -> None:
    server = pki.issue("city", server=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server.certificate, server.key)
    refusal = b'{"error": "the desk is closed", "do": "come again"}'
    with page(403, refusal, tls) as (url, asked):
        for claim in ((), ("--claim", "C-1")):
            said = problem(*BROKER, "--http", url, *claim)
            assert "not to be trusted" in said and "authority with --ca FILE" in said
            assert "--city" not in said
        assert not asked
        for claim in ((), ("--claim", "C-1")):
            said = problem(*BROKER, "--http", url, *claim, "--ca", str(pki.file))
            assert "the desk is closed; come again" in said
        assert set(asked) == {"POST /claims", "POST /enrol"}
    key = str(server.key)
    said = problem(*BROKER, "--http", "https://city.test", "--ca", key)
    assert said.startswith(f"--ca {key}: ") and said.endswith("give certificates in PEM")


def test_a_stick_that_is_refused_is_told_in_the_citys_words(tmp_path: Path) -> None:
    options = ["--days", "3", "--out", str(tmp_path / "stick")]
    for answer, words in (
        (b'{"error": "no site", "do": "give one\\u001b[2J"}', "no site; give one [2J"),
        (b"<html>", "HTTP 404"),
    ):
        with page(404, answer) as (url, _):
            done = CliRunner().invoke(stick, ["--http", url, *options])
        assert str(done.exception) == f"the city refuses: {words}"
