"""The places of samples in the training set may be integers of any size."""

import pytest
import torch

from lossary import specs
from lossary.testing import subject_of

REMEMBERING = sorted(name for name, spec in specs().items() if "index" in spec.requires)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("name", REMEMBERING)
def test_small_integers_are_no_mask(name: str, dtype: torch.dtype) -> None:
    subject = subject_of(name)
    found = []
    for kind in (torch.int64, dtype):
        loss = subject.make()
        batch = subject.batch(8, loss=loss)
        given = {**batch.sides, "index": torch.tensor([0, 1, 1, 0, 5, 7, 3, 2]).to(kind)}
        torch.manual_seed(0)
        value = loss(*batch.arguments, **given)
        found.append((value.detach(), {key: state.clone() for key, state in loss.state_dict().items()}))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0, equal_nan=True)
