"""Loops over rows of labels that Numba compiles, with their gradients in closed form.

This module imports Numba: import it where a large batch on a processor comes, and not before.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossary._fast.mathematics import exp, f32, loop, on_threads, sigmoid, softplus, widest

GAP: Any = f32(60.0)  # as in the plain operations: e^(-GAP / 2) is nothing beside 1, and not yet 0
FAR: Any = f32(240.0)
FEW = 32  # scores up to which the highest are kept in order by insertion
STRIDE = 64  # scores whose largest is looked at first


def in_rows(run: Callable[..., None], logits: Any, positive: Any, value: Any, gradient: Any, *numbers: Any) -> None:
    """Call a loop for all rows (N, L), on as many threads as the batch is worth."""

    def go(rows: slice) -> None:
        run(logits[rows], positive[rows], value[rows], gradient[rows] if len(gradient) else gradient, *numbers)

    on_threads(go, *logits.shape)


@loop
def decoupled_softmax(logits, positive, value, gradient, scale):  # type: ignore[no-untyped-def]
    """Sums over the positive labels of each row of log(e^s + sum of the negatives) - s."""
    widest()
    rows, labels = logits.shape
    scale = f32(scale)
    for row in range(rows):
        z, yes = logits[row], positive[row]
        largest = f32(-np.inf)
        for j in range(labels):
            s = f32(-np.inf) if yes[j] else scale * z[j]
            largest = s if s > largest else largest
        none = largest == f32(-np.inf)
        largest = f32(0.0) if none else largest
        total = f32(0.0)
        for j in range(labels):
            total += f32(0.0) if yes[j] else exp(scale * z[j] - largest)
        negatives = f32(-np.inf) if none else largest + np.log(total)
        loss, pulls = f32(0.0), f32(0.0)
        for j in range(labels):
            behind = negatives - scale * z[j]
            loss += softplus(behind) if yes[j] else f32(0.0)
            pulls += sigmoid(behind) if yes[j] else f32(0.0)
        value[row] = loss
        if len(gradient):
            slope = gradient[row]
            for j in range(labels):
                s = scale * z[j]
                push = pulls * exp(s - largest) / total if not none else f32(0.0)
                slope[j] = scale * (-sigmoid(negatives - s) if yes[j] else push)


@loop
def _highest(x, k, top):  # type: ignore[no-untyped-def]
    """The k-th highest of the scores, and the next: ``top`` is room for k + 1 of them."""
    labels, size = len(x), k + 1
    if size > FEW:
        ordered = np.partition(x, (labels - size, labels - k))
        return ordered[labels - k], ordered[labels - size]
    for i in range(size):
        top[i] = f32(-np.inf)
    for start in range(0, labels, STRIDE):
        part = x[start : start + STRIDE]
        largest = f32(-np.inf)
        for j in range(len(part)):
            largest = part[j] if part[j] > largest else largest
        if largest > top[size - 1]:
            for j in range(len(part)):
                if part[j] > top[size - 1]:
                    i = size - 1
                    while i > 0 and top[i - 1] < part[j]:
                        top[i] = top[i - 1]
                        i -= 1
                    top[i] = part[j]
    return top[k - 1], top[k]


@loop
def _what_is_over(below, above, u):  # type: ignore[no-untyped-def]
    """log of what the others have over what the first k lack, and its slope."""
    have, of_have, lack, of_lack = f32(0.0), f32(0.0), f32(0.0), f32(0.0)
    for j in range(len(below)):
        p = sigmoid(below[j] + u)
        have += p
        of_have += p * (f32(1.0) - p)
    for j in range(len(above)):
        p = sigmoid(-above[j] - u)
        lack += p
        of_lack += p * (f32(1.0) - p)
    return np.log(have) - np.log(lack), of_have / have + of_lack / lack


@loop
def _threshold(x, kth, following, k, n_iter, below, above):  # type: ignore[no-untyped-def]
    """The u at which sigmoids sum to k, by Newton's steps within an interval that is halved where they leave it.

    Should scores part further than exponentials reach, the lower ones are drawn nearer by the excess, which is returned as well.
    """
    labels = len(x)
    next_one = following - kth
    excess = min(next_one + GAP, f32(0.0))
    higher = 0
    for j in range(labels):
        higher += 1 if x[j] > kth else 0
    equal, n = k - higher, 0
    for j in range(labels):
        first = x[j] > kth
        if x[j] == kth and equal > 0:
            first, equal = True, equal - 1
        below[j] = f32(-np.inf) if first else (x[j] - kth) - excess
        if first:
            above[n] = x[j] - kth
            n += 1
    middle = (excess - next_one) / f32(2.0)
    low, high, u = middle - f32(np.log(labels - k)), middle + f32(np.log(k)), middle
    for _ in range(n_iter):
        over, slope = _what_is_over(below, above[:k], u)
        if over > f32(0.0):
            high = u
        else:
            low = u
        step = over / slope
        found = u - step
        if not (low <= found <= high):
            found = (low + high) / f32(2.0)
        u = found
        if abs(step) <= f32(3e-7) * max(f32(1.0), abs(u)):
            break
    for j in range(labels):  # where each score is, the first k and the others drawn together
        below[j] = (x[j] - kth) + u if below[j] == f32(-np.inf) else below[j] + u
    return u, excess


@loop
def soft_topk(logits, positive, value, gradient, k, scale, n_iter):  # type: ignore[no-untyped-def]
    """Sums over the positive labels of each row of -log of their soft membership in the first k."""
    widest()
    rows, labels = logits.shape
    scale = f32(scale)
    x, below = np.empty(labels, f32), np.empty(labels, f32)
    above, top = np.empty(k, f32), np.empty(k + 1, f32)
    for row in range(rows):
        z, yes = logits[row], positive[row]
        wanted, absent = 0, 0
        lowest, broken = f32(np.inf), f32(0.0)
        for j in range(labels):
            x[j] = scale * z[j]
            there = x[j] != f32(-np.inf)
            wanted += 1 if yes[j] else 0
            absent += 0 if there else 1
            lowest = x[j] if there and x[j] < lowest else lowest
            broken += x[j] - x[j] if there else f32(0.0)  # not a number if one of them is none, or infinite
        if not wanted:
            value[row] = f32(0.0)
            if len(gradient):
                gradient[row] = f32(0.0)
            continue
        if broken != f32(0.0):
            value[row] = f32(np.nan)
            if len(gradient):
                gradient[row] = f32(np.nan)
            continue
        if absent:
            for j in range(labels):
                x[j] = lowest - FAR if x[j] == f32(-np.inf) else x[j]
        kth, following = _highest(x, k, top)
        u, excess = _threshold(x, kth, following, k, n_iter, below, above)
        half = -excess / f32(2.0)
        loss, pulls = f32(0.0), f32(0.0)
        for j in range(labels):
            if yes[j]:
                member = below[j] + (half if below[j] > f32(0.0) else -half)
                loss += softplus(-member)
                pulls += sigmoid(-member)
        value[row] = loss
        if len(gradient):
            # how much of the threshold's move each label takes: its slope, in numbers that are not too small
            slope, total = gradient[row], f32(0.0)
            nearest = min(abs(u), abs(following - kth - excess + u))
            faint = exp(-nearest - half)
            for j in range(labels):
                near = exp(nearest - abs(below[j]))
                part = f32(1.0) / (f32(1.0) + near * faint)
                share = near * part * part
                slope[j] = share
                total += share
            factor = scale * pulls / total
            for j in range(labels):
                slope[j] *= factor
            for j in range(labels):
                if yes[j]:
                    slope[j] -= scale * sigmoid(-below[j] - (half if below[j] > f32(0.0) else -half))
