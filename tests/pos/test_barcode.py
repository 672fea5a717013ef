"""Goal: a code becomes the product that bears it or one clear reason why not; a misread digit never
becomes another product, and whatever a scanner's line carries is bounded.

Method: every single wrong digit of codes of all four lengths; the line fed whole, byte by byte and
cut anywhere; random bytes.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import Product
from edge.pos.barcode import (
    BYTE_GAP_MS_MAX,
    CODE_CHARS_MAX,
    ScanFrame,
    Scanned,
    ScanProblem,
    check_digit,
    find_product,
    is_gtin,
)

# Worked examples of GS1's manuals, and of the shelf.
GTINS = ("4006381333931", "73513537", "036000291452", "10614141000415")


def product(name: str, barcode: str, *, weighed: bool = False) -> Product:
    return Product(
        product_id=name,
        name=name,
        category="c",
        price_minor=100,
        allergens=frozenset(),
        allergens_checked=True,
        purse="main",
        weighed=weighed,
        barcode=barcode,
    )


JUICE = product("juice", GTINS[0])
SALAD = product("salad", "2112345", weighed=True)
ROLL = product("roll", "2154321")
INNER = product("inner", "K-17")
MENU = (product("soup", ""), JUICE, SALAD, ROLL, INNER, product("upc", GTINS[2]))


def label(item: str, grams: int) -> str:
    digits = f"{item}{grams:05}"
    return digits + check_digit(digits)


@pytest.mark.parametrize("code", GTINS)
def test_a_check_digit_finds_every_single_wrong_digit(code: str) -> None:
    assert is_gtin(code) and check_digit(code[:-1]) == code[-1]
    menu = [product("it", code)]
    for place, right in enumerate(code):
        for wrong in "0123456789":
            if wrong != right:
                misread = code[:place] + wrong + code[place + 1 :]
                assert find_product(misread, menu) is ScanProblem.MISREAD


def test_a_code_is_the_product_that_bears_it() -> None:
    assert find_product(GTINS[0], MENU) == Scanned(product=JUICE)
    assert find_product("K-17", MENU) == Scanned(product=INNER)
    assert find_product("k-17", MENU) is ScanProblem.UNKNOWN
    assert find_product("", MENU) is ScanProblem.UNKNOWN  # And not what has no code at all.


def test_upc_a_is_the_same_with_a_zero_before_it_and_without() -> None:
    for code in (GTINS[2], "0" + GTINS[2]):
        found = find_product(code, MENU)
        assert isinstance(found, Scanned) and found.product.product_id == "upc"


def test_a_scales_label_brings_its_weight_where_the_settings_say_so() -> None:
    code = label("2112345", 250)
    assert find_product(code, MENU, (21,)) == Scanned(product=SALAD, grams=250)
    assert find_product(code, MENU, (22,)) is ScanProblem.UNKNOWN
    assert find_product(code, MENU) is ScanProblem.UNKNOWN
    assert find_product(label("2112345", 0), MENU, (21,)) is ScanProblem.WEIGHT
    assert find_product(label("2154321", 250), MENU, (21,)) is ScanProblem.WEIGHT
    assert find_product(label("2154321", 0), MENU, (21,)) == Scanned(product=ROLL)
    assert (
        find_product("2112345", MENU, (21,)) is ScanProblem.WEIGHT
    )  # The bare code weighs nothing.
    assert find_product(code[:-1] + "x", MENU, (21,)) is ScanProblem.UNKNOWN


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\t"])
def test_a_line_is_a_code_however_it_is_cut(end: bytes) -> None:
    data = GTINS[0].encode() + end + b"K-17" + end
    for cut in range(len(data) + 1):
        frame = ScanFrame()
        codes = frame.receive(data[:cut], now_ms=1_000) + frame.receive(data[cut:], now_ms=1_010)
        assert codes == [GTINS[0], "K-17"] and frame.noise_bytes == 0
    frame = ScanFrame()
    one_by_one = (frame.receive(data[n : n + 1], now_ms=1_000 + n) for n in range(len(data)))
    assert [code for codes in one_by_one for code in codes] == [GTINS[0], "K-17"]


def test_the_tail_of_a_spoilt_line_is_no_code() -> None:
    frame = ScanFrame()
    assert frame.receive(b"40063\x0081333931\r", now_ms=0) == []
    assert frame.receive(b"9" * (CODE_CHARS_MAX + 1) + b"\r", now_ms=10) == []
    assert frame.receive(b"4006381", now_ms=20) == []
    assert frame.receive(b"333931\r", now_ms=20 + BYTE_GAP_MS_MAX + 1) == [], "torn by a pause"
    assert frame.receive(b"K-17\r", now_ms=500) == ["K-17"]
    assert frame.noise_bytes > CODE_CHARS_MAX


@settings(derandomize=True, deadline=None, max_examples=200)
@given(chunks=st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 200)), max_size=20))
def test_whatever_comes_is_bounded(chunks: list[tuple[bytes, int]]) -> None:
    frame, now_ms = ScanFrame(), 0
    for data, wait_ms in chunks:
        now_ms += wait_ms
        for code in frame.receive(data, now_ms=now_ms):
            assert 0 < len(code) <= CODE_CHARS_MAX and code.isprintable() and " " not in code
            assert isinstance(find_product(code, MENU, range(20, 30)), Scanned | ScanProblem)
