"""The one question provisioning asks over HTTP: a claim and a request for a certificate.

    POST /enrol {claim, device_id, site_id, station, csr_pem}
    -> {certificate_pem, chain_pem, root_public_b64u, root_document, endpoints, scopes}

Nothing that comes back is believed here; `identity.py` checks it. Plain http is for this machine
alone: a claim that crosses a network in the clear can be used by whoever hears it.
"""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from edge.model import CorruptData, DeviceFault, SetupProblem

ANSWER_BYTES_MAX: Final = 64 * 1024  # protocol.md: no message is larger; a real answer has 4 KiB.
WAIT_S: Final = 20.0  # Our choice: a school's line at its worst, and a person who waits.


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the city sends, and what is kept until every file made from it is written."""

    certificate_pem: str
    chain_pem: str
    root_public_b64u: str
    root_document: str
    endpoints: tuple[str, ...]
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command that asks calls them; messages tell people to look at these."""

    city: str = "--city"
    authority: str = "--city-ca"
    said: str = "--claim, --device, --site and --station"  # What a city may refuse us for.


PROVISION: Final = Options()


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str = ""
    do: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A claim goes to the address that was typed and nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def check_city(url: str, options: Options = PROVISION) -> str:
    """The address without its last slash; `SetupProblem` for one a claim may not be sent to."""
    name = f"{options.city} {url}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SetupProblem(f"{name}: {error}; write https://HOST[:PORT]") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise SetupProblem(f"{name}: not an address of a city; write https://HOST[:PORT]")
    if parts.username or parts.password:
        raise SetupProblem(f"{options.city}: leave user and password out; the claim is enough")
    if parts.scheme == "http" and not is_loopback(host):
        raise SetupProblem(
            f"{name}: the claim would be readable on the way; write https://{parts.netloc}"
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether the name can mean this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def enrol(
    url: str,
    *,
    claim: str,
    device_id: str,
    site_id: str,
    station: str,
    csr_pem: str,
    authority: Path | None = None,
    options: Options = PROVISION,
) -> Answer:
    """Ask once. `SetupProblem`: the technician's to mend; `DeviceFault`: try again later;
    `CorruptData`: whoever answered is no city of ours. `authority`: whom to trust for https."""
    place = f"{check_city(url, options)}/enrol"
    body = {
        "claim": claim,
        "device_id": device_id,
        "site_id": site_id,
        "station": station,
        "csr_pem": csr_pem,
    }
    request = urllib.request.Request(  # noqa: S310 - check_city allows http and https alone.
        place, msgspec.json.encode(body), {"Content-Type": "application/json"}
    )
    try:
        with _opener(place, authority, options).open(request, timeout=WAIT_S) as response:
            data = response.read(ANSWER_BYTES_MAX + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(place, error, options) from error
    except (OSError, http.client.HTTPException) as error:
        raise unreached(place, error, options) from error
    check = f"check {options.city}"
    if len(data) > ANSWER_BYTES_MAX:
        raise CorruptData(f"{place}: an answer of more than {ANSWER_BYTES_MAX} bytes; {check}")
    try:
        return msgspec.json.decode(data, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"{place}: not a city's answer ({error}); {check}") from error


def web_context(authority: Path | None, options: Options = PROVISION) -> ssl.SSLContext:
    """Of https to a city: this machine's authorities, or those of the file alone."""
    try:
        return ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as error:
        raise SetupProblem(
            f"{options.authority} {authority}: {error}; give certificates in PEM"
        ) from error


def _opener(place: str, authority: Path | None, options: Options) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(place).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # A proxy's "localhost" is another one.
    context = web_context(authority, options)
    return urllib.request.build_opener(*handlers, urllib.request.HTTPSHandler(context=context))


def words_of(answer: bytes) -> tuple[str, str]:
    """What a city found and what it says to do about it, in an answer that refuses; "" for what
    is not in it."""
    try:
        said = msgspec.json.decode(answer, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = _Refusal()
    return _one_line(said.error), _one_line(said.do)


def _refused(place: str, error: urllib.error.HTTPError, options: Options) -> Exception:
    try:
        found, do = words_of(error.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException):
        found, do = "", ""
    found = found or f"HTTP {error.code} {_one_line(str(error.reason))}"
    if error.code >= 500:
        return DeviceFault(f"{place}: the city has a fault: {found}; try again in some minutes")
    if 300 <= error.code < 400:
        return SetupProblem(
            f"{place}: sends us elsewhere; give {options.city} the address it names"
        )
    do = do or f"check {options.city}, {options.said}"
    return SetupProblem(f"{place}: the city refuses: {found}; {do}")


def unreached(place: str, error: Exception, options: Options = PROVISION) -> Exception:
    """Why there was no answer: of `urllib`, or of a connection of one's own."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return SetupProblem(
            f"{place}: its certificate is not to be trusted ({reason.verify_message}); check the "
            "address and this machine's clock, or name the city's authority with "
            f"{options.authority} FILE"
        )
    return DeviceFault(f"{place}: no answer ({reason}); check the network cable and {options.city}")


def _one_line(text: str) -> str:
    """What the other side said, short and without anything a terminal would act on."""
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()
