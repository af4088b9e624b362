"""Splits, and features ready for a network: everything is fitted on the training part only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from lossary.arena.data import Data

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Features and target of one part, and the target as metrics want it."""

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
    def width(self) -> int:
        return self.train.features.shape[1]


def make_splits(data: Data, seeds: tuple[int, ...], validation_share: float, test_share: float) -> list[Split]:
    """One stratified split for each seed, all of one width so that their runs can be stacked."""
    splits = [_split(data, seed, validation_share, test_share) for seed in seeds]
    width = max(split.width for split in splits)
    return [_widened(split, width) for split in splits]


def _split(data: Data, seed: int, validation_share: float, test_share: float) -> Split:
    rows = np.arange(data.rows)
    strata = None if data.task.kind == "regression" else data.target
    rest, test = train_test_split(rows, test_size=test_share, random_state=seed, stratify=strata)
    share = validation_share / (1 - test_share)
    rest_strata = None if strata is None else strata[rest]
    train, validation = train_test_split(rest, test_size=share, random_state=seed, stratify=rest_strata)
    features = _features(data, train)
    center, scale = 0.0, 1.0
    if data.task.kind == "regression":
        center, scale = float(data.target[train].mean()), float(data.target[train].std()) or 1.0

    def part(chosen: Array) -> Part:
        truth = data.target[chosen]
        target = torch.from_numpy(truth)  # class numbers, or values brought to mean 0 and deviation 1
        if data.task.kind == "regression":
            target = ((target - center) / scale).float()
        return Part(torch.from_numpy(features[chosen]), target, truth)

    return Split(seed, part(train), part(validation), part(test), center, scale)


def _features(data: Data, train: Array) -> NDArray[np.float32]:
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
