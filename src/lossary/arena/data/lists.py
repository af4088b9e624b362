"""Which rows take part in a retrieval and in a ranking, what the report says of the others, and what is refused."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.errors import DataError

Array = NDArray[Any]
Kept = tuple[Array, tuple[str, ...]]  # row numbers, ascending, and notes
LONGEST = 200  # items of a list: all lists are as long as the longest, and losses on pairs take its square
FEWEST_LISTS = 10


def kept_of_lists(name: str, target_name: str, lists: Array, relevance: Array) -> Kept:
    """Lists of at least two items, of the longer ones as many as are allowed."""
    lengths = np.bincount(lists)
    notes = []
    single, longer = int((lengths == 1).sum()), int((lengths > LONGEST).sum())
    if single:
        notes.append(f"{_times(single, 'list')} of a single item {'was' if single == 1 else 'were'} left out")
    if longer:
        notes.append(f"of {_times(longer, 'list')} of more than {LONGEST} items a random {LONGEST} were kept")
    if len(lengths) - single < FEWEST_LISTS:
        raise DataError(f"{name}: a ranking needs at least {FEWEST_LISTS} lists of two items or more, got {len(lengths) - single}")
    order = np.random.default_rng(0).permutation(len(lists))
    by_list = order[np.argsort(lists[order], kind="stable")]
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(lists)) - np.repeat(starts, lengths)
    kept = np.sort(by_list[(place < LONGEST) & (np.repeat(lengths, lengths) > 1)])
    lowest, highest = np.full(len(lengths), np.inf), np.full(len(lengths), -np.inf)
    np.minimum.at(lowest, lists[kept], relevance[kept])
    np.maximum.at(highest, lists[kept], relevance[kept])
    if not (highest > lowest).any():
        raise DataError(f"{name}: {target_name!r} is the same for every item of each list, so that there is no order to learn")
    return kept, tuple(notes)


def kept_of_classes(name: str, classes: Array, groups: Array | None, group_name: str) -> Kept:
    """Classes of at least two rows, as a row needs another one to be found."""
    counts = np.bincount(classes)
    single = int((counts == 1).sum())
    notes = []
    if single:
        left = "its class was" if single == 1 else "their class were"
        notes.append(f"{_times(single, 'row')} alone in {left} left out")
    if groups is not None:
        pairs = np.unique(np.stack([groups, classes], axis=1), axis=0)
        mixed = len(pairs) > len(np.unique(groups))
        if mixed:
            raise DataError(
                f"{name}: the parts of a retrieval share no class, and rows of one {group_name or 'group'} are in several classes,"
                f" so that it cannot be kept together"
            )
    if len(set(counts[counts > 1].tolist())) > 1:
        notes.append(
            "parts share no class and classes differ in size, so each part is cut by chance to the size that it has in the smallest"
            " of the seeds' splits"
        )
    return np.flatnonzero(counts[classes] > 1), tuple(notes)


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
