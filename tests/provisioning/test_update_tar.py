"""Goal: nothing but plain wheels in one flat folder comes out of a bundle, whatever is in it.

Method: bundles as the builder writes them, cut anywhere; bundles that Python's tarfile makes with
everything a tar can hold; every byte of a header changed; and bytes made up by hypothesis.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import CorruptData
from provisioning.update_tar import (
    BLOCK,
    MEMBERS_MAX,
    REQUIREMENTS,
    REQUIREMENTS_BYTES_MAX,
    BundleReader,
    Member,
)

WHEEL = "moskvenok_edge-0.2.0-py3-none-any.whl"
GOOD = {"release.json": b"{}", REQUIREMENTS: b"a==1\n", WHEEL: bytes(range(256)) * 5}


def tar(
    files: Iterable[tuple[str | tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=form) as bundle:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.type == tarfile.REGTYPE:
                info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read(data: bytes, sizes: Iterable[int] = ()) -> dict[str, bytes]:
    """All of a bundle, fed in pieces of these sizes, the rest at once."""
    reader, found, name = BundleReader(), {}, ""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    for piece in (*pieces, data[start:]):
        for event in reader.feed(piece):
            if isinstance(event, Member):
                name = event.name
                found[name] = b""
            else:
                found[name] += event.data
    reader.close()
    return found


def test_a_bundle_comes_out_as_it_was_put_in() -> None:
    assert read(tar(GOOD.items())) == GOOD


@given(st.lists(st.integers(1, 3_000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_wherever_it_is_cut(sizes: list[int]) -> None:
    assert read(tar(GOOD.items()), sizes) == GOOD


def test_byte_by_byte() -> None:
    data = tar(GOOD.items())
    assert read(data, itertools.repeat(1, len(data))) == GOOD


def test_cut_off_anywhere_it_is_refused() -> None:
    data = tar(GOOD.items())
    end = len(data.rstrip(b"\0")) // BLOCK * BLOCK
    for size in range(0, end, 97):
        with pytest.raises(CorruptData):
            read(data[:size])


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.whl", "/etc/passwd", "a/b-1-py3-none-any.whl", "..", ".", "evil.pth"),
        *("moskvenok.whl", "a-1-py3-none-any.whl.pth", "made.json", "REQUIREMENTS.TXT"),
        *("a-1-py3-none-any.whl\n", "-1-py3-none-any.whl", "pyvenv.cfg", "ａ-1-py3-none-any.whl"),
    ],
)
def test_no_other_name_is_taken(name: str) -> None:
    with pytest.raises(CorruptData):
        read(tar([*GOOD.items(), (name, b"x")]))


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
        *(tarfile.BLKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.AREGTYPE, b"x", b"g"),
        *(b"L", b"K", b"Z"),
    ],
)
def test_nothing_but_plain_files_is_taken(kind: bytes) -> None:
    info = tarfile.TarInfo("a-1-py3-none-any.whl")
    info.type, info.linkname = kind, "../../etc" if kind in (b"1", b"2") else ""
    with pytest.raises(CorruptData):
        read(tar([*GOOD.items(), (info, b"")]))


def test_a_plain_file_with_a_link_is_refused() -> None:
    info = tarfile.TarInfo("a-1-py3-none-any.whl")
    info.linkname = "elsewhere"
    with pytest.raises(CorruptData, match="link"):
        read(tar([*GOOD.items(), (info, b"")]))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extended_headers_are_refused(form: int) -> None:
    long = "a-1-py3-none-" + "x" * 120 + ".whl"
    with pytest.raises(CorruptData):
        read(tar([*GOOD.items(), (long, b"x")], form))


def test_the_same_name_twice_is_refused_in_any_case() -> None:
    for name in (WHEEL, WHEEL.replace("moskvenok", "Moskvenok"), REQUIREMENTS):
        with pytest.raises(CorruptData):
            read(tar([*GOOD.items(), (name, b"x")]))


def test_too_many_members_are_refused() -> None:
    files = [(f"a{n}-1-py3-none-any.whl", b"") for n in range(MEMBERS_MAX)]
    with pytest.raises(CorruptData, match="more than"):
        read(tar([*GOOD.items(), *files]))


def header(**fields: bytes) -> bytes:
    """A header with some fields as given and its sum right."""
    place = {"name": 0, "size": 124, "magic": 257, "prefix": 345, "rest": 500}
    block = bytearray(tar([("a-1-py3-none-any.whl", b"")])[:BLOCK])
    for name, value in fields.items():
        block[place[name] : place[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": b"77777777777\0"},  # 8 GiB.
        {"size": b"\x80" + bytes(10) + b"\x01"},  # GNU's base 256.
        {"size": b"-0000000001\0"},
        {"size": b"0000000000x\0"},
        {"magic": b"ustar  \0"},
        {"prefix": b"../../etc"},
        {"rest": b"x"},
        {"name": b"a-1-py3-none-any.whl\0evil"},
        {"name": b"\xff-1-py3-none-any.whl\0"},
    ],
)
def test_a_header_that_lies_is_refused(fields: dict[str, bytes]) -> None:
    with pytest.raises(CorruptData):
        list(BundleReader().feed(header(**fields)))


def test_large_requirements_are_refused() -> None:
    size = b"%011o\0" % (REQUIREMENTS_BYTES_MAX + 1)
    with pytest.raises(CorruptData, match=REQUIREMENTS):
        list(BundleReader().feed(header(name=REQUIREMENTS.encode().ljust(100, b"\0"), size=size)))


def test_any_changed_byte_of_a_header_is_noticed() -> None:
    data = tar(GOOD.items())
    for place in range(BLOCK):
        changed = bytearray(data)
        changed[place] ^= 0x01
        try:
            found = read(bytes(changed))
        except CorruptData:
            continue
        assert found == GOOD, place  # Space for zero at the end of a number: the same number.


def test_what_stands_between_or_behind_the_files_is_refused() -> None:
    data = tar(GOOD.items())
    padding = bytearray(data)
    padding[BLOCK + 2] = 1  # Behind the two bytes of release.json.
    for bad in (bytes(padding), data + b"x" * BLOCK, data + b"\0"):
        with pytest.raises(CorruptData):
            read(bad)


def test_a_bundle_needs_its_requirements() -> None:
    with pytest.raises(CorruptData, match=REQUIREMENTS):
        read(tar([(WHEEL, b"x")]))
    with pytest.raises(CorruptData):
        read(b"")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_that_somebody_spoilt_raise_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(tar(GOOD.items()))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(whole))
    except CorruptData:
        return
    assert set(found) == set(GOOD) or all(
        name.endswith((".whl", ".json", ".txt")) for name in found
    )


@given(st.binary(max_size=3 * BLOCK))
@settings(max_examples=150, deadline=None)
def test_bytes_out_of_nowhere_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(CorruptData):
        read(data)
