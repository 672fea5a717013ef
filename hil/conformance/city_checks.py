"""Checks of what a wire alone does not show: renewal, and what is asked of the city's HTTP.

`Inspector` is that HTTP as the reference city has it (`hil/city/README.md`). A city without it, or
without a part of it, is checked all the same; the rules that need it are left out and said to be.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.messages import (
    Order,
    Pull,
    PushKeys,
    Renew,
    Renewed,
    SignedWhat,
    Status,
    Stream,
    decode_json,
    decode_signed_lines,
    encode_json,
)
from edge.model import CorruptData, DeviceFault
from edge.trust import FileKeyStore, open_scope_key, read_key, write_secret
from hil.conformance.facts_checks import begin, up_to
from hil.conformance.link import Message
from hil.conformance.player import Player
from hil.conformance.rules import Rule
from provisioning.files import write_whole
from provisioning.identity import certificate_request

ORDER = "open_once"
NOWHERE = "conformance"  # An access point no lane has: a real device would answer `not_here`.


class NotOffered(DeviceFault):
    """The city has no such thing to ask for; the words say what."""


class Inspector(Protocol):
    """What a city's people can do and see. Each may raise `NotOffered`."""

    def order(self, device: str, order: str, access_point: str) -> None: ...

    def revoke(self, device: str) -> None: ...

    def configure(self, device: str) -> None:
        """Changes something in the site's settings: a value of this device's own row."""
        ...

    def order_meal(self, cardholder: str, day: str, product: str) -> str | None:
        """A family chooses a meal that the city wants to charge; its id. None: it takes none."""
        ...

    def online(self, device: str) -> bool: ...

    def facts(self, device: str, stream: Stream, epoch: str) -> list[bytes]:
        """The bytes it holds of an epoch, from sequence 1."""
        ...


def check_renewal(player: Player) -> None:
    """A next certificate for a next key; after a hello with that key, secrets are sealed to it.
    Then back to the key that the device has, or it could be played only once."""
    key = ec.generate_private_key(ec.SECP256R1())
    if _renewed(player, key) is None:
        return
    own = player.keys
    try:
        with tempfile.TemporaryDirectory(prefix="mk-check-") as folder:
            write_secret(Path(folder) / "next.key", _pkcs8(key))
            player.keys = FileKeyStore(Path(folder) / "next.key")
            _check_next_key(player)
    finally:
        player.keys = own
    certificate = _renewed(player, read_key(player.identity.key_path))
    if certificate is not None:
        # The one before may be revoked a day after the hello.
        write_whole(player.identity.certificate_path, certificate.encode())
        player.hello()


