"""The mechanism that all suites share, on a table of two toy checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from unittest import SkipTest

import pytest

from lossary import LossaryError
from lossary.testing import Failed, NotApplicable
from lossary.testing._table import Table


@dataclass(frozen=True)
class Toy:
    name: str = "toy"
    family: str = "toys"
    waivers: Mapping[str, str] = field(default_factory=dict)
    wheels: int = 4


def rolls(toy: Toy) -> str:
    """A toy has wheels.

    More than this line is not shown in a list of checks.
    """
    if not toy.wheels:
        raise Failed("0 wheels instead of 2 or more")
    return f"{toy.wheels} wheels"


def steers(toy: Toy) -> str:
    """A toy of two wheels steers."""
    if toy.wheels > 2:
        raise NotApplicable("it stands by itself")
    return f"{1 / toy.wheels:g}"


TABLE = Table[Toy](rolls, steers)


def test_a_card_lists_each_check_once_in_the_order_of_the_table() -> None:
    card = TABLE.card(Toy(), ["steers", "rolls", "rolls"])
    assert [(result.check, result.status, result.detail) for result in card.results] == [
        ("rolls", "passed", "4 wheels"),
        ("steers", "not applicable", "it stands by itself"),
    ]
    assert card.counts == {"passed": 1, "failed": 0, "waived": 0, "not applicable": 1}
    assert card.passed
    assert card.skips == card.results[1:]


def test_what_does_not_apply_is_a_skip_with_its_reason_and_a_failure_is_an_assertion() -> None:
    TABLE.run("rolls", Toy()).verify()
    with pytest.raises(SkipTest, match="it stands by itself"):
        TABLE.run("steers", Toy()).verify()
    with pytest.raises(AssertionError, match="rolls: 0 wheels instead of 2 or more"):
        TABLE.run("rolls", Toy(wheels=0)).verify()


def test_any_exception_is_a_failure() -> None:
    result = TABLE.run("steers", Toy(wheels=0))
    assert (result.status, result.detail) == ("failed", "ZeroDivisionError: division by zero")


def test_a_waiver_covers_a_failure_and_nothing_else() -> None:
    waivers = {"rolls": "it is a boat"}
    result = TABLE.run("rolls", Toy(wheels=0, waivers=waivers))
    assert (result.status, result.detail) == ("waived", "it is a boat (0 wheels instead of 2 or more)")
    result.verify()
    assert "the waiver is stale: the check is passed" in TABLE.run("rolls", Toy(waivers=waivers)).detail


def test_a_check_is_described_by_its_first_line_and_an_unknown_one_is_refused() -> None:
    assert TABLE.describe("rolls") == "A toy has wheels."
    with pytest.raises(LossaryError, match="did you mean 'rolls'"):
        TABLE.card(Toy(), ["roll"])
