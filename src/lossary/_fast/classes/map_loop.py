"""The loop over maps of classes that Numba compiles: cost and gradient of each pixel while its classes are in the cache.

Maps are (N, C, *) with the pixels of a class side by side in memory. A tile of pixels with all of their classes is read once
into room that stays in the cache. What is done there is done class by class for many pixels at a time, which keeps the vector
units busy however few classes there are. See :mod:`lossary._fast.classes.rule` for what is computed. This module imports Numba:
import it where a batch on a processor comes, and not before.
"""

import functools
from typing import Any

import numpy as np

from lossary._fast.classes import parts
from lossary._fast.mathematics import exp, f32, log, loop, on_threads, select, widest, with_names
from lossary._fast.tracing import compiled

TILE = 1 << 14  # numbers of a tile: 64 KiB, of which two stay in the cache

# What the loop below finds in place of these.
formula: Any = None
wants_squares = watches_masks = False


@functools.lru_cache(maxsize=128)
def of_maps(cost: str, needs: tuple[str, ...]) -> Any:
    """Return the loop for the text of a formula of the :data:`lossary._fast.classes.plain.NUMBERS`, of which it needs these."""
    watched = bool({"sum_of_squares", "classes"} & {*needs})
    return with_names(_run, (cost, needs), formula=compiled(cost), wants_squares="sum_of_squares" in needs, watches_masks=watched)


def over_maps(run: Any, z: Any, at: Any, weight: Any, numbers: tuple[Any, ...], value: Any, gradient: Any) -> float:
    """Call the loop that :func:`of_maps` gives on all tiles of z (N, C, S), and add up what it gives."""
    images, classes, space = z.shape
    width = min(space, max(16, TILE // classes))
    tiles = images * -(-space // width)

    def go(some: slice) -> float:
        last = min(tiles, some.stop)
        return float(run(z, at, weight, *numbers, value, gradient, width, some.start or 0, last))

    return sum(on_threads(go, tiles, classes * width))


@loop
def _read(x: Any, out: Any, largest: Any) -> None:
    """Copy the logits of a class, and take them into the largest ones."""
    for p in range(x.shape[0]):
        out[p] = x[p]
        largest[p] = select(x[p] > largest[p], x[p], largest[p])


@loop
def _add_squares(x: Any, sums: Any) -> None:
    for p in range(x.shape[0]):
        sums[p] += x[p] * x[p]


@loop
def _exponentials(x: Any, largest: Any, rate: Any, out: Any, sums: Any) -> None:
    for p in range(x.shape[0]):
        e = exp((x[p] - largest[p]) * rate)
        out[p] = e
        sums[p] += e


@loop
def _scale(x: Any, factor: Any) -> None:
    for p in range(x.shape[0]):
        x[p] *= factor[p]


@loop
def _add_product(x: Any, factor: Any, out: Any) -> None:
    for p in range(x.shape[0]):
        out[p] += x[p] * factor[p]


def _run(
    z: Any, at: Any, weight: Any, temperature: Any, constants: Any, scale: Any, ignored: Any, value: Any, gradient: Any,
    width: Any, first: Any, last: Any,
) -> Any:  # fmt: skip
    """What the pixels of some tiles cost together, or NaN where a masked class needs more care.

    From (N, C, S) and the class ``at`` (N, S) of each pixel, where the ignored one costs nothing.
    """
    widest()
    classes, space = z.shape[1], z.shape[2]
    temperature, scale = f32(temperature), f32(scale)
    rate = f32(1.0) / temperature
    tiles = (space + width - 1) // width
    raw, held = np.empty((classes, width), f32), np.empty((classes, width), f32)
    largest, sums, lead, factor = np.empty(width, f32), np.empty(width, f32), np.empty(width, f32), np.empty(width, f32)
    kept, costs = np.empty(width, f32), np.empty(width, f32)
    squares, of_e, of_z, own = np.zeros(width, f32), np.empty(width, f32), np.empty(width, f32), np.empty(width, f32)
    summed = 0.0
    for tile in range(first, last):
        i, start = tile // tiles, (tile % tiles) * width
        n = min(width, space - start)
        zi, ai = z[i], at[i, start : start + n]
        if value is not None:  # noqa: SIM108  # Numba drops the branch that it does not need
            vi = value[i, start : start + n]
        else:
            vi = costs[:n]
        largest[:n] = f32(-np.inf)
        sums[:n] = f32(0.0)
        for c in range(classes):
            _read(zi[c, start : start + n], raw[c, :n], largest[:n])
        if watches_masks:
            for c in range(classes):
                if parts.smallest(raw[c, :n]) == f32(-np.inf):
                    return np.nan
        for p in range(n):
            c = ai[p]
            if c == ignored:  # its logits may be anything
                lead[p], factor[p], largest[p], kept[p] = f32(0.0), f32(0.0), f32(0.0), f32(0.0)
                for k in range(classes):
                    raw[k, p] = f32(0.0)
            else:
                lead[p], kept[p] = raw[c, p], f32(1.0)
                factor[p] = weight[c] if weight is not None else f32(1.0)
        if wants_squares:
            squares[:n] = f32(0.0)
            for c in range(classes):
                _add_squares(raw[c, :n], squares[:n])
        for c in range(classes):
            _exponentials(raw[c, :n], largest[:n], rate, held[c, :n], sums[:n])
        for p in range(n):
            log_p = (lead[p] - largest[p]) * rate - log(sums[p])
            found, by_logit, by_log_p, _, _, _, _, _, by_squares, _, _ = formula(
                lead[p], log_p, f32(-np.inf), f32(0.0), f32(0.0), f32(0.0), f32(0.0), squares[p], f32(0.0), f32(classes), constants
            )
            counts = kept[p] > f32(0.0)
            vi[p] = select(counts, found * factor[p], f32(0.0))
            times = factor[p] * scale
            of_e[p] = select(counts, -(by_log_p * rate * times) / sums[p], f32(0.0))
            of_z[p] = select(counts, f32(2.0) * by_squares * times, f32(0.0))
            own[p] = select(counts, (by_logit + by_log_p * rate) * times, f32(0.0))
        summed += parts.sum_of(vi)
        if gradient is not None:
            gi = gradient[i]
            for c in range(classes):
                _scale(held[c, :n], of_e[:n])
                if wants_squares:
                    _add_product(raw[c, :n], of_z[:n], held[c, :n])
            for p in range(n):
                c = ai[p]
                if c != ignored:
                    held[c, p] += own[p]
            for c in range(classes):
                gi[c, start : start + n] = held[c, :n]
    return summed
