"""A target network that follows the trained one as an exponential moving average."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.parameters import Fraction, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


def _tensors(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return dict(named)


@unit(kind="layer", name="ema_target")
class EmaTarget(nn.Module):
    r"""A frozen copy of a module, whose weights follow those of the module as an exponential moving average.

    .. math:: \xi \leftarrow m \, \xi + (1 - m) \, \theta

    Call it for the target's output, which carries no gradient, and ``update(module)`` after each step of the optimizer. The
    module itself is not kept, so that it is saved, moved and optimized once. Running statistics and other buffers are taken over
    as they are: the average of two variances is nobody's variance. Weights of half precision are averaged in float32 and
    rounded once; still, at a momentum of 0.996 small changes are lost in that rounding: keep the target in float32.

    Args:
        module: what is followed; it is copied, and not changed.
        momentum: the share of itself that the target keeps at each update. BYOL begins with 0.996 and raises it to 1 with a
            cosine; ``update(module, momentum=...)`` takes the current one.
    Shape: those of the module.
    Errors: a momentum outside [0, 1], or an update from a module of another structure, is a ``LossaryError``.
    Source: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020.

    >>> online = torch.nn.Linear(2, 1, bias=False)
    >>> target = EmaTarget(online, momentum=0.5)
    >>> before = online.weight.detach().clone()
    >>> with torch.no_grad():
    ...     _ = online.weight.add_(1.0)
    >>> target.update(online)
    >>> target.module.weight - before
    tensor([[0.5000, 0.5000]])
    """

    @checked("ema_target")
    def __init__(self, module: nn.Module, momentum: Fraction = 0.996):
        super().__init__()
        if not isinstance(module, nn.Module):
            raise InvalidTypeError(f"ema_target: module must be a torch.nn.Module, got {type(module).__name__}")
        self.momentum = momentum
        self.module = copy.deepcopy(module).requires_grad_(False)

    def forward(self, *inputs: Any) -> Any:
        with torch.no_grad():
            return self.module(*inputs)

    @torch.no_grad()
    @checked("ema_target")
    def update(self, module: nn.Module, momentum: Fraction | None = None) -> None:
        """Move towards a module; ``momentum`` replaces the constructor's for this update."""
        keep = self.momentum if momentum is None else momentum
        own, followed = _tensors(self.module.named_parameters()), _tensors(module.named_parameters())
        own_buffers, buffers = _tensors(self.module.named_buffers()), _tensors(module.named_buffers())
        for kind, mine, theirs in (("parameters", own, followed), ("buffers", own_buffers, buffers)):
            if {name: value.shape for name, value in mine.items()} != {name: value.shape for name, value in theirs.items()}:
                raise InvalidValueError(
                    f"ema_target: module must have the {kind} of the module that the target was made from, got others"
                )
        for name, value in own.items():
            wide = torch.promote_types(value.dtype, torch.float32)
            value.copy_(torch.lerp(followed[name].to(value.device, wide), value.to(wide), keep))
        for name, value in own_buffers.items():
            value.copy_(buffers[name])

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}"
