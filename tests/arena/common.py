"""What several tests of comparisons say."""

from dataclasses import replace

import numpy as np

from lossary.arena import Comparison
from lossary.arena.data.splits import Part, Split


def same(one: Comparison, other: Comparison) -> None:
    """Both found the same, to the last bit."""
    for a, b in zip(one.units, other.units, strict=True):
        assert a.candidate == b.candidate
        for name in ("validation", "losses", "curve", "chosen", "predictions", "truth"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for name, values in a.test.items():
            np.testing.assert_array_equal(values, b.test[name])
    assert one.answer.sentence == other.answer.sentence


def double(split: Split) -> Split:
    """In double precision, where rounding cannot hide a difference in the maths."""

    def part(single: Part) -> Part:
        target = single.target.double() if single.target.is_floating_point() else single.target
        return Part(single.features.double(), target, single.truth)

    return replace(split, train=part(split.train), validation=part(split.validation), test=part(split.test))
