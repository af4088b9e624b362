"""What a row function of a loss of pairs sees and uses: see :mod:`lossary._fast.pairs.rule`, which calls it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Once:
    """A property that is computed once. The standard library's takes a lock, before which ``torch.compile`` gives up."""

    def __init__(self, make: Callable[[Any], Tensor]):
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    def __get__(self, pairs: Any, owner: type) -> Tensor:
        found = self.make(pairs)
        if not torch.compiler.is_compiling():
            pairs.__dict__[self.name] = found  # which is found there before this is asked again
        return found


@dataclass(frozen=True)
class Pairs:
    """What a row function may ask about the pairs of B anchors with M items."""

    anchors: Tensor  # (B,) the anchors' places in the batch
    own: Tensor | None  # (B,) the item that belongs to each
    anchor_labels: Tensor | None
    item_labels: Tensor | None
    anchor_sides: tuple[Tensor, ...] = ()
    item_sides: tuple[Tensor, ...] = ()
    shape: tuple[int, int] = field(default=(0, 0))

    @_Once
    def itself(self) -> Tensor:
        """(B, M): whether the item is the anchor's own."""
        if self.own is None:
            return torch.zeros(self.shape, dtype=torch.bool, device=self.anchors.device)
        return self.own[:, None] == torch.arange(self.shape[1], device=self.own.device)

    @_Once
    def same(self) -> Tensor:
        """(B, M): whether both have one label; the anchor's own item included."""
        if self.anchor_labels is None or self.item_labels is None:
            return self.itself
        return self.anchor_labels[:, None] == self.item_labels

    @_Once
    def positive(self) -> Tensor:
        """(B, M): one label, and not the anchor's own item."""
        return self.same if self.own is None else self.same.scatter(1, self.own[:, None], False)

    @_Once
    def negative(self) -> Tensor:
        """(B, M): different labels; without labels, all items but the anchor's own."""
        return ~self.same

    def at_own(self, s: Tensor) -> Tensor:
        """(B,): what (B, M) holds for the anchor's own item."""
        if self.own is None:
            raise AttributeError("the anchors have no items of their own")
        return s.gather(1, self.own[:, None]).squeeze(1)


Row = Callable[..., tuple[Tensor, ...]]


class Kernel(NamedTuple):
    """A row function as a compiled loop over the anchors of a block.

    The loop is called as ``loop(s, first, last, own, upstream, out, *constants)`` with arrays: s are products or squared distances
    as for the row function; the items of an anchor's label
    are those from ``first`` to before ``last``, its own item among them is ``own`` (-1 if it has none). It writes the numbers
    into ``out`` (B, numbers), and where ``upstream`` has rows, ``(B, numbers)``, it overwrites ``s`` by the derivative of their
    product.
    """

    load: Callable[[], Callable[..., None]]  # imports Numba, and so is called late
    numbers: int
    constants: tuple[float, ...] = ()
    # The numbers are a sum over positives and one over negatives, to which each pair adds what its similarity alone says, and how
    # many positives and how many negatives have a derivative.
    symmetric: bool = False


def log_sum_exp(s: Tensor, where: Tensor | None = None) -> Tensor:
    """The logarithm of the sum of the exponentials of each row's chosen elements; -inf, without a gradient, if there are none."""
    if s.shape[1] == 0:
        return s.sum(1) - torch.inf
    chosen = s if where is None else s.masked_fill(~where, -torch.inf)
    largest = chosen.detach().amax(1, keepdim=True)
    largest = torch.where(largest == -torch.inf, torch.zeros_like(largest), largest)
    total = (chosen - largest).exp().sum(1)
    empty = total == 0
    return torch.where(empty, -torch.inf, torch.where(empty, torch.ones_like(total), total).log() + largest.squeeze(1))
