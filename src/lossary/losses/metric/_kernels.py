"""The row functions of this family as compiled loops: the same numbers, and their derivative by the similarities.

In all of them an anchor's positives are the items from ``first`` to before ``last`` but its ``own``, and its negatives all others.
The rows lie in the processor's cache, so that several short loops cost less than one that the compiler cannot turn into vector
instructions.
"""

from typing import Any

import numba
import numpy as np

from lossary._kernels import elementary, exp, f32, log, loop, sigmoid, softplus

NOTHING = f32(-np.inf)


# A maximum is vectorised only where the compiler may forget about NaN, which shows in the sums anyway.
@numba.njit(fastmath={"nnan", "nsz"}, error_model="numpy")
def largest(x: Any) -> Any:
    found = f32(-np.inf)
    for j in range(x.shape[0]):
        found = max(found, x[j])
    return found


@numba.njit(fastmath={"nnan", "nsz", "contract"}, error_model="numpy")
def largest_logit(x: Any, gamma: Any, margin: Any) -> Any:
    """Of negatives in the circle loss."""
    found = f32(-np.inf)
    for j in range(x.shape[0]):
        found = max(found, gamma * max(x[j] + margin, f32(0.0)) * (x[j] - margin))
    return found


@elementary
def exponentials(x: Any, scale: Any, shift: Any) -> Any:
    """Replaces x by exp(scale (x - shift)) and returns the sum."""
    total = f32(0.0)
    for j in range(x.shape[0]):
        x[j] = exp(scale * (x[j] - shift))
    for j in range(x.shape[0]):
        total += x[j]
    return total


@elementary
def multiply(x: Any, factor: Any) -> None:
    for j in range(x.shape[0]):
        x[j] *= factor


@loop
def nt_xent(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, temperature: Any) -> None:
    scale = f32(1.0 / temperature)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        below, above = row[:a], row[b:]
        top = max(largest(below), largest(above))
        if top == NOTHING:  # no negatives: every positive is certain
            out[i, 0], out[i, 1] = f32(0.0), f32(b - a - (me >= 0))
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        total = exponentials(below, scale, top) + exponentials(above, scale, top)
        log_sum = log(total) + scale * top
        value, weight = f32(0.0), f32(0.0)
        u = upstream[i, 0] if upstream.shape[0] else f32(0.0)
        for j in range(a, b):
            if j != me:
                z = log_sum - scale * row[j]
                wrong = sigmoid(z)
                value += softplus(z)
                weight += wrong
                row[j] = -wrong * scale * u
            else:
                row[j] = f32(0.0)
        out[i, 0], out[i, 1] = value, f32(b - a - (me >= 0))
        if upstream.shape[0]:
            factor = u * weight * scale / total
            multiply(below, factor)
            multiply(above, factor)


@loop
def sup_con(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, temperature: Any) -> None:
    scale = f32(1.0 / temperature)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        count = b - a - (me >= 0)
        if count == 0:
            out[i, 0], out[i, 1] = f32(0.0), f32(0.0)
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        positives = f32(0.0)
        for j in range(a, b):
            positives += row[j]
        if me >= 0:
            positives -= row[me]
            row[me] = NOTHING
        top = largest(row)
        total = exponentials(row, scale, top)
        out[i, 0] = log(total) + scale * (top - positives / f32(count))
        out[i, 1] = f32(1.0)
        if upstream.shape[0]:
            u = upstream[i, 0] * scale
            multiply(row, u / total)
            for j in range(a, b):
                row[j] -= u / f32(count)
            if me >= 0:
                row[me] = f32(0.0)


@loop
def circle(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, margin: Any, gamma: Any) -> None:
    m, g = f32(margin), f32(gamma)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        count = b - a - (me >= 0)
        if count == 0 or count + (me >= 0) == row.shape[0]:
            out[i, 0], out[i, 1] = f32(0.0), f32(0.0)
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        top_negative = max(largest_logit(row[:a], g, m), largest_logit(row[b:], g, m))
        negatives = f32(0.0)
        for part in (row[:a], row[b:]):
            for j in range(part.shape[0]):
                x = part[j]
                alpha = max(x + m, f32(0.0))
                e = exp(g * alpha * (x - m) - top_negative)
                negatives += e
                part[j] = e * alpha
        top_positive = NOTHING
        for j in range(a, b):
            if j != me:
                x = row[j]
                top_positive = max(top_positive, -g * max(f32(1.0) + m - x, f32(0.0)) * (x - (f32(1.0) - m)))
        positives = f32(0.0)
        for j in range(a, b):
            if j != me:
                x = row[j]
                alpha = max(f32(1.0) + m - x, f32(0.0))
                e = exp(-g * alpha * (x - (f32(1.0) - m)) - top_positive)
                positives += e
                row[j] = e * alpha
            else:
                row[j] = f32(0.0)
        z = log(negatives) + top_negative + log(positives) + top_positive
        out[i, 0], out[i, 1] = softplus(z), f32(1.0)
        if upstream.shape[0]:
            u = upstream[i, 0] * sigmoid(z) * g
            multiply(row[:a], u / negatives)
            multiply(row[b:], u / negatives)
            multiply(row[a:b], -u / positives)


