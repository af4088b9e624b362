"""What must be true of every record, and of the catalogue and the registry together."""

import re
from collections.abc import Callable, Collection

import pytest

from lossary import catalogue, specs
from lossary.catalogue import KINDS, STATUSES, Paper
from lossary.errors import UnknownNameError

RECORDS = catalogue.load()


def test_every_paper_is_there_once() -> None:
    assert [paper.number for paper in RECORDS if paper.number is not None] == list(range(195))


def test_keys_are_unique() -> None:
    assert len({paper.key for paper in RECORDS}) == len(RECORDS)


def breaking(rule: Callable[[Paper], object]) -> list[str]:
    """Records that break a rule. One test for all of them: an id for each would cost more than the rule."""
    return [paper.key for paper in RECORDS if not rule(paper)]


def test_a_record_is_well_formed() -> None:
    number = re.compile(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}")
    assert not breaking(lambda paper: re.fullmatch(r"[a-z][a-z0-9_]*", paper.key))
    assert not breaking(lambda paper: paper.title and paper.title == paper.title.strip())
    assert not breaking(lambda paper: paper.year is None or 1950 < paper.year <= 2026)
    assert not breaking(lambda paper: paper.arxiv is None or number.fullmatch(paper.arxiv))
    assert not breaking(lambda paper: len(set(paper.authors)) == len(paper.authors))
    assert not breaking(lambda paper: paper.url is None or paper.arxiv)


def test_a_summary_is_one_or_two_sentences() -> None:
    assert not breaking(lambda paper: paper.summary.endswith("."))
    assert not breaking(lambda paper: len(re.findall(r"[.!?](?:\s|$)", paper.summary)) in (1, 2))


def test_tags_are_short_and_not_empty() -> None:
    def short(tags: Collection[str]) -> bool:
        return bool(tags) and len(set(tags)) == len(tags) and all(tag == tag.strip() and 0 < len(tag) <= 80 for tag in tags)

    for field in ("tasks", "data", "symptoms", "techniques"):
        assert not breaking(lambda paper, field=field: short(getattr(paper, field))), field  # type: ignore[misc]


def test_what_a_record_provides_has_a_kind_and_a_name() -> None:
    def named(names: Collection[str]) -> bool:
        return bool(names) and all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)

    assert not breaking(lambda paper: set(paper.provides) <= set(KINDS))
    assert not breaking(lambda paper: all(named(names) for names in paper.provides.values()))
    assert not breaking(lambda paper: paper.provides or paper.note), "a record that provides nothing says why"


def test_tags_are_spelt_one_way() -> None:
    for field in ("tasks", "data"):
        tags = {tag for paper in RECORDS for tag in getattr(paper, field)}
        assert len({tag.lower().replace("-", " ").rstrip("s") for tag in tags}) == len(tags)


def test_every_registered_objective_has_a_record() -> None:
    provided = {(kind, name) for paper in RECORDS for kind, names in paper.provides.items() for name in names}
    missing = [name for name in specs() if _own(name) and ("objective", name) not in provided]
    assert not missing, f"add them to the provides of their papers' records: {missing}"


def _own(name: str) -> bool:
    return specs()[name].cls.__module__.startswith("lossary.")


def test_a_spec_knows_its_papers() -> None:
    assert specs()["squentropy"].papers == ("squentropy",)
    assert specs()["focal"].papers[0] == "focal"
    assert specs()["cross_entropy"].papers[0] == "cross_entropy"


def test_the_status_is_derived_from_the_registry() -> None:
    for paper in RECORDS:
        wanted = [(kind, name) for kind, names in paper.provides.items() for name in names]
        here = [name for kind, name in wanted if kind == "objective" and name in specs()]
        assert paper.status in STATUSES, paper.key
        assert [unit.name for unit in paper.units if unit.kind == "objective"] == here, paper.key
        if not wanted:
            assert paper.status == "no unit", paper.key
        elif len(paper.units) == len(wanted):
            assert paper.status == "available", paper.key
        else:
            assert paper.status == ("partly" if paper.units else "missing"), paper.key


def test_an_entry_is_found_by_whatever_names_it() -> None:
    assert catalogue.entry("squentropy").number == 8
    assert catalogue.entry("Squentropy ").number == 8
    assert catalogue.entry("8").key == "squentropy"
    assert catalogue.entry("2302.03952").key == "squentropy"
    assert catalogue.entry("poly-focal").key == "polyloss"
    assert catalogue.entry("lovasz_softmax").number == 27


def test_an_unknown_entry_gets_suggestions() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'squentropy'"):
        catalogue.entry("squentropi")
    with pytest.raises(UnknownNameError, match="try lossary find"):
        catalogue.entry("zzzzzz")
