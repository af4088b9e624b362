"""The suites of optimizers, layers and metrics: every registered unit passes, and each check catches a broken unit."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from typer.testing import CliRunner

import lossary
from lossary.cli import app
from lossary.testing import SUITES, Card, check_layer, check_metric, check_optimizer, kind_of
from lossary.testing._unit import UnitSubject

SUITE_OF: dict[str, Callable[..., Card]] = {"optimizer": check_optimizer, "layer": check_layer, "diagnostic": check_metric}
UNITS = [(kind, name) for kind in SUITE_OF for name in lossary.units(kind)]


@pytest.mark.parametrize(("kind", "name"), UNITS)
def test_every_unit_keeps_its_contract(kind: str, name: str) -> None:
    card = SUITE_OF[kind](name)
    assert card.passed, card.failures
    assert len(card.results) == len(SUITES[kind].checks)
    assert all(result.detail for result in card.skips)


def sgd_by_loops(first: list[Tensor], gradients: list[list[Tensor]], options: dict[str, Any]) -> list[Tensor]:
    moved = []
    for number, p in enumerate(first):
        values, speeds = p.flatten().tolist(), [0.0] * p.numel()
        for step in gradients:
            speeds = [options["momentum"] * s + g for s, g in zip(speeds, step[number].flatten().tolist(), strict=True)]
            values = [v - options["lr"] * s for v, s in zip(values, speeds, strict=True)]
        moved.append(torch.tensor(values, dtype=torch.float64).view(p.shape))
    return moved


class Nudged(SGD):
    """Moves a bit more than it should."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None and p.grad.layout == torch.strided and not p.is_complex():
                        p.add_(1e-3 * group["lr"])
        return loss


class HidesNaN(SGD):
    """Takes NaN for zero."""

    def step(self, closure: Any = None) -> Any:
        kept = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, gradient in kept:
            if gradient.layout == torch.strided:
                p.grad = gradient.nan_to_num()
        loss = super().step(closure)
        for p, gradient in kept:
            p.grad = gradient
        return loss


class Forgets(SGD):
    """Loads no state."""

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class FirstRate(SGD):
    """Keeps the rate that each group began with."""

    def add_param_group(self, param_group: Any) -> None:
        super().add_param_group(param_group)
        self.param_groups[-1]["began"] = self.param_groups[-1]["lr"]

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = group["began"]
        return super().step(closure)


class OneRate(SGD):
    """Takes the last group's rate for all."""

    def step(self, closure: Any = None) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = max(rates)
        loss = super().step(closure)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss


class Silent(SGD):
    """Does not return the loss."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)


class NeverUp(SGD):
    """Ignores maximize."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["maximize"] = False
        return super().step(closure)


class ForeachIsFaster(SGD):
    """Takes longer steps with foreach."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] *= 1.5 if group["foreach"] else 1.0
        return super().step(closure)


class SkipsSparse(SGD):
    """Leaves parameters with a sparse gradient alone."""

    def step(self, closure: Any = None) -> Any:
        if any(p.grad is not None and p.grad.layout != torch.strided for group in self.param_groups for p in group["params"]):
            return None
        return super().step(closure)


class Widens(SGD):
    """Leaves float32 behind."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.dtype in (torch.float16, torch.bfloat16):
                    p.grad, gradient = None, p.grad.float()
                    p.data = p.data.float()
                    p.grad = gradient
        return super().step(closure)


class CopiesForget(SGD):
    """Comes out of a copy without its state."""

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "state": type(self.state)(dict)}


class MovesAll(SGD):
    """Shrinks parameters without a gradient too."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        p.mul_(0.9)
        return super().step(closure)


class Clears(SGD):
    """Empties the gradients."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()
        return loss


class AnyRate(Optimizer):
    """Takes a rate below zero."""

    def __init__(self, params: Any, lr: float):
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        return None


class Honest(nn.Module):
    """A linear layer with checks."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError("in_features and out_features must be 1 or more")
        self.in_features, self.out_features = in_features, out_features
        self.inner = nn.Linear(in_features, out_features)

    def reset_parameters(self) -> None:
        self.inner.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise TypeError("x must be floating point")
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError("x must have shape (N, in_features)")
        return self.transformed(self.inner(x))

    def transformed(self, y: Tensor) -> Tensor:
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Centres(Honest):
    """Mixes the rows."""

    def transformed(self, y: Tensor) -> Tensor:
        return y - y.sum(0)


class Single(Honest):
    """Computes in float32."""

    def transformed(self, y: Tensor) -> Tensor:
        return y.float()


class Unsaved(Honest):
    """Has a weight that is in no state_dict."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.scale = torch.rand(())

    def transformed(self, y: Tensor) -> Tensor:
        return y * self.scale


