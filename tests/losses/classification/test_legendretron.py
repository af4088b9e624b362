"""What is true of LegendreTron alone; the conformance suite does the rest."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.functional import softplus

from lossary import LossaryError
from lossary.losses.classification._convex import ConvexGradient
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.legendretron import LegendreTronLoss


def made(seed: int = 0, **given: object) -> LegendreTronLoss:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LegendreTronLoss(**{"num_classes": 5, **given}).double()  # type: ignore[arg-type]


def block(seed: int = 0, depth: int = 4, hidden_dim: int = 4) -> ConvexGradient:
    found = made(seed, num_blocks=1, depth=depth, hidden_dim=hidden_dim).blocks[0]
    assert isinstance(found, ConvexGradient)
    with torch.no_grad():
        found(points(64))  # sets its scales
    return found


def points(n: int, seed: int = 1, dim: int = 4) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def potential(f: ConvexGradient, x: list[Tensor]) -> Tensor:
    """The strongly convex function of one point, number by number."""

    def affine(weight: Tensor, inputs: list[Tensor], bias: Tensor | None = None) -> list[Tensor]:
        rows = [sum((w * v for w, v in zip(row, inputs, strict=True)), torch.zeros(())) for row in weight]
        return rows if bias is None else [r + b for r, b in zip(rows, bias, strict=True)]

    v = [softplus(u) for u in affine(f.first.weight, x, f.first.bias)]
    for i, positive in enumerate(f.positive):
        up = [u / len(v) for u in affine(softplus(positive.weight), v, positive.bias)]  # type: ignore[arg-type]
        across = affine(f.skip[i].weight, x)  # type: ignore[arg-type]
        scale = f.log_scale[i].exp() + 1e-3
        convex = [softplus((u + a + s) * k) for u, a, s, k in zip(up, across, f.shift[i], scale, strict=True)]
        v = convex + [softplus(u) for u in affine(f.augment[i].weight, x, f.augment[i].bias)]  # type: ignore[arg-type]
    (up_,) = affine(softplus(f.last_positive.weight), v)
    (across_,) = affine(f.last_skip.weight, x)
    network = (up_ / len(v) + across_) * (f.last_log_scale[0].exp() + 1e-3)
    return softplus(f.w1) * network + softplus(f.w0) * sum((a * a for a in x), torch.zeros(())) / 2


@pytest.mark.parametrize(("depth", "hidden_dim"), [(1, 2), (2, 3), (4, 4), (5, 7)])
def test_a_map_is_the_gradient_of_the_convex_network(depth: int, hidden_dim: int) -> None:
    f = block(depth=depth, hidden_dim=hidden_dim)
    for point in points(4):
        x = [v.clone().requires_grad_() for v in point]
        gradient = torch.stack(torch.autograd.grad(potential(f, x), x))
        torch.testing.assert_close(f(point.unsqueeze(0))[0], gradient)


def test_the_jacobian_is_symmetric_with_eigenvalues_above_a_bound() -> None:
    for seed in range(3):
        f = block(seed)
        jacobians = vmap(jacrev(lambda x, f=f: f(x.unsqueeze(0))[0]))(points(20))
        torch.testing.assert_close(jacobians, jacobians.mT)
        assert torch.linalg.eigvalsh(jacobians).min() > softplus(f.w0) - 1e-12


def test_a_map_is_inverted_by_descent() -> None:
    """It is the gradient of a strongly convex function, which one x alone minimises after a tilt by y."""
    f = block()
    wanted = points(3, seed=5)
    found = f(wanted).detach()
    x = torch.zeros_like(wanted)
    for _ in range(100):  # Newton's method
        jacobian = vmap(jacrev(lambda v: f(v.unsqueeze(0))[0]))(x)
        x = (x - torch.linalg.solve(jacobian, f(x) - found)).detach()
    torch.testing.assert_close(x, wanted)


def test_the_identity_start_is_nearly_cross_entropy_and_can_be_trained() -> None:
    loss, logits, target = made(init="identity"), points(50, dim=5), torch.arange(50) % 5
    value, plain = loss(logits, target), cross_entropy(logits, target)
    assert abs(value.item() / plain.item() - 1) < 0.02
    gradients = torch.autograd.grad(value, list(loss.parameters()))
    assert all(bool(gradient.any()) for gradient in gradients)
    assert abs(made()(logits, target).item() / plain.item() - 1) > 0.05  # the random start is somewhere else


def test_the_first_batch_in_training_sets_the_scales_once() -> None:
    loss = made()
    logits, target = points(32, dim=5), torch.arange(32) % 5
    before = copy.deepcopy(loss.state_dict())

    def changed() -> bool:
        return any(not torch.equal(before[name], value) for name, value in loss.state_dict().items())

    loss(logits[:0], target[:0])  # nothing to learn a scale from
    loss(logits[:1], target[:1])
    loss.eval()(logits, target)
    assert not changed()
    value = loss.train()(logits, target)
    assert changed()
    first = loss.blocks[0]
    assert isinstance(first, ConvexGradient)
    x = logits[:, :-1] - logits[:, -1:]
    v = softplus(x @ first.first.weight.T + first.first.bias)
    positive, skip = first.positive[0], first.skip[0]
    sums = v @ softplus(positive.weight).T / 4 + positive.bias / 4 + x @ skip.weight.T  # type: ignore[operator, arg-type]
    normal = (sums + first.shift[0]) * (first.log_scale[0].exp() + 1e-3)
    torch.testing.assert_close(normal.mean(0).detach(), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(normal.std(0, correction=0).detach(), torch.ones(2, dtype=torch.float64))
    before = copy.deepcopy(loss.state_dict())
    loss(logits * 3, target)
    assert not changed()
    assert loss(logits, target) == value


def test_a_broken_row_in_the_first_batch_does_not_spoil_the_scales() -> None:
    loss = made(reduction="none")
    logits, target = points(32, dim=5), torch.arange(32) % 5
    for place, bad in enumerate((math.nan, math.inf, -math.inf)):
        logits[place, 1] = bad
    assert loss(logits, target)[3:].isfinite().all()
    assert loss(points(8, dim=5), target[:8]).isfinite().all()


def test_a_reloaded_link_keeps_its_scales() -> None:
    loss, again = made(), made(seed=9)
    logits, target = points(32, dim=5), torch.arange(32) % 5
    value = loss(logits, target)
    again.load_state_dict(loss.state_dict())
    again(logits * 5, target)
    assert again(logits, target) == value


def test_the_bias_of_a_positive_layer_is_divided_by_its_width() -> None:
    f = block(depth=2)
    x = points(1)
    with torch.no_grad():
        value = f(x)
        f.positive[0].bias.add_(4.0)  # type: ignore[operator]
        f.shift[0] -= 1.0  # takes it back: the width is 4
    torch.testing.assert_close(f(x), value)


def test_logits_far_below_the_last_one_do_not_overflow() -> None:
    loss = made(num_blocks=0)
    logits = torch.tensor([[-1e4, -2e4, 0.0, -1e4, 1e4]], requires_grad=True)
    value = loss(logits, torch.tensor([4]))
    assert value == 0
    assert loss.link(logits).isfinite().all()
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(3e4)


def test_the_link_learns_what_the_logits_mean() -> None:
    """Where the truth is a sigmoid of a cube, cross-entropy of the bare logits is off, and the link finds it."""
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)
    p = (z**3).sigmoid()
    logits, q = torch.stack([z, torch.zeros_like(z)], 1), torch.stack([p, 1 - p], 1)
    entropy = -(q * q.log()).sum(1).mean().item()
    loss = made(num_classes=2, hidden_dim=8, init="identity")
    assert cross_entropy(logits, q).item() - entropy > 0.02
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        loss(logits, q).backward()
        optimizer.step()
    assert loss(logits, q).item() - entropy < 0.005
    assert math.isclose(loss.link(logits).sum(1).max().item(), 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_classes": 1}, "num_classes must be an integer >= 2, got 1"),
        ({"num_classes": 3, "hidden_dim": 1}, "hidden_dim must be an integer >= 2, got 1"),
        ({"num_classes": 3, "init": "zero"}, "init must be 'random' or 'identity', got 'zero'"),
    ],
)
def test_bad_parameters_are_one_sentence(given: dict[str, object], message: str) -> None:
    with pytest.raises(LossaryError, match=f"^legendretron: {message}"):
        LegendreTronLoss(**given)  # type: ignore[arg-type]


def test_the_number_of_classes_is_fixed() -> None:
    for call in (lambda z: made()(z, torch.tensor([0, 1])), made().link):
        with pytest.raises(LossaryError, match=r"^legendretron: logits must have shape \(N, 5\), got \(2, 4\)"):
            call(torch.zeros(2, 4))


def started(*batches: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
    """What a new loss holds after some batches in training."""
    torch.manual_seed(3)
    loss = LegendreTronLoss(num_classes=4)
    for logits, target in batches:
        loss(logits, target)
    return [value.clone() for value in loss.state_dict().values()]


def test_the_start_is_that_of_the_samples_that_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = 2 * torch.randn(40, 4, generator=generator), torch.randint(4, (40,), generator=generator)
    expected = started((logits[:20], target[:20]))
    without = target.clone()
    without[20:] = -100
    for ignored in (0.0, 1e4, math.nan):
        others = logits.clone()
        others[20:] = ignored
        torch.testing.assert_close(started((others, without)), expected)


def test_a_batch_without_spread_or_without_samples_leaves_the_start_to_the_next() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = 2 * torch.randn(40, 4, generator=generator), torch.randint(4, (40,), generator=generator)
    expected = started((logits, target))
    for first in (
        (torch.zeros(40, 4), target),
        (1e-3 * logits, target),
        (logits, torch.full_like(target, -100)),
        (logits[:1], target[:1]),
        (logits[:0], target[:0]),
    ):
        torch.testing.assert_close(started(first, (logits, target)), expected)
    torch.testing.assert_close(started((logits, target), (3 * logits, target)), expected)
