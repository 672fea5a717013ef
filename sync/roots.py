"""Whose signatures count: the newest root document, and how a newer one takes its place.

The root key is pinned at enrolment and signs nothing but root documents; a document names the keys
in force. A higher version takes force at once and for good: what an older key signs afterwards is
refused, and an older document never comes back, for the newest is kept in `sync.db`.
"""

from __future__ import annotations

from typing import Final

from edge.messages import SIGNING_ROLE, Root, decode_signed_lines, from_b64u
from edge.model import CorruptData, SetupProblem
from edge.offline_cache import marks
from edge.offline_cache.store import Writer
from edge.settings import DeviceSettings
from edge.trust import Verifier, open_root

# Without `release`: a city that sends no releases names no key for them.
ROLES: Final = frozenset(SIGNING_ROLE.values()) - {"root", "release"}


class Roots:
    """The root document in force."""

    def __init__(self, settings: DeviceSettings, writer: Writer) -> None:
        """The newest of what was enrolled and what came since. `SetupProblem` without any."""
        self._writer = writer
        try:
            self._root_public = from_b64u(settings.root_key_path.read_text().strip())
            enrolled = settings.root_document_path.read_bytes()
        except OSError as error:
            raise SetupProblem(
                f'{error.filename}: {error.strerror}; run "moskvenok provision"'
            ) from error
        found: list[tuple[int, Root, bytes]] = []
        for document in (enrolled, marks.newest_root(writer)):
            if document is None:
                continue
            try:
                root = open_root(self._root_public, decode_signed_lines(document))
            except CorruptData as problem:
                raise SetupProblem(f'{problem}; run "moskvenok provision" again') from problem
            marks.store_root(writer, root.version, document)
            found.append((root.version, root, document))
        _, root, self._document = max(found, key=lambda one: one[0])
        self.verifier = Verifier(root)

    @property
    def version(self) -> int:
        return self.verifier.root_version

    def take(self, document: bytes) -> str:
        """A document that came: "" when it is in force now, `same` for the one that is, else why
        it is refused. `CorruptData` when the root key did not sign it."""
        root = open_root(self._root_public, decode_signed_lines(document))
        if root.version < self.version:
            return "rollback"
        if root.version == self.version:
            return "same" if document.strip() == self._document.strip() else "other_bytes"
        if not {key.role for key in root.keys} >= ROLES:
            return "roles"  # Nothing could be believed any more.
        marks.store_root(self._writer, root.version, document)
        self._document, self.verifier = document, Verifier(root)
        return ""
