"""The blocked way through a batch gives what the plain operations give, whatever the formula, shape, dtype or transform."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.gradients import again_and_twice
from tests.threads import on_several_threads
from torch import Tensor
from torch.autograd import forward_ad

from lossary._fast import dispatch, mathematics, one_pass, tracing
from lossary._fast.classes import parts
from lossary._fast.classes import rule as classes_rule
from lossary._fast.classes.rule import Rows, average_over_rows


def everything(row: Rows) -> Tensor:
    """A formula that uses all there is, with a gradient through each of them."""
    lower = row.lower_log_p.exp()
    sums = row.sum_of_squares * 0.1 + row.mean.sin() + row.variance.sqrt() + row.total
    return -row.log_p * (1 - row.log_p.exp() + lower) + sums * 0.3 + row.logits.cos()


def cube(p: Tensor, log_p: Tensor) -> Tensor:
    return p**3 * log_p


def top(row: Rows) -> Tensor:
    return torch.where(row.is_top > 0, torch.expm1(row.top_log_p).square(), (2 * row.top_log_p).exp())


FORMULAS: dict[str, tuple[Callable[[Rows], Tensor], tuple[str, ...], Callable[[Tensor, Tensor], Tensor] | None]] = {
    "log_p": (lambda row: (1 - row.log_p.exp()) ** 2 * -row.log_p, ("log_p",), None),
    "moments": (lambda row: ((row.mean - row.logits) / (row.variance + 1).sqrt()).exp(), ("logits", "mean", "variance"), None),
    "variance": (lambda row: (row.variance + row.logits).sin(), ("logits", "variance"), None),
    "top": (top, ("top_log_p", "is_top"), None),
    "everything": (everything, ("logits", "log_p", "lower_log_p", "mean", "variance", "sum_of_squares", "total"), cube),
}


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SMALL", 0)
    monkeypatch.setattr(dispatch, "BLOCK", 64)


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2).to(dtype)


def targets(logits: Tensor, soft: bool) -> Tensor:
    if soft:
        return draw(tuple(logits.shape), 2).softmax(1).to(logits.dtype)
    drawn = torch.randint(logits.shape[1], (logits.shape[0], *logits.shape[2:]), generator=torch.Generator().manual_seed(3))
    return drawn.where(torch.arange(drawn.numel()).view_as(drawn) % 5 != 3, torch.tensor(-100))


def loss(name: str, logits: Tensor, target: Tensor, *, temperature: float = 1.0, margin: float = 0.0, **rule: object) -> Tensor:
    formula, needs, total = FORMULAS[name]
    given: dict[str, object] = {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "reduction": "mean", **rule}
    return average_over_rows(logits, target, formula, needs=needs, total=total, temperature=temperature, margin=margin, **given)  # type: ignore[arg-type]


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What the blocked way gives, and the plain operations."""
    blocked = run()
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "SMALL", 1 << 40)
        return blocked, run()


