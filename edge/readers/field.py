"""What lies in a reader's field, look by look, and what of it is news.

For readers that are asked "who is there?" many times a second (`pn532.py`), where a card that is
left lying answers every time. Times are passed in. Pure.

- A card is news once, until it was away for `REPEAT_MS_MAX`.
- Random ids are all one stranger: a phone shows another at each look.
- Two cards at once are news once, and name nobody. A card that is left of the two is news only
  when it has lain alone for `REPEAT_MS_MAX`: when a wallet is taken away, one of its two cards
  leaves the field a little later than the other, and must not count as shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.model import UidKind
from edge.readers.reader import is_random_uid
from edge.readers.watch import REPEAT_MS_MAX, Repeats

A_STRANGER = b"a random id"  # Longer than any UID, so never mistaken for one.
TWO_CARDS = b"two or more cards"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCard:
    """A card that was not there before."""

    uid: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralCards:
    """More than one, which was not so before."""


class Field:
    """The field of one reader. Holds the UIDs of the last second and forgets them."""

    def __init__(self) -> None:
        self._seen_ms: dict[bytes, int] = {}
        self._left = Repeats()

    def look(self, uids: tuple[bytes, ...], *, now_ms: int) -> OneCard | SeveralCards | None:
        """What is news in this look; None for nothing."""
        self._seen_ms = {
            name: at_ms for name, at_ms in self._seen_ms.items() if now_ms - at_ms <= REPEAT_MS_MAX
        }
        if len(uids) > 1:
            known = TWO_CARDS in self._seen_ms
            for uid in uids:
                if _name(uid) in self._seen_ms:
                    self._seen_ms[_name(uid)] = now_ms
            self._seen_ms[TWO_CARDS] = now_ms
            return None if known else SeveralCards()
        for uid in uids:
            known = _name(uid) in self._seen_ms
            if not known and TWO_CARDS in self._seen_ms:
                return None
            self._seen_ms[_name(uid)] = now_ms
            return None if known else OneCard(uid=uid)
        return None

    def left(self, uid: bytes, *, now_ms: int) -> bool:
        """It left before it could be asked: when it is there again, that is news again.

        Whether this is worth telling; a card that hovers at the edge leaves at every look.
        """
        self._seen_ms.pop(_name(uid), None)
        return self._left.is_new(_name(uid), now_ms=now_ms)


def _name(uid: bytes) -> bytes:
    return A_STRANGER if is_random_uid(uid, UidKind.ISO14443) else uid
