"""Every claim there is, and what is published of it."""

import ast
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lossary import claims
from lossary.catalogue import load as papers
from lossary.claims import Computation, Real, Training, _write, higher, lower, run, steadier
from lossary.claims._claim import MOST_SECONDS, Claim
from lossary.errors import UnknownNameError

NAMES = claims.names()
ROOT = Path(claims.__file__).parents[3]
LONGEST = 100  # lines of a claim's file: it is to be read in a minute


@pytest.fixture(scope="module")
def small() -> claims.Outcome:
    """A claim at a reduced setting, with each kind of rule and a computation."""

    def exact(seed: int) -> dict[str, dict[str, float]]:
        return {"one": {"steps": 2}, "other": {"steps": 451}}

    arms = ("squentropy", "cross_entropy")
    rules = (higher("accuracy", *arms[:1], than=arms[1]), steadier("accuracy", *arms[:1], than=arms[1]))
    training = Training("small & <quick>", Real("wine"), arms, rules, epochs=2, batch_size=20, seeds=5, hidden=8)
    computation = Computation("exact", exact, (lower("steps", "one", than="other"),), 1, "Counted.")
    return run(Claim("squentropy", "It is so.", (training, computation), 10, note="A note."), store=None)


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_valid(name: str) -> None:
    claim = claims.load(name)
    paper = next((paper for paper in papers() if paper.key == claim.paper), None)
    assert paper is not None, f"{claim.paper} is no key of the catalogue"
    assert name == claim.paper or name.startswith(f"{claim.paper}_"), "a file is named after its paper"
    assert claim.statement.strip().endswith(".")
    assert 0 < claim.seconds <= MOST_SECONDS
    assert claim.digest == claims.load(name).digest  # the whole protocol is plain values, and its names are known
    for experiment in claim.experiments:
        assert experiment.title
        assert experiment.described.endswith(".")
    source = Path(claims.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(source))


def test_titles_in_a_claim_differ() -> None:
    for name in NAMES:
        titles = [experiment.title for experiment in claims.load(name).experiments]
        assert len(set(titles)) == len(titles), name


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_has_a_published_verdict_of_this_very_protocol(name: str) -> None:
    assert name in claims.published(), "run: make claims"
    published = claims.published()[name]
    assert published["digest"] == claims.load(name).digest, "the claim was changed after its verdict: run make claims"
    assert published["seconds"] <= MOST_SECONDS
    assert [finding["text"] for finding in published["findings"]] == [str(rule) for rule in claims.load(name).rules]


def test_nothing_is_published_that_is_no_claim() -> None:
    assert sorted(claims.published()) == NAMES
    assert sorted(claims.entries()) == NAMES


def test_the_page_shows_every_verdict() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for name, published in claims.published().items():
        section = page[page.index(f"\n## {name}\n") :]
        assert section.split("\n")[3].startswith(f"**{published['verdict'].capitalize()}.**")
        assert f"(claims/{name}.svg)" in section
        drawn = ET.parse(ROOT / "docs" / "claims" / f"{name}.svg").getroot()
        assert drawn.get("aria-label") == f"{name}: {published['verdict']}"
    assert {path.stem for path in (ROOT / "docs" / "claims").glob("*.svg")} == set(NAMES)


def test_the_picture_is_well_formed_and_has_what_was_found(small: claims.Outcome) -> None:
    drawn = ET.fromstring(_write.picture(small))
    texts = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for result in small.results:
        assert result.title in texts
        for finding in result.findings:
            assert finding.text in texts
    dots = [dot for dot in drawn.iter("{http://www.w3.org/2000/svg}circle") if dot.get("class") == "dot"]
    assert len(dots) == 5  # the seeds of the one rule that has differences of several


def test_publishing_writes_all_and_takes_away_what_is_gone(small: claims.Outcome, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "claims").mkdir(parents=True)
    (docs / "claims" / "gone.svg").write_text("")
    _write.publish([small], docs, tmp_path / "verdicts.json")
    assert [path.name for path in (docs / "claims").iterdir()] == ["squentropy.svg"]
    published = json.loads((tmp_path / "verdicts.json").read_text())
    assert published["squentropy"]["verdict"] == small.verdict
    assert len(published["squentropy"]["findings"]) == 3
    page = (docs / "claims.md").read_text()
    for part in (f"1 {small.verdict}", "2 against 451, difference -449 |", "A note.", "Cut your Losses with Squentropy"):
        assert part in page
    texts = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    _write.publish([small], docs, tmp_path / "verdicts.json")
    assert texts == {path: path.read_text() for path in texts}


def test_numbers_are_short() -> None:
    assert [_write.number(value) for value in (0.95, 2.0, 451.0, 0.12345, 1234.5, -0.0)] == [
        "0.950",
        "2",
        "451",
        "0.123",
        "1.23e+03",
        "-0",
    ]
    assert [_write.signed(value) for value in (0.5, -0.5, 3.0)] == ["+0.500", "-0.500", "+3"]


def test_a_misspelt_name_gets_suggestions() -> None:
    with pytest.raises(UnknownNameError, match="no claim named 'squentropi'; did you mean 'squentropy'"):
        run("squentropi", store=None)
    assert claims.entry("Smooth-ECE").name == "smooth_ece"
