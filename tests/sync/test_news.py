"""Goal: what comes on a quiet line is told of at once, and in a rush nothing waits longer than a
moment or for more than a few.

Method: the kernel with time in the test's hand; every arrival of a seeded day, from silence to a
flood.
"""

from __future__ import annotations

import random

from sync.news import NEWS_MAX, NEWS_MS_MAX, RUSH_MS, News


def test_a_quiet_line_is_told_of_at_once() -> None:
    news = News()
    for now_ms in range(0, 100, RUSH_MS):
        before = news.waiting, news.due(now_ms)
        news.add()
        after = news.waiting, news.due(now_ms)
        assert (before, after) == ((False, False), (True, True))
        assert not news.rush


def test_in_a_rush_several_are_told_of_together() -> None:
    news = News()
    news.add()
    assert news.due(0)
    for number in range(1, NEWS_MAX + 1):
        news.add()
        assert news.due(0) == (number == NEWS_MAX)
    assert news.rush
    news.add()
    assert not news.due(0)
    assert news.due(NEWS_MS_MAX), "no more came"


def test_what_is_urgent_waits_for_nothing() -> None:
    news = News()
    news.add()
    assert news.due(0)
    news.add(urgent=True)
    assert news.due(0)


def test_nothing_waits_longer_than_a_moment() -> None:
    for seed in range(200):
        chance, news = random.Random(seed), News()
        waiting_since: int | None = None
        told = came = pending = 0
        now_ms = 0
        while now_ms < 300:
            for _ in range(chance.choice((0, 0, 0, 1, 1, 3, 9))):
                news.add()
                came, pending = came + 1, pending + 1
                waiting_since = now_ms if waiting_since is None else waiting_since
            if news.due(now_ms):
                told, pending, waiting_since = told + pending, 0, None
            assert pending < NEWS_MAX
            assert waiting_since is None or now_ms - waiting_since < NEWS_MS_MAX
            now_ms += chance.choice((0, 0, 0, 1, 1, 5))
        assert told + pending == came
