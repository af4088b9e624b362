"""Loops over rows of classes and over maps that Numba compiles, for losses with a formula of their own.

This module imports Numba: import it where a batch on a processor comes, and not before.
"""

from typing import Any

import numpy as np

from lossary._fast.mathematics import exp, f32, loop, on_threads, power, select, widest

PIXELS = 512  # of a block of a map, whose classes stay in cache


@loop
def dice_of_rows(z, y, ignored, exponent, p, wrong, label):  # type: ignore[no-untyped-def]
    """Probabilities ``p`` (N, C) of logits (N, C), 0 for ignored rows, and sums for each class c.

    ``wrong`` (C,) is the sum of p_c ** exponent over the rows of other classes; ``label`` (2, C) has, over the rows of class c,
    the sums of p ** exponent + 1 - 2 p, taken from 1 - p, and of p ** exponent + 1.
    """
    widest()
    rows, classes = z.shape
    exponent, square = f32(exponent), exponent == 2.0
    part = np.zeros(classes, f32)
    for row in range(rows):
        c, zi, pi = y[row], z[row], p[row]
        if c == ignored:
            pi[:] = f32(0.0)
            continue
        largest, others = f32(-np.inf), f32(0.0)
        for k in range(classes):
            largest = zi[k] if zi[k] > largest else largest
        for k in range(classes):
            pi[k] = exp(zi[k] - largest)
        own = pi[c]
        pi[c] = f32(0.0)
        for k in range(classes):
            others += pi[k]
        one = f32(1.0) / (others + own)
        if square:
            for k in range(classes):
                pi[k] *= one
                part[k] += pi[k] * pi[k]
        else:
            for k in range(classes):
                pi[k] *= one
                part[k] += power(pi[k], exponent)
        pi[c] = own * one
        rest, mine = np.float64(others * one), np.float64(pi[c])
        raised = mine * mine if square else mine**exponent
        label[0, c] += rest * rest if square else raised + 1.0 - 2.0 * pi[c]
        label[1, c] += raised + 1.0
        if row % 64 == 63:
            for k in range(classes):
                wrong[k] += part[k]
                part[k] = f32(0.0)
    for k in range(classes):
        wrong[k] += part[k]


@loop
def dice_slopes_of_rows(y, ignored, exponent, of_size, of_label, p):  # type: ignore[no-untyped-def]
    """Turn probabilities (N, C) into the gradient by the logits, from what their powers and those of labels count (C,)."""
    widest()
    rows, classes = p.shape
    exponent, square = f32(exponent), exponent == 2.0
    for row in range(rows):
        c, pi = y[row], p[row]
        if c == ignored:
            continue
        own, mean = pi[c] * of_label[c], f32(0.0)
        if square:
            for k in range(classes):
                mean += of_size[k] * (pi[k] * pi[k])
            mean -= own
            for k in range(classes):
                pi[k] *= of_size[k] * pi[k] - mean
        else:
            for k in range(classes):
                mean += of_size[k] * power(pi[k], exponent)
            mean -= own
            for k in range(classes):
                pi[k] = of_size[k] * power(pi[k], exponent) - pi[k] * mean
        pi[c] -= own


@loop
def dice_of_maps(z, y, ignored, exponent, p, wrong, label):  # type: ignore[no-untyped-def]
    """As :func:`dice_of_rows`, of maps (N, C, S), a block of pixels at a time."""
    widest()
    samples, classes, space = z.shape
    exponent, square = f32(exponent), exponent == 2.0
    here, largest = np.empty(PIXELS, f32), np.empty(PIXELS, f32)
    others, own = np.empty(PIXELS, f32), np.empty(PIXELS, f32)
    for sample in range(samples):
        for start in range(0, space, PIXELS):
            stop = min(start + PIXELS, space)
            size = stop - start
            for s in range(size):
                here[s] = f32(-1.0) if y[sample, start + s] == ignored else f32(y[sample, start + s])
                largest[s], others[s], own[s] = f32(-np.inf), f32(0.0), f32(0.0)
            for k in range(classes):
                zi = z[sample, k, start:stop]
                for s in range(size):
                    largest[s] = select(zi[s] > largest[s], zi[s], largest[s])
            for k in range(classes):
                zi, pi, c = z[sample, k, start:stop], p[sample, k, start:stop], f32(k)
                for s in range(size):
                    e = exp(zi[s] - largest[s])
                    pi[s] = e
                    others[s] += select(here[s] == c, f32(0.0), e)
                    own[s] += select(here[s] == c, e, f32(0.0))
            for s in range(size):
                largest[s] = select(here[s] < f32(0.0), f32(0.0), f32(1.0) / (others[s] + own[s]))
            for k in range(classes):
                pi, c, total = p[sample, k, start:stop], f32(k), f32(0.0)
                for s in range(size):
                    # what is ignored may be anything, NaN too
                    pi[s] = select(here[s] < f32(0.0), f32(0.0), pi[s] * largest[s])
                    raised = pi[s] * pi[s] if square else power(pi[s], exponent)
                    total += select(here[s] == c, f32(0.0), raised)
                wrong[k] += total
            for s in range(size):
                if here[s] >= f32(0.0):
                    c = y[sample, start + s]
                    rest, mine = np.float64(others[s] * largest[s]), np.float64(own[s] * largest[s])
                    raised = mine * mine if square else mine**exponent
                    label[0, c] += rest * rest if square else raised + 1.0 - 2.0 * mine
                    label[1, c] += raised + 1.0


