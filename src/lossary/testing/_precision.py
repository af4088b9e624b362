"""Half precision: values, gradients and whole maps, against float64 on the same rounded inputs."""

from dataclasses import replace

import torch
from torch import Tensor

from lossary.testing._relations import parameters_said, reductions
from lossary.testing._subject import Failed, NotApplicable, Subject, call, value_and_gradient

HALVES = (torch.float16, torch.bfloat16)


def _off(actual: Tensor, expected: Tensor, dtype: torch.dtype, units: int = 4) -> str | None:
    """What is off by more than a few units in the last place of ``dtype``, or None."""
    eps, step = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    expected = expected.double()
    # below the last factor float32 itself, in which a loss may compute, has no digits left (as in p - 1 for p near 1)
    allowed = units * eps * expected.abs() + units * step + 16 * torch.finfo(torch.float32).eps * expected.abs().amax()
    off = (actual.double() - expected).abs()
    bad = ~(off <= allowed)
    if not bool(bad.any()):
        return None
    at = int(off.nan_to_num(float("inf")).mul(bad).argmax())
    got, wanted = float(actual.flatten()[at]), float(expected.flatten()[at])
    places = float(off.flatten()[at]) / (eps * max(abs(wanted), 1e-300))
    return f"{got:.6g} instead of {wanted:.6g}, {places:.3g} units in the last place"


def half_precision_accuracy(subject: Subject) -> str:
    """Values and gradients of float16 and bfloat16 inputs are within 4 units in the last place of the float64 result.

    The float64 result is for the same rounded inputs, so that only the loss's own arithmetic counts. A program that evaluates its
    formula in the half dtype rounds after each of a dozen operations, and loses every digit where it subtracts nearly equal
    numbers; a bound of a few roundings is therefore stricter than "no worse than the naive program in the same dtype".
    """
    if subject.stochastic:
        raise NotApplicable("it draws other random numbers in another dtype")
    for dtype in HALVES:
        name = str(dtype).removeprefix("torch.")
        for scale in (1.0, 8.0):
            for kind in subject.kinds:
                for reduction in reductions(subject):
                    if reduction == {"reduction": "sum"}:
                        continue  # of the values of "none", which are compared
                    loss = subject.make(**reduction)
                    batch = subject.batch(64, dtype=dtype, scale=scale, kind=kind, loss=loss)
                    value, gradient = value_and_gradient(loss, batch)
                    true_value, true_gradient = value_and_gradient(loss, batch.mapped(_double))
                    said = f"{name}, {kind}, {parameters_said(reduction)}"
                    for what, got, wanted in (("value", value, true_value), ("gradient", gradient, true_gradient)):
                        wrong = _off(got, wanted, dtype)
                        if wrong:
                            raise Failed(f"{what} in {said}: {wrong}")
    return "float16 and bfloat16, values and gradients"


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def half_precision_maps(subject: Subject) -> str:
    """Maps of 512 x 512 in float16 and bfloat16: mean and sum are finite and accurate (float16 ends at 65504)."""
    if not subject.spatial:
        raise NotApplicable("it takes no spatial dimensions")
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    inputs = subject.inputs if _sized(subject) else replace(subject.inputs, classes=min(subject.inputs.classes, 4))
    drawn = inputs.batch(subject.make(), 2, dtype=torch.float32, space=(512, 512))
    values, faults = [], []
    for dtype in HALVES:
        batch = drawn.mapped(lambda value, dtype=dtype: value.to(dtype) if value.is_floating_point() else value)  # type: ignore[misc]
        wide = batch.mapped(lambda value: value.float() if value.is_floating_point() else value)
        name = str(dtype).removeprefix("torch.")
        per_item = subject.make(reduction="none") if subject.takes("reduction") else subject.make()
        with torch.no_grad():  # float32 items are exact enough here, and added up in float64
            items = call(per_item, wide).double()
        reduced = {"sum": items.sum(), "mean": items.mean()} if subject.takes("reduction") else {"loss": items}
        if "mean" in reduced and "weight" in subject.given:
            with torch.no_grad():
                reduced["mean"] = call(subject.make(reduction="mean"), wide).double()
        for reduction, true in reduced.items():
            loss = subject.make(reduction=reduction) if subject.takes("reduction") else subject.make()
            value, gradient = value_and_gradient(loss, batch)
            wrong = _off(value, true, dtype)
            if wrong:
                faults.append(f"{reduction} in {name} is {wrong}")
            elif not bool(gradient.isfinite().all()):
                faults.append(f"the gradient of the {reduction} in {name} is not finite")
        values.append(f"{float(items.sum()):.4g}")
    if faults:
        raise Failed("; ".join(faults))
    return f"sums of {' and '.join(values)}"


def _sized(subject: Subject) -> bool:
    """Whether the number of classes is fixed by the parameters given."""
    return bool({"num_classes", "class_counts", "weight"} & {*subject.given, *subject.required})