@loop
def multi_similarity(
    s: Any,
    first: Any,
    last: Any,
    own: Any,
    upstream: Any,
    out: Any,
    alpha: Any,
    beta: Any,
    threshold: Any,
    epsilon: Any,
    mining: Any,
) -> None:
    al, be, middle, eps = f32(alpha), f32(beta), f32(threshold), f32(epsilon)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        below, above = row[:a], row[b:]
        hardest_negative = max(largest(below), largest(above))
        hardest_positive = f32(np.inf)
        for j in range(a, b):
            if j != me:
                hardest_positive = min(hardest_positive, row[j])
        keep_above = hardest_positive - eps if mining else NOTHING
        keep_below = hardest_negative + eps if mining else f32(np.inf)
        out[i, 1] = f32(1.0)
        if hardest_negative == NOTHING or hardest_positive == f32(np.inf) or hardest_negative <= keep_above:
            out[i, 0] = f32(0.0)
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        # log(1 + sum exp(x)) = t + log(exp(-t) + sum exp(x - t)), with t the largest of 0 and all x
        shift, shift_positive = max(middle, hardest_negative), min(middle, hardest_positive)
        negatives = f32(0.0)
        for part in (below, above):
            for j in range(part.shape[0]):
                x = part[j]
                e = exp(be * (x - shift))
                e = e if x > keep_above else f32(0.0)
                negatives += e
                part[j] = e
        negatives += exp(be * (middle - shift))
        positives = exp(al * (shift_positive - middle))
        for j in range(a, b):
            x = row[j]
            e = exp(al * (shift_positive - x)) if j != me and x < keep_below else f32(0.0)
            positives += e
            row[j] = e
        out[i, 0] = log(positives) / al + (middle - shift_positive) + log(negatives) / be + (shift - middle)
        if upstream.shape[0]:
            u = upstream[i, 0]
            multiply(below, u / negatives)
            multiply(above, u / negatives)
            multiply(row[a:b], -u / positives)


@loop
def contrastive(
    s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, positive_margin: Any, negative_margin: Any
) -> None:
    near, far, least = f32(positive_margin), f32(negative_margin), f32(np.finfo(np.float32).eps)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        u_positive = upstream[i, 0] if upstream.shape[0] else f32(0.0)
        u_negative = upstream[i, 1] if upstream.shape[0] else f32(0.0)
        value, count = f32(0.0), f32(0.0)
        for j in range(a, b):
            square = f32(2.0) - f32(2.0) * row[j]
            distance = np.sqrt(max(square, least))
            active = distance > near and j != me
            value += distance - near if active else f32(0.0)
            count += f32(1.0) if active else f32(0.0)
            row[j] = -u_positive / distance if active and square > least else f32(0.0)
        out[i, 0], out[i, 2] = value, count
        value, count = f32(0.0), f32(0.0)
        for part in (row[:a], row[b:]):
            for j in range(part.shape[0]):
                square = f32(2.0) - f32(2.0) * part[j]
                distance = np.sqrt(max(square, least))
                active = distance < far
                value += far - distance if active else f32(0.0)
                count += f32(1.0) if active else f32(0.0)
                part[j] = u_negative / distance if active and square > least else f32(0.0)
        out[i, 1], out[i, 3] = value, count


@loop
def threshold_consistent_margin(
    s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, positive_margin: Any, negative_margin: Any
) -> None:
    high, low = f32(positive_margin), f32(negative_margin)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        u_positive = upstream[i, 0] if upstream.shape[0] else f32(0.0)
        u_negative = upstream[i, 1] if upstream.shape[0] else f32(0.0)
        value, count = f32(0.0), f32(0.0)
        for j in range(a, b):
            hard = row[j] <= high and j != me
            value += high - row[j] if hard else f32(0.0)
            count += f32(1.0) if hard else f32(0.0)
            row[j] = -u_positive if hard else f32(0.0)
        out[i, 0], out[i, 2] = value, count
        value, count = f32(0.0), f32(0.0)
        for part in (row[:a], row[b:]):
            for j in range(part.shape[0]):
                hard = part[j] >= low
                value += part[j] - low if hard else f32(0.0)
                count += f32(1.0) if hard else f32(0.0)
                part[j] = u_negative if hard else f32(0.0)
        out[i, 1], out[i, 3] = value, count
