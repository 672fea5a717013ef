"""One card that a PN532 has activated: raw exchange for the dialogues of `dialogue.py`.

Cards that speak ISO/IEC 14443-4 (DESFire, NTAG 424, phones, bank cards) get their APDUs through
nfcpy's ISO-DEP; all others (Ultralight, NTAG21x) get native commands, their CRC made by the chip.
One call is one command: what it means, which key and how often is the dialogue's.
"""

from __future__ import annotations

import nfc.clf
import nfc.tag
import nfc.tag.tt4

from edge.readers.dialogue import Failure

SAK_ISO_DEP = 0x20  # ISO/IEC 14443-3, 6.5.3.4: compliant with 14443-4.
ANSWER_MS_MAX = 100  # A DESFire's own frame waiting time is 77 ms (FWI 8).
RATS = bytes.fromhex("E080")  # ISO/IEC 14443-4, 5.1: frames of 256 bytes, no CID.
RATS_MS_MAX = 30  # As nfcpy: six times the 4.8 ms of ISO/IEC 14443-4, 7.
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)  # ISO/IEC 14443-4, 5.1: by FSCI.
FWI_DEFAULT, FWI_MAX = 4, 14
CARRIER_HZ = 13_560_000
RETRIES_MAX = 1  # Our choice: a card torn away must not eat the budget of a tap.


class ActivatedCard:
    """Valid until the next look of its reader."""

    def __init__(self, frontend: nfc.clf.ContactlessFrontend, target: nfc.clf.RemoteTarget) -> None:
        self._frontend = frontend
        self._iso_dep: nfc.tag.tt4.IsoDepInitiator | None = None
        self.uid = bytes(target.sdd_res)
        self.sak = int(target.sel_res[0])  # A claim, like every type a card names.

    def transceive(self, command: bytes, timeout_ms: int = ANSWER_MS_MAX) -> bytes | Failure:
        """One command and its answer, or why there is none.

        Raises OSError when the chip itself does not answer.
        """
        try:
            if not self.sak & SAK_ISO_DEP:
                return bytes(self._frontend.exchange(command, timeout_ms / 1_000))
            if self._iso_dep is None:
                self._iso_dep = self._start_iso_dep()
            return bytes(self._iso_dep.exchange(command, timeout_ms / 1_000))
        except nfc.clf.TimeoutError:
            return Failure.LEFT_FIELD
        except nfc.tag.TagCommandError as error:
            timed_out = error.errno == nfc.tag.TIMEOUT_ERROR
            return Failure.LEFT_FIELD if timed_out else Failure.BAD_ANSWER
        except (nfc.clf.CommunicationError, IndexError):  # nfcpy reads past an empty block.
            return Failure.BAD_ANSWER

    def _start_iso_dep(self) -> nfc.tag.tt4.IsoDepInitiator:
        """nfcpy's own activation takes every ATS for a long one; this reads what it says."""
        ats = bytes(self._frontend.exchange(RATS, RATS_MS_MAX / 1_000))
        frame_size, fwi = parse_ats(ats)
        waiting_s = 4_096 / CARRIER_HZ * 2**fwi
        frame_size = min(frame_size, int(self._frontend.max_send_data_size))
        iso_dep = nfc.tag.tt4.IsoDepInitiator(self._frontend, frame_size, waiting_s)
        iso_dep.n_retry_ack = iso_dep.n_retry_nak = RETRIES_MAX
        return iso_dep


def parse_ats(ats: bytes) -> tuple[int, int]:
    """The frame size and the frame waiting integer a card asks for (ISO/IEC 14443-4, 5.2).

    What it leaves out or sets to a reserved value is the standard's default.

    >>> parse_ats(bytes.fromhex("067577810280"))
    (64, 8)
    """
    if len(ats) < 2:
        return FRAME_SIZES[2], FWI_DEFAULT
    format_byte = ats[1]
    fwi, at = FWI_DEFAULT, 2 + bool(format_byte & 0x10)  # TA(1), then TB(1).
    if format_byte & 0x20 and at < len(ats):
        fwi = ats[at] >> 4
    return (
        FRAME_SIZES[min(format_byte & 0x0F, len(FRAME_SIZES) - 1)],
        fwi if fwi <= FWI_MAX else FWI_DEFAULT,
    )
