"""Goal: whoever reads the pages of the wire finds what they point at.

Method: every relative link of every page beside the schemas, the reference city and the vectors is
followed, to the file and to the heading; the pages are seen to lead to all that is published.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
PAGES: Final = sorted(
    page
    for folder in ("sync", "hil/city", "tests/vectors")
    for page in (ROOT / folder).rglob("*.md")
)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def links_of(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if "://" not in link]


def headings_of(page: Path) -> set[str]:
    """As they stand in the address of a page: lower case, hyphens, no marks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        name, _, heading = link.partition("#")
        target = page if not name else page.parent / name
        assert target.exists(), f"{page.relative_to(ROOT)}: {link}"
        if heading:
            assert heading in headings_of(target), f"{page.relative_to(ROOT)}: {link}"


def test_the_wires_page_leads_to_all_that_is_published() -> None:
    wire = ROOT / "sync" / "README.md"
    found = {(wire.parent / link.partition("#")[0]).resolve() for link in links_of(wire)}
    for name in ("asyncapi.yaml", "schemas/wire.json", "rows.md", "refusals.md"):
        assert wire.parent / name in found, name
    assert ROOT / "tests/vectors/wire" in found and ROOT / "hil/city" in found


def test_no_page_speaks_of_a_module_that_is_a_package_now() -> None:
    for page in PAGES:
        assert "edge/messages.py" not in page.read_text(encoding="utf-8"), page
