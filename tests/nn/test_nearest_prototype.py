"""Nearest prototype: against a loop, in parts, and over a state_dict."""

import math
import re
from operator import mul

import pytest
import torch

from lossary import LossaryError
from lossary.nn import NearestPrototype

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(30, 5, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([4, -2, 900])[torch.randint(3, (30,), generator=GENERATOR)]
QUERY = torch.randn(50, 5, generator=GENERATOR, dtype=torch.float64)


def unit(v: list[float]) -> list[float]:
    return [a / math.hypot(*v) for a in v]


def test_matches_a_loop_over_classes() -> None:
    classes = NearestPrototype()
    classes.enroll(X, LABELS)
    means = {}
    for label in sorted(set(LABELS.tolist())):
        members = [unit(x) for x, y in zip(X.tolist(), LABELS.tolist(), strict=True) if y == label]
        means[label] = unit([math.fsum(column) / len(members) for column in zip(*members, strict=True)])
    cosines = [{label: sum(map(mul, unit(q), mean)) for label, mean in means.items()} for q in QUERY.tolist()]
    assert classes.predict(QUERY).tolist() == [max(each, key=each.__getitem__) for each in cosines]
    torch.testing.assert_close(classes(QUERY), QUERY.new_tensor([[each[k] for k in classes.labels.tolist()] for each in cosines]))


def test_the_parts_and_the_order_of_enrolment_do_not_matter() -> None:
    whole, parts = NearestPrototype(), NearestPrototype()
    whole.enroll(X, LABELS)
    for rows in torch.randperm(30, generator=torch.Generator().manual_seed(1)).split(7):
        parts.enroll(X[rows] * 3.0, LABELS[rows])
    assert torch.equal(whole.labels, parts.labels)
    torch.testing.assert_close(whole(QUERY), parts(QUERY))


def test_what_was_enrolled_travels_in_the_state_dict() -> None:
    classes, other = NearestPrototype(), NearestPrototype()
    classes.enroll(X, LABELS)
    other.load_state_dict(classes.state_dict())
    assert torch.equal(classes(QUERY), other(QUERY))
    other.enroll(QUERY[:1], torch.tensor([5]))
    assert other.labels.tolist() == [-2, 4, 5, 900]
    assert classes.labels.tolist() == [-2, 4, 900]


def test_half_precision_is_computed_in_single() -> None:
    classes = NearestPrototype()
    classes.enroll(1e4 * X.half(), LABELS)
    assert classes(QUERY.half()).dtype == torch.float32
    whole = NearestPrototype()
    whole.enroll(X, LABELS)
    torch.testing.assert_close(classes(QUERY.half()).double(), whole(QUERY), rtol=0.01, atol=0.01)


def test_mistakes_are_named() -> None:
    classes = NearestPrototype()
    with pytest.raises(LossaryError, match="nearest_prototype: enroll must be called before anything is predicted, got no classes"):
        classes.predict(QUERY)
    classes.enroll(X, LABELS)
    for attempt, message in (
        (lambda: classes.enroll(X, LABELS[:3]), "labels must have shape (30,), got (3,)"),
        (lambda: classes.enroll(X, LABELS.double()), "labels must be integers (int64), got torch.float64"),
        (lambda: classes.predict(QUERY[:, :4]), "embedding must have shape (N, 5), got (50, 4)"),
    ):
        with pytest.raises(LossaryError, match=re.escape(f"nearest_prototype: {message}")):
            attempt()
