"""Loops over all labels of a batch that Numba compiles, for losses that are no mean of labels.

This module imports Numba: import it where a batch on a processor comes, and not before.
"""

import numpy as np

from lossary._fast.mathematics import _log1p_unit, elementary, exp, f32, from_order, i32, in_order, log1p, loop, select, widest

CHUNK = 1024  # labels whose sums are taken in float32


@elementary
def _sides(x):  # type: ignore[no-untyped-def]
    """The sigmoid of x and of -x, both to full precision, and log(1 + e^-|x|)."""
    small = exp(-abs(x))
    large = f32(1.0) / (f32(1.0) + small)
    return select(x >= f32(0.0), large, small * large), select(x >= f32(0.0), small * large, large), _log1p_unit(small)


@loop
def logistic_sums(z, y, ignored):  # type: ignore[no-untyped-def]
    """Sums over labels (n,) of the logistic cost and of its error weights, and how many labels count.

    A label does not count where its target is ``ignored``, or its logit -inf.
    """
    widest()
    ignored = f32(ignored)
    costs, weights, kept = 0.0, 0.0, 0.0
    for start in range(0, len(z), CHUNK):
        zi, yi = z[start : start + CHUNK], y[start : start + CHUNK]
        cost, weight, count = f32(0.0), f32(0.0), f32(0.0)
        for j in range(len(zi)):
            q = f32(yi[j])
            counts = (q != ignored) & (zi[j] != f32(-np.inf))
            once = select(counts, f32(1.0), f32(0.0))
            x, q = select(counts, zi[j], f32(0.0)), select(counts, q, f32(0.0))
            positive, negative, tail = _sides(x)
            far = q * select(x < f32(0.0), -x, f32(0.0)) + (f32(1.0) - q) * select(x > f32(0.0), x, f32(0.0))
            cost += once * (tail + far)
            weight += once * (q * negative + (f32(1.0) - q) * positive)
            count += once
        costs += cost
        weights += weight
        kept += count
    return costs, weights, kept


@loop
def logistic_slopes(z, y, ignored, scale, slope):  # type: ignore[no-untyped-def]
    """The derivative of the logistic cost of each label (n,), times a scale."""
    widest()
    scale, ignored = f32(scale), f32(ignored)
    for j in range(len(z)):
        q = f32(y[j])
        counts = (q != ignored) & (z[j] != f32(-np.inf))
        positive, negative, _ = _sides(select(counts, z[j], f32(0.0)))
        slope[j] = select(counts, scale * ((f32(1.0) - q) * positive - q * negative), f32(0.0))


@loop
def keys_of_margins(z, y, keys):  # type: ignore[no-untyped-def]
    """Numbers that sort as the margins of labels (n,) do, equal ones by their place; labels at -inf come last."""
    kept = 0
    for j in range(len(z)):
        there = z[j] != f32(-np.inf)
        margin = (f32(2.0) * f32(y[j]) - f32(1.0)) * z[j] if there else f32(np.inf)
        margin = f32(0.0) if margin == f32(0.0) else margin  # there is a -0 as well
        kept += 1 if there else 0
        keys[j] = (np.uint64(np.int64(in_order(margin)) + np.int64(1 << 31)) << np.uint64(32)) | np.uint64(j)
    return kept


@loop
def slopes_in_order(z, y, keys, noise, box_cox, scale, slope):  # type: ignore[no-untyped-def]
    """Hand out slopes drawn from ascending noise (n,), the steepest to the lowest margin; returns their products' sum."""
    n, total = len(z), 0.0
    box_cox, scale = f32(box_cox), f32(scale)
    if box_cox == f32(0.0):
        for at in range(n):
            noise[at] = exp(noise[at])
    else:
        for at in range(n):
            noise[at] = exp(log1p(max(box_cox * noise[at], f32(-1.0))) / box_cox)
    for place in range(n):
        key = keys[place]
        margin = from_order(i32(np.int64(key >> np.uint64(32)) - np.int64(1 << 31)))
        found = -min(noise[n - 1 - place], f32(1.0)) / max(margin, f32(1.0)) - f32(1e-6)
        total += f32(0.0) if margin == f32(np.inf) else found * margin
        if slope is not None:
            slope[np.int64(key & np.uint64(0xFFFFFFFF))] = found  # all over memory, so this alone
    if slope is not None:
        for j in range(n):
            side = scale * (f32(2.0) * f32(y[j]) - f32(1.0))
            slope[j] = select(z[j] == f32(-np.inf), f32(0.0), side * slope[j])
    return total
