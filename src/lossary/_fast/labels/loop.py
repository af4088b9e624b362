"""The loop over independent labels that Numba compiles: cost and gradient in one pass. See :mod:`lossary._fast.labels.rule`.

This module imports Numba: import it where a batch on a processor comes, and not before.
"""

import functools
from typing import Any

import numpy as np

from lossary._fast import mathematics
from lossary._fast.mathematics import f32, on_threads, select, widest, with_names
from lossary._fast.tracing import compiled

CHUNK = 1024  # elements whose cost is summed in float32


curves: Any = None  # what the loop below finds in place of this


@functools.lru_cache(maxsize=128)
def of_labels(text: str) -> Any:
    """The loop for two curves: cost if one, its slopes by the logit and by what belongs to the label, and the same if zero."""
    return with_names(_run, text, curves=compiled(text))


def over_rows(
    run: Any, given: tuple[Any, ...], of_label: Any, numbers: tuple[Any, ...], taken: tuple[Any, ...]
) -> tuple[float, float]:
    """Call the loop that :func:`of_labels` gives on all rows, and add up what it gives."""
    if given[0].size < 2 * mathematics.THREADED:
        found: tuple[float, float] = run(*given, of_label, *numbers, *taken)
        return found

    def go(rows: slice) -> tuple[float, float]:
        parts = [[None if x is None else x[rows] for x in some] for some in (given, taken)]
        part: tuple[float, float] = run(*parts[0], of_label, *numbers, *parts[1])
        return part

    parts = on_threads(go, *given[0].shape)
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def _run(
    z: Any, y: Any, weight: Any, pos_weight: Any, of_label: Any, constants: Any, ignored: Any, smoothing: Any,
    scale: Any, value: Any, each: Any, kept: Any, slope: Any,
) -> Any:  # fmt: skip
    """Of (R, M), and y of that shape or the one label of each row (R,), without smoothing: the ``value`` and the number
    ``kept`` of each row (R,) always; the cost of ``each`` and the ``slope`` times ``scale`` where there is an array for it."""
    widest()
    columns = z.shape[1]
    ignored, smoothing, scale = f32(ignored), f32(smoothing), f32(scale)
    summed, kept_in_all = 0.0, 0.0
    for i in range(z.shape[0]):
        total, count = 0.0, 0.0
        for start in range(0, columns, CHUNK):
            here = slice(start, start + CHUNK)
            zi = z[i, here]
            if y.ndim == 2:
                yi = y[i, here]
            else:
                label = y[i] - start
            if weight is not None:
                wi = weight[i, here]
            if pos_weight is not None:
                vi = pos_weight[i, here]
            if of_label is not None:
                ai = of_label[here]
            if each is not None:
                ei = each[i, here]
            if slope is not None:
                si = slope[i, here]
            part, counted = f32(0.0), f32(0.0)
            for j in range(zi.shape[0]):
                q = f32(yi[j]) if y.ndim == 2 else f32(0.0)
                kept_here = (q != ignored) & ((zi[j] != f32(-np.inf)) | (q != f32(0.0)))  # what is masked by -inf is not there
                # what is ignored may be anything, NaN too; it gets a harmless logit, and counts zero times
                x = select(kept_here, zi[j], f32(0.0))
                once = select(kept_here, f32(1.0), f32(0.0))
                q = select(kept_here, q, f32(0.0)) * (f32(1.0) - smoothing) + f32(0.5) * smoothing
                one, to_one, _, zero, to_zero, _ = curves(x, ai[j] if of_label is not None else f32(0.0), constants)
                if pos_weight is not None:
                    one, to_one = one * vi[j], to_one * vi[j]
                times = once
                if weight is not None:
                    times = times * wi[j]
                cost = (zero + q * (one - zero)) * times
                part += cost
                counted += once
                if each is not None:
                    ei[j] = cost
                if slope is not None:
                    si[j] = (to_zero + q * (to_one - to_zero)) * (times * scale)
            if y.ndim == 1 and 0 <= label < zi.shape[0]:  # the one that is not zero
                a = ai[label] if of_label is not None else f32(0.0)
                one, to_one, _, zero, to_zero, _ = curves(zi[label], a, constants)
                times = wi[label] if weight is not None else f32(1.0)
                part += (one - zero) * times
                if slope is not None:
                    si[label] = to_one * (times * scale)
            total += part
            count += counted
        value[i], kept[i] = total, count
        summed += total
        kept_in_all += count
    return summed, kept_in_all
