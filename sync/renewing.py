"""The shell of a renewal: `sync/renewal.py` says when, the files are `edge/certificates.py`'s, the
connection the loop's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from edge import logs
from edge.certificates import Identity, Validity, validity
from edge.messages import Renewed
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem
from sync.renewal import Do, Renewal
from sync.sessions import Sessions
from sync.telling import Teller


class Renewing:
    """This device's identity, and the next one on its way."""

    def __init__(
        self,
        identity: Identity,
        sessions: Sessions,
        teller: Teller,
        *,
        spread: float,
        now_ms: int,
    ) -> None:
        self._identity = identity
        self._sessions = sessions
        self._teller = teller
        self._log = logs.get("renewal")
        found = validity(identity.certificate) or Validity(from_utc_s=0, until_utc_s=0)
        self.renewal = Renewal(
            spread=spread, from_utc_s=found.from_utc_s, until_utc_s=found.until_utc_s
        )
        if identity.is_ready():
            self.renewal.found_ready()
            self.renewal.try_now(now_ms)  # The city may have taken it in force already.

    def due(self, moment: Moment, publish: Callable[[str], None], *, welcomed: bool) -> Do | None:
        """What the loop has to do to its connection, if anything; asking is done here."""
        utc_s = moment.wall_ms // 1000 if moment.clock_trusted else None
        do = self.renewal.due(moment.mono_ms, utc_s, connected=welcomed)
        if do is not Do.ASK:
            return do
        try:
            publish(self._identity.request())
        except DeviceFault as fault:
            self._log.warning("cannot ask for a certificate", reason=str(fault))
            self.renewal.could_not_ask("failed", moment.mono_ms)
        else:
            self._log.info("asked for a certificate")
        return None

    def take(self, renewed: Renewed, moment: Moment) -> None:
        """The city's answer. `CorruptData` when nothing was asked."""
        if not self.renewal.expects_answer:
            raise CorruptData("renewed: answers nothing we asked")
        why = "" if moment.clock_trusted else "clock"
        try:
            if not why:
                now = datetime.fromtimestamp(moment.wall_ms / 1000, UTC)
                self._identity.take(renewed.certificate_pem, renewed.chain_pem, now)
        except SetupProblem as problem:
            why = "misfit"
            self._log.warning("a certificate that does not fit", reason=str(problem))
            self._teller.refuse("renewed", "", why)
        except DeviceFault as fault:
            why = "failed"
            self._log.error("cannot keep a certificate", reason=str(fault))
        self.renewal.answered(why, moment.mono_ms)

    def fingerprint(self, *, candidate: bool) -> str:
        """Of the key that this connection is made with, for hello."""
        return self._identity.fingerprint(candidate=candidate)

    def promote(self) -> None:
        """The city welcomed the candidate: it is what this device is from now on. `DeviceFault`
        when the disk refuses; the candidate is tried again then."""
        self._identity.promote()
        self._sessions.forget()
        found = validity(self._identity.certificate)
        assert found is not None
        self.renewal.promoted(found.from_utc_s, found.until_utc_s)
        self._log.info("certificate renewed")
        self._teller.note("certificate", why="renewed", until_utc_s=found.until_utc_s)

    def failed(self, why: str, moment: Moment) -> None:
        """The candidate's connection ended without a welcome."""
        try:
            self._identity.settle()  # Had the disk refused halfway, it is whole again.
        except DeviceFault as fault:
            self._log.error("the identity's files", reason=str(fault))
        self._sessions.forget()
        self._teller.count("candidates_failed")
        if self.renewal.lost(why, moment.mono_ms):
            self._identity.discard()
            self._teller.note("certificate", why=f"given_up: {why}")
