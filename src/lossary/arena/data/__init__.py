"""From what a user has (a file, arrays, a data set) to features, targets and splits."""

from lossary.arena.data.dataset import Data, from_arrays, load

__all__ = ["Data", "from_arrays", "load"]
