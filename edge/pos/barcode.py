"""Barcodes at the till: bytes of a serial scanner -> codes, and a code -> a product of the menu.

A code whose digits are a GTIN (8, 12, 13 or 14 of them) has a check digit; where it is wrong the
scanner misread, and the cashier scans again. EAN-13 codes that begin with 20 to 29 are a shop's
own: a scale prints them for what it weighed, two digits of prefix, five of the item, five of the
weight in grams and the check digit. Whether they mean that here, the device's settings say.

Pure. The port is `peripherals.py`'s, and the basket `till.py`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum, unique

from edge.model import Product

CODE_CHARS_MAX = 48  # Our choice: what Code 128 holds on a label a hand can scan.
NOISE_BYTES_MAX = 1_000_000  # Where the count stops: nobody tells more from more.
# Our choice, as for a reader's line: at 9600 baud the longest code is over in 50 ms.
BYTE_GAP_MS_MAX = 100
LINE_ENDS = b"\r\n\t"  # What scanners are set to send behind a code.
GTIN_DIGITS = (8, 12, 13, 14)  # GS1 General Specifications: GTIN-8, -12 (UPC-A), -13, -14.
EAN_DIGITS = 13
WEIGHED_ITEM_DIGITS = 7  # Prefix and item: what the menu's `barcode` of a weighed product holds.

assert WEIGHED_ITEM_DIGITS + 5 + 1 == EAN_DIGITS


@unique
class ScanProblem(StrEnum):
    """Why a code adds nothing to the basket."""

    MISREAD = "misread"  # Its check digit is wrong.
    UNKNOWN = "unknown"  # Nothing on the menu has it.
    WEIGHT = "weight"  # Weighed, and the label says no weight; or nothing to weigh, and it does.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What to ring up."""

    product: Product
    grams: int = 0  # Of a weighed product.


class ScanFrame:
    """One link to one scanner: codes end with CR, LF, CR LF or a tab; whatever is too long or no
    printable ASCII is noise, up to its end."""

    def __init__(self) -> None:
        self.noise_bytes = 0
        self._code = bytearray()
        self._spoilt = False
        self._byte_at_ms = 0

    def receive(self, data: bytes, *, now_ms: int) -> list[str]:
        """Hand over what was read; `now_ms` is one monotonic clock."""
        if self._code and now_ms - self._byte_at_ms > BYTE_GAP_MS_MAX:
            self._drop(spoilt=True)
        codes = []
        for byte in data:
            self._byte_at_ms = now_ms
            if byte in LINE_ENDS:
                if self._code:
                    codes.append(self._code.decode("ascii"))
                    self._code.clear()
                self._spoilt = False
            elif self._spoilt or not 0x20 < byte < 0x7F or len(self._code) == CODE_CHARS_MAX:
                self._code.append(byte)
                self._drop(spoilt=True)
            else:
                self._code.append(byte)
        return codes

    def _drop(self, *, spoilt: bool) -> None:
        self.noise_bytes = min(NOISE_BYTES_MAX, self.noise_bytes + len(self._code))
        self._code.clear()
        self._spoilt = spoilt


def check_digit(digits: str) -> str:
    """The last digit of a GTIN from those before it (GS1 General Specifications, 7.9.1).

    >>> check_digit("460123456789")
    '3'
    """
    weighted = (int(d) * (3 if n % 2 == 0 else 1) for n, d in enumerate(reversed(digits)))
    return str(-sum(weighted) % 10)


def is_gtin(code: str) -> bool:
    """Whether it has as many digits as one. Its check digit may be wrong."""
    return code.isascii() and code.isdigit() and len(code) in GTIN_DIGITS


def find_product(
    code: str, menu: Iterable[Product], weighed_prefixes: Collection[int] = ()
) -> Scanned | ScanProblem:
    """What the code stands for. `weighed_prefixes`: of 20 to 29, those the scales here print."""
    products = [product for product in menu if product.barcode]
    same = _number(code)
    for product in products:
        if _number(product.barcode) == same:
            return ScanProblem.WEIGHT if product.weighed else Scanned(product=product)
    if is_gtin(code) and check_digit(code[:-1]) != code[-1]:
        return ScanProblem.MISREAD
    if is_gtin(code) and len(code) == EAN_DIGITS and int(code[:2]) in weighed_prefixes:
        item, grams = code[:WEIGHED_ITEM_DIGITS], int(code[WEIGHED_ITEM_DIGITS:-1])
        for product in products:
            if product.barcode == item:
                if product.weighed is not (grams > 0):
                    return ScanProblem.WEIGHT
                return Scanned(product=product, grams=grams)
    return ScanProblem.UNKNOWN


def _number(code: str) -> str:
    """UPC-A is EAN-13 with a zero before it: scanners are set either way."""
    return code.zfill(EAN_DIGITS) if is_gtin(code) and len(code) == EAN_DIGITS - 1 else code