@loop
def dice_slopes_of_maps(y, ignored, exponent, of_size, of_label, p):  # type: ignore[no-untyped-def]
    """As :func:`dice_slopes_of_rows`, of maps (N, C, S)."""
    widest()
    samples, classes, space = p.shape
    exponent, square = f32(exponent), exponent == 2.0
    here, mean = np.empty(PIXELS, f32), np.empty(PIXELS, f32)
    for sample in range(samples):
        for start in range(0, space, PIXELS):
            stop = min(start + PIXELS, space)
            size = stop - start
            for s in range(size):
                here[s] = f32(-1.0) if y[sample, start + s] == ignored else f32(y[sample, start + s])
                mean[s] = f32(0.0)
            for k in range(classes):
                pi, c, many, one = p[sample, k, start:stop], f32(k), of_size[k], of_label[k]
                for s in range(size):
                    raised = pi[s] * pi[s] if square else power(pi[s], exponent)
                    mean[s] += many * raised - select(here[s] == c, one * pi[s], f32(0.0))
            for k in range(classes):
                pi, c, many, one = p[sample, k, start:stop], f32(k), of_size[k], of_label[k]
                for s in range(size):
                    raised = pi[s] * pi[s] if square else power(pi[s], exponent)
                    pi[s] = many * raised - pi[s] * (mean[s] + select(here[s] == c, one, f32(0.0)))


@loop
def moved_margins(moved, z, attacked, y, value, gradient):  # type: ignore[no-untyped-def]
    """How far the margins of each row's class move (N,), from how far the logits (N, C) do; classes at -inf are not there."""
    widest()
    rows, classes = moved.shape
    for row in range(rows):
        m, before, after, c = moved[row], z[row], attacked[row], y[row]
        total, there = f32(0.0), f32(0.0)
        for k in range(classes):
            counts = (before[k] != f32(-np.inf)) & (after[k] != f32(-np.inf))
            total += select(counts, m[k], f32(0.0))
            there += select(counts, f32(1.0), f32(0.0))
        mean, squares = total / max(there, f32(1.0)), f32(0.0)
        for k in range(classes):
            counts = (before[k] != f32(-np.inf)) & (after[k] != f32(-np.inf))
            off = select(counts, m[k] - mean, f32(0.0))
            squares += off * off
        has = before[c] != f32(-np.inf) and after[c] != f32(-np.inf)
        own = m[c] - mean if has else f32(0.0)
        distance = np.sqrt(there * own * own + squares)
        value[row] = distance
        if gradient is not None:
            slope, one = gradient[row], f32(0.0) if distance == f32(0.0) else f32(1.0) / distance
            for k in range(classes):
                counts = (before[k] != f32(-np.inf)) & (after[k] != f32(-np.inf))
                slope[k] = select(counts, one * ((m[k] - mean) - own), f32(0.0))
            if has:
                slope[c] += one * there * own


def set_dice(z: Any, y: Any, ignored: int, exponent: float, smooth: float, total: bool, p: Any) -> float:
    """The loss of logits (N, C) or (N, C, S); its gradient is written to ``p`` of their shape."""
    classes = z.shape[1]
    first, second = (dice_of_rows, dice_slopes_of_rows) if z.ndim == 2 else (dice_of_maps, dice_slopes_of_maps)

    def sums(rows: slice) -> tuple[Any, Any]:
        found = np.zeros(classes), np.zeros((2, classes))
        first(z[rows], y[rows], ignored, exponent, p[rows], *found)
        return found

    parts = on_threads(sums, len(z), z[0].size)
    wrong, label = (sum(part) for part in zip(*parts, strict=True))
    kept = int((y != ignored).sum())
    missing, sizes = wrong + label[0], wrong + label[1] + smooth
    there = np.ones(classes, bool)
    for c in np.flatnonzero(wrong + label[1] == 0):
        there[c] = bool((z[:, c] != -np.inf).any())
    nothing = sizes < np.finfo(np.float32).tiny
    sizes[nothing] = 1.0
    each = np.where(nothing, float(kept > 0), missing / sizes)
    scale = (kept if total else 1) / max(int(there.sum()), 1)
    counts = np.where(there & ~nothing, scale, 0.0)
    of_size = counts * exponent * (1 / sizes - missing / sizes**2)
    factors = of_size.astype(np.float32), (2 * counts / sizes).astype(np.float32)
    on_threads(lambda rows: second(y[rows], ignored, exponent, *factors, p[rows]), len(z), z[0].size)
    return float(each[there].sum() * scale)
