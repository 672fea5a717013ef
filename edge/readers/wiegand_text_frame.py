"""Bridges that turn a Wiegand reader into lines of text on a serial port, sans-I/O.

    bits: 26, 34, 37 or 58 characters 0 and 1, parity included | CR, LF or CR LF
    hex:  6, 8, 10 or 14 hex digits, the data without parity   | CR, LF or CR LF

`bits` is for bridges that pass on what they hear: the parity is checked here, and every single-bit
error is refused, on the two wires and on the serial line. `hex` is for bridges that check the
parity themselves (Priority 1 Design WIE232-A: 6 hex digits and CR at 9600 baud; its makers' other
lengths are whole bytes too, our choice where no sheet says so): between bridge and device there
is no check, see `line_frame.py`. Bridges that type 10 decimal digits are D-10 (`decimal_frame.py`).

`hil/devices/reader_serial.py` plays the other side with the same encoders.
"""

from __future__ import annotations

from edge.readers import wiegand
from edge.readers.hex_line_frame import hex_bytes
from edge.readers.line_frame import LINE_ENDS, LineFrame
from edge.readers.number import Number, ReaderProfile

HEX_SIZES = tuple(2 * wiegand.data_size(bits) for bits in wiegand.FORMATS)
DATA_BITS_BY_SIZE = {wiegand.data_size(bits): bits - 2 for bits in wiegand.FORMATS}

assert len(DATA_BITS_BY_SIZE) == len(wiegand.FORMATS), "hex digits alone tell the format"


def encode_bits(number: bytes, bits: int | None = None) -> bytes:
    """The line of bits for this number, in the format that just holds it unless one is said."""
    return wiegand.encode(number, bits or _format_for(number)).encode("ascii") + LINE_ENDS


def encode_hex(number: bytes) -> bytes:
    """The line of hex digits for this number, in the format that just holds it."""
    size = wiegand.data_size(_format_for(number))
    return number.rjust(size, b"\x00").hex().upper().encode("ascii") + LINE_ENDS


def _format_for(number: bytes) -> int:
    value = int.from_bytes(number, "big")
    return min(
        bits
        for bits in wiegand.FORMATS
        if wiegand.data_size(bits) >= len(number) and value < 1 << (bits - 2)
    )


class WiegandBitsFrame(LineFrame):
    """One link to one bridge that passes on the bits."""

    def __init__(self, profile: ReaderProfile) -> None:
        self._profile = profile
        super().__init__(self._number, text_size_max=max(wiegand.FORMATS))

    def _number(self, text: bytes) -> Number | None:
        data = wiegand.decode(text.decode("latin-1"))
        return None if data is None else wiegand.number_of(data, self._profile)


class WiegandHexFrame(LineFrame):
    """One link to one bridge that checks the parity and passes on the data."""

    def __init__(self, profile: ReaderProfile) -> None:
        self._profile = profile
        super().__init__(self._number, text_size_max=max(HEX_SIZES))

    def _number(self, text: bytes) -> Number | None:
        data = hex_bytes(text) if len(text) in HEX_SIZES else None
        if data is None or int.from_bytes(data, "big") >> DATA_BITS_BY_SIZE[len(data)]:
            return None
        return wiegand.number_of(data, self._profile)
