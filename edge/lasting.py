"""A trouble that lasts is said when it begins or changes, now and then while it lasts, and when it
is over: never once a second. Pure; who says it is the caller.
"""

from __future__ import annotations

from typing import Final

AGAIN_MS: Final = 10 * 60_000  # Our choice: who opens a log sees it within its last screen or two.


class Lasting:
    """One trouble.

    >>> disk = Lasting()
    >>> disk.is_news("full", now_ms=0), disk.is_news("full", now_ms=1_000)
    (True, False)
    >>> disk.is_news("refused", now_ms=2_000), disk.over(), disk.over()
    (True, True, False)
    """

    def __init__(self) -> None:
        self._what = ""
        self._said_ms = 0

    def is_news(self, what: str, *, now_ms: int) -> bool:
        """Whether to say it now."""
        assert what
        if what == self._what and now_ms - self._said_ms < AGAIN_MS:
            return False
        self._what, self._said_ms = what, now_ms
        return True

    def over(self) -> bool:
        """It is well again: whether that is to be said, for the trouble was."""
        was, self._what = self._what, ""
        return bool(was)
