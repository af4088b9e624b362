"""What a parameter may be is read from its annotation and refused in one sentence otherwise."""

import math

import pytest
from torch import Tensor

from lossary._core.parameters import (
    Count,
    Domain,
    Fraction,
    Interval,
    NonNegative,
    OneOf,
    OneOrMore,
    Positive,
    PositiveCount,
    Reals,
    Reduction,
    TrueOrFalse,
    checked,
    domains,
    formula,
)
from lossary.errors import InvalidTypeError, InvalidValueError


@formula
def made(
    x: Tensor | None,
    *,
    gamma: NonNegative = 0.0,
    scale: Positive = 1.0,
    share: Fraction | None = 0.5,
    steps: Reals = 1.0,
    reduction: Reduction = "mean",
    always: bool = False,
    free: object = None,
) -> str:
    """A function of this test."""
    return f"{gamma} {scale} {share} {steps} {reduction} {free}"


def test_what_is_allowed_passes_unchanged() -> None:
    assert made(None) == "0.0 1.0 0.5 1.0 mean None"
    assert made(None, gamma=0, scale=1e-9, share=None, steps=(1, -2.5), reduction="sum", free="x") == "0 1e-09 None (1, -2.5) sum x"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"gamma": -0.1}, InvalidValueError, "made: gamma must be a finite number >= 0, got -0.1"),
        ({"gamma": math.nan}, InvalidValueError, "made: gamma must be a finite number >= 0, got nan"),
        ({"gamma": math.inf}, InvalidValueError, "made: gamma must be a finite number >= 0, got inf"),
        ({"gamma": "high"}, InvalidTypeError, "made: gamma must be a finite number >= 0, got 'high'"),
        ({"gamma": True}, InvalidTypeError, "made: gamma must be a finite number >= 0, got True"),
        ({"gamma": None}, InvalidTypeError, "made: gamma must be a finite number >= 0, got None"),
        ({"scale": 0.0}, InvalidValueError, "made: scale must be a finite number > 0, got 0.0"),
        ({"share": 1.5}, InvalidValueError, "made: share must be a number from 0 to 1 or None, got 1.5"),
        ({"steps": ()}, InvalidValueError, "made: steps must be a finite number, or a sequence of them, got ()"),
        (
            {"steps": (1.0, math.nan)},
            InvalidValueError,
            "made: steps must be a finite number, or a sequence of them, got (1.0, nan)",
        ),
        ({"reduction": "average"}, InvalidValueError, "made: reduction must be 'mean' or 'sum' or 'none', got 'average'"),
        ({"always": "no"}, InvalidTypeError, "made: always must be True or False, got 'no'"),
        ({"always": 1}, InvalidTypeError, "made: always must be True or False, got 1"),
        ({"reduction": 3}, InvalidTypeError, "made: reduction must be 'mean' or 'sum' or 'none', got 3"),
    ],
)
def test_what_is_not_allowed_gets_the_sentence(given: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        made(None, **given)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "domain",
    [
        Interval(),
        Interval(0.0),
        Interval(0.0, open_low=True),
        Interval(0, 1),
        OneOf(("a",)),
        OneOrMore(Interval(1.0)),
        TrueOrFalse(),
    ],
    ids=str,
)
def test_every_domain_knows_values_outside_of_it(domain: Domain) -> None:
    values = domain.outside()
    assert values
    assert not any(domain.allows(value) for value in values)


def test_domains_are_read_from_the_signature() -> None:
    found = domains(made)
    assert list(found) == ["gamma", "scale", "share", "steps", "reduction", "always"]
    assert found["share"] == (Interval(0.0, 1.0), True)


def test_integers_are_a_domain_of_their_own() -> None:
    whole = Interval(low=1, whole=True)
    assert whole.allows(3)
    assert not any(whole.allows(value) for value in (*whole.outside(), 0, 2.0, True))
    assert str(whole) == "an integer >= 1"
    assert str(Interval(low=0, high=4, whole=True)) == "an integer from 0 to 4"
    assert str(Interval(whole=True)) == "an integer"


class Made:
    """A class of this test."""

    @checked("made")
    def __init__(self, size: PositiveCount, rate: Positive = 1.0, skip: Count | None = None):
        self.given = (size, rate, skip)


def test_checked_refuses_what_comes_by_position_too() -> None:
    assert Made(2, 0.5).given == (2, 0.5, None)
    with pytest.raises(InvalidValueError, match="made: size must be an integer >= 1, got 0"):
        Made(0)
    with pytest.raises(InvalidTypeError, match=r"made: size must be an integer >= 1, got 1\.5"):
        Made(1.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="made: rate must be a finite number > 0, got -1"):
        Made(2, -1)
    with pytest.raises(InvalidTypeError, match="made: skip must be an integer >= 0 or None, got 'x'"):
        Made(2, skip="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Made()  # type: ignore[call-arg]
