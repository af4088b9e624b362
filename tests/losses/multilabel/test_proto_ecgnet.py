"""What is true of ProtoECGNet's loss alone; the conformance suite does the rest."""

import itertools
import math
import re
from operator import mul
from typing import Any

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses import ProtoECGNetLoss

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = (torch.rand(6, 3, generator=GENERATOR) < 0.4).double()
ZERO: dict[str, Any] = dict.fromkeys(
    ("cluster_weight", "separation_weight", "sparsity_weight", "diversity_weight", "contrastive_weight"), 0.0
)


def made(*, classes: int = 3, each: int = 2, joint: int = 0, seed: int = 0, **given: Any) -> ProtoECGNetLoss:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ProtoECGNetLoss(
            num_classes=classes,
            embedding_dim=4,
            prototypes_per_class=each,
            joint_prototypes_per_pair=joint,
            **given,
        ).double()


def cosine(a: list[float], b: list[float]) -> float:
    return float(sum(map(mul, a, b))) / (math.hypot(*a) * math.hypot(*b))


def terms_by_hand(loss: ProtoECGNetLoss, x: Tensor, y: Tensor, jaccard: list[list[float]]) -> list[float]:
    """Cross-entropy and the five terms, in loops."""
    prototypes, of_class = loss.prototypes.tolist(), loss.prototype_class.tolist()
    weights, classes, count = loss.classifier.weight.tolist(), loss.num_classes, len(prototypes)
    entropy, cluster, separation, sparsity = [], [], [], []
    for a, labels in zip(x.tolist(), y.tolist(), strict=True):
        s = [cosine(a, p) for p in prototypes]
        sparsity.append(sum(max(v, 0.0) for v in s))
        for c in range(classes):
            z = sum(map(mul, weights[c], s))
            entropy.append(math.log1p(math.exp(-z)) * labels[c] + math.log1p(math.exp(z)) * (1 - labels[c]))
            cluster.append(max(s[p] * of_class[p][c] * labels[c] for p in range(count)))
            separation.append(max(s[p] * (1 - of_class[p][c] * labels[c]) for p in range(count)))
    gram = [[cosine(p, q) for q in prototypes] for p in prototypes]
    diversity = sum((gram[i][j] - (i == j)) ** 2 for i in range(count) for j in range(count)) / count**2
    near, far, more, less = 0.0, 0.0, 1e-6, 1e-6
    for i, j in itertools.product(range(count), repeat=2):
        m = sum(of_class[i][a] * jaccard[a][b] * of_class[j][b] for a in range(classes) for b in range(classes))
        m, g = min(m, 1.0), min(gram[i][j], 1 - 1e-6)
        near, far, more, less = near + g * m, far + g * (1 - m), more + m, less + 1 - m

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return [mean(entropy), -mean(cluster), mean(separation), mean(sparsity), diversity, -(near / more - far / less) / 2]