def gradient(name: str, logits: Tensor, target: Tensor, **rule: Any) -> Tensor:
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(name, leaf, target, **rule)
    upstream = torch.linspace(0.5, 2.0, value.numel(), dtype=value.dtype).view_as(value)
    (found,) = torch.autograd.grad(value, leaf, upstream)
    return torch.cat([value.detach().flatten().double(), found.flatten().double()])


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("shape", [(23, 7), (3, 300), (4, 5, 6), (2, 3, 5, 9), (1, 100, 3)])
@pytest.mark.parametrize("rule", ["hard", "soft", "smoothed", "weighted", "none", "warm", "margin"])
def test_blocks_equal_the_plain_operations(monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], rule: str) -> None:
    logits = draw(shape, 1)
    rules: dict[str, dict[str, Any]] = {
        "hard": {},
        "soft": {},
        "smoothed": {"label_smoothing": 0.2},
        "weighted": {"weight": draw(shape[1:2], 4).abs(), "reduction": "sum"},
        "none": {"reduction": "none"},
        "warm": {"temperature": 2.5},
        "margin": {"temperature": 0.7, "margin": 0.4, "label_smoothing": 0.1},
    }
    given = rules[rule]
    blocked, plain = both(monkeypatch, lambda: gradient(name, logits, targets(logits, rule == "soft"), **given))
    torch.testing.assert_close(blocked, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("soft", [False, True])
def test_other_dtypes(monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype, soft: bool) -> None:
    logits = draw((19, 9), 5, dtype)
    blocked, plain = both(monkeypatch, lambda: gradient(name, logits, targets(logits, soft), reduction="sum"))
    precision = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-5}[dtype]
    torch.testing.assert_close(blocked, plain, rtol=precision, atol=precision)
    assert loss(name, logits, targets(logits, soft)).dtype == torch.float32


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("soft", [False, True])
def test_classes_side_by_side_in_memory(monkeypatch: pytest.MonkeyPatch, name: str, soft: bool) -> None:
    logits = draw((2, 5, 4, 3), 6).to(memory_format=torch.channels_last)
    leaf = logits.clone(memory_format=torch.preserve_format).requires_grad_()
    loss(name, leaf, targets(logits.contiguous(), soft)).backward()
    assert leaf.grad is not None
    assert leaf.grad.is_contiguous(memory_format=torch.channels_last)
    blocked, plain = both(monkeypatch, lambda: gradient(name, logits, targets(logits.contiguous(), soft), reduction="none"))
    torch.testing.assert_close(blocked, plain, rtol=1e-10, atol=1e-12)
    packed = gradient(name, logits.contiguous(), targets(logits.contiguous(), soft), reduction="none")
    torch.testing.assert_close(blocked, packed, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("soft", [False, True])
def test_vmap_and_functional_gradients(monkeypatch: pytest.MonkeyPatch, name: str, soft: bool) -> None:
    logits, weight = draw((3, 8, 40), 7), draw((3, 40), 8).abs()
    target = torch.stack([targets(x, soft) for x in logits])

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return loss(name, x, y, weight=w)

    for dims in ((0, 0, 0), (0, None, None), (None, 0, 0)):
        given = tuple(x if dim == 0 else x[0] for x, dim in zip((logits, target, weight), dims, strict=True))
        at = [tuple(x[i] if dim == 0 else x for x, dim in zip(given, dims, strict=True)) for i in range(3)]
        torch.testing.assert_close(torch.vmap(run, in_dims=dims)(*given), torch.stack([run(*one) for one in at]))
        mapped = torch.vmap(torch.func.grad(run), in_dims=dims)(*given)
        with monkeypatch.context() as patch:
            patch.setattr(dispatch, "SMALL", 1 << 40)
            torch.testing.assert_close(mapped, torch.stack([torch.func.grad(run)(*one) for one in at]))


@pytest.mark.usefixtures("tiny_blocks")
def test_targets_and_weights_keep_their_gradients_side_by_side() -> None:
    """A tensor that vmap has wrapped says that it wants no gradient, although autograd outside of vmap follows it."""
    logits, weight = draw((3, 8, 40), 7), draw((3, 40), 8).abs().requires_grad_()
    target = logits.roll(1, 1).softmax(2).requires_grad_()

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return loss("log_p", x, y, weight=w)

    together = torch.autograd.grad(torch.vmap(run)(logits, target, weight).sum(), (target, weight))
    alone = sum(run(*one) for one in zip(logits, target, weight, strict=True))
    assert isinstance(alone, Tensor)
    torch.testing.assert_close(together, torch.autograd.grad(alone, (target, weight)))


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("name", ["log_p", "moments", "variance", "everything"])
@pytest.mark.parametrize("soft", [False, True])
def test_second_derivatives(name: str, soft: bool) -> None:
    logits = draw((5, 20), 9).requires_grad_()
    target = targets(logits, soft).detach()
    assert torch.autograd.gradcheck(lambda z: loss(name, z, target), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: loss(name, z, target), (logits,))


@pytest.mark.usefixtures("tiny_blocks")
def test_the_next_lower_class_among_many_with_ties_and_none() -> None:
    logits = draw((40, 700), 10).mul(4).round().div(4)  # coarse enough for ties
    logits[0], logits[1, 17] = 0.0, -1e4  # nothing is lower
    index = torch.randint(700, (40,), generator=torch.Generator().manual_seed(11))
    index[1] = 17
    expected = []
    for row, true in zip(logits.tolist(), index.tolist(), strict=True):
        below = [value for value in row if value < row[true]]
        expected.append(max(below) if below else -torch.inf)
    found = loss_of_lower(logits, index) + logits.logsumexp(1)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def loss_of_lower(logits: Tensor, index: Tensor) -> Tensor:
    return average_over_rows(
        logits,
        index,
        lambda row: row.lower_log_p,
        needs=("log_p", "lower_log_p"),
        weight=None,
        ignore_index=-100,
        label_smoothing=0.0,
        reduction="none",
    )


@pytest.mark.usefixtures("tiny_blocks")
def test_an_undeclared_number_is_named() -> None:
    with pytest.raises(AttributeError, match="'mean'"):
        average_over_rows(
            draw((30, 9), 1),
            targets(draw((30, 9), 1), False),
            lambda row: row.mean,
            weight=None,
            ignore_index=-100,
            label_smoothing=0.0,
            reduction="mean",
        )


@pytest.mark.parametrize(("shape", "soft"), [((4000, 1000), False), ((4000, 1000), True), ((4, 4, 512, 512), False)])
def test_memory_above_the_input_is_the_gradient(shape: tuple[int, ...], soft: bool) -> None:
    logits = draw(shape, 12, torch.float32).requires_grad_()
    target = targets(logits.detach(), soft)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss("log_p", logits, target).backward()
    held, most = 0, 0
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    size = logits.numel() * logits.element_size()
    assert size <= most <= 1.1 * size + (16 << 20)  # 16 MiB are asked for and given back untouched


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("rule", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}])
@pytest.mark.parametrize("soft", [False, True])
def test_learned_class_weights_and_targets_have_their_gradients(
    monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], soft: bool
) -> None:
    logits, weight = draw((23, 7), 1), draw((7,), 4).abs().requires_grad_()
    target = targets(logits, soft).requires_grad_(soft)
    wanted = [weight, target] if soft else [weight]

    def run() -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss("log_p", logits, target, weight=weight, **rule), wanted)])

    blocked, plain = both(monkeypatch, run)
    assert plain.any()
    torch.testing.assert_close(blocked, plain)