def _renewed(player: Player, key: ec.EllipticCurvePrivateKey) -> str | None:
    """The certificate for this key, as the city gives it out; None where that is wrong."""
    check = player.report.check
    player.forget("renewed")
    request = Renew(device=player.device, csr_pem=certificate_request(key, player.device))
    player.say("renew", encode_json(request))
    message = player.until("renewed", lambda _message: True, player.patience_s)
    if message is None:
        check(Rule.RENEWAL, False, "a request for the next certificate was not answered")
        return None
    try:
        renewed = decode_json(Renewed, message.payload)
        leaf = x509.load_pem_x509_certificates(renewed.certificate_pem.encode())[0]
        chain = x509.load_pem_x509_certificates(renewed.chain_pem.encode())
        leaf.verify_directly_issued_by(chain[0])
    except (CorruptData, ValueError, TypeError, IndexError, InvalidSignature) as error:
        check(Rule.RENEWAL, False, f"the answer: {type(error).__name__} {error}")
        return None
    names = [n.value for n in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    fits = leaf.public_key() == key.public_key() and names == [player.device]
    text = f"the certificate is for {names}, or for another key"
    return renewed.certificate_pem if check(Rule.RENEWAL, fits, text) else None


def _check_next_key(player: Player) -> None:
    check = player.report.check
    player.hello()
    people = f"{player.identity.site}/people"
    push = player.pull(
        Pull(device=player.device, keys=(people,)), lambda push: isinstance(push, PushKeys)
    )
    try:
        opened = player.keys_in(push) if isinstance(push, PushKeys) else None
        for sealed in opened or ():
            open_scope_key(player.keys, sealed)
        check(Rule.RENEWAL, bool(opened), "no keys came after a hello with the next key")
    except CorruptData as error:
        check(Rule.RENEWAL, False, f"keys after a hello with the next key: {error}")


def check_orders(player: Player, city: Inspector) -> None:
    check, heard = player.report.check, list[Order]()
    player.forget("order")
    for _ in range(2):
        city.order(player.device, ORDER, NOWHERE)
        message = player.until("order", lambda _message: True, player.patience_s)
        if message is None:
            check(Rule.ORDER_SIGNED, False, "an order was made at the city and did not come")
            return
        try:
            signed = decode_signed_lines(message.payload)
            order = decode_json(Order, signed.payload)
            player.verifier.open(SignedWhat.ORDER, signed)
        except CorruptData as error:
            check(Rule.ORDER_SIGNED, False, str(error))
            return
        now_ms = player.link.now_ms()
        check(
            Rule.ORDER_SIGNED,
            order.device == player.device and order.not_after_utc_ms > now_ms,
            f"an order for {order.device}, good until {order.not_after_utc_ms}, now {now_ms}",
        )
        heard.append(order)
    counters = [order.counter for order in heard]
    check(Rule.ORDER_COUNTER, counters[0] < counters[1], f"two orders had counters {counters}")
    player.forget("order")
    player.link.reopen()
    kept = player.until("order", _is_retained, player.silence_s)
    check(Rule.ORDER_PASSING, kept is None, "an order came with a new subscription")


def check_late_will(player: Player, city: Inspector) -> None:
    check, boot = player.report.check, "conformance"

    def tell(connection: int, online: bool) -> None:
        status = Status(device=player.device, online=online, boot=boot, connection=connection)
        player.say("status", encode_json(status), retain=True)
        player.listen(player.silence_s)

    first = player.link.now_ms()  # Above whatever an earlier run has said.
    tell(first, True)
    tell(first + 1, True)
    tell(first, False)
    check(Rule.LATE_WILL, city.online(player.device), "the will of an earlier connection won")
    tell(first + 1, False)
    check(Rule.LATE_WILL, not city.online(player.device), "the will of this connection was lost")


def check_bytes(player: Player, city: Inspector) -> None:
    """The newest chains, byte by byte, as far as they were acknowledged and without holes."""
    for key in list(player.acknowledged)[-8:]:
        chain, count = player.chains[key], player.acknowledged[key]
        found = city.facts(player.device, chain.stream, chain.epoch)
        missing = [n for n, fact in enumerate(chain.facts[:count], 1) if fact not in found]
        lost = [n for n in missing if n not in chain.declared]
        text = f"{chain.stream} of epoch {chain.epoch}: facts {lost} are not held as sent"
        player.report.check(Rule.BYTES_KEPT, not lost, text)


def check_revoked(player: Player, city: Inspector) -> None:
    """Neither a welcome nor an acknowledgement, if it comes to the broker at all."""
    check = player.report.check
    if begin(player, 1) is None:
        return
    city.revoke(player.device)
    player.listen(player.silence_s)
    try:
        player.link.reopen()
    except DeviceFault:
        check(Rule.REVOKED, True, "")
        return
    chain = player.new_chain()
    player.patience_s, patience_s = player.silence_s, player.patience_s
    try:
        seen = player.send(chain, 1, 1, up_to(1))
        welcome = player.hello(chain)
    except DeviceFault:
        check(Rule.REVOKED, True, "")
        return
    finally:
        player.patience_s = patience_s
    check(Rule.REVOKED, bool(seen) and welcome is None, "after it was revoked it was answered")


def _is_retained(message: Message) -> bool:
    return message.retained


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
