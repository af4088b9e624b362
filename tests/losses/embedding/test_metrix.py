"""What is true of Metrix alone; the conformance suite does the rest."""

import math
from typing import Any

import pytest
import torch
from tests.losses.embedding.common import batch, cosines_of, negatives, positives
from torch import Tensor

import lossary
from lossary._fast.pairs import rule as pairs_rule
from lossary.losses.embedding.metrix import DRAWS, metrix, mix_inputs


def of_items(s: list[float], y: list[float], base: str) -> float:
    """The generic loss of one anchor by its definition."""
    if base == "contrastive":
        return sum(-each * w + (1 - w) * max(0.0, each - 0.5) for each, w in zip(s, y, strict=True)) / max(1, len(s))
    pull = sum(w * math.exp(-18 * (each - 0.77)) for each, w in zip(s, y, strict=True))
    push = sum((1 - w) * math.exp(75 * (each - 0.77)) for each, w in zip(s, y, strict=True))
    return math.log1p(pull) / 18 + math.log1p(push) / 75


def clean(x: Tensor, labels: list[int], base: str) -> float:
    s = cosines_of(x)
    usable = [i for i in range(len(labels)) if positives(labels, i) and negatives(labels, i)]
    each = [
        of_items(
            [float(s[i][j]) for j in range(len(labels)) if j != i],
            [float(labels[j] == labels[i]) for j in range(len(labels)) if j != i],
            base,
        )
        for i in usable
    ]
    return sum(each) / len(usable)


@pytest.mark.parametrize("base", ["contrastive", "multi_similarity"])
def test_without_mixing_it_is_the_clean_loss(base: str) -> None:
    x, labels = batch()
    expected = clean(x.double(), labels.tolist(), base)
    assert float(metrix(x.double(), labels, base=base, mixed_weight=0.0)) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("small", [0, 1 << 16])
@pytest.mark.parametrize("base", ["contrastive", "multi_similarity"])
def test_mixed_items_match_loops(base: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", small)
    x, labels = batch()
    y, n = labels.tolist(), len(labels)
    u = torch.nn.functional.normalize(x.double(), dim=1)
    partner = torch.randint(n, (n * DRAWS,), generator=torch.Generator().manual_seed(5)).tolist()
    total, usable = 0.0, [i for i in range(n) if positives(y, i) and negatives(y, i)]
    for i in usable:
        s = []
        for m, j in enumerate(partner):
            p = m % n
            if p != i and y[p] == y[i] and y[j] != y[i]:
                v = 0.3 * u[p] + 0.7 * u[j]
                s.append(float(u[i] @ v / v.norm()))
        total += of_items(s, [0.3] * len(s), base)
    found = metrix(x.double(), labels, torch.Generator().manual_seed(5), base=base, mix=0.3)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(clean(x.double(), y, base) + 0.4 * total / len(usable))


@pytest.mark.parametrize("base", ["contrastive", "multi_similarity"])
def test_negatives_mixed_with_the_anchor_match_loops(base: str) -> None:
    x, labels = batch()
    y = labels.tolist()
    u = torch.nn.functional.normalize(x.double(), dim=1)
    usable = [i for i in range(len(y)) if positives(y, i)]
    total = 0.0
    for i in usable:
        mixed = [0.3 * u[i] + 0.7 * u[j] for j in negatives(y, i)]
        total += of_items([float(u[i] @ v / v.norm()) for v in mixed], [0.3] * len(mixed), base)
    found = metrix(x.double(), labels, base=base, mix=0.3, pairs="anchor_negative")  # type: ignore[arg-type]
    assert float(found) == pytest.approx(clean(x.double(), y, base) + 0.4 * total / len(usable))


def test_mixed_wholly_with_negatives_they_are_negatives() -> None:
    x, labels = batch()
    y = labels.tolist()
    s = cosines_of(x.double())
    usable = [i for i in range(len(y)) if positives(y, i)]
    expected = sum(sum(max(0.0, float(s[i][j]) - 0.5) for j in negatives(y, i)) / len(negatives(y, i)) for i in usable) / len(
        usable
    )
    found = metrix(x.double(), labels, mix=0.0, pairs="anchor_negative", mixed_weight=1.0)
    assert float(found) - clean(x.double(), y, "contrastive") == pytest.approx(expected)


def test_a_generator_makes_it_repeatable_and_leaves_the_global_one_alone() -> None:
    x, labels = batch()
    state = torch.get_rng_state()
    values = {float(metrix(x, labels, torch.Generator().manual_seed(1), pairs="alternate")) for _ in range(2)}
    assert len(values) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_inputs_are_mixed_with_their_partners() -> None:
    images, labels = torch.randn(6, 2, 3, 3), torch.arange(6)
    mixed, own, other, share = lossary.functional.mix_inputs(images, labels, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own, labels)
    assert sorted(other.tolist()) == list(range(6))
    for i in range(6):
        torch.testing.assert_close(mixed[i], share[i] * images[i] + (1 - share[i]) * images[other[i]])
    assert torch.equal(lossary.functional.mix_inputs(images, labels, mix=1.0)[0], images)


class Elsewhere(torch.overrides.TorchFunctionMode):
    """Pretends that a generator is on a device of its own: what it draws must be asked for there."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[object] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            drawn = kwargs.get("device") or args[0].device
            self.devices.append(torch.device(drawn))
            kwargs = {**kwargs, "generator": None}
        return function(*args, **kwargs)


@pytest.mark.parametrize("pairs", ["positive_negative", "anchor_negative", "alternate"])
def test_random_numbers_are_drawn_on_the_generators_device(pairs: Any) -> None:
    x, labels = batch()
    with Elsewhere() as seen:
        found = metrix(x.to("meta"), labels.to("meta"), torch.Generator(), pairs=pairs)
        mix_inputs(x.to("meta"), labels.to("meta"), generator=torch.Generator())
    assert found.is_meta
    assert len(seen.devices) >= 3
    assert {device.type for device in seen.devices} == {"cpu"}