@pytest.mark.parametrize(("classes", "each", "joint"), [(3, 2, 0), (3, 1, 2), (2, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("soft", [False, True])
def test_each_term_matches_a_loop(classes: int, each: int, joint: int, soft: bool) -> None:
    y = torch.rand(6, 3, generator=GENERATOR, dtype=torch.float64)[:, :classes] if soft else TARGET[:, :classes]
    plain = made(classes=classes, each=each, joint=joint, **ZERO)
    expected = terms_by_hand(plain, X, y, torch.eye(classes).tolist())
    assert plain(X, y).item() == pytest.approx(expected[0], rel=1e-9)
    for name, term in zip(ZERO, expected[1:], strict=True):
        one = made(classes=classes, each=each, joint=joint, **{**ZERO, name: 2.0})
        assert one(X, y).item() == pytest.approx(expected[0] + 2 * term, rel=1e-8), name


def test_labels_that_occur_together_come_from_the_training_targets() -> None:
    targets = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    loss = made(classes=4)
    loss.set_cooccurrence(targets)
    assert loss.label_cooccurrence is not None
    torch.testing.assert_close(
        loss.label_cooccurrence.double(),
        torch.tensor([[1, 2 / 3, 0, 0], [2 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64),
    )
    y = (torch.rand(6, 4, generator=GENERATOR) < 0.4).double()
    expected = terms_by_hand(loss, X, y, loss.label_cooccurrence.tolist())
    factors = (1.0, 0.004, 0.0004, 0.0, 250.0, 300.0)
    assert loss(X, y).item() == pytest.approx(sum(map(mul, factors, expected)), rel=1e-7)
    assert "label_cooccurrence=None" in repr(loss)
    fresh = made(classes=4, seed=1)
    fresh.load_state_dict(loss.state_dict())
    assert torch.equal(fresh(X, y), loss(X, y))


def test_the_contrastive_term_brings_prototypes_together_whose_labels_occur_together() -> None:
    """With the sign of the authors' program they would be pushed apart."""
    loss = made(classes=3, **{**ZERO, "contrastive_weight": 1.0})
    loss.set_cooccurrence(torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))

    def between(a: int, b: int) -> float:
        p = torch.nn.functional.normalize(loss.prototypes.detach())
        return float((p[2 * a : 2 * a + 2] @ p[2 * b : 2 * b + 2].T).mean())

    before = between(0, 1), between(0, 2)
    optimizer = torch.optim.SGD([loss.prototypes], lr=0.3)
    for _ in range(50):
        optimizer.zero_grad()
        loss(X, TARGET).backward()
        optimizer.step()
    assert between(0, 1) > before[0] + 0.1
    assert between(0, 2) < before[1]


def test_projection_moves_prototypes_onto_the_nearest_sample_with_their_labels() -> None:
    loss = made(classes=3, each=2, joint=1)
    embeddings = torch.randn(40, 4, generator=GENERATOR, dtype=torch.float64)
    targets = (torch.rand(40, 3, generator=GENERATOR) < 0.4).long()
    targets[:, 0] *= 1 - targets[:, 2]  # the labels 0 and 2 never occur together
    before = loss.prototypes.detach().clone()
    place = loss.project(embeddings, targets)
    for p, wanted in enumerate(loss.prototype_class.bool()):
        able = [i for i in range(40) if bool((targets[i].bool() | ~wanted).all())]
        if able:
            best = max(able, key=lambda i: cosine(embeddings[i].tolist(), before[p].tolist()))
            assert place[p] == best
            assert torch.equal(loss.prototypes[p], embeddings[best])
        else:
            assert place[p] == -1
            assert torch.equal(loss.prototypes[p], before[p])
    assert -1 in place.tolist()
    torch.testing.assert_close(loss.similarity(embeddings)[place[0], 0], torch.ones((), dtype=torch.float64))


def test_mistakes_are_named() -> None:
    loss = made()
    for attempt, message in (
        (lambda: loss(X[:, :3], TARGET), "embedding must have shape (N, 4), got (6, 3)"),
        (lambda: loss(X, TARGET[:, :2]), "target must have shape (6, 3), got (6, 2)"),
        (lambda: loss.set_cooccurrence(TARGET[:, :2]), "targets must have shape (6, 3), got (6, 2)"),
        (lambda: loss.project(X, TARGET[:4]), "targets must have shape (6, 3), got (4, 3)"),
        (lambda: made(label_cooccurrence=torch.eye(2)), "label_cooccurrence must have shape (3, 3), got (2, 2)"),
    ):
        with pytest.raises(LossaryError, match=re.escape(f"proto_ecgnet: {message}")):
            attempt()


def test_pairs_of_labels_are_made_for_joint_prototypes_alone() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest = max(largest, made.numel())
            return made

    with Watch():  # type: ignore[no-untyped-call]
        loss = ProtoECGNetLoss(num_classes=200, embedding_dim=2, prototypes_per_class=2)
    assert largest == 400 * 200
    assert loss.prototype_class.sum(0).tolist() == [2.0] * 200


def test_joint_prototypes_are_of_two_labels_each() -> None:
    loss = ProtoECGNetLoss(num_classes=4, embedding_dim=2, prototypes_per_class=2, joint_prototypes_per_pair=3)
    of_class = [set(row.nonzero().flatten().tolist()) for row in loss.prototype_class]
    expected = [{label} for label in range(4) for _ in range(2)]
    expected += [set(pair) for pair in itertools.combinations(range(4), 2) for _ in range(3)]
    assert of_class == expected
    for label, members in enumerate(loss.members.tolist()):
        assert members == [place for place, labels in enumerate(expected) if label in labels]
