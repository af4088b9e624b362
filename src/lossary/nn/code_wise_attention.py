"""Code-wise attention: every label looks for its own tokens."""

import math

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="layer", name="code_wise_attention")
class CodeWiseAttention(nn.Module):
    r"""A multi-label head over a sequence, in which every label has an attention of its own.

    .. math:: a_c = \mathrm{softmax}_s\left( u_c^\top \tanh(W h_s + b) \right), \qquad z_c = w_c^\top \sum_s a_{cs} h_s + b_c

    Beside the logits it returns the attention, which shows what each label was decided by. Labels do not share their last
    layer. A sequence without any valid token attends to nothing: its attention is 0 and its logits are the biases, where
    published programs attend to the padding. (A bias of the scores, which cannot change a softmax, is left out.)

    Args:
        hidden_dim: the size D of the hidden states.
        num_labels: how many labels O there are.
        expansion: the width of the attention, in multiples of hidden_dim.
    Shape: hidden (N, S, D); mask (N, S) of dtype bool, True for tokens that count, or None; the result is a pair of logits (N, O)
        and attention (N, O, S), which sums to 1 over the sequence.
    Errors: a shape or dtype other than these, or sizes that are not positive integers, are a ``LossaryError``.
    Source: Biswas, Pham and Zhang, "TransICD: Transformer Based Code-wise Attention Model for Explainable ICD Coding", 2021. The
        width of the attention is not certain; twice the hidden size is taken.

    >>> head = CodeWiseAttention(hidden_dim=8, num_labels=3)
    >>> logits, attention = head(torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    >>> logits.shape, attention.shape
    (torch.Size([2, 3]), torch.Size([2, 3, 5]))
    """

    @checked("code_wise_attention")
    def __init__(self, hidden_dim: PositiveCount, num_labels: PositiveCount, expansion: PositiveCount = 2):
        super().__init__()
        self.hidden_dim, self.num_labels, self.expansion = hidden_dim, num_labels, expansion
        self.project = nn.Linear(hidden_dim, expansion * hidden_dim)
        self.score = nn.Linear(expansion * hidden_dim, num_labels, bias=False)
        self.weight = nn.Parameter(torch.empty(num_labels, hidden_dim))
        self.bias = nn.Parameter(torch.empty(num_labels))
        self._reset_own()

    def reset_parameters(self) -> None:
        """Draw all weights anew; those of the labels begin as in ``nn.Linear(hidden_dim, 1)``."""
        self.project.reset_parameters()
        self.score.reset_parameters()
        self._reset_own()

    def _reset_own(self) -> None:
        bound = 1 / math.sqrt(self.hidden_dim)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_floating("code_wise_attention", "hidden", hidden)
        if hidden.ndim != 3 or hidden.shape[2] != self.hidden_dim:
            given = shape_text(tuple(hidden.shape))
            raise InvalidValueError(f"code_wise_attention: hidden must have shape (N, S, {self.hidden_dim}), got {given}")
        if mask is not None:
            check_tensor("code_wise_attention", "mask", mask)
            check_shape("code_wise_attention", "mask", mask, tuple(hidden.shape[:2]))
            if mask.dtype != torch.bool:
                raise InvalidTypeError(f"code_wise_attention: mask must be bool, True for tokens that count, got {mask.dtype}")
            hidden = hidden.masked_fill(~mask.unsqueeze(2), 0.0)  # padding may hold anything, infinities included
        scores = self.score(torch.tanh(self.project(hidden)))  # (N, S, O)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(2), torch.finfo(scores.dtype).min)
        attention = scores.softmax(1)
        if mask is not None:
            attention = attention.masked_fill(~mask.unsqueeze(2), 0.0)  # also where nothing counts
        # w_c . (sum of a_cs h_s) as the sum of a_cs (w_c . h_s): the pooled states (N, O, D) are never held
        votes = nn.functional.linear(hidden, self.weight)
        return (attention * votes).sum(1) + self.bias, attention.transpose(1, 2)

    def extra_repr(self) -> str:
        return f"hidden_dim={self.hidden_dim}, num_labels={self.num_labels}, expansion={self.expansion}"
