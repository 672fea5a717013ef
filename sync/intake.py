"""What comes down: heads, deltas, snapshots and keys of all lists of one device. Pure.

Told what arrived and was verified by signature (`edge/trust.py`), it answers what to do: apply,
store, ask, refuse. Each list is a `ScopeIntake`; here is what they share: the order of urgency
(people first, the hot list travels in it), the number of pulls out at once, and the scope keys.

The shell: `held` per scope and `keys_held` per scope with keys at start, `connected` with the
welcome, then what arrives, and `step` once a second. Every call gives a tuple of answers, carried
out in order; those of `held`, `mismatch` and `snapshot_failed` are again answers to carry out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from edge.messages import Delta, Head, Manifest, Pull, VersionMark
from sync.answers import IntakeAnswer, Refuse, SendPull, StartSnapshot
from sync.scope_intake import PULL_PATIENCE_MS, Retry, ScopeIntake

PULLS_MAX: Final = 4  # protocol.md: window 4.


@dataclass(slots=True, kw_only=True)
class _Keys:
    """What one scope's pictures are made with, and what of it is held."""

    identifier_held: frozenset[int] = frozenset()
    seal_held: frozenset[int] = frozenset()
    identifier_named: int = 0  # By the newest manifest; 0: none.
    seal_named: int = 0

    def lacking(self) -> bool:
        return (
            not self.identifier_held
            or (self.identifier_named != 0 and self.identifier_named not in self.identifier_held)
            or (self.seal_named != 0 and self.seal_named not in self.seal_held)
        )