# The compiled loop.


def squared(z: Tensor) -> Tensor:
    return (z - 1).square()


COMPILED: dict[str, tuple[Callable[[Rows], Tensor], tuple[str, ...], dict[str, Any]]] = {
    "log_p": (FORMULAS["log_p"][0], ("log_p",), {}),
    "moments": (FORMULAS["moments"][0], ("logits", "mean", "variance"), {}),
    "top": (top, ("top_log_p", "is_top"), {}),
    "of_logits": (lambda row: (row.total * row.logits) / 9, ("total", "logits"), {"total_of_logits": squared}),
    "all": (
        lambda row: -row.log_p * (1 - row.log_p.exp() + row.top_log_p.exp())
        + (row.sum_of_squares * 0.1 + row.mean.exp() + (row.variance + 1).sqrt() + row.total) * 0.3 + row.logits.abs(),
        ("logits", "log_p", "top_log_p", "mean", "variance", "sum_of_squares", "total"), {"total": cube},
    ),
    "squares": (
        lambda row: (row.sum_of_squares - row.logits.square()) / row.classes - row.log_p,
        ("logits", "log_p", "sum_of_squares", "classes"), {},
    ),
    "lower": (lambda row: -row.log_p * (1 - row.log_p.exp() + row.lower_log_p.exp()), ("log_p", "lower_log_p"), {}),
}  # fmt: skip


