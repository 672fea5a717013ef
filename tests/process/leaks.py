"""Looks for people in bytes: names, card numbers and keys, in every form they may be written in.

A form is looked for wherever it may stand, in the middle of a file or a message too. Numbers of
four or five bytes stand in megabytes of ciphertext by chance: such a sight counts once it is no
chance any more: the same number at two places, or more numbers than chance would show. What the
city itself has sealed or hashed is not looked at for them.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.messages import PushChunk, decode_push
from edge.model import CorruptData, UidKind
from hil.world.school import Card, School

HEAD_BYTES = 8  # Longer forms are found by their beginning,
FIRST_BYTES = 4  # and none is shorter: whatever begins so is looked at again.
NEAR_BYTES = 4  # Neighbours that tell one place from a copy of it.
STRAY_MAX = 2  # Our choice: different short numbers that chance may show in one search.
SURNAME_CHARS_MIN = 5  # Shorter ones are the beginning of other words.


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to write one thing. Not `sure`: so short that chance writes it too."""

    what: str  # Names the person by cardholder id only.
    pattern: bytes
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A form at a place."""

    form: Form
    where: str
    near: bytes  # With its neighbours.


class Search:
    """All forms of everything that must not be found, looked for in one pass."""

    def __init__(self) -> None:
        self._forms: dict[bytes, Form] = {}
        self._by_first: dict[bytes, dict[bytes, list[Form]]] = {}
        self.sealed = b""  # Ciphertext and ids that the city made: chance lives there.

    def add_name(self, name: str, whose: str) -> None:
        words = name.split()
        texts = {name, name.upper(), " ".join(reversed(words)), "_".join(words)}
        if len(words[0]) >= SURNAME_CHARS_MIN:
            texts.add(words[0])
        for text in texts:
            for coding in ("utf-8", "utf-16-le", "cp1251"):
                self._add(text.encode(coding), f"name of {whose} in {coding}")
            escaped = text.encode("ascii", "backslashreplace")
            self._add(escaped, f"name of {whose} as JSON escapes")

    def add_bytes(self, raw: bytes, what: str) -> None:
        """A number or a key: raw, hex, base64 and as a literal, both ways round."""
        # Against some megabytes and hundreds of numbers: 2**48 is sure, 2**32 is not; 2**40 is
        # in a few kilobytes of text.
        for data, way in ((raw, ""), (raw[::-1], " reversed")):
            self._add(data, f"{what} raw{way}", sure=len(raw) > 5)
            literal = repr(data)[2:-1]  # As a careless f-string writes it, and JSON that string.
            for form in {literal, literal.replace("\\", "\\\\")}:
                self._add(form.encode(), f"{what} as a literal{way}", sure=len(raw) > 5)
            text = data.hex()
            pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
            for form in {text, ":".join(pairs), " ".join(pairs), "-".join(pairs)}:
                self._add(form.encode(), f"{what} in hex{way}", sure=len(raw) > 4)
                self._add(form.upper().encode(), f"{what} in hex{way}", sure=len(raw) > 4)
            for form in {b64encode(data).decode(), urlsafe_b64encode(data).decode()}:
                plain = form.rstrip("=").encode()
                self._add(plain, f"{what} in base64{way}", sure=len(raw) > 4)

    def add_card(self, card: Card) -> None:
        what = f"card of {card.cardholder_id}"
        self.add_bytes(card.uid, what)
        if card.uid_kind is UidKind.PROX125:
            low = int.from_bytes(card.uid[-4:], "big")
            self._add(str(int.from_bytes(card.uid, "big")).encode(), f"{what} in decimal")
            self._add(f"{low:010d}".encode(), f"{what} in decimal, as printed", sure=False)
            printed = f"{low >> 16 & 0xFF:03d},{low & 0xFFFF:05d}"
            self._add(printed.encode(), f"{what} as printed", sure=False)

    def _add(self, pattern: bytes, what: str, *, sure: bool = True) -> None:
        if pattern in self._forms:
            return
        form = Form(what=what, pattern=pattern, sure=sure)
        self._forms[pattern] = form
        assert len(pattern) >= FIRST_BYTES, what
        heads = self._by_first.setdefault(pattern[:FIRST_BYTES], {})
        heads.setdefault(pattern[:HEAD_BYTES], []).append(form)

    def look(self, data: bytes, where: str) -> Iterator[Sight]:
        """Everything personal in these bytes, however it got there."""
        firsts, size = self._by_first, FIRST_BYTES
        for at in [at for at in range(len(data) - size + 1) if data[at : at + size] in firsts]:
            heads = firsts[data[at : at + size]]
            for length in range(size, min(HEAD_BYTES, len(data) - at) + 1):
                for form in heads.get(data[at : at + length], ()):
                    if data.startswith(form.pattern, at):
                        near = data[max(0, at - NEAR_BYTES) : at + len(form.pattern) + NEAR_BYTES]
                        yield Sight(form=form, where=where, near=near)

    def findings(self, places: Mapping[str, bytes]) -> list[Sight]:
        """What is no chance: by place, the bytes that are there."""
        sights = [sight for where, data in places.items() for sight in self.look(data, where)]
        sure = [sight for sight in sights if sight.form.sure]
        short = [s for s in sights if not s.form.sure and s.near not in self.sealed]
        nears: dict[Form, set[bytes]] = {}
        for sight in short:
            nears.setdefault(sight.form, set()).add(sight.near)
        if len(nears) > STRAY_MAX:
            return sure + short
        return sure + [sight for sight in short if len(nears[sight.form]) > 1]


def search_for(school: School, secrets: Mapping[str, bytes]) -> Search:
    """All people of the school, all their cards, and these keys."""
    search = Search()
    for person in school.people:
        search.add_name(person.name, person.cardholder_id)
    for card in school.cards:
        search.add_card(card)
    for what, secret in secrets.items():
        search.add_bytes(secret, what)
    return search


def sealed_by_city(database: Path) -> bytes:
    """The ciphertext and hashes in the lists, which hold every number by chance sooner or later."""
    db = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT sealed_name, sealed_group FROM person").fetchall()
        rows += db.execute("SELECT credential, X'' FROM card").fetchall()
    finally:
        db.close()
    return b"".join(one + other for one, other in rows)


def files_under(*folders: Path) -> dict[str, bytes]:
    """Every file, databases with their WAL and SHM as they lie there."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpacked(messages: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Messages by number and topic, topics included; a list's chunks are unpacked too."""
    import zstandard

    found: dict[str, bytes] = {}
    for number, (topic, payload) in enumerate(messages):
        found[f"message {number} on {topic}"] = topic.encode() + b"\n" + payload
        if topic.endswith("/push"):
            try:
                push = decode_push(payload)
            except CorruptData:
                continue
            if isinstance(push, PushChunk):
                rows = zstandard.ZstdDecompressor().decompress(push.data, max_output_size=1 << 24)
                found[f"rows of message {number} on {topic}"] = rows
    return found


class WireTap:
    """A listener in the cable: hands on every byte, both ways, and keeps them all by connection."""

    def __init__(self, *, target_port: int) -> None:
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.up: list[bytearray] = []  # What devices said, one a connection;
        self.down: list[bytearray] = []  # and what they were told.
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> WireTap:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        for one in self._sockets:
            one.close()

    def places(self) -> dict[str, bytes]:
        """All that crossed, as `Search.findings` takes it."""
        return {
            f"connection {number}, {way}": bytes(data)
            for way, kept in (("up", self.up), ("down", self.down))
            for number, data in enumerate(kept)
        }

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            self.up.append(bytearray())
            self.down.append(bytearray())
            for source, target, kept in (
                (near, far, self.up[-1]),
                (far, near, self.down[-1]),
            ):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=_pour, args=(source, target, kept), daemon=True)
                self._threads.append(thread)
                thread.start()


def _pour(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            kept += piece
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