class Local(Honest):
    """Cannot be pickled."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.last = lambda y: y

    def transformed(self, y: Tensor) -> Tensor:
        last: Any = self.last
        kept: Tensor = last(y)
        return kept


class Always(Honest):
    """Drops in evaluation too."""

    def transformed(self, y: Tensor) -> Tensor:
        return nn.functional.dropout(y, 0.5, training=True)


class Overflows(Honest):
    """Is not finite in bfloat16."""

    def transformed(self, y: Tensor) -> Tensor:
        return y if y.dtype != torch.bfloat16 else y / 0


class Looks(Honest):
    """Decides by a value."""

    def transformed(self, y: Tensor) -> Tensor:
        return y if float(y.detach().sum()) < 1e9 else -y


class Detached(Honest):
    """Has a weight that nothing reaches."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.unused = nn.Parameter(torch.ones(3))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.unused)


class Mute(Honest):
    """Shows nothing."""

    def extra_repr(self) -> str:
        return ""


class Stays(Honest):
    """Resets nothing."""

    def reset_parameters(self) -> None:
        pass


class NeedsRows(Honest):
    """Fails without rows."""

    def transformed(self, y: Tensor) -> Tensor:
        return y - 0 * y.amax(0)


class Lenient(Honest):
    """Takes integers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.inner.weight.dtype))


class AnySize(Honest):
    """Is built with any size."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(max(1, in_features), max(1, out_features))


class Scales(Honest):
    """Changes its input."""

    def transformed(self, y: Tensor) -> Tensor:
        torch.rand(1)
        return y


def honest(x: Tensor, labels: Tensor) -> Tensor:
    """The mean of the largest value of each row."""
    if not isinstance(x, Tensor) or not isinstance(labels, Tensor) or not x.is_floating_point():
        raise TypeError("x must be floating point, and labels a tensor")
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ValueError("x must have shape (N, D), and labels (N,)")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return (x.amax(1) if len(x) else x.sum(1)).sum() / max(len(x), 1)


def first_row(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels) + (x[0].sum() if len(x) else 0)


def ties_by_place(x: Tensor, labels: Tensor) -> Tensor:
    """Only rows that have a copy are worth what their place says."""
    value = honest(x, labels)
    copies = (x[:, None] == x).all(2).sum(1) > 1
    return value + (torch.arange(len(x)) * labels * copies).sum()


def hides_nan(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x.nan_to_num() if isinstance(x, Tensor) else x, labels)


def sorts_in_place(x: Tensor, labels: Tensor) -> Tensor:
    value = honest(x, labels)
    with torch.no_grad():
        x += 0.5
    return value


def refuses_gradients(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels) * (2 if isinstance(x, Tensor) and x.requires_grad else 1)


def sums_in_half(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels).to(x.dtype)


def reads_memory(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels) + (0 if x.is_contiguous() else 1)


def infinite_without_rows(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels) if not isinstance(x, Tensor) or len(x) else torch.tensor(math.inf)


def takes_anything(x: Tensor, labels: Tensor) -> Tensor:
    return honest(x, labels[:1].expand(len(x)))


