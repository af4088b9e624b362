"""An invertible map with a symmetric positive Jacobian: the gradient of a strongly convex network, in closed form."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

IDENTITY = math.log(math.e - 1)  # softplus of it is 1
FAINT = -6.0  # softplus of it is 0.0025: nearly nothing, and still trainable
SMALLEST_SCALE = 1e-3


class ConvexGradient(nn.Module):
    """f(x) = the gradient of softplus(w1) ICNN(x) + softplus(w0) |x|^2 / 2.

    The network is convex because what follows its first layer only adds with positive weights and applies softplus. Its gradient is
    written out rather than taken by autograd, so that it also works without gradients, under transforms and when compiled.
    The first batch of at least two samples in training sets shifts and scales such that pre-activations have mean 0 and variance 1.
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

    def forward(self, x: Tensor) -> Tensor:
        starting = self.training and not self.is_ready and x.shape[0] > 1
        d = x.dtype
        before = linear(x, self.first.weight.to(d), self.first.bias.to(d))
        v, slopes, layers = softplus(before), [before.sigmoid()], self._layers()
        for i, (positive, skip, augment) in enumerate(layers):
            weight, width = softplus(positive.weight.to(d)), positive.weight.shape[1]
            sums = linear(v, weight, positive.bias.to(d)) / width + linear(x, skip.weight.to(d))
            if starting:
                self._start(sums, self.log_scale[i], self.shift[i])
            normal = (sums + self.shift[i].to(d)) * _scale(self.log_scale[i], d)
            extra = linear(x, augment.weight.to(d), augment.bias.to(d))
            v = torch.cat([softplus(normal), softplus(extra)], 1)
            slopes.append(torch.cat([normal.sigmoid(), extra.sigmoid()], 1))
        weight, width = softplus(self.last_positive.weight.to(d)), v.shape[1]
        if starting:
            self._start(linear(v, weight) / width + linear(x, self.last_skip.weight.to(d)), self.last_log_scale, None)
            self.is_ready = True
            with torch.no_grad():
                self.ready.fill_(True)

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

    @torch.no_grad()
    def _start(self, sums: Tensor, log_scale: Tensor, shift: Tensor | None) -> None:
        spread, mean = torch.std_mean(sums.nan_to_num(0.0, 0.0, 0.0), 0, correction=0)  # a broken row would spoil them for good
        log_scale.copy_((1 / spread.clamp_min(1e-2) - SMALLEST_SCALE).clamp_min(SMALLEST_SCALE).log())
        if shift is not None:
            shift.copy_(-mean)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.is_ready = bool(self.ready)


def _scale(log_scale: Tensor, dtype: torch.dtype) -> Tensor:
    return log_scale.to(dtype).exp() + SMALLEST_SCALE