class Intake:
    """All scopes of one device, the most urgent first. `now_ms` is one monotonic clock.

    `key_scopes`: those whose keys this device needs. `spread` (0 to 1, this device's own) keeps
    the retries of many devices out of step.
    """

    def __init__(
        self,
        *,
        device: str,
        scopes: Iterable[str],
        key_scopes: Iterable[str],
        spread: float,
    ) -> None:
        assert 0.0 <= spread <= 1.0
        self.refused: dict[str, int] = {}  # "what:reason" -> how often.
        self._device = device
        self._lists = {
            scope: ScopeIntake(device=device, scope=scope, spread=spread) for scope in scopes
        }
        self._keys = {scope: _Keys() for scope in key_scopes}
        self._keys_asked_ms: int | None = None
        self._keys_retry = Retry(spread=spread)
        self._connected = False
        assert set(self._keys) <= set(self._lists)

    # ------------------------------------------------------------------ what the shell says

    def held(
        self,
        *,
        scope: str,
        version: VersionMark | None,
        now_ms: int,
        floor: VersionMark | None = None,
    ) -> tuple[IntakeAnswer, ...]:
        """The version in force now: at start, after a delta, after a snapshot, from a stick.
        `floor`: the highest that ever was, where that is another."""
        answers = self._lists[scope].set_held(version, floor)
        return self._with_rest(answers, now_ms)

    def keys_held(
        self, *, scope: str, identifier: Set[int], seal: Set[int], now_ms: int
    ) -> tuple[IntakeAnswer, ...]:
        """The versions of this scope's keys that are held (opened and kept)."""
        keys = self._keys[scope]
        keys.identifier_held, keys.seal_held = frozenset(identifier), frozenset(seal)
        if not any(keys.lacking() for keys in self._keys.values()):
            self._keys_asked_ms = None
            self._keys_retry.succeeded()
        return self._with_rest([], now_ms)

    def trust_epoch(
        self, list_epoch: int, *, now_ms: int, utc_ms: int | None
    ) -> tuple[IntakeAnswer, ...]:
        """The root document in force: no list may name a higher epoch. A head that did before
        its root document came is looked at again."""
        answers: list[IntakeAnswer] = []
        for one in self._lists.values():
            answers += one.trust_epoch(list_epoch, utc_ms)
        return self._with_rest(answers, now_ms)

    def resume(
        self, *, scope: str, manifest: Manifest, stored: frozenset[int], now_ms: int
    ) -> tuple[IntakeAnswer, ...]:
        """At start, after `held`: a snapshot that was half there when the process ended."""
        answers = self._lists[scope].resume(manifest, stored)
        if not answers:
            self._name_keys(manifest)
        return self._with_rest(answers, now_ms)

    def mismatch(self, *, scope: str, now_ms: int) -> tuple[IntakeAnswer, ...]:
        """The set digest of the picture, or of what a delta made of it, is not the signed one."""
        self._lists[scope].mismatch()
        return self._with_rest([], now_ms)

    def brought(self, *, scope: str) -> bool:
        """A list comes by hand. True when a whole one is wanted although there is a picture."""
        one = self._lists.get(scope)
        return one is not None and one.brought()

    def snapshot_failed(
        self, *, scope: str, snapshot_id: str, now_ms: int
    ) -> tuple[IntakeAnswer, ...]:
        """The snapshot being built turned out wrong; it was discarded."""
        self._lists[scope].snapshot_failed(snapshot_id)
        return self._with_rest([], now_ms)

    def connected(
        self, wanted: Mapping[str, VersionMark], *, now_ms: int
    ) -> tuple[IntakeAnswer, ...]:
        """The welcome came, with the versions the city wants us to have."""
        self._connected = True
        self._keys_asked_ms = None
        self._keys_retry.succeeded()
        for scope, one in self._lists.items():
            one.connected(wanted.get(scope))
        return self._with_rest([], now_ms)

    def disconnected(self) -> None:
        """What was asked will not be answered. What is half there is kept."""
        self._connected = False
        self._keys_asked_ms = None
        for one in self._lists.values():
            one.disconnected()

    # ------------------------------------------------------------------ what came, verified

    def head(self, head: Head, *, now_ms: int, utc_ms: int | None) -> tuple[IntakeAnswer, ...]:
        """A head. `utc_ms` is the time, or the floor of it; None only when nothing is known."""
        one = self._lists.get(head.scope)
        answers = _foreign("head", head.scope) if one is None else one.take_head(head, utc_ms)
        return self._with_rest(answers, now_ms)

    def delta(self, delta: Delta, *, now_ms: int) -> tuple[IntakeAnswer, ...]:
        """A delta, live or pulled."""
        one = self._lists.get(delta.scope)
        answers = _foreign("delta", delta.scope) if one is None else one.take_delta(delta, now_ms)
        return self._with_rest(answers, now_ms)

    def manifest(self, manifest: Manifest, *, now_ms: int) -> tuple[IntakeAnswer, ...]:
        """What a snapshot consists of."""
        one = self._lists.get(manifest.scope)
        if one is None:
            return self._with_rest(_foreign("manifest", manifest.scope), now_ms)
        answers = one.take_manifest(manifest, now_ms)
        if any(isinstance(answer, StartSnapshot) for answer in answers):
            self._name_keys(manifest)
        return self._with_rest(answers, now_ms)

    def chunk(
        self, *, scope: str, snapshot_id: str, index: int, data: bytes, now_ms: int
    ) -> tuple[IntakeAnswer, ...]:
        """A piece of a snapshot; its hash is checked here against the signed one."""
        one = self._lists.get(scope)
        if one is None:
            return self._with_rest(_foreign("chunk", scope), now_ms)
        return self._with_rest(one.take_chunk(snapshot_id, index, data, now_ms), now_ms)

    def step(self, *, now_ms: int) -> tuple[IntakeAnswer, ...]:
        """Time went by: pulls that timed out, waits that ended."""
        return self._with_rest([], now_ms)

    @property
    def duplicates(self) -> int:
        """Things that came again and were ignored; normal, and a gauge."""
        return sum(one.duplicates for one in self._lists.values())

    # ------------------------------------------------------------------ helpers

    def _with_rest(self, answers: list[IntakeAnswer], now_ms: int) -> tuple[IntakeAnswer, ...]:
        for answer in answers:
            if isinstance(answer, Refuse):
                self._count(answer)
        for one in self._lists.values():
            more = one.advance(now_ms)
            for answer in more:
                if isinstance(answer, Refuse):
                    self._count(answer)
            answers += more
        if self._connected:
            answers += self._pulls(now_ms)
        return tuple(answers)

    def _name_keys(self, manifest: Manifest) -> None:
        keys = self._keys.get(manifest.scope)
        if keys is not None:
            keys.identifier_named = manifest.identifier_key_version
            keys.seal_named = manifest.seal_key_version

    def _count(self, refuse: Refuse) -> None:
        name = f"{refuse.what}:{refuse.reason}"
        self.refused[name] = self.refused.get(name, 0) + 1

    def _pulls(self, now_ms: int) -> list[IntakeAnswer]:
        answers: list[IntakeAnswer] = []
        keys = self._keys_pull(now_ms)
        if keys is not None:
            answers.append(SendPull(pull=keys))
        out = int(self._keys_asked_ms is not None)
        for place, one in enumerate(self._lists.values()):
            if out < PULLS_MAX:
                pull = one.next_pull(now_ms)
                if pull is not None:
                    answers.append(SendPull(pull=pull))
            out += one.waits_for_city
            if place == 0 and one.waits_for_city:
                break  # People first, until it is whole or its city does not answer.
        return answers

    def _keys_pull(self, now_ms: int) -> Pull | None:
        asked_ms = self._keys_asked_ms
        if asked_ms is not None and now_ms - asked_ms >= PULL_PATIENCE_MS:
            self._keys_asked_ms = None
            self._keys_retry.failed(now_ms)
        if self._keys_asked_ms is not None or now_ms < self._keys_retry.not_before_ms:
            return None
        lacking = tuple(scope for scope, keys in self._keys.items() if keys.lacking())
        if not lacking:
            return None
        self._keys_asked_ms = now_ms
        return Pull(device=self._device, keys=lacking)


def _foreign(what: str, scope: str) -> list[IntakeAnswer]:
    return [Refuse(what=what, scope=scope[:64], reason="wrong_scope")]
