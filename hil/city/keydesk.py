"""The city's desk for trust: keys rotated, devices revoked, books put back from a backup.

Beside `desk.py` and in its manner: each method is one transaction (or one change of the key
file, which every site then follows by itself), and raises `Refused` in words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from edge.model import SetupProblem
from hil.city.desk import Desk, Done, Refused, text_of
from hil.city.intake import CityCore
from hil.city.keys import ROTATED_ROLES

PURPOSES: Final = ("identifier", "seal")
BACKUP_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
ORDERS_SKIPPED: Final = 1_000  # Our choice: more orders than were sent since the backup.


class KeyDesk:
    """One thread uses it: the one that owns the store."""

    def __init__(self, core: CityCore, desk: Desk, folder: Path) -> None:
        self._core = core
        self._desk = desk
        self._folder = folder

    def rotate(self, request: dict[str, Any], now_ms: int) -> Done:
        """`{"key": "list"}` (freshness, order), or `{"key": "seal"}` (identifier) of `people`."""
        key = text_of(request, "key")
        distrust = request.get("distrust", False)
        if key in PURPOSES:
            self._core.keys.rotate_scope(f"{self._core.site}/people", key)
        elif key in ROTATED_ROLES:
            if not isinstance(distrust, bool):
                raise Refused(400, "distrust is neither true nor false", "leave it out, or true")
            self._core.keys.rotate_signing(key, now_ms, distrust=distrust)
        else:
            known = ", ".join((*ROTATED_ROLES, *PURPOSES))
            raise Refused(400, f"no key {key!r}", f"use one of {known}")
        outs = self._core.adopt_keys(now_ms)
        return Done(answer=self._versions(), outs=tuple(outs))

    def raise_list_epoch(self, now_ms: int) -> Done:
        """Every list begins anew above whatever devices hold."""
        self._core.keys.raise_list_epoch(now_ms)
        return Done(answer=self._versions(), outs=tuple(self._core.adopt_keys(now_ms)))

    def _versions(self) -> dict[str, Any]:
        keys = self._core.keys
        scope = keys.scopes[f"{self._core.site}/people"]
        return {
            "root_version": keys.root_version,
            "list_epoch": keys.list_epoch,
            "key_ids": {role: keys.signing[role].key_id for role in ROTATED_ROLES},
            "identifier_version": scope.identifier_version,
            "seal_version": scope.seal_version,
        }

    def revoke(self, request: dict[str, Any], now_ms: int) -> Done:
        """A stolen device: its certificate, its topics and its place on the roster end."""
        device = text_of(request, "device")
        store = self._core.store
        with store.transaction():
            known = store.one("SELECT certificate FROM device WHERE device = ?", (device,))
            if known is None:
                raise Refused(404, f"no device {device!r}", "see GET /status")
            self._desk.revoke_certificate(known[0], now_ms)
            store.execute(
                "UPDATE device SET revoked_ms = ?, online = 0 WHERE device = ?", (now_ms, device)
            )
            # It sells no more, so nobody else would end its holds.
            self._core.tills.release_holds_of(device, now_ms)
            outs = self._core.publisher.refresh("settings", now_ms)
            outs += self._core.publisher.publish_money(now_ms)
        return Done(
            answer={"device": device, "revoked": True}, outs=tuple(outs), devices_changed=True
        )

    # ----------------------------------------------------------------------------- backups

    def back_up(self, request: dict[str, Any], _now_ms: int) -> Done:
        """The books as they are, under a name; the same name again replaces it."""
        path = self._backup(request)
        try:
            self._core.store.database.copy_to(path)
        except SetupProblem as problem:
            raise Refused(409, str(problem), "see hil/city/README.md") from None
        return Done(answer={"backup": path.name, "bytes": path.stat().st_size})

    def restore(self, request: dict[str, Any], now_ms: int) -> Done:
        """The books as they were: high waters go back, and lists begin a new epoch, which only
        the root key can say. With `"epoch": false` that is forgotten, as a careless city would."""
        path = self._backup(request)
        if not path.exists():
            raise Refused(404, f"no backup {path.stem!r}", "make one first: POST /backup")
        try:
            self._core.store.database.copy_from(path)
        except SetupProblem as problem:
            raise Refused(409, str(problem), "see hil/city/README.md") from None
        self._core.registry.forget_settings()
        with self._core.store.transaction():
            self._core.store.execute(
                "UPDATE device SET order_counter = order_counter + ?", (ORDERS_SKIPPED,)
            )
        if request.get("epoch", True):
            self._core.keys.raise_list_epoch(now_ms)
        outs = self._core.adopt_keys(now_ms)
        return Done(answer=self._versions(), outs=tuple(outs), devices_changed=True)

    def _backup(self, request: dict[str, Any]) -> Path:
        name = text_of(request, "name") if "name" in request else "backup"
        if not BACKUP_NAME.fullmatch(name):
            raise Refused(400, f"backup name {name!r}", "use 1 to 32 of a-z, 0-9, -")
        return self._folder / f"{self._core.site}-{name}.backup"
