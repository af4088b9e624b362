"""An invertible map with a symmetric positive Jacobian: the gradient of a strongly convex network, in closed form."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from lossary._fast.dispatch import holds_values

IDENTITY = math.log(math.e - 1)  # softplus of it is 1
FAINT = -6.0  # softplus of it is 0.0025: nearly nothing, and still trainable
SMALLEST_SCALE = 1e-3
LEAST_SPREAD = 0.1  # the deviation of the input from which a batch can set the scales


class ConvexGradient(nn.Module):
    """f(x) = the gradient of softplus(w1) ICNN(x) + softplus(w0) |x|^2 / 2.

    The network is convex because what follows its first layer only adds with positive weights and applies softplus. Its gradient is
    written out rather than taken by autograd, so that it also works without gradients, under transforms and when compiled.
    In training, the first batch that has a spread sets shifts and scales such that pre-activations have mean 0 and variance 1.
    """

    ready: Tensor

    def __init__(self, dim: int, hidden_dim: int, depth: int, identity: bool):
        super().__init__()
        convex = hidden_dim // 2
        self.first = nn.Linear(dim, hidden_dim)
        self.positive = nn.ModuleList(nn.Linear(hidden_dim, convex) for _ in range(depth - 1))
        self.skip = nn.ModuleList(nn.Linear(dim, convex, bias=False) for _ in range(depth - 1))
        self.augment = nn.ModuleList(nn.Linear(dim, hidden_dim - convex) for _ in range(depth - 1))
        self.shift = nn.ParameterList(torch.zeros(convex) for _ in range(depth - 1))
        self.log_scale = nn.ParameterList(torch.zeros(convex) for _ in range(depth - 1))
        self.last_positive = nn.Linear(hidden_dim, 1, bias=False)
        self.last_skip = nn.Linear(dim, 1, bias=False)
        self.last_log_scale = nn.Parameter(torch.zeros(1))
        self.w0 = nn.Parameter(torch.empty(()))
        self.w1 = nn.Parameter(torch.empty(()))
        self.register_buffer("ready", torch.empty((), dtype=torch.bool))
        self.identity = identity
        self._reset_own()

    def reset_parameters(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        self._reset_own()

    @torch.no_grad()
    def _reset_own(self) -> None:
        for value in (*self.shift, *self.log_scale, self.last_log_scale):
            value.zero_()
        for value, start in ((self.w0, IDENTITY), (self.w1, FAINT)):
            value.fill_(start) if self.identity else value.normal_()
        self.ready.fill_(False)
        self.is_ready = False  # the same without asking a device

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the map of x (N, D); samples that are not kept (N,) have no part in the start."""
        starting = _Start.of(x, kept, self.ready) if self.training and not self.is_ready else None
        d = x.dtype
        before = linear(x, self.first.weight.to(d), self.first.bias.to(d))
        v, slopes, layers = softplus(before), [before.sigmoid()], self._layers()
        for i, (positive, skip, augment) in enumerate(layers):
            weight, width = softplus(positive.weight.to(d)), positive.weight.shape[1]
            sums = linear(v, weight, positive.bias.to(d)) / width + linear(x, skip.weight.to(d))
            if starting is not None:
                starting.set(sums, self.log_scale[i], self.shift[i])
            normal = (sums + self.shift[i].to(d)) * _scale(self.log_scale[i], d)
            extra = linear(x, augment.weight.to(d), augment.bias.to(d))
            v = torch.cat([softplus(normal), softplus(extra)], 1)
            slopes.append(torch.cat([normal.sigmoid(), extra.sigmoid()], 1))
        weight, width = softplus(self.last_positive.weight.to(d)), v.shape[1]
        if starting is not None:
            starting.set(linear(v, weight) / width + linear(x, self.last_skip.weight.to(d)), self.last_log_scale, None)
            self.ready.logical_or_(starting.now)
            if holds_values(self.ready):
                self.is_ready = bool(self.ready)

        # and back: how the output moves with v, and with x
        scale = _scale(self.last_log_scale, d)
        to_v, to_x = scale * weight / width, scale * self.last_skip.weight.to(d)
        for i in reversed(range(len(layers))):
            positive, skip, augment = layers[i]
            to_sums, to_extra = (to_v * slopes[i + 1]).split([skip.weight.shape[0], augment.weight.shape[0]], 1)
            to_sums = to_sums * _scale(self.log_scale[i], d)
            to_x = to_x + to_sums @ skip.weight.to(d) + to_extra @ augment.weight.to(d)
            to_v = to_sums @ softplus(positive.weight.to(d)) / positive.weight.shape[1]
        to_x = to_x + (to_v * slopes[0]) @ self.first.weight.to(d)
        return softplus(self.w1.to(d)) * to_x + softplus(self.w0.to(d)) * x

    def _layers(self) -> list[tuple[nn.Linear, nn.Linear, nn.Linear]]:
        return cast("list[tuple[nn.Linear, nn.Linear, nn.Linear]]", list(zip(self.positive, self.skip, self.augment, strict=True)))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.is_ready = bool(self.ready)


class _Start(NamedTuple):
    """How the first batch that can do it sets shifts and scales."""

    kept: Tensor  # (N, 1), the samples that count
    now: Tensor  # (), whether this batch does it

    @staticmethod
    @torch.no_grad()
    def of(x: Tensor, kept: Tensor | None, ready: Tensor) -> "_Start":
        """Decide by the spread of x (N, D): scaling up what hardly differs would blow up whatever comes after it."""
        finite = x.isfinite().all(1)  # a broken sample would spoil the scales for good
        of_batch = (finite if kept is None else finite & kept).unsqueeze(1)
        return _Start(of_batch, ~ready & (_mean_and_variance(x, of_batch)[1].mean() >= LEAST_SPREAD**2))

    @torch.no_grad()
    def set(self, sums: Tensor, log_scale: Tensor, shift: Tensor | None) -> None:
        mean, variance = _mean_and_variance(sums, self.kept)
        scale = 1 / variance.sqrt().clamp_min(1e-2)
        log_scale.copy_(torch.where(self.now, (scale - SMALLEST_SCALE).clamp_min(SMALLEST_SCALE).log(), log_scale))
        if shift is not None:
            shift.copy_(torch.where(self.now, -mean, shift))


def _mean_and_variance(x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) of the kept rows of x (N, D)."""
    count = kept.sum().clamp_min(1)
    mean = x.masked_fill(~kept, 0.0).sum(0) / count
    return mean, (x - mean).masked_fill(~kept, 0.0).square().sum(0) / count


def _scale(log_scale: Tensor, dtype: torch.dtype) -> Tensor:
    return log_scale.to(dtype).exp() + SMALLEST_SCALE