def compiled_and_plain(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What the compiled loop gives, which has to be taken, and the plain operations."""
    calls: list[int] = []
    original = one_pass.in_one_pass

    def counted(*given: Any) -> Any:
        calls.append(1)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr("lossary._fast.classes.rule.in_one_pass", counted)
        compiled = run()
        assert calls
        patch.setattr(dispatch, "LOOPS", False)
        plain = run()
    return compiled, plain


def average(name: str, logits: Tensor, target: Tensor, rule: dict[str, Any]) -> Tensor:
    formula, needs, rest = COMPILED[name]
    given = {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "reduction": "mean", **rest, **rule}
    return average_over_rows(logits, target, formula, needs=needs, **given)


def slopes(name: str, logits: Tensor, target: Tensor, rule: dict[str, Any]) -> Tensor:
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = average(name, leaf, target, rule)
    upstream = torch.linspace(0.5, 2.0, value.numel()).view_as(value)
    (found,) = torch.autograd.grad(value, leaf, upstream)
    return torch.cat([value.detach().flatten(), found.flatten()])


CASES = {"hard": (False, {}), "soft": (True, {}), "smoothed": (False, {"label_smoothing": 0.2, "reduction": "none"})}


def test_many_classes_and_their_next_lower_ones_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = draw((3, 5000), 1, torch.float32)
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes("lower", logits, targets(logits, True), {}))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=1e-7)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("case", CASES)
def test_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, name: str, case: str) -> None:
    soft, rule = CASES[case]
    logits = draw((37, 65), 1, torch.float32)
    logits[0], logits[1, 3], logits[2, ::2] = 0.5, 60.0, -60.0
    weight = draw((65,), 4, torch.float32).abs()
    given = rule | {"weight": weight, "temperature": 2.5} if name in ("log_p", "all") else rule
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, targets(logits, soft), given))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_margin_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    soft, rule = CASES[case]
    logits = draw((37, 65), 1, torch.float32)
    logits[0], logits[1, 3], logits[2, targets(logits, False)[2]] = 0.5, 60.0, 40.0
    for margin in (0.4, 30.0):
        given = rule | {"margin": margin, "temperature": 0.7}
        found, expected = compiled_and_plain(monkeypatch, lambda: slopes("log_p", logits, targets(logits, soft), given))  # noqa: B023
        torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)


def test_few_classes_with_a_probability_need_no_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, weight = draw((37, 65), 1, torch.float32), draw((65,), 4, torch.float32).abs()
    logits[0], logits[1, 3], logits[2, ::2] = 0.5, 60.0, -60.0
    first, second, share = torch.arange(37), torch.arange(37) * 5 % 65, torch.linspace(0, 1, 37)[:, None]
    target = share * torch.eye(65)[first] + (1 - share) * torch.eye(65)[second]
    sorts: list[int] = []
    keys = parts.sorted_keys

    def counted(z: Any) -> Any:
        sorts.append(len(z))
        return keys(z)

    monkeypatch.setattr(parts, "sorted_keys", counted)
    given = {"weight": weight, "reduction": "none"}
    for mixed, sorted_rows in ((target, []), (target.double(), []), (target.index_fill(0, torch.tensor([7]), 1 / 65), [37])):
        sorts.clear()
        found, expected = compiled_and_plain(monkeypatch, lambda: slopes("lower", logits, mixed, given))  # noqa: B023
        torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)
        assert sorts == sorted_rows


@pytest.mark.parametrize(
    ("logits", "bits"),
    [
        (draw((37, 65), 1), 32),
        (draw((5, 1000), 1), 32),
        (draw((5, 1000), 1).round(), 32),  # ties
        (draw((5, 1), 1), 32),
        (torch.tensor([[1.0, -torch.inf, 0.0, torch.inf, -0.0, -torch.inf, -1e9]]), 32),
        (1000 + 1e-3 * draw((5, 1000), 1), 64),  # a short key has no room for what tells these apart
        (draw((5, 5000), 1), 64),
    ],
)
def test_places_in_ascending_order(logits: Tensor, bits: int) -> None:
    z = logits.float().numpy()
    keys = parts.sorted_keys(z)
    assert keys.dtype.itemsize * 8 == bits
    places = keys & ((1 << (z.shape[1] - 1).bit_length()) - 1)
    assert (np.sort(places) == np.arange(z.shape[1])).all()
    assert (np.take_along_axis(z, places, 1) == np.sort(z)).all()


def test_ties_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = draw((37, 65), 1, torch.float32).round()
    logits[3, :4] = torch.tensor([0.0, -0.0, 0.0, -0.0])
    given = {"reduction": "none"}
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes("lower", logits, targets(logits, True), given))
    torch.testing.assert_close(found[:37], expected[:37], rtol=3e-5, atol=3e-6)
    # which of the classes that tie gets the slope by the lower one is left open; together they get the same
    together = [torch.zeros(37, 21).scatter_add(1, logits.long() + 10, x[37:].view(37, 65)) for x in (found, expected)]
    torch.testing.assert_close(*together, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("name", ["log_p", "lower", "moments"])
def test_extreme_logits_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    logits = draw((37, 65), 1, torch.float32)
    logits[0], logits[1], logits[2, 5], logits[3, 5] = 1e4, -1e4, 1e4, -1e4
    logits[4] = logits[4].round()  # ties
    logits[5] = torch.where(logits[5] > 0, 0.0, -0.0)
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, targets(logits, False), {"reduction": "none"}))
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)
    logits[7, 11] = torch.nan
    found, _ = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, targets(logits, False), {"reduction": "none"}))
    assert found[:37].isnan().nonzero().flatten().tolist() == [7]
    assert found[37:].view(37, 65).isnan().all(1).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("soft", [False, True])
def test_layouts_and_second_gradients_of_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, soft: bool) -> None:
    image = draw((2, 40, 3, 4), 6, torch.float32).to(memory_format=torch.channels_last)
    target = targets(image.contiguous(), soft)
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes("log_p", image, target, {}))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)
    leaf = draw((9, 40), 7, torch.float32).requires_grad_()
    target = targets(leaf.detach(), soft)

    def loss() -> Tensor:
        return average("log_p", leaf, target, {"weight": torch.linspace(0, 1, 40)})

    found, expected = compiled_and_plain(monkeypatch, lambda: again_and_twice(loss, leaf))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["log_p", "lower"])
@pytest.mark.parametrize("soft", [False, True])
def test_the_compiled_loop_on_several_threads(monkeypatch: pytest.MonkeyPatch, name: str, soft: bool) -> None:
    logits = draw((37, 65), 1, torch.float32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(mathematics, "THREADED", 100)
    used = on_several_threads(monkeypatch)
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, targets(logits, soft), {}))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)
    assert used == [3]


def test_a_class_that_does_not_exist_is_refused_by_the_compiled_loop_too() -> None:
    for classes in (5, 40):
        with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
            average("moments", torch.zeros(4, classes), torch.tensor([0, 1, classes, 2]), {})


def test_a_formula_that_cannot_be_compiled_goes_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SMALL", 0)
    monkeypatch.setattr(tracing, "UNKNOWN", 0)  # so that those are tried which cannot be remembered
    logits, target = draw((9, 40), 7, torch.float32), torch.arange(9)
    data = torch.linspace(1, 2, 9).unsqueeze(1)
    formulas: tuple[Callable[[Rows], Tensor], ...] = (lambda row: row.log_p.atan(), lambda row: row.log_p * data)
    for formula in formulas:
        given: dict[str, Any] = {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "reduction": "none"}
        found = average_over_rows(logits, target, formula, **given)
        expected = formula(Rows({"log_p": logits.log_softmax(1).gather(1, target.unsqueeze(1))})).squeeze(1)
        torch.testing.assert_close(found, expected)


# Small batches in the compiled loop.


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_small_batches(monkeypatch: pytest.MonkeyPatch, name: str, reduction: str) -> None:
    logits = draw((37, 9), 1, torch.float32)
    logits[0], logits[1, 3], logits[2, ::2] = 0.5, 60.0, -60.0
    logits[3], logits[4, 5], logits[5, 5] = -1e4, 1e4, -1e4
    target = targets(logits, False).clamp_min(0)
    rule: dict[str, Any] = {"reduction": reduction}
    if reduction == "sum":
        rule |= {"weight": draw((9,), 4, torch.float32).abs(), "temperature": 2.5}
    if name == "log_p":
        rule |= {"margin": 0.4}
    if name in ("all", "of_logits", "squares"):
        logits = logits.clamp(-8, 8)  # a cubic and a square of what is very far off swamp the rest
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, target, rule))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)


def test_gradients_of_small_batches_again_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf, target = draw((9, 5), 7, torch.float32).requires_grad_(), torch.arange(9) % 5

    def loss() -> Tensor:
        return average("moments", leaf, target, {"weight": torch.linspace(0, 1, 5)})

    found, expected = compiled_and_plain(monkeypatch, lambda: again_and_twice(loss, leaf))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=1e-6)


def test_ignored_samples_and_no_samples_of_small_batches() -> None:
    logits = draw((4, 5), 7, torch.float32)
    assert average("moments", logits[:0], torch.zeros(0, dtype=torch.int64), {}).item() == 0
    leaf = logits.clone().requires_grad_()
    nothing = average("moments", leaf, torch.full((4,), -100), {})
    assert (nothing.item(), torch.autograd.grad(nothing, leaf)[0].count_nonzero().item()) == (0.0, 0)
    some = average("moments", logits, torch.tensor([0, -100, 3, -100]), {})
    torch.testing.assert_close(some, average("moments", logits[::2].contiguous(), torch.tensor([0, 3]), {}))
    some = average("moments", logits, torch.tensor([0, 2, 3, 2], dtype=torch.int32), {"ignore_index": 2})
    torch.testing.assert_close(some, average("moments", logits[::2].contiguous(), torch.tensor([0, 3]), {}))


def test_loops_and_their_constants_are_found_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = draw((4, 5), 7, torch.float32), torch.arange(4)

    def scaled(factor: float) -> Callable[[Rows], Tensor]:
        return lambda row: -row.log_p * factor

    given: dict[str, Any] = {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "reduction": "sum"}
    one = average_over_rows(logits, target, scaled(1.5), **given)
    before = classes_rule._loop_of.cache_info()
    again = average_over_rows(logits, target, scaled(1.5), **given)
    assert classes_rule._loop_of.cache_info().misses == before.misses
    other = average_over_rows(logits, target, scaled(3.0), **given)
    assert classes_rule._loop_of.cache_info().misses == before.misses + 1
    torch.testing.assert_close(torch.stack([again, other]), one * torch.tensor([1.0, 2.0]))


@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_traces_and_forward_derivatives_take_plain_operations() -> None:
    logits, target, along = draw((4, 5), 7, torch.float32), torch.arange(4), draw((4, 5), 8, torch.float32)

    def cost(z: Tensor) -> Tensor:
        return average("moments", z, target, {})

    leaf = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(leaf), leaf)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(cost(forward_ad.make_dual(logits, along))).tangent
    torch.testing.assert_close(tangent, (slope * along).sum())
    traced = torch.jit.trace(cost, logits)
    torch.testing.assert_close(traced(along), cost(along))


# Maps of classes, whose pixels lie side by side.


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (3, 19, 40, 40), (1, 4, 3, 2, 5), (2, 300, 9)])
@pytest.mark.parametrize("name", ["log_p", "squares"])
@pytest.mark.parametrize("rule", ["mean", "none", "weighted", "warm"])
def test_maps_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], name: str, rule: str) -> None:
    logits = draw(shape, 1, torch.float32)
    logits[0, 1], logits[-1, 0] = 60.0, -60.0
    target = targets(logits, False)
    rules: dict[str, dict[str, Any]] = {
        "mean": {},
        "none": {"reduction": "none"},
        "weighted": {"weight": draw(shape[1:2], 4, torch.float32).abs(), "reduction": "sum"},
        "warm": {"temperature": 2.5, "ignore_index": 1},
    }
    given = rules[rule] if rule == "warm" else {**rules[rule]}
    target = target.clamp_min(0) if rule == "warm" else target
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes(name, logits, target, given))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)


def test_what_is_ignored_in_maps_may_be_anything_and_what_counts_keeps_its_nan() -> None:
    logits = draw((2, 5, 6, 7), 1, torch.float32)
    target = targets(logits, False)
    expected = slopes("squares", logits, target, {"reduction": "none"})
    spoilt = torch.where((target == -100).unsqueeze(1), torch.nan, logits)
    torch.testing.assert_close(slopes("squares", spoilt, target, {"reduction": "none"}), expected)
    assert target[1, 2, 3] >= 0
    logits[1, 4, 2, 3] = torch.nan
    value = average("log_p", logits, target, {"reduction": "none"})
    assert value.isnan().nonzero().tolist() == [[1, 2, 3]]


def test_gradients_of_maps_again_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = draw((2, 5, 3, 4), 7, torch.float32).requires_grad_()
    target = targets(leaf.detach(), False)
    for reduction in ("mean", "none"):

        def loss(reduction: str = reduction) -> Tensor:
            return average("squares", leaf, target, {"weight": torch.linspace(0, 1, 5), "reduction": reduction}).mean()

        found, expected = compiled_and_plain(monkeypatch, lambda: again_and_twice(loss, leaf))
        torch.testing.assert_close(found, expected, rtol=3e-5, atol=1e-5)


def test_maps_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = draw((2, 19, 40, 40), 1, torch.float32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(mathematics, "THREADED", 100)
    used = on_several_threads(monkeypatch)
    found, expected = compiled_and_plain(monkeypatch, lambda: slopes("log_p", logits, targets(logits, False), {}))
    torch.testing.assert_close(found, expected, rtol=3e-5, atol=3e-6)
    assert used == [3]
