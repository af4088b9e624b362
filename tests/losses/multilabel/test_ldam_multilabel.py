"""What is true of multi-label LDAM alone; the conformance suite does the rest."""

import math

import numpy as np
import pytest
import torch

from lossary.errors import LossaryError
from lossary.losses.multilabel import BinaryCrossEntropyLoss, LdamMultilabelLoss
from lossary.losses.multilabel.ldam_multilabel import ldam_multilabel

LOGITS = 2 * torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = (torch.rand(20, 3, generator=torch.Generator().manual_seed(1)) < 0.4).double()


def test_matches_a_loop() -> None:
    counts = [1, 16, 10_000]
    expected = []
    for row, labels in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        for z, y, n in zip(row, labels, counts, strict=True):
            margin = 3.0 / n**0.25
            expected.append(math.log1p(math.exp(margin - z)) if y else math.log1p(math.exp(z)))
    found = ldam_multilabel(LOGITS, TARGET, class_counts=torch.tensor(counts), reduction="none")
    torch.testing.assert_close(found.flatten(), LOGITS.new_tensor(expected))


def test_frequent_labels_have_no_margin_and_unseen_ones_the_largest() -> None:
    plain = BinaryCrossEntropyLoss(reduction="none")(LOGITS, TARGET)
    frequent = ldam_multilabel(LOGITS, TARGET, class_counts=torch.full((3,), 1e30), reduction="none")
    torch.testing.assert_close(frequent, plain, rtol=1e-6, atol=1e-6)
    unseen = ldam_multilabel(LOGITS, TARGET, class_counts=torch.zeros(3), reduction="none")
    once = ldam_multilabel(LOGITS, TARGET, class_counts=torch.ones(3), reduction="none")
    torch.testing.assert_close(unseen, once)
    assert (once[TARGET == 1] > plain[TARGET == 1]).all()
    torch.testing.assert_close(once[TARGET == 0], plain[TARGET == 0])


def test_rarer_labels_cost_more() -> None:
    row = LdamMultilabelLoss(class_counts=torch.tensor([1000, 100, 10, 1]), reduction="none")(torch.zeros(1, 4), torch.ones(1, 4))
    assert (row.diff() > 0).all()


def test_counts_of_another_number_of_labels_are_refused() -> None:
    with pytest.raises(LossaryError, match=r"ldam_multilabel: class_counts must have shape \(3,\), got \(2,\)"):
        ldam_multilabel(LOGITS, TARGET, class_counts=torch.ones(2))


def test_counts_that_change_change_the_margins() -> None:
    logits, target = LOGITS.float(), TARGET.float()
    loss = LdamMultilabelLoss(class_counts=torch.tensor([1, 16, 81]))
    before = loss(logits, target)
    loss.get_buffer("class_counts").mul_(10_000)
    grown = LdamMultilabelLoss(class_counts=torch.tensor([10_000, 160_000, 810_000]))
    torch.testing.assert_close(loss(logits, target), grown(logits, target))
    assert loss(logits, target) < before


def test_counts_may_share_memory_that_changes_or_come_from_inference() -> None:
    logits, target = LOGITS.float(), TARGET.float()
    shared = np.array([1.0, 16.0, 81.0])
    loss = LdamMultilabelLoss(class_counts=torch.from_numpy(shared))
    before = loss(logits, target)
    with torch.inference_mode():
        inferred = torch.tensor([1.0, 16.0, 81.0])
    torch.testing.assert_close(ldam_multilabel(logits, target, class_counts=inferred), before)
    shared[:] = 1e12
    torch.testing.assert_close(loss(logits, target), BinaryCrossEntropyLoss()(logits, target), rtol=1e-2, atol=0)
    assert loss(logits, target) < before


def test_counts_with_a_gradient_get_it_each_time() -> None:
    counts = torch.tensor([1.5, 16.0, 81.0], requires_grad=True)
    gradients = [torch.autograd.grad(ldam_multilabel(LOGITS, TARGET, class_counts=counts), counts)[0] for _ in range(2)]
    assert (gradients[0] < 0).all()
    assert torch.equal(*gradients)


def test_counts_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(LossaryError, match="ldam_multilabel: class_counts must be a tensor, an array or a sequence"):
        ldam_multilabel(LOGITS, TARGET, class_counts=torch.ones(3, dtype=torch.complex64))
