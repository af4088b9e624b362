"""Reading a ``torch.utils.data.Dataset`` of (x, y) items."""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lossary.arena.data.images import as_array, check_size, stack
from lossary.arena.data.sample import choose_rows, picture_bytes
from lossary.errors import DataError

Array = NDArray[Any]


def read_dataset(
    name: str, dataset: Dataset[Any], image_size: int, max_rows: int, max_bytes: int
) -> tuple[Array, Array, tuple[str, ...]]:
    """Features (rows, columns) or images (rows, channels, height, width), the target, and notes."""
    check_size(image_size)
    if not isinstance(dataset, Sized) or not len(dataset):
        raise DataError(f"{name}: a data set needs a length and items, so that it can be split")
    first = _item(name, dataset, 0, image_size)[0]
    sample = choose_rows(len(dataset), max_rows, picture_bytes(first.shape) if first.ndim == 3 else 0, max_bytes)
    xs, ys = zip(*(_item(name, dataset, int(i), image_size) for i in sample.rows), strict=True)
    if len({y.shape for y in ys}) > 1:
        raise DataError(f"{name}: every y must have the same shape, got {ys[0].shape} and others")
    return _stacked(name, xs), np.stack(ys), sample.notes


def _item(name: str, dataset: Dataset[Any], place: int, image_size: int) -> tuple[Array, Array]:
    item = dataset[place]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{name}: every item must be a pair (x, y), got {type(item).__name__} at {place}")
    return _features(item[0], image_size), _target(name, item[1])


def _features(x: Any, image_size: int) -> Array:
    if hasattr(x, "convert") and hasattr(x, "resize"):  # an image of Pillow, which need not be installed
        return as_array(x, image_size)
    values = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if values.ndim == 2:
        return values[None]
    if values.ndim == 3 and values.shape[0] > 4 and values.shape[2] <= 4:
        return values.transpose(2, 0, 1)  # channels last, as arrays of images usually are
    return values


def _target(name: str, y: Any) -> Array:
    value = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    if value.ndim == 1 and len(value) == 1:
        value = value[0]
    if value.ndim > 1 or value.dtype.kind not in "biufU":
        raise DataError(f"{name}: every y must be a number, a text or a row of 0 and 1, got {type(y).__name__}")
    return np.asarray(value)


def _stacked(name: str, xs: Sequence[Array]) -> Array:
    pictures = all(x.ndim == 3 for x in xs)
    if pictures and len({x.shape[1:] for x in xs}) == 1 and {x.shape[0] for x in xs} == {1, 3} and xs[0].dtype == np.uint8:
        return stack(xs)
    shapes = sorted({x.shape for x in xs})
    if len(shapes) > 1:
        raise DataError(f"{name}: every x must have the same shape, got {shapes[0]} and {shapes[1]}")
    if xs[0].ndim not in (1, 3) or xs[0].dtype.kind not in "biuf":
        raise DataError(f"{name}: every x must be numbers (columns,) or an image, got {xs[0].dtype} of shape {xs[0].shape}")
    return stack(xs) if pictures and xs[0].dtype == np.uint8 else np.stack(xs)
