"""Distillation-oriented trainer: gradient descent with a longer memory for the teacher's gradient than for that of the labels."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lossary._core.parameters import Fraction, NonNegative, checked, domains, settled
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.optim._common import checked_group, listed


@unit(kind="optimizer", name="dot", declares={"weight_decay": "coupled"})
class DistillationOrientedTrainer(Optimizer):
    r"""Distillation-oriented trainer: the teacher's gradient is remembered longer than that of the labels.

    .. math::
        u_{t+1} = (m - \Delta)\,u_t + g_t^{\text{task}}, \quad v_{t+1} = (m + \Delta)\,v_t + g_t^{\text{distill}}, \qquad
        \theta_{t+1} = \theta_t - \eta\,(u_{t+1} + v_{t+1})

    Both losses come with their weights. ``step(task_loss, distill_loss)`` does two backward passes and a step. In a loop of its
    own, such as one with a gradient scaler, the same is

    ``zero_grad()``, ``distill_loss.backward(retain_graph=True)``, ``step_kd()``,
    ``zero_grad()``, ``task_loss.backward()``, ``step()``.

    With delta = 0 it is :class:`torch.optim.SGD` with momentum on the sum of both losses, step by step. In the long run a steady
    gradient counts 1 / (1 - m + delta) times on the side of the labels and 1 / (1 - m - delta) times on that of the teacher, so
    that part of what it does is another weighting of the losses: hold it against SGD with these weights before you praise it. A
    parameter with one of the gradients only moves as by SGD, with m. Weight decay belongs to the labels' side. Everything
    remembered is in ``state``, and parameters may come in several groups, unlike in the authors' program.

    Args:
        params: parameters, or groups of them with their own options.
        lr: the step size.
        momentum: m.
        delta: half the difference of the two momenta; at most m, and so that m + delta < 1.
        weight_decay: added to the gradient of the task, as in :class:`torch.optim.SGD`.
    Shape: dense real gradients of any shape.
    Errors: a sparse gradient, a complex parameter, or an option outside its range is a ``LossaryError``.
    Source: Zhao, Cui, Song and Liang, "DOT: A Distillation-Oriented Trainer", 2023; the default delta is that for CIFAR.

    >>> weight = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = DistillationOrientedTrainer([weight], lr=0.1, momentum=0.5, delta=0.25)
    >>> for _ in range(2):
    ...     optimizer.step(task_loss=weight.sum(), distill_loss=2 * weight.sum())
    >>> weight.detach()  # less 0.1 (1 + 2), and 0.1 (1.25 + 3.5)
    tensor([0.2250])
    """

    @checked("dot")
    def __init__(
        self,
        params: ParamsT,
        lr: NonNegative,
        momentum: Fraction = 0.9,
        delta: NonNegative = 0.075,
        weight_decay: NonNegative = 0.0,
    ):
        super().__init__(listed("dot", params), {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        with checked_group("dot", param_group):
            options: dict[str, Any] = settled("dot", domains(type(self).__init__), {**self.defaults, **param_group})
            momentum, delta = options["momentum"], options["delta"]
            if delta > momentum or momentum + delta >= 1:
                raise InvalidValueError(
                    f"dot: delta must be at most momentum and less than 1 - momentum, got {delta} with a momentum of {momentum}"
                )
            super().add_param_group(options)

    @torch.no_grad()
    def step_kd(self) -> None:
        """Take the gradients that there are for those of the distillation loss, for the next step."""
        for parameter, gradient in self._gradients():
            self.state[parameter]["distill_gradient"] = gradient.clone()

    @torch.no_grad()
    def step(self, task_loss: Tensor | None = None, distill_loss: Tensor | None = None) -> None:  # type: ignore[override]
        """Step along both gradients.

        Args:
            task_loss: the weighted loss of the labels; left out, its gradients are those that there are.
            distill_loss: the weighted loss of the teacher, beside that of the labels; left out, its gradients are those of the last
                ``step_kd()``.
        """
        for name, loss in (("task_loss", task_loss), ("distill_loss", distill_loss)):
            if loss is not None and not isinstance(loss, Tensor):
                raise InvalidTypeError(f"dot: {name} must be a tensor, got {type(loss).__name__}")
            if loss is not None and loss.numel() != 1:
                raise InvalidValueError(f"dot: {name} must be one number, got shape {tuple(loss.shape)}")
            if loss is not None and not loss.requires_grad:
                raise InvalidValueError(f"dot: {name} must depend on the parameters, got a constant")
        if distill_loss is not None and task_loss is None:
            raise InvalidValueError("dot: distill_loss must come with task_loss, got it alone; step_kd() takes its gradients alone")
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        with torch.enable_grad():
            if distill_loss is not None:
                self.zero_grad()
                distill_loss.backward(retain_graph=task_loss is not None, inputs=parameters)
                self.step_kd()
            if task_loss is not None:
                self.zero_grad()
                task_loss.backward(inputs=parameters)
        task = dict(self._gradients())
        for group in self.param_groups:
            for parameter in group["params"]:
                distill = self.state[parameter].pop("distill_gradient", None) if parameter in self.state else None
                if distill is not None or parameter in task:
                    self._move(parameter, task.get(parameter), distill, group)

    def _gradients(self) -> list[tuple[Tensor, Tensor]]:
        found = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(gradient.layout != torch.strided for _, gradient in found):
            raise InvalidTypeError("dot: gradients must be dense, got a sparse one; build the embedding with sparse=False")
        return found

    def _move(self, parameter: Tensor, task: Tensor | None, distill: Tensor | None, group: dict[str, Any]) -> None:
        delta = group["delta"] if task is not None and distill is not None else 0.0
        if group["weight_decay"]:
            decay = group["weight_decay"] * parameter
            task = decay if task is None else task + decay
        state = self.state[parameter]
        for name, gradient, share in (
            ("task_momentum", task, group["momentum"] - delta),
            ("distill_momentum", distill, group["momentum"] + delta),
        ):
            buffer = state.get(name)
            if buffer is None:
                if gradient is None:
                    continue
                buffer = state[name] = gradient.clone(memory_format=torch.preserve_format)
            else:
                buffer.mul_(share)
                if gradient is not None:
                    buffer.add_(gradient)
            parameter.add_(buffer, alpha=-group["lr"])
