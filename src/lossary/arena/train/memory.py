"""How much memory a computation needs, counted by its tensors and not by its process.

What a process holds depends on what it did before, on the allocator and on the system; what the tensors of one computation hold at
once is the same wherever and however often it is asked.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Follows every tensor that is made inside of it until its memory is given back; ``highest`` is the most bytes held at once.

    What an operation uses while it runs and has given back when it returns is not seen, nor is what is not a tensor.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.highest: int = 0
        self.now = 0
        self._held: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                memory = value.untyped_storage()
                if memory._cdata not in self._held and memory._cdata not in given:  # else it is a view, or was there before
                    self._held.add(memory._cdata)
                    self.now += memory.nbytes()
                    weakref.finalize(memory, self._give_back, memory._cdata, memory.nbytes()).atexit = False
        self.highest = max(self.highest, self.now)
        return result

    def _give_back(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.now -= size
