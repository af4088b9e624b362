"""What optimizers share that step along a transformed gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lossary._core.parameters import domains, settled
from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError


class TransformedGradient(Optimizer, ABC):
    """Heavy-ball descent along ``directions(gradients)``: b = momentum b + d, then theta = theta - lr b.

    Weight decay is decoupled (theta shrinks by lr * weight_decay before the step): inside of the gradient it would be part of
    what is transformed, and the method another one.
    """

    name: ClassVar[str]

    def __init__(self, params: ParamsT, lr: float, momentum: float, weight_decay: float):
        super().__init__(listed(self.name, params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @abstractmethod
    def directions(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Tensors d, given the gradients of the parameters of all groups, and a number that all of them are to be multiplied by."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        with checked_group(self.name, param_group):
            super().add_param_group(settled(self.name, domains(type(self).__init__), {**self.defaults, **param_group}))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None and not callable(closure):
            raise InvalidTypeError(f"{self.name}: closure must be a function that returns the loss, got {type(closure).__name__}")
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        gradients = [p.grad for _, parameters in moving for p in parameters]
        if any(gradient.layout != torch.strided for gradient in gradients):
            raise InvalidTypeError(f"{self.name}: gradients must be dense, got a sparse one; build the embedding with sparse=False")
        if not gradients:
            return loss
        tensors, factor = self.directions(gradients)
        by = 1.0
        half = any(tensor.dtype == torch.float16 for tensor in tensors)  # in which the factor may not fit
        if factor is not None and factor.device.type == "cpu" and not half:
            by = float(factor)  # on an accelerator this would wait for all that is under way
        elif factor is not None:
            tensors = _scaled(tensors, factor)
        directions = iter(tensors)
        for group, parameters in moving:
            if not parameters:
                continue
            steps = list(islice(directions, len(parameters)))
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["momentum"]:
                buffers = self._buffers(parameters)
                torch._foreach_mul_(buffers, group["momentum"])
                torch._foreach_add_(buffers, steps, alpha=by)
                torch._foreach_add_(parameters, buffers, alpha=-group["lr"])
            else:
                torch._foreach_add_(parameters, steps, alpha=-group["lr"] * by)
        return loss

    def _buffers(self, parameters: list[Tensor]) -> list[Tensor]:
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]


def listed(name: str, params: ParamsT) -> list[Any]:
    """The parameters, or their groups, of which there has to be one."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise InvalidTypeError(f"{name}: params must be several tensors, or groups of them, got {type(params).__name__}")
    found = list(params)
    if not found:
        raise InvalidValueError(f"{name}: params must hold at least one tensor, or group of them, got none")
    return found


@contextmanager
def checked_group(name: str, group: dict[str, Any]) -> Iterator[None]:
    """Around PyTorch's own taking of a group: what it refuses is refused in the name of the optimizer."""
    if not isinstance(group, dict) or "params" not in group:
        raise InvalidTypeError(f"{name}: a group must be a dict with its tensors under 'params', got {group!r}")
    try:
        yield
    except LossaryError:
        raise
    except TypeError as error:
        raise InvalidTypeError(f"{name}: params cannot be used: {error}") from error
    except ValueError as error:
        raise InvalidValueError(f"{name}: params cannot be used: {error}") from error
    for parameter in group["params"]:  # by now a list of tensors
        if parameter.is_complex():
            raise InvalidTypeError(f"{name}: params must be real, got {parameter.dtype}")


def euclidean_norm(gradients: list[Tensor]) -> Tensor:
    """ONE norm over all gradients together, right also where the squares of single-precision numbers overflow or vanish."""
    home = gradients[0].device
    if home.type != "cpu":  # there, double precision costs no more than reading the gradients does
        return _euclidean_norm(gradients, torch.float32 if home.type == "mps" else torch.float64)
    wide = torch.float64 if any(gradient.dtype == torch.float64 for gradient in gradients) else torch.float32
    norm = _euclidean_norm(gradients, wide)
    return norm if 1e-12 < float(norm) < 1e12 else _euclidean_norm(gradients, torch.float64)


def _euclidean_norm(gradients: list[Tensor], dtype: torch.dtype) -> Tensor:
    norms = torch._foreach_norm(gradients, 2, dtype=dtype)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(gradients[0].device) for norm in norms]))
    return norm


def signs(gradients: list[Tensor]) -> list[Tensor]:
    """The sign of each coordinate. That of NaN is NaN, where the library has 0 and a spoiled gradient would go unnoticed."""
    return [torch.where(gradient.isnan(), gradient, gradient.sign()) for gradient in gradients]


def absolute_sum(gradients: list[Tensor]) -> Tensor:
    """The sum of all magnitudes. (The library's norm of order 1 stops growing at 2^24 equal terms of single precision.)"""
    sums = [gradient.abs().sum(dtype=torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients]
    return torch.stack([each.to(gradients[0].device, torch.float32 if each.is_mps else torch.float64) for each in sums]).sum()


def _scaled(tensors: list[Tensor], factor: Tensor) -> list[Tensor]:
    # In half precision the factor itself may not fit.
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) * factor.to(tensor.device) for tensor in tensors]