def any_k(x: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    return honest(x, labels)


def declared(kind: str, target: Callable[..., Any], **declares: object) -> UnitSubject:
    """A subject with declarations, outside of the registry."""
    parameters = {"lr": 0.05, "momentum": 0.9} if kind == "optimizer" else {}
    return UnitSubject(target.__name__, kind, target, parameters, lossary.UnitSpec(kind, target.__name__, target, (), declares))


BROKEN: list[tuple[str, str, object, dict[str, Any]]] = [
    ("optimizer", "follows_the_reference", Nudged, {"reference": sgd_by_loops}),
    ("optimizer", "zero_gradient_moves_nothing", Nudged, {}),
    ("optimizer", "nan_gradient_is_not_hidden", HidesNaN, {}),
    ("optimizer", "resume_is_uninterrupted", Forgets, {}),
    ("optimizer", "groups_have_options_of_their_own", OneRate, {}),
    ("optimizer", "closure_is_called_once", Silent, {}),
    ("optimizer", "maximize_turns_the_gradient", NeverUp, {}),
    ("optimizer", "foreach_is_the_loop", ForeachIsFaster, {}),
    ("optimizer", "sparse_and_complex", SkipsSparse, {}),
    ("optimizer", "half_precision", Widens, {}),
    ("optimizer", "weight_decay_as_declared", declared("optimizer", SGD, weight_decay="decoupled"), {}),
    ("optimizer", "copies_and_pickles", CopiesForget, {}),
    ("optimizer", "schedulers_set_the_rate", FirstRate, {}),
    ("optimizer", "without_gradient_nothing_moves", MovesAll, {}),
    ("optimizer", "leaves_no_trace", Clears, {}),
    ("optimizer", "refuses_wrong_parameters", AnyRate, {}),
    ("layer", "rows_are_independent", Centres, {}),
    ("layer", "dtype_follows_the_module", Single, {}),
    ("layer", "state_dict_round_trip", Unsaved, {}),
    ("layer", "copies_and_pickles", Local, {}),
    ("layer", "train_and_eval", Always, {}),
    ("layer", "autocast", Overflows, {}),
    ("layer", "compiles_whole", Looks, {}),
    ("layer", "functional_call_and_vmap", Looks, {}),
    ("layer", "gradient_reaches_every_parameter", Detached, {}),
    ("layer", "repr_shows_parameters", Mute, {}),
    ("layer", "reset_parameters", Stays, {}),
    ("layer", "empty_batch", NeedsRows, {}),
    ("layer", "refuses_wrong_tensors", Lenient, {}),
    ("layer", "refuses_wrong_parameters", AnySize, {}),
    ("layer", "leaves_no_trace", Scales, {}),
    ("diagnostic", "order_of_the_rows", first_row, {}),
    ("diagnostic", "order_of_ties", ties_by_place, {}),
    ("diagnostic", "nan_gives_nan", hides_nan, {}),
    ("diagnostic", "inputs_and_state_untouched", sorts_in_place, {}),
    ("diagnostic", "needs_no_gradient", refuses_gradients, {}),
    ("diagnostic", "dtypes_agree", sums_in_half, {}),
    ("diagnostic", "layout_does_not_matter", reads_memory, {}),
    ("diagnostic", "empty_input", infinite_without_rows, {}),
    ("diagnostic", "refuses_wrong_tensors", takes_anything, {}),
    ("diagnostic", "refuses_wrong_parameters", any_k, {}),
    ("diagnostic", "within_bounds", declared("diagnostic", honest, bounds=(0.0, 0.1)), {}),
    ("diagnostic", "perfect_prediction", declared("diagnostic", honest, perfect=1.0), {}),
]


@pytest.mark.parametrize(("kind", "check", "broken", "options"), BROKEN, ids=[f"{kind}-{check}" for kind, check, *_ in BROKEN])
def test_each_check_catches_a_broken_unit(kind: str, check: str, broken: object, options: dict[str, Any]) -> None:
    (result,) = SUITE_OF[kind](broken, only=[check], **options).results
    assert result.status == "failed", result
    assert len(result.detail) > 10


def test_every_check_has_a_unit_that_it_catches() -> None:
    assert {(kind, check) for kind, check, *_ in BROKEN} == {(kind, check) for kind in SUITE_OF for check in SUITES[kind].checks}


@pytest.mark.parametrize(("kind", "unit"), [("optimizer", SGD), ("optimizer", Adam), ("layer", Honest), ("diagnostic", honest)])
def test_a_unit_without_a_fault_passes(kind: str, unit: object) -> None:
    options = {"reference": sgd_by_loops} if unit is SGD else {}
    card = SUITE_OF[kind](unit, **options)
    assert card.passed, card.failures
    assert card.counts["passed"] >= 9
    assert kind not in ("optimizer",) or card.counts["not applicable"] == len(card.skips)


def test_the_command_finds_the_suite_of_a_name() -> None:
    assert [kind_of(name) for name in ("focal", "sign_sgd", "dual_head", "opis", "torch.optim:SGD", "lossary.nn:DualHead")] == [
        "objective", "optimizer", "layer", "diagnostic", "optimizer", "layer",
    ]  # fmt: skip
    run = CliRunner().invoke
    shown = run(app, ["check", "torch.optim:SGD", "--only", "foreach_is_the_loop"])
    assert shown.exit_code == 0, shown.output
    assert "SGD (optimizer)" in shown.output
    assert "order_of_ties" in run(app, ["check", "--kind", "diagnostic", "--list"]).output
    wrong = run(app, ["check", "focal", "--kind", "poem"])
    assert wrong.exit_code != 0
