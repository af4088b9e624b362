"""Arrays in memory, brought to the forms that the arena works with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.errors import DataError

Array = NDArray[Any]


def plain_target(name: str, target: Array) -> Array:
    """Objects, as pandas has them, become numbers or text."""
    if target.dtype != object:
        return target
    values = target.ravel().tolist()
    missing = sum(value is None or value != value for value in values)
    if missing:
        raise DataError(f"{name}: {missing} values of the target are missing")
    if all(isinstance(value, (bool, int, float)) for value in values):
        return np.array(values).reshape(target.shape)
    return np.array([str(value) for value in values]).reshape(target.shape)


def as_images(name: str, values: Array) -> Array:
    """Channels before height and width. A first side of at most 4 with a longer last one can only be channels already."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name}: images must be numbers, got {values.dtype}")
    if 0 in values.shape:
        raise DataError(f"{name}: images must have a height and a width, got the shape {values.shape}")
    if values.ndim == 3:
        values = values[:, None]
    elif not values.shape[1] <= 4 < values.shape[3]:
        values = values.transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(images).all():
        raise DataError(f"{name}: images must be finite numbers, and some pixels are not")
    return images


def group_codes(name: str, groups: Array, rows: int) -> Array:
    if groups.shape != (rows,):
        raise DataError(f"{name}: groups must be ({rows},), got {groups.shape}")
    codes = np.unique(groups.astype(str) if groups.dtype == object else groups, return_inverse=True)[1]
    return codes.astype(np.int64)
