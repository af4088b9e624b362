"""What is true of GiVE's sum alone; its parts have tests of their own, and the conformance suite does the rest."""

import pytest
import torch

from lossary import LossaryError
from lossary.losses import GiveLoss, GiveOIDLoss, GiveOIICLoss, GiveOITCLoss

GENERATOR = torch.Generator().manual_seed(0)
IMAGE, TEXT = (torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
OBJECT = torch.tensor([4, 1, 1, 7, 4, 0, 1, 9, 4])


@pytest.mark.parametrize(("oiic", "oid"), [(1.0, 1.0), (0.5, 2.0), (0.0, 0.3), (0.3, 0.0)])
def test_is_the_weighted_sum_of_its_parts(oiic: float, oid: float) -> None:
    loss = GiveLoss(temperature=0.2, oiic_weight=oiic, oid_weight=oid, init_scale=3.0, init_bias=-1.0)
    expected = GiveOITCLoss(temperature=0.2)(IMAGE, TEXT, OBJECT)
    expected += oiic * GiveOIICLoss(temperature=0.2)(IMAGE, OBJECT)
    expected += oid * GiveOIDLoss(init_scale=3.0, init_bias=-1.0)(IMAGE, OBJECT).detach()
    torch.testing.assert_close(loss(IMAGE, TEXT, OBJECT).detach(), expected)


def test_of_distinct_objects_is_clip_s_loss_and_a_bounded_rest() -> None:
    distinct = torch.arange(9)
    clip = GiveLoss(oiic_weight=1.0, oid_weight=0.0)(IMAGE, TEXT, distinct)
    c = torch.nn.functional.normalize(IMAGE) @ torch.nn.functional.normalize(TEXT).T / 0.07
    expected = (torch.nn.functional.cross_entropy(c, distinct) + torch.nn.functional.cross_entropy(c.T, distinct)) / 2
    torch.testing.assert_close(clip, expected)
    assert GiveLoss()(IMAGE, TEXT, distinct) > clip  # OID is bounded below by 0


def test_scale_and_bias_learn() -> None:
    loss = GiveLoss()
    loss(IMAGE, TEXT, OBJECT).backward()
    assert {name for name, p in loss.named_parameters() if p.grad is not None} == {"scale", "bias"}


def test_refuses_objects_that_do_not_fit() -> None:
    with pytest.raises(LossaryError, match=r"^give: object_id must have shape \(9,\), got \(8,\)"):
        GiveLoss()(IMAGE, TEXT, OBJECT[:8])
    with pytest.raises(LossaryError, match=r"^give: text must have shape \(9, 4\), got \(9, 3\)"):
        GiveLoss()(IMAGE, TEXT[:, :3], OBJECT)
