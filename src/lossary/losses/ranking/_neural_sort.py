"""NDCG by a relaxed sorting matrix, made doubly stochastic by scaling vectors."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from lossary._core.objective import double, without_autocast
from lossary._fast.lists.rule import Kernel, by_list, in_blocks, value_and_gradient
from lossary.losses.ranking._common import Lists, average_over_lists, by_score, check_lists, discounts, gains_and_ideal, of_ideal

# (sorting matrix (lists, ranks, items), gains (lists, items), discounts (ranks,)) -> (lists,)
Total = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS = 1e-10  # beside the lowest score, before the logarithm


@dataclass(frozen=True)
class Sorting:
    """How sharply items are sorted, and how often rows and columns are scaled."""

    temperature: float
    rounds: int
    tolerance: float
    k: int | None


@dataclass(frozen=True)
class Stochastic:
    """How many draws of noise, and how strong it is."""

    samples: int
    beta: float


def neural_loss(
    owner: str,
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None,
    total: Total,
    *,
    sorting: Sorting,
    exponential_gain: bool,
    noise: Stochastic | None,
    reduction: str,
) -> Tensor:
    """Minus the relaxed NDCG, summed in the order of ``total``."""
    lists = check_lists(owner, scores, relevance, mask)
    gain, ideal = gains_and_ideal(lists, exponential_gain, sorting.k)
    if noise is not None:
        lists, gain = perturbed(lists, noise), gain.repeat(noise.samples, 1)
    constants = gain, lists.real, by_score(lists)
    if torch.compiler.is_compiling():
        per_list = _in_a_graph(lists.scores, *constants, *astuple(sorting))[0]
    else:
        plain, kernel, closed = (functools.partial(_plain, sorting, total), *_closed_forms(sorting))
        # a round of products of small matrices costs less than its share of operations on all pairs
        work = 1 + sorting.rounds // 4
        per_list = by_list(plain, kernel, lists.scores, *constants, closed=closed, work=work)
    if noise is not None:
        per_list = per_list.view(noise.samples, -1).mean(0)
    return average_over_lists(of_ideal(per_list, ideal), ideal > 0, reduction)


def perturbed(lists: Lists, of: Stochastic) -> Lists:
    """Each list several times, with noise on the logarithm of how far scores are above the lowest: (samples * lists, items)."""
    lowest = lists.scores.masked_fill(~lists.real, torch.inf).amin(1, keepdim=True)
    above = torch.where(lists.real, lists.scores - lowest, 0.0)
    at_bottom = above <= 0  # constant, where the logarithm's slope would be beyond all bounds
    scores = torch.where(at_bottom, above.new_full((), EPS).log(), (torch.where(at_bottom, 1.0, above) + EPS).log())
    uniform = torch.rand(of.samples, *scores.shape, dtype=scores.dtype, device=scores.device)
    noise = -(-(uniform + EPS).log() + EPS).log()
    again = (of.samples, 1)
    return Lists((scores + of.beta * noise).flatten(0, 1), lists.relevance.repeat(again), lists.real.repeat(again))


def scaled_scores(scores: Tensor, real: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the exponents are made of, for items in the order of their scores: scores, distances and weights, all (lists, items)."""
    s = scores / temperature
    there = real.unsqueeze(2) & real.unsqueeze(1)
    distances = torch.where(there, (s.unsqueeze(2) - s.unsqueeze(1)).abs(), 0.0).sum(1)
    weight = real.sum(1, keepdim=True) - 1 - 2 * torch.arange(scores.shape[1], device=scores.device)
    return s, distances, weight.to(s.dtype)


def sharp_rows(s: Tensor, distances: Tensor, weight: Tensor, real: Tensor) -> Tensor:
    """K (lists, ranks, items), NeuralSort's matrix; padding is scaled by itself, so that nothing is divided by 0."""
    there = real.unsqueeze(2) & real.unsqueeze(1)
    mine, own = s.detach().unsqueeze(2), distances.detach().unsqueeze(2)  # what is the same for a row does not matter
    exponents = weight.unsqueeze(2) * (s.unsqueeze(1) - mine) - (distances.unsqueeze(1) - own)
    K = exponents.masked_fill(~there, -torch.inf).masked_fill(~real.unsqueeze(2), 0.0).softmax(2)
    return torch.where(there, K, torch.diag_embed((~real).to(s.dtype)))


