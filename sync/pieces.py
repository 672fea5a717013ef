"""What one batch of facts is made of, read from the file that holds the stream. Decides nothing:
how much, and from where, the pump has said.

While a backlog leaves, several batches are read at once, and the next ones while those before them
are on their way. Facts never change, so what was read ahead stays true; but it is for going on from
where the last batch ended, and for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.messages import BATCH_BYTES_MAX, Gap, decode_fact_key, digest_of
from edge.model import CorruptData
from edge.offline_cache import outbox
from edge.offline_cache.store import Connection, reading
from sync.answers import Send

AHEAD_BYTES: Final = 8 * BATCH_BYTES_MAX  # Our choice: a window of batches, in memory for moments.
AHEAD_ROWS_MAX: Final = 800  # Our choice: the same in facts; 20 MB if each were the largest.
AHEAD_LOW: Final = AHEAD_BYTES  # Our choice: what may leave at once is held before it is asked for.


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one batch is made of. `lines` are the facts' bytes, one a line."""

    first: int
    count: int
    lines: bytes
    gap: Gap | None
    digest: str


class Pieces:
    """Of one stream."""

    def __init__(self) -> None:
        self.epoch = ""  # What was read ahead: of this epoch,
        self._next = 0  # from this fact on,
        self._lines = b""  # in these lines,
        self._at = 0  # from here on,
        self._until = 0  # all before this fact.
        self._rows = 0  # How many to read the next time; 0: no more than asked for.

    def forget(self) -> None:
        """The next batch is read from the file: it may be another, or have let go of facts."""
        self.epoch, self._lines, self._at, self._rows = "", b"", 0, 0

    @property
    def runs_low(self) -> bool:
        """A backlog leaves, and what is held of it will soon have left."""
        return self._rows > 0 and len(self._lines) - self._at < AHEAD_LOW

    def read_on(self, db: Connection, life: outbox.Life) -> None:
        """Behind what is held, while there is time for it."""
        if not self._rows or self.epoch != life.epoch:
            return
        with reading(db):
            found = outbox.next_lines(db, life.life, self._until, rows_max=self._rows)
        if found is None or found[0] < self._rows:
            self._rows = 0  # The backlog's end, or a hole: what is held leaves first.
        if found is not None:
            count, lines = found
            left = self._lines[self._at :]
            self._lines, self._at = b"\n".join((left, lines)) if left else lines, 0
            self._until += count

    def read(self, db: Connection, life: outbox.Life, send: Send) -> Piece:
        """The rows asked for; in front of them, where facts went, the gap that says so."""
        held = self.epoch == life.epoch and self._next == send.first
        if held and send.gap is None and len(self._lines) - self._at >= send.bytes_max:
            found = self._cut(life, send.first, send)
            if found is not None:
                return found
        with reading(db):
            return self._read(db, life, send)

    def _read(self, db: Connection, life: outbox.Life, send: Send) -> Piece:
        first = send.first
        gap: Gap | None = None
        if send.gap is not None:
            digest = outbox.known_digest(db, life, send.gap.target) or ""
            gap = Gap(source=send.gap.source, target=send.gap.target, digest=digest, counts={})
        elif self._read_ahead(db, life, send):
            found = self._cut(life, first, send)
            if found is not None:
                return found
        rows_max, bytes_max = send.rows_max, send.bytes_max
        facts = outbox.next_facts(db, life.life, first, rows_max=rows_max, bytes_max=bytes_max)
        while not facts and (hole := outbox.hole_at(db, life.life, first)) is not None:
            counts = dict(gap.counts) if gap is not None else {}
            for kind, count in hole.counts.items():
                counts[kind] = counts.get(kind, 0) + count
            source = gap.source if gap is not None else hole.source
            gap = Gap(source=source, target=hole.target, digest=hole.digest, counts=counts)
            first = hole.target + 1
            facts = outbox.next_facts(db, life.life, first, rows_max=rows_max, bytes_max=bytes_max)
        if life.closed_at is not None:
            facts = facts[: max(0, life.closed_at + 1 - first)]
        digest = digest_of(facts[-1]) if facts else (gap.digest if gap is not None else "")
        lines = b"\n".join(facts)
        return Piece(first=first, count=len(facts), lines=lines, gap=gap, digest=digest)

    def _read_ahead(self, db: Connection, life: outbox.Life, send: Send) -> bool:
        """Whether there are facts from `send.first` on, none missing among them."""
        rows = max(send.rows_max, self._rows)
        self.forget()
        found = outbox.next_lines(db, life.life, send.first, rows_max=rows)
        if found is None:
            return False
        count, self._lines = found
        self.epoch, self._next, self._until = life.epoch, send.first, send.first + count
        if count == rows:  # There may be more.
            ahead = AHEAD_BYTES * count // len(self._lines)
            self._rows = min(AHEAD_ROWS_MAX, ahead)
        return True

    def _cut(self, life: outbox.Life, first: int, send: Send) -> Piece | None:
        """A batch from the front of what was read ahead; None when it is not as it should be."""
        lines, begin = self._lines, self._at
        end = len(lines)
        if end - begin >= send.bytes_max:
            end = lines.rfind(b"\n", begin, begin + send.bytes_max)
            if end < 0:  # The first alone is as large: one leaves at least.
                end = lines.find(b"\n", begin)
            if end < 0:
                end = len(lines)
        piece = lines[begin:end]
        rows_max = send.rows_max
        if life.closed_at is not None:
            rows_max = min(rows_max, life.closed_at + 1 - first)
        last = piece[piece.rfind(b"\n") + 1 :]
        try:
            count = decode_fact_key(last).sequence - first + 1
            if count > rows_max > 0:
                facts = piece.split(b"\n", rows_max)[:rows_max]
                count, last, piece = rows_max, facts[-1], b"\n".join(facts)
        except CorruptData:
            count = 0
        if not 0 < count <= min(rows_max, self._until - first):
            self.forget()
            return None
        self._at += len(piece) + 1
        self._next = first + count
        return Piece(first=first, count=count, lines=piece, gap=None, digest=digest_of(last))
