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
from lossary.claims._rules import together
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
    source = (Path(claims.__file__).with_name("papers") / f"{name}.py").read_text(encoding="utf-8")
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
    assert published["seconds"] <= claims.load(name).seconds
    findings = [finding for experiment in published["experiments"] for finding in experiment["findings"]]
    assert [finding["text"] for finding in findings] == [str(rule) for rule in claims.load(name).rules]
    assert published["verdict"] == together([finding["verdict"] for finding in findings])


def test_nothing_is_published_that_is_no_claim() -> None:
    assert sorted(claims.published()) == NAMES
    assert sorted(claims.entries()) == NAMES


def test_the_page_and_the_pictures_show_what_is_published() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == _write.page(claims.published()), "run: make claims"
    for name, published in claims.published().items():
        assert f"\n## {name}\n\n**{published['verdict'].capitalize()}.**" in page
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


def test_publishing_keeps_what_was_not_run_and_takes_away_what_is_gone(small: claims.Outcome, tmp_path: Path) -> None:
    docs, file = tmp_path / "docs", tmp_path / "verdicts.json"
    other = {**_write.as_published(small), "paper": "polyloss", "statement": "Kept."}
    file.write_text(json.dumps({"polyloss": other, "gone": other}))
    (docs / "claims").mkdir(parents=True)
    for name in ("gone", "polyloss"):
        (docs / "claims" / f"{name}.svg").write_text("")
    _write.publish([small], docs, file, ["polyloss", "squentropy"])
    assert {path.name for path in (docs / "claims").iterdir()} == {"squentropy.svg", "polyloss.svg"}
    published = json.loads(file.read_text())
    assert published == {"polyloss": other, "squentropy": _write.as_published(small)}
    page = (docs / "claims.md").read_text()
    for part in (f"2 {small.verdict}", "2 against 451, difference -449 |", "A note.", "Cut your Losses with Squentropy", "Kept."):
        assert part in page
    assert '"differences"' not in file.read_text()


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
