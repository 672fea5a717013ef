"""What sync has for this process, taken in once a second and when rung: time, keys, small lists,
what other devices said. Big lists are looked up tap by tap (`edge/offline_cache/lookup.py`).

What cannot be read stops nothing: what was known before goes on, and it is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edge import logs
from edge.clock import Anchor, Clock
from edge.keyring import Keyring
from edge.lasting import Lasting
from edge.messages import ProfileRow, ScopeKey
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache import marks
from edge.offline_cache.lookup import Cache
from edge.offline_cache.peers import Known, note_seen, seen_of
from edge.offline_cache.record import Journal
from edge.readers.reader import CardRead
from edge.trust import KeyStore, ScopeKeys, credential_id, open_at_once, open_scope_keys

START_WAIT_S = 3.0  # Our choice: for a TPM to open the boxes; under the watchdog's ten seconds.


class Looking:
    """Of one process. `keys`: the scopes whose keys this device could open."""

    def __init__(
        self,
        *,
        cache: Cache,
        journal: Journal,
        clock: Clock,
        key_store: KeyStore,
        keyring: Keyring | None,
        level: logs.LevelKeeper,
        ring_sync: Callable[[], None],
        has_lanes: bool,
        sells: bool,
        count: Callable[[str], None],
    ) -> None:
        self.keys: dict[str, ScopeKeys] = {}
        self.alone = True  # A lane of the school is not heard.
        self.others: list[Callable[[Moment], None]] = []  # Who reads small lists too.
        self._cache = cache
        self._journal = journal
        self._clock = clock
        self._key_store = key_store
        self._keyring = keyring
        self._level = level
        self._ring_sync = ring_sync
        self._has_lanes = has_lanes
        self._sells = sells
        self._count = count
        self._sealed: list[ScopeKey] = []
        self._start_wait_s = START_WAIT_S
        self._told: tuple[Mapping[str, ProfileRow], ScopeKeys | None] = ({}, None)  # The keyring.
        self._told_suspects = marks.suspects(journal.writer.db)
        self._seen: Known = seen_of(journal.writer.db)  # Of peers, as last noted.
        self._not_read = Lasting()
        self._log = logs.get("looking")

    def look(self, moment: Moment) -> None:
        """All of it."""
        cache, self.alone = self._cache, True
        try:
            cache.refresh()
            self._set_clock()
            self._level.settle(cache.log_level(), moment.mono_ms)
            self._open_keys(cache.sealed_keys())
            self._renew_keyring()
            if self._sells:
                self._note_seen()
            self.alone = self._has_lanes and cache.alone(moment)
            for other in self.others:
                other(moment)
            if self._not_read.over():
                self._log.info("what the city sent can be read again")
        except (CorruptData, DeviceFault) as problem:
            self._count("look_failed")
            if self._not_read.is_news(str(problem), now_ms=moment.mono_ms):
                self._log.error("cannot read what the city sent", reason=str(problem))
        self._tell_suspects()

    def identify(self, read: CardRead, scope: str) -> tuple[str, int]:
        """A list's name for this card, by the key the list in force was made with, and that key's
        version. "" when that cannot be told: then nobody can be looked up, and the person goes to
        the officer. The UID ends here."""
        keys = self.keys.get(scope)
        if keys is None:
            return "", 0
        try:
            version = self._cache.identifier_version(scope)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read a list of cards", reason=str(problem))
            return "", 0
        held = version if version in keys.identifier else max(keys.identifier)
        return credential_id(keys.identifier[held], read.kind, read.uid), held

    # ------------------------------------------------------------------------- helpers

    def _set_clock(self) -> None:
        anchor = self._cache.anchor()
        if anchor is not None:
            self._clock.anchor = Anchor(
                boot=anchor.boot, mono_ms=anchor.mono_ms, utc_ms=anchor.utc_ms
            )
            self._clock.floor_ms = anchor.floor_utc_ms

    def _open_keys(self, sealed: Iterable[ScopeKey]) -> None:
        keys = list(sealed)
        if keys == self._sealed:
            return
        # A tap waits for no TPM; at the start there are no keys that could serve it meanwhile.
        wait_s, self._start_wait_s = self._start_wait_s, 0.0
        if not open_at_once(self._key_store, keys, wait_s=wait_s):
            return
        for scope in {key.scope for key in keys}:
            opened = open_scope_keys(self._key_store, scope, keys)
            if opened is not None:
                self.keys[scope] = opened
        self._sealed = keys

    def _renew_keyring(self) -> None:
        """Readers ask of cards what the newest settings and keys say."""
        cache = self._cache
        told = (cache.small.profiles, self.keys.get(cache.scopes["people"]))
        if self._keyring is None or told == self._told:
            return
        self._told = told
        for problem in self._keyring.renew(*told):
            self._count("card_profile_unusable")
            self._log.error("cards of this kind are numbers here", reason=problem)

    def _note_seen(self) -> None:
        """A till's sales rest from here on what its peers have done so far; they are told so."""
        known = self._cache.peers_known()
        if known is None or known == self._seen:
            return
        with self._journal.writer.transaction() as db:
            note_seen(db, known)
        self._seen = known
        self._ring_sync()

    def _tell_suspects(self) -> None:
        """sync looks at a picture that could not be read, and fetches it again if it must."""
        suspects = self._cache.suspects
        if suspects == self._told_suspects:
            return
        try:
            marks.tell_suspects(self._journal.writer, suspects)
        except (CorruptData, DeviceFault):
            self._count("suspects_untold")  # Told at the next look.
            return
        self._told_suspects = dict(suspects)
        self._ring_sync()
