"""The published examples are what `make examples` wrote: one page for each answer, small, and needing nothing from elsewhere."""

import html
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
TEXT = (EXAMPLES / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+): (.*?)(?=^## |\Z)", TEXT, flags=re.M | re.S))


def test_there_are_five_kinds_of_task() -> None:
    assert list(SECTIONS) == ["mortgages", "digits", "movies", "unseen", "webpages"]
    assert {path.stem for path in EXAMPLES.glob("*.html")} == set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_says_what_the_list_says(name: str) -> None:
    section, page = SECTIONS[name], html.unescape((EXAMPLES / f"{name}.html").read_text(encoding="utf-8"))
    (answer,) = re.findall(r"^\*\*Answer\.\*\* (.*)$", section, flags=re.M)
    (digest,) = re.findall(r"protocol `(\w+)`", section)
    (look,) = re.findall(r"^\*\*Why these\?\*\* (.*)\.$", section, flags=re.M)
    reasons = re.findall(r"^\| `.*\| ([^|]+) \|$", section, flags=re.M)
    assert 4 <= len(reasons) <= 7
    for said in (answer, digest, look, *reasons):
        assert said in page


@pytest.mark.parametrize("name", SECTIONS)
def test_a_page_is_small_and_needs_only_the_library_beside_it(name: str) -> None:
    page = (EXAMPLES / f"{name}.html").read_text(encoding="utf-8")
    assert len(page) < 500_000
    assert re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page) == ["plotly.min.js"]
    assert (EXAMPLES / "plotly.min.js").stat().st_size < 5_000_000
    assert "http" not in page
