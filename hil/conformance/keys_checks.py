"""Checks of what is secret, and for whom: scope keys, sealed columns, lists of other stations."""

from __future__ import annotations

from edge.messages import (
    CardholderRow,
    Pull,
    PushDelta,
    PushKeys,
    PushManifest,
    decode_pack,
    encode_json,
)
from edge.model import CorruptData
from edge.trust import PURPOSE_IDENTIFIER, PURPOSE_SEAL, open_scope_key, unseal_column
from hil.conformance.lists_checks import Picture
from hil.conformance.player import Player
from hil.conformance.rules import Rule

CARDHOLDER = 1


def check_keys(player: Player, picture: Picture | None) -> None:
    """The keys of `people` open with this device's key, and are those its list was made with."""
    check, people = player.report.check, f"{player.identity.site}/people"
    push = player.pull(
        Pull(device=player.device, keys=(people,)), lambda push: isinstance(push, PushKeys)
    )
    if not isinstance(push, PushKeys):
        check(Rule.KEYS_SEALED, False, f"{people}: a pull of its keys brought none")
        return
    keys = player.keys_in(push)
    if keys is None:
        return
    opened: dict[str, dict[int, bytes]] = {PURPOSE_IDENTIFIER: {}, PURPOSE_SEAL: {}}
    for key in keys:
        try:
            secret = open_scope_key(player.keys, key)
        except CorruptData as error:
            check(Rule.KEYS_SEALED, False, f"{people}: {key.purpose}: {error}")
            return
        if key.scope == people:
            opened.setdefault(key.purpose, {})[key.version] = secret
    if picture is None or picture.manifest is None:
        return
    wanted = {
        PURPOSE_IDENTIFIER: picture.manifest.identifier_key_version,
        PURPOSE_SEAL: picture.manifest.seal_key_version,
    }
    held = {purpose: sorted(versions) for purpose, versions in opened.items()}
    right = all(version in opened[purpose] for purpose, version in wanted.items())
    check(Rule.KEYS_SEALED, right, f"{people}: the list needs {wanted}, came {held}")
    _open_columns(player, picture, opened[PURPOSE_SEAL])


def _open_columns(player: Player, picture: Picture, seals: dict[int, bytes]) -> None:
    for (kind, key), body in picture.rows.items():
        if kind != CARDHOLDER:
            continue
        row = decode_pack(CardholderRow, body)
        for column, sealed in (("name", row.sealed_name), ("group", row.sealed_group)):
            try:
                unseal_column(seals, sealed, scope=picture.scope, row_key=key, column=column)
            except CorruptData as error:
                player.report.check(Rule.COLUMNS_SEALED, False, str(error))
                return
    player.report.check(Rule.COLUMNS_SEALED, True, "")


def check_foreign(player: Player, scopes: tuple[str, ...]) -> None:
    """Lists that are not this station's bring nothing."""
    for scope in scopes:
        player.forget("push")
        player.say("pull", encode_json(Pull(device=player.device, scope=scope)))
        push = player.next_push(
            lambda push: isinstance(push, PushManifest | PushDelta), player.silence_s
        )
        text = f"{scope} was handed to a {player.identity.station}"
        player.report.check(Rule.SCOPES_APART, push is None, text)
