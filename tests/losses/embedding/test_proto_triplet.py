"""What is true of the prototype triplet loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

import lossary
from lossary._fast.pairs import rule as pairs_rule
from lossary.losses.embedding.proto_triplet import proto_triplet


def by_loops(x: Tensor, labels: list[int], support: list[bool] | None) -> list[float]:
    made_of = {y: [x[j] for j in range(len(labels)) if labels[j] == y and (support is None or support[j])] for y in labels}
    prototypes = {y: torch.stack(rows).mean(0) for y, rows in made_of.items() if rows}
    found = []
    for i, y in enumerate(labels):
        if y not in prototypes or (support is not None and support[i]) or len(prototypes) < 2:
            found.append(0.0)
            continue
        d = {k: math.sqrt(float((x[i] - c).square().sum()) + 1e-6) for k, c in prototypes.items()}
        found.append(max(0.0, d[y] - min(each for k, each in d.items() if k != y) + 0.5))
    return found


@pytest.mark.parametrize("small", [0, 1 << 16])
@pytest.mark.parametrize("supported", [False, True])
def test_matches_loops(small: int, supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", small)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (30,), generator=generator)
    labels[4] = 77
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    support = torch.arange(30) % 2 == 0 if supported else None
    found = proto_triplet(x, labels, support, reduction="none")
    expected = by_loops(x, labels.tolist(), None if support is None else support.tolist())
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_queries_far_on_the_right_side_cost_nothing() -> None:
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1]], requires_grad=True)
    loss = proto_triplet(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == 0
    assert x.grad.abs().sum() == 0


def test_prototypes_have_a_gradient_too() -> None:
    x = torch.tensor([[0.0], [1.0], [0.9]], requires_grad=True)
    proto_triplet(x, torch.tensor([0, 1, 0]), torch.tensor([True, True, False])).backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_support_has_to_be_bool() -> None:
    with pytest.raises(lossary.LossaryError, match=r"support must be bool, got torch\.int64"):
        proto_triplet(torch.randn(2, 2), torch.tensor([0, 1]), torch.tensor([0, 1]))
