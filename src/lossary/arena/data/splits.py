"""Splits, and features ready for a network: everything is fitted on the training part only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from lossary.arena.data.dataset import Data
from lossary.arena.data.division import Division, divide
from lossary.arena.tasks import PADDING
from lossary.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Features and target of one part, and the target as metrics want it.

    A ranking has lists for rows: features (lists, items, columns), relevance (lists, items), both padded to the longest list.
    """

    features: Tensor
    target: Tensor
    truth: Array


@dataclass(frozen=True)
class Split:
    """One seed's division of the data. A network fits ``(value - center) / scale`` of a regression target."""

    seed: int
    train: Part
    validation: Part
    test: Part
    center: float = 0.0
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's features: (columns,), also of an item in a list, or (channels, height, width)."""
        each = tuple(self.train.features.shape[1:])
        return each[1:] if len(each) == 2 else each

    @property
    def width(self) -> int:
        return self.shape[0]


def make_splits(data: Data, seeds: tuple[int, ...], validation_share: float, test_share: float) -> list[Split]:
    """One split for each seed, stratified and with groups kept whole, all of one size so that their runs can be stacked.

    The parts of a retrieval share no class, those of a ranking no list.
    """
    kind = data.task.kind
    divisions = [divide(data.target, kind, data.groups, seed, validation_share, test_share) for seed in seeds]
    if kind == "retrieval" or (data.groups is not None and kind != "ranking"):
        # Groups and classes differ in size, and so do parts made of them: a few rows are left out by chance.
        train, validation, test = (min(len(division[part]) for division in divisions) for part in range(3))
        divisions = [(one[0][:train], one[1][:validation], one[2][:test]) for one in divisions]
        if kind != "retrieval":
            _check_classes(data, divisions)
    if kind == "ranking":
        _check_lists(data, divisions)
    splits = [_split(data, seed, *division) for seed, division in zip(seeds, divisions, strict=True)]
    width = max(split.width for split in splits)
    return [_widened(split, width) for split in splits]


def _check_classes(data: Data, divisions: list[Division]) -> None:
    for part in (part for division in divisions for part in division):
        truth = data.target[part]
        if data.task.kind == "regression":
            lacking = np.array([np.ptp(truth) == 0])
            what = f"the target {data.target_name!r}"
        else:
            present = truth.mean(axis=0) if truth.ndim == 2 else np.bincount(truth, minlength=len(data.classes))
            lacking = (present == 0) | (present == 1) if truth.ndim == 2 else present == 0
            what = repr(data.classes[int(lacking.argmax())])
        if lacking.any():
            raise DataError(f"{data.name}: {what} is in too few groups to be in training, validation and test")


def _check_lists(data: Data, divisions: list[Division]) -> None:
    if not all(data.target[part].any() for division in divisions for part in division):
        raise DataError(
            f"{data.name}: {data.target_name!r} is above 0 in too few of the lists to be so in training, validation and test"
        )


def _split(data: Data, seed: int, train: Array, validation: Array, test: Array) -> Split:
    features = prepared(data, train)
    if data.task.kind == "ranking" and data.groups is not None:
        longest = int(np.bincount(data.groups).max())
        whole = [_padded(features[rows], data.target[rows], data.groups[rows], longest) for rows in (train, validation, test)]
        return Split(seed, whole[0], whole[1], whole[2])
    center, scale = 0.0, 1.0
    if data.task.kind == "regression":
        center, scale = float(data.target[train].mean()), float(data.target[train].std()) or 1.0

    def part(chosen: Array) -> Part:
        truth = data.target[chosen]
        target = torch.from_numpy(truth)  # class numbers, labels, or values brought to mean 0 and deviation 1
        if data.task.kind == "regression":
            target = ((target - center) / scale).float()
        if data.task.kind == "retrieval":  # the classes of the part, numbered from 0
            target = torch.from_numpy(np.unique(truth, return_inverse=True)[1].astype(np.int64))
        return Part(torch.from_numpy(features[chosen]), target.float() if truth.ndim == 2 else target, truth)

    return Split(seed, part(train), part(validation), part(test), center, scale)


def _padded(features: Array, relevance: Array, lists: Array, longest: int) -> Part:
    """Rows that come list after list as lists of one length."""
    starts = np.flatnonzero(np.diff(lists, prepend=-1))
    place = np.cumsum(np.diff(lists, prepend=-1) != 0) - 1
    item = np.arange(len(lists)) - starts[place]
    padded = np.zeros((len(starts), longest, features.shape[1]), dtype=np.float32)
    truth = np.full((len(starts), longest), PADDING)
    padded[place, item], truth[place, item] = features, relevance
    return Part(torch.from_numpy(padded), torch.from_numpy(truth).float(), truth)


def prepared(data: Data, train: Array) -> NDArray[np.float32]:
    """Features of all rows as a network takes them, by what is known of the training rows."""
    if data.images is not None:
        seen = data.images[train]
        center, scale = (value.astype(np.float32) for value in (seen.mean((0, 2, 3), np.float64), seen.std((0, 2, 3), np.float64)))
        scale[scale == 0] = 1
        return np.asarray((data.images - center[:, None, None]) / scale[:, None, None], dtype=np.float32)
    blocks = []
    if data.numbers.shape[1]:
        imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        numbers = make_pipeline(imputer, StandardScaler())
        numbers.fit(data.numbers[train])
        blocks.append(numbers.transform(data.numbers))
    if data.words.shape[1]:
        imputer = SimpleImputer(strategy="constant", missing_values=None, fill_value="(missing)")
        encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2, max_categories=50, sparse_output=False)
        words = make_pipeline(imputer, encoder)
        words.fit(data.words[train])
        blocks.append(words.transform(data.words))
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _widened(split: Split, width: int) -> Split:
    """Splits can see different categories; columns of zeros change nothing and let their runs be stacked."""
    missing = width - split.width
    if not missing:
        return split

    def wide(part: Part) -> Part:
        return Part(torch.nn.functional.pad(part.features, (0, missing)), part.target, part.truth)

    return Split(split.seed, wide(split.train), wide(split.validation), wide(split.test), split.center, split.scale)
