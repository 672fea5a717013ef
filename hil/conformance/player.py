"""One played device: who it is, what it says, what it heard, and what it watches all the time.

It speaks as `sync` does and judges with the product's own kernels (`edge/trust.py`), so a city that
passes here is one that devices understand. What it hears is kept by the end of its topic until a
check looks at it.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.messages import (
    MESSAGE_BYTES_MAX,
    Ack,
    AnyPush,
    Gap,
    Head,
    Hello,
    Pull,
    PushKeys,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    Stream,
    StreamHead,
    Welcome,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    digest_of,
    encode_json,
)
from edge.model import ClockQuality, CorruptData, DeviceFault, Station
from edge.trust import FileKeyStore, Verifier, open_root
from hil.conformance.chain import SOFTWARE, Chain
from hil.conformance.link import Link, Message
from hil.conformance.rules import Report, Rule
from sync import topics

PATIENCE_S: Final = 6.0  # Our choice: money is gathered for 2 s; a loaded broker needs one more.
SILENCE_S: Final = 0.7  # Our choice: an answer that must not come would have come by then.
STEP_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device as it was enrolled; the files lie in `folder` under the names of `identity/`."""

    device: str
    site: str
    station: Station
    folder: Path
    root_public: bytes
    root_document: bytes = field(repr=False)

    @property
    def key_path(self) -> Path:
        return self.folder / "device.key"

    @property
    def certificate_path(self) -> Path:
        return self.folder / "device.crt"

    @property
    def authority_path(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def scopes(self) -> tuple[str, ...]:
        own = topics.scopes_of(self.site, self.station)
        return tuple(scope for scope in own if scope != topics.CITY_SCOPE)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return topics.subscriptions(self.device, self.scopes)


class Player:
    """Uses one link from one thread."""

    def __init__(
        self,
        identity: Identity,
        link: Link,
        report: Report,
        *,
        patience_s: float = PATIENCE_S,
        silence_s: float = SILENCE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.link = link
        self.report = report
        self.patience_s = patience_s
        self.silence_s = silence_s
        self.keys = FileKeyStore(identity.key_path)
        self.chains: dict[tuple[Stream, str], Chain] = {}
        self.acknowledged: dict[tuple[Stream, str], int] = {}
        self.connection = 0
        self._unanswered: set[str] = set()  # Nonces of hellos.
        root = open_root(identity.root_public, decode_signed_lines(identity.root_document))
        self.verifier = Verifier(root)
        self._list_epoch = root.list_epoch
        self._clock_s = clock_s
        self._heard: dict[str, deque[Message]] = defaultdict(deque)
        self._newest: dict[str, Head] = {}

    @property
    def device(self) -> str:
        return self.identity.device

    def own(self, leaf: str) -> str:
        return f"{topics.PREFIX}d/{self.device}/{leaf}"

    # ------------------------------------------------------------------------- hearing

    def until(self, leaf: str, wanted: Callable[[Message], bool], wait_s: float) -> Message | None:
        """The first message of that leaf for which `wanted` holds; others of it are dropped."""
        ends_s = self._clock_s() + wait_s
        while True:
            heard = self._heard[leaf]
            while heard:
                message = heard.popleft()
                if wanted(message):
                    return message
            left_s = ends_s - self._clock_s()
            if left_s <= 0:
                return None
            self._listen(min(left_s, STEP_S))

    def listen(self, wait_s: float) -> None:
        """Time goes by; what comes is noted."""
        ends_s = self._clock_s() + wait_s
        while (left_s := ends_s - self._clock_s()) > 0:
            self._listen(min(left_s, STEP_S))

    def forget(self, leaf: str) -> None:
        self._heard[leaf].clear()

    def _listen(self, wait_s: float) -> None:
        message = self.link.take(wait_s)
        while message is not None:
            self._note(message)
            message = self.link.take(0)

    def _note(self, message: Message) -> None:
        leaf = message.topic.rpartition("/")[2]
        size = len(message.payload)
        self.report.check(Rule.SIZES, size <= MESSAGE_BYTES_MAX, f"{size} bytes on {message.topic}")
        try:
            if leaf == "ack":
                self._watch_ack(decode_json(Ack, message.payload))
            elif leaf == "head":
                self._watch_head(message)
            elif leaf == "root":
                self._take_root(message.payload)
        except CorruptData as error:
            rule = {"ack": Rule.ACK, "head": Rule.HEAD_SIGNED, "root": Rule.HEAD_SIGNED}[leaf]
            self.report.check(rule, False, f"{message.topic}: {error}")
        self._heard[leaf].append(message)

    def _watch_ack(self, ack: Ack) -> None:
        chain = self.chains.get((ack.stream, ack.epoch))
        sent = 0 if chain is None else chain.sent_up_to
        known = ack.device == self.device and (chain is not None or ack.up_to == 0)
        self.report.check(
            Rule.ACK_SENT,
            known and 0 <= ack.up_to <= sent,
            f"{ack.stream} of epoch {ack.epoch} acknowledged up to {ack.up_to}, sent {sent}",
        )
        if chain is not None and ack.up_to <= sent and not ack.problem:
            key = ack.stream, ack.epoch
            self.acknowledged[key] = max(self.acknowledged.get(key, 0), ack.up_to)

    def _watch_head(self, message: Message) -> None:
        payload = self.verifier.open(SignedWhat.HEAD, decode_signed_lines(message.payload))
        head = decode_json(Head, payload)
        if message.topic != topics.of_scope(head.scope, topics.TopicKind.HEAD):
            raise CorruptData(f"a head of {head.scope} on it")
        named, known = head.version.list_epoch, self._list_epoch
        self.report.check(
            Rule.LIST_EPOCH,
            named <= known,
            f"{head.scope}: {named}, the root document says {known}",
        )
        before = self._newest.get(head.scope)
        if before is not None:
            older = (before.version.list_epoch, before.version.number, before.issued_utc_ms)
            newer = (head.version.list_epoch, head.version.number, head.issued_utc_ms)
            forward = newer[:2] >= older[:2] and (newer[2] >= older[2] or message.retained)
            text = f"{head.scope}: after {older} came {newer}"
            self.report.check(Rule.HEAD_FORWARD, forward, text)
            if not forward:
                return
        self._newest[head.scope] = head

    def _take_root(self, payload: bytes) -> None:
        root = open_root(self.identity.root_public, decode_signed_lines(payload))
        if root.version > self.verifier.root_version:
            self.verifier = Verifier(root)
            self._list_epoch = root.list_epoch

    def newest_head(self, scope: str) -> Head | None:
        """The highest head that was heard and verified."""
        return self._newest.get(scope)

    # ------------------------------------------------------------------------ speaking

    def say(self, leaf: str, payload: bytes, *, retain: bool = False) -> bool:
        """False when the broker ends the connection over it; a new one is made then."""
        try:
            self.link.publish(self.own(leaf), payload, retain=retain)
        except DeviceFault:
            self.link.reopen()
            return False
        return True

    def hello(self, *chains: Chain) -> Welcome | None:
        """Says hello and gives the welcome back, unverified; None when none came."""
        self.connection += 1
        nonce = secrets.token_urlsafe(16)
        streams = tuple(
            StreamHead(
                stream=chain.stream,
                epoch=chain.epoch,
                head=chain.head,
                digest=digest_of(chain.facts[-1]),
                held_from=1,
            )
            for chain in chains
        )
        hello = Hello(
            device=self.device,
            site=self.identity.site,
            station=self.identity.station,
            boot="conformance",
            connection=self.connection,
            nonce=nonce,
            software=SOFTWARE,
            clock=ClockQuality.UNKNOWN,
            streams=streams,
            held={},
            keys={},
            key=self.key_digest(),
            root=self.verifier.root_version,
        )
        self.forget("welcome")
        if not self.say("hello", encode_json(hello)):
            return None
        message = self.until("welcome", lambda message: not self._is_late(message), self.patience_s)
        if message is None:
            self._unanswered.add(nonce)
            return None
        return self._judge_welcome(message, nonce)

    def _is_late(self, message: Message) -> bool:
        """Whether it answers an earlier hello, which was given up."""
        try:
            welcome = decode_json(Welcome, decode_signed_lines(message.payload).payload)
        except CorruptData:
            return False
        return welcome.nonce in self._unanswered

    def key_digest(self) -> str:
        return digest_of(self.keys.public_point())

    def _judge_welcome(self, message: Message, nonce: str) -> Welcome | None:
        check = self.report.check
        try:
            signed = decode_signed_lines(message.payload)
            welcome = decode_json(Welcome, signed.payload)
        except CorruptData as error:
            check(Rule.WELCOME_SIGNED, False, str(error))
            return None
        try:
            self.verifier.open(SignedWhat.WELCOME, signed)
            check(Rule.WELCOME_SIGNED, welcome.device == self.device, "it names another device")
        except CorruptData as error:
            check(Rule.WELCOME_SIGNED, False, str(error))
        check(
            Rule.WELCOME_NONCE,
            welcome.nonce == nonce,
            f"said nonce {nonce}, welcomed with {welcome.nonce:.40}",
        )
        return welcome

    # --------------------------------------------------------------------------- facts

    def new_chain(self, stream: Stream = Stream.MAIN, *, after_epoch: str | None = None) -> Chain:
        """A new epoch with its opening fact."""
        chain = Chain(
            device=self.device,
            site=self.identity.site,
            station=self.identity.station,
            epoch=secrets.token_hex(8),
            wall_ms=self.link.now_ms(),
            stream=stream,
            after_epoch=after_epoch,
        )
        self.chains[stream, chain.epoch] = chain
        return chain

    def send(
        self,
        chain: Chain,
        first: int,
        last: int,
        wanted: Callable[[Ack], bool],
        *,
        gap: Gap | None = None,
        wait_s: float | None = None,
    ) -> str:
        """Sends a part of a chain and waits for the acknowledgement that is wanted.

        "" when it came, else what came instead: cumulative acknowledgements may be repeated,
        late or out of order, so the wanted one is waited for.
        """
        chain.sent_up_to = max(chain.sent_up_to, last, gap.target if gap else 0)
        self.forget("ack")
        if not self.say(f"up/{chain.stream}", chain.batch(first, last, gap)):
            return "the broker ended the connection"
        return self.await_ack(chain, wanted, self.patience_s if wait_s is None else wait_s)

    def await_ack(self, chain: Chain, wanted: Callable[[Ack], bool], wait_s: float) -> str:
        """Waits for an acknowledgement of this chain; "" when it came."""
        seen = "no acknowledgement"

        def fits(message: Message) -> bool:
            nonlocal seen
            try:
                ack = decode_json(Ack, message.payload)
            except CorruptData:
                return False
            if (ack.stream, ack.epoch) != (chain.stream, chain.epoch):
                return False
            seen = f"up_to {ack.up_to}, rewind {ack.rewind}, problem {ack.problem!r}"
            return wanted(ack)

        return "" if self.until("ack", fits, wait_s) is not None else seen

    # --------------------------------------------------------------------------- lists

    def pull(self, pull: Pull, wanted: Callable[[AnyPush], bool]) -> AnyPush | None:
        """Asks, and gives the first push back for which `wanted` holds."""
        self.forget("push")
        if not self.say("pull", encode_json(pull)):
            return None
        return self.next_push(wanted, self.patience_s)

    def keys_in(self, push: PushKeys) -> tuple[ScopeKey, ...] | None:
        """What is in it, its signature checked; None where it cannot be read. The keys of a push
        with a wrong signature are looked at all the same: two mistakes are told of as two."""
        check = self.report.check
        try:
            told = decode_pack(SealedKeys, push.signed.payload)
        except CorruptData as error:
            check(Rule.KEYS_SIGNED, False, str(error))
            return None
        try:
            self.verifier.open(SignedWhat.KEYS, push.signed)
            text = f"keys for {told.device:.64}, pulled by {self.device}"
            check(Rule.KEYS_SIGNED, told.device == self.device, text)
        except CorruptData as error:
            check(Rule.KEYS_SIGNED, False, str(error))
        return told.keys

    def next_push(self, wanted: Callable[[AnyPush], bool], wait_s: float) -> AnyPush | None:
        found: list[AnyPush] = []

        def fits(message: Message) -> bool:
            try:
                push = decode_push(message.payload)
            except CorruptData:
                return False
            if wanted(push):
                found.append(push)
            return bool(found)

        self.until("push", fits, wait_s)
        return found[0] if found else None
