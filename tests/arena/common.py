"""What several tests of comparisons say."""

import numpy as np

from lossary.arena import Comparison


def same(one: Comparison, other: Comparison) -> None:
    """Both found the same, to the last bit."""
    for a, b in zip(one.units, other.units, strict=True):
        assert a.candidate == b.candidate
        for name in ("validation", "losses", "curve", "chosen", "predictions", "truth"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for name, values in a.test.items():
            np.testing.assert_array_equal(values, b.test[name])
    assert one.answer.sentence == other.answer.sentence
