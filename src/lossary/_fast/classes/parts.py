"""Loops over the numbers of one row, whatever the formula: parts of :mod:`lossary._fast.classes.loop`, compiled once."""

from typing import Any

import numpy as np

from lossary._fast.mathematics import LEAST, exp, f32, from_order, i32, in_order, loop

SHORT = 12  # bits of a place in a row, up to which it is kept in 32 bits together with what has room of a logit


@loop
def largest(z: Any) -> Any:
    """The largest number, or NaN."""
    found = LEAST
    for j in range(z.shape[0]):
        found = max(found, in_order(z[j]))
    return from_order(found)


@loop
def smallest(z: Any) -> Any:
    """The smallest number; that of numbers with NaN may be NaN."""
    found = i32(0x7FFFFFFF)
    for j in range(z.shape[0]):
        found = min(found, in_order(z[j]))
    return from_order(found)


@loop
def largest_below(z: Any, bound: Any) -> Any:
    """The largest number that is smaller than the bound, or minus infinity."""
    found, limit = LEAST, in_order(bound)  # of -0 that is -1
    for j in range(z.shape[0]):
        candidate = i32(in_order(z[j]))
        candidate = i32(0) if candidate == i32(-1) else candidate  # one zero instead of two
        found = max(found, candidate if candidate < limit else LEAST)
    return from_order(found)


@loop
def first_place(z: Any, of: Any) -> Any:
    found = end = i32(z.shape[0])
    for j in range(z.shape[0]):
        found = min(found, i32(j) if z[j] == of else end)
    return found


@loop
def exponentials(z: Any, largest: Any, scale: Any, out: Any) -> Any:
    """exp((z - largest) scale), and their sum."""
    total = f32(0.0)
    for j in range(z.shape[0]):
        e = exp((z[j] - largest) * scale)
        out[j] = e
        total += e
    return total


@loop
def sum_of(z: Any) -> Any:
    total = f32(0.0)
    for j in range(z.shape[0]):
        total += z[j]
    return total


@loop
def sum_of_squares(z: Any, centre: Any) -> Any:
    total = f32(0.0)
    for j in range(z.shape[0]):
        total += (z[j] - centre) * (z[j] - centre)
    return total


@loop
def scaled(x: Any, factor: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] = x[j] * factor


@loop
def combined(e: Any, of_e: Any, z: Any, of_z: Any, centre: Any, of_distance: Any, constant: Any, out: Any) -> None:
    for j in range(z.shape[0]):
        out[j] = e[j] * of_e + z[j] * of_z + (z[j] - centre) * of_distance + constant


@loop
def linear(z: Any, of_z: Any, centre: Any, of_distance: Any, constant: Any, out: Any) -> None:
    for j in range(z.shape[0]):
        out[j] = z[j] * of_z + (z[j] - centre) * of_distance + constant


@loop
def added(x: Any, factor: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] += x[j] * factor


@loop
def joined(x: Any, of_x: Any, y: Any, of_y: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] = x[j] * of_x + y[j] * of_y


@loop
def masses(q: Any, index: Any, weight: Any, smoothing: Any, out: Any) -> None:
    """q_c w_c of each class, with q a row of probabilities or one class."""
    even = smoothing / f32(out.shape[0])
    if q is not None:
        for j in range(out.shape[0]):
            out[j] = f32(q[j]) * (f32(1.0) - smoothing) + even
    else:
        for j in range(out.shape[0]):
            out[j] = even
        out[index] += f32(1.0) - smoothing
    if weight is not None:
        for j in range(out.shape[0]):
            out[j] *= weight[j]


@loop
def _keys(z: Any, out: Any) -> None:
    """Integers in the order of the numbers, with the place of each in the lower half."""
    for i in range(z.shape[0]):
        zi, oi = z[i], out[i]
        for j in range(zi.shape[0]):
            oi[j] = (np.int64(in_order(zi[j])) << 32) | j


@loop
def _short_keys(z: Any, bits: Any, out: Any) -> None:
    """The same in half of the room, where the place takes the last bits of the number."""
    for i in range(z.shape[0]):
        zi, oi = z[i], out[i]
        for j in range(zi.shape[0]):
            oi[j] = i32(i32(i32(in_order(zi[j]) >> bits) << bits) | i32(j))


@loop
def _mended(z: Any, keys: Any, mask: Any) -> Any:
    """Put short keys in order that differ only in the bits that the place took; False if it takes too long."""
    patience = z.size
    for i in range(z.shape[0]):
        zi, ki = z[i], keys[i]
        for j in range(1, zi.shape[0]):
            if np.uint32(ki[j] ^ ki[j - 1]) <= mask:
                key, k = ki[j], j
                x = zi[np.uint32(key) & mask]
                while k > 0 and x < zi[np.uint32(ki[k - 1]) & mask]:
                    ki[k] = ki[k - 1]
                    k -= 1
                ki[k] = key
                patience -= j - k
        if patience < 0:
            return False
    return True


def sorted_keys(z: Any) -> Any:
    """Of each row the places of its numbers in ascending order, in the last bits of integers, which NumPy sorts fast, and twice as
    fast if they are short."""
    places = int(z.shape[1] - 1).bit_length()
    if places <= SHORT:
        keys = np.empty(z.shape, np.int32)
        _short_keys(z, places, keys)
        keys.sort(axis=1)
        if _mended(z, keys, np.uint32((1 << places) - 1)):
            return keys
    keys = np.empty(z.shape, np.int64)
    _keys(z, keys)
    keys.sort(axis=1)
    return keys


@loop
def next_lower(z: Any, keys: Any, lowers: Any, places: Any) -> None:
    """For each number the largest that is smaller, or minus infinity, and where it is, or 0."""
    mask = np.uint32(1)  # the bits that a place takes
    while mask + np.uint32(1) < z.shape[0]:
        mask = np.uint32(mask << 1) | np.uint32(1)
    before = np.uint32(keys[0]) & mask
    lower, place, largest = f32(-np.inf), np.uint32(0), z[before]
    for j in range(z.shape[0]):
        at = np.uint32(keys[j]) & mask  # an index without a sign is not looked at twice
        x = z[at]
        if x > largest:
            lower, place = largest, before
        lowers[at], places[at] = lower, place
        before, largest = at, x


@loop
def _how_many(q: Any) -> Any:
    """How many are not 0."""
    count = i32(0)
    for j in range(q.shape[0]):
        count += i32(1) if q[j] != 0 else i32(0)
    return count


@loop
def few_in_each(q: Any, most: Any) -> Any:
    """Whether no row of probabilities has more than so many that are not 0."""
    for i in range(q.shape[0]):  # noqa: SIM110  # Numba compiles no generators
        if _how_many(q[i]) > most:
            return False
    return True


@loop
def where(q: Any, out: Any) -> Any:
    """The places of those that are not 0, which are few, and their number."""
    found = 0
    for start in range(0, q.shape[0], 64):
        part = q[start : start + 64]
        if _how_many(part) > 0:
            for j in range(part.shape[0]):
                if part[j] != 0:
                    out[found] = start + j
                    found += 1
    return found
