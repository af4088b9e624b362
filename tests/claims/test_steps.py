"""What steps change and what they leave alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lossary.arena.data.splits import Part
from lossary.arena.tasks import Task
from lossary.claims import Few, InputNoise, LabelNoise, LongTail, MissingLabels, Positives
from lossary.claims._steps import Step
from lossary.errors import InvalidValueError

CLASSES = Task("multiclass", 5)


def part(counts: list[int] | None = None) -> Part:
    """Rows whose only feature is their number, so that rows can be followed; classes in blocks."""
    truth = np.repeat(np.arange(5), counts or [40] * 5).astype(np.int64)
    return Part(torch.arange(len(truth), dtype=torch.float32)[:, None], torch.from_numpy(truth.copy()), truth)


def labels() -> Part:
    truth = (np.random.default_rng(0).random((50, 6)) < 0.3).astype(np.float64)
    return Part(torch.zeros(50, 2), torch.from_numpy(truth).float(), truth)


def changed(step: Step, before: Part, task: Task = CLASSES, seed: int = 0) -> Part:
    after = step(before, np.random.default_rng(seed), task)
    np.testing.assert_array_equal(after.target.numpy(), after.truth)  # what is learned is what is known of it
    assert after.target.dtype == before.target.dtype
    return after


def rows(found: Part) -> NDArray[np.int64]:
    return np.asarray(found.features[:, 0].numpy().astype(np.int64))


def test_label_noise_changes_as_many_labels_as_it_says_to_other_classes() -> None:
    before = part()
    after = changed(LabelNoise(0.4), before)
    different = after.truth != before.truth
    assert different.sum() == 80
    assert torch.equal(after.features, before.features)
    np.testing.assert_array_equal(before.truth, part().truth)  # what was given stays as it was
    shifts = np.concatenate([(changed(LabelNoise(1.0), before, seed=s).truth - before.truth) % 5 for s in range(50)])
    counts = np.bincount(shifts, minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / counts.sum(), 0.25, atol=0.02)


def test_few_keeps_the_shares_of_the_classes() -> None:
    before = part([100, 50, 30, 15, 5])
    after = changed(Few(40), before)
    counts = np.bincount(after.truth, minlength=5)
    assert counts.sum() == 40
    assert np.abs(counts - np.array([20, 10, 6, 3, 1])).max() <= 1
    np.testing.assert_array_equal(before.truth[rows(after)], after.truth)
    assert len(set(rows(after))) == 40


def test_the_long_tail_has_the_counts_it_says() -> None:
    step = LongTail(40, 3)
    after = changed(step, part())
    np.testing.assert_array_equal(np.bincount(after.truth), step.counts(5))
    assert step.counts(5) == [40, 21, 11, 6, 3]
    np.testing.assert_array_equal(part().truth[rows(after)], after.truth)
    assert not (np.diff(after.truth) >= 0).all()  # batches would otherwise see one class after the other


def test_positives_are_rare_and_negatives_all_there() -> None:
    before = Part(*(part([150, 50, 0, 0, 0]).__dict__[name] for name in ("features", "target", "truth")))
    after = changed(Positives(7), before, Task("binary", 2))
    np.testing.assert_array_equal(np.bincount(after.truth), [150, 7])


def test_missing_labels_only_take_away() -> None:
    before = labels()
    after = changed(MissingLabels(0.5), before, Task("multilabel", 6))
    assert (after.truth <= before.truth).all()
    assert after.truth.sum() == before.truth.sum() - round(0.5 * before.truth.sum())


def test_input_noise_has_its_deviation_and_leaves_targets_alone() -> None:
    before = Part(torch.zeros(2000, 4), *(part([400] * 5).__dict__[name] for name in ("target", "truth")))
    after = changed(InputNoise(0.5), before)
    assert float(after.features.std()) == pytest.approx(0.5, rel=0.05)
    assert after.features.dtype == torch.float32
    np.testing.assert_array_equal(after.truth, before.truth)


@pytest.mark.parametrize("step", [LabelNoise(0.3), Few(50), LongTail(30, 5)], ids=repr)
def test_the_generator_decides_and_nothing_else(step: Step) -> None:
    first, again, other = (changed(step, part(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.features, again.features)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert not (torch.equal(first.features, other.features) and (first.truth == other.truth).all())


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (Few(201), "Few: rows must be from 1 to the 200 there are, got 201"),
        (LongTail(41, 2), "LongTail: class 0 must keep 41 samples and has 40"),
        (Positives(41), "Positives: count must be from 1 to the 40 there are, got 41"),
    ],
)
def test_more_than_there_is_is_refused(step: Step, sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        step(part(), np.random.default_rng(0), CLASSES)


def test_a_step_that_does_not_suit_the_task_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="it needs one class for each sample, and this is a multilabel task"):
        LabelNoise(0.5)(labels(), np.random.default_rng(0), Task("multilabel", 6))
    with pytest.raises(InvalidValueError, match=r"share must be a number from 0 to 1, got 1\.5"):
        LabelNoise(1.5)