def scaling_vectors(K: Tensor, sorting: Sorting) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each round: the scaling of the rows, that of the columns, and which lists (lists, 1) still took part."""
    sums = K.sum(1)
    u = v = torch.ones_like(sums)
    done = torch.zeros_like(u[:, :1], dtype=torch.bool)
    yield u, v, ~done
    for _ in range(sorting.rounds):
        active = ~done
        v = torch.where(done, v, 1 / sums)
        u = torch.where(done, u, 1 / (K @ v.unsqueeze(2)).squeeze(2))
        yield u, v, active
        sums = (u.unsqueeze(1) @ K).squeeze(1)
        done = ((v * sums - 1).detach().abs() < sorting.tolerance).all(1, keepdim=True)


def sorting_matrix(scores: Tensor, real: Tensor, sorting: Sorting) -> Tensor:
    """P (lists, ranks, items) for items in the order of their scores, padding last; 0 for padding."""
    K = sharp_rows(*scaled_scores(scores, real, sorting.temperature), real)
    u, v = torch.ones_like(scores), torch.ones_like(scores)
    for u, v, _ in scaling_vectors(K, sorting):  # noqa: B007
        pass
    return torch.where(real.unsqueeze(2) & real.unsqueeze(1), u.unsqueeze(2) * K * v.unsqueeze(1), 0.0)


def _plain(sorting: Sorting, total: Total, scores: Tensor, gain: Tensor, real: Tensor, order: Tensor) -> Tensor:
    # The exponents are differences of products with the number of items, and lose their digits first.
    s, g, there = (each.gather(1, order) for each in (double(scores), double(gain), real))
    with without_autocast(scores):
        found = -total(sorting_matrix(s, there, sorting), g, discounts(s.shape[1], sorting.k, s))
    return found.to(scores.dtype)


def _kernel(sorting: Sorting) -> Kernel:
    from lossary._fast.lists import loops as lists_loops

    def kernel(scores: Tensor, gain: Tensor, real: Tensor, order: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        items = scores.shape[1]
        value, gradient = scores.new_empty(len(scores)), scores.new_zeros(scores.shape if wanted else (0, items))
        discount = discounts(items, sorting.k, scores)
        room = (
            scores.new_empty(items, items),
            scores.new_empty(3, sorting.rounds + 1, items),
        )  # of one list, for one after the other
        arrays = [x.detach().numpy() for x in (scores, gain, real, order, discount, value, gradient, *room)]
        lists_loops.relaxed_ndcg(*arrays, sorting.temperature, sorting.tolerance)
        return value, gradient

    return kernel


def _closed(sorting: Sorting, scores: Tensor, gain: Tensor, real: Tensor, order: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The loss of each list and its gradient in closed form by tensor operations, as :func:`_loops.relaxed_ndcg` explains it."""
    scores, gain, there = (each.gather(1, order) for each in (double(scores), double(gain), real))
    s, distances, weight = scaled_scores(scores, there, sorting.temperature)
    K = sharp_rows(s, distances, weight, there)
    discount = discounts(s.shape[1], sorting.k, s) * there

    def by_item(rows: Tensor) -> tuple[Tensor, Tensor]:
        """The columns' sums of K when its rows are scaled, and the same with the weights."""
        found = torch.stack([rows, rows * weight], 1) @ K
        return found[:, 0], found[:, 1]

    def by_rank(columns: Tensor) -> Tensor:
        return (K @ columns.unsqueeze(2)).squeeze(2)

    rounds = list(scaling_vectors(K, sorting))
    u, v, _ = rounds[-1]
    to_u = -discount * by_rank(v * gain)
    value = (to_u * u).sum(1)
    if not wanted:
        return value, value.new_empty(0)
    sums, weighted = by_item(discount * u)
    to_v, pull = -gain * sums, -v * gain * weighted
    for step in range(len(rounds) - 1, 0, -1):
        u, v, active = rounds[step]
        sums, weighted = by_item(-to_u * u * u * active)
        to_sums = -(to_v + sums) * v * v * active
        pull = pull + v * weighted + to_sums * by_item(rounds[step - 1][0])[1]
        to_u = torch.where(active, by_rank(to_sums), to_u)
        to_v = torch.where(active, 0.0, to_v)
    sums, weighted = by_item(-to_u)
    column = torch.where(there, to_v + sums, 0.0)
    signs = (s.unsqueeze(2) - s.unsqueeze(1)).sign() * (there.unsqueeze(2) & there.unsqueeze(1))
    through = (signs * (column.unsqueeze(2) + column.unsqueeze(1))).sum(2)
    gradient = torch.where(there, (pull + weighted - through) / sorting.temperature, 0.0)
    return value, torch.zeros_like(gradient).scatter(1, order, gradient)


def _closed_forms(sorting: Sorting) -> tuple[Callable[[], Kernel], Kernel]:
    return functools.partial(_kernel, sorting), functools.partial(_closed, sorting)


@torch.library.custom_op("lossary::relaxed_ndcg", mutates_args=())
def _in_a_graph(
    scores: Tensor, gain: Tensor, real: Tensor, order: Tensor, temperature: float, rounds: int, tolerance: float, k: int | None
) -> tuple[Tensor, Tensor]:
    """The loss of each list and its gradient, as one operation for ``torch.compile``, which would unroll the rounds for minutes."""
    sorting = Sorting(temperature, rounds, tolerance, k)
    kernel, closed = _closed_forms(sorting)
    return value_and_gradient(kernel, in_blocks(closed), True, scores, gain, real, order)


@_in_a_graph.register_fake
def _(scores: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape[0]), torch.empty_like(scores)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])


def _pull_back(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return upstream.unsqueeze(1) * ctx.saved_tensors[0], *[None] * 7


_in_a_graph.register_autograd(_pull_back, setup_context=_remember)
