"""What a till prints: the slip of a sale and the day's end, as lines of text for a narrow roll.

A slip is the same whoever pays: no tender, no balance and nobody's name stands on it, so that it
tells nobody who eats free. It is no fiscal receipt and says so. Pure; how lines reach paper is
`peripherals.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge.messages import CloseOut, SaleFact
from edge.model import Tender
from edge.pos.cashier import format_minor
from edge.settings import COLUMNS_MAX, COLUMNS_MIN

NAME_CHARS_MAX: Final = 44  # Our choice: two lines of the narrowest roll.
RANGES_MAX: Final = 20  # Our choice: a shift has one epoch, or a few after a bad day.
# A basket's forty lines, each of four at the most, with head and foot.
LINES_MAX: Final = 200
NOT_FISCAL: Final = "НЕ ЯВЛЯЕТСЯ ФИСКАЛЬНЫМ ЧЕКОМ"
TENDER_WORDS: Final[Mapping[Tender, str]] = {
    Tender.ENTITLEMENT: "Питание по праву",
    Tender.ACCOUNT: "Со счета",
    Tender.CASH: "Наличными",
    Tender.PREORDER: "По предзаказу",
    Tender.EMERGENCY: "Экстренное питание",
}
KIND_WORDS: Final[Mapping[str, str]] = {
    "sale": "Продаж",
    "void": "Отмен",
    "sale_refused": "Отказов",
    "refund": "Возвратов",
    "meal_served": "Выдано по списку",
}

assert set(TENDER_WORDS) == set(Tender)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    text: str
    bold: bool = False
    centred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """One thing to print, cut off behind its last line."""

    name: str  # What the cashier's page calls it: "sale 17", "Z 3".
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        assert len(self.lines) <= LINES_MAX


def sale_slip(
    sale: SaleFact, names: Mapping[str, str], *, site: str, device: str, when: str, width: int
) -> Slip:
    """`names` are the products'; `when` is the local date and time, as far as it is known."""
    lines = [*_head("ТАЛОН", sale.sequence, site, device, when)]
    for line in sale.lines:
        name = names.get(line.product, line.product)[:NAME_CHARS_MAX]
        if line.grams:
            many = f"{line.grams} г x {_money(line.price_minor)}/кг"
        else:
            many = f"{line.quantity} x {_money(line.price_minor)}"
        lines += _pair(name, _money(line.amount_minor), width)
        if line.grams or line.quantity > 1:
            lines.append(Line(text=f"  {many}"))
    lines.append(Line(text="-" * width))
    lines += _pair("ИТОГО", _money(sale.total_minor), width, bold=True)
    lines.append(Line(text=NOT_FISCAL, centred=True))
    return Slip(name=f"sale {sale.sequence}", lines=tuple(lines))


def close_out_slip(report: CloseOut, *, site: str, device: str, when: str, width: int) -> Slip:
    """Totals and counts of a shift. Whose voids they were stays in the report."""
    lines = [*_head("Z-ОТЧЕТ", report.number, site, device, when)]
    for name, total_minor in sorted(report.total_minor_by_tender.items()):
        lines += _pair(_tender_word(name), _money(total_minor), width)
    total_minor = sum(report.total_minor_by_tender.values())
    lines += _pair("ИТОГО", _money(total_minor), width, bold=True)
    for name, back_minor in sorted(report.refunded_minor_by_tender.items()):
        lines += _pair(f"Возврат: {_tender_word(name)}", _money(-back_minor), width)
    lines.append(Line(text="-" * width))
    for kind, word in KIND_WORDS.items():
        if report.count_by_kind.get(kind):
            lines += _pair(word, str(report.count_by_kind[kind]), width)
    lines += _pair("Решений старшего", str(sum(report.overrides_by_cashier.values())), width)
    lines += _pair("Повторов питания", str(report.duplicates), width)
    for one in report.ranges[-RANGES_MAX:]:
        lines += _pair(f"Записи {one.epoch[:8]}", f"{one.first}-{one.last}", width)
    lines += _pair("Не передано", str(report.unsent), width)
    lines.append(Line(text=NOT_FISCAL, centred=True))
    return Slip(name=f"Z {report.number}", lines=tuple(lines))


def check_slip(*, site: str, device: str, when: str) -> Slip:
    """What a technician prints to see that letters and cutter are right."""
    lines = (
        *_head("ПРОВЕРКА ПЕЧАТИ", 0, site, device, when),
        Line(text="АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ"),
        Line(text="абвгдежзийклмнопрстуфхцчшщъыьэюя"),
        Line(text="0123456789 ABCXYZ abcxyz"),
    )
    return Slip(name="check", lines=lines)


def _head(word: str, number: int, site: str, device: str, when: str) -> Iterator[Line]:
    yield Line(text=f"{word} {number}" if number else word, bold=True, centred=True)
    yield Line(text=f"{site}  {device}", centred=True)
    yield Line(text=when, centred=True)


def _pair(left: str, right: str, width: int, *, bold: bool = False) -> Iterator[Line]:
    """A word at the left and a figure at the right; a long word goes on in lines of its own."""
    assert COLUMNS_MIN <= width <= COLUMNS_MAX and len(right) < width
    left = "".join(c for c in left if c.isprintable())
    while len(left) + 1 + len(right) > width:
        yield Line(text=left[: width - 1], bold=bold)
        left = left[width - 1 :]
    yield Line(text=left + right.rjust(width - len(left)), bold=bold)


def _tender_word(name: str) -> str:
    return TENDER_WORDS[Tender(name)] if name in set(Tender) else name


def _money(amount_minor: int) -> str:
    """Without the rouble's sign: the code pages of printers are older than it."""
    return format_minor(amount_minor, sign="").rstrip()
