"""The row functions of this family as compiled loops: the same numbers, and their derivative by the similarities.

In all of them an anchor's positives are the items from ``first`` to before ``last`` but its ``own``, and its negatives all others.
The rows are cosines, or squared distances where a loss is one of distances. They lie in the processor's cache, so that several
short loops cost less than one that the compiler cannot turn into vector instructions.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from lossary._fast.classes.parts import largest, sum_of
from lossary._fast.mathematics import (
    LEAST,
    REORDERED,
    as_float,
    as_int,
    elementary,
    exp,
    f32,
    from_order,
    i32,
    in_order,
    log,
    loop,
    sigmoid,
    softplus,
)

NOTHING = f32(-np.inf)
TINY = f32(np.finfo(np.float32).tiny)


def part_of_loop(function: Callable[..., Any]) -> Any:
    """Compile a loop that others call."""
    return numba.njit(fastmath=REORDERED, error_model="numpy")(function)


# Two things the compiler does not turn into vector instructions: a maximum of floating-point numbers, for which integers in their
# order are as good; and several sums over what a condition selects, which are therefore written as products.


@part_of_loop
def largest_logit(x: Any, gamma: Any, margin: Any) -> Any:
    """Of negatives in the circle loss."""
    found = LEAST
    for j in range(x.shape[0]):
        key = in_order(gamma * max(x[j] + margin, f32(0.0)) * (x[j] - margin))
        found = key if key > found else found
    return from_order(found)


@part_of_loop
def exponentials(x: Any, scale: Any, shift: Any) -> Any:
    """Replaces x by exp(scale (x - shift)) and returns the sum."""
    for j in range(x.shape[0]):
        x[j] = exp(scale * (x[j] - shift))
    return sum_of(x)


@part_of_loop
def multiply(x: Any, factor: Any) -> None:
    for j in range(x.shape[0]):
        x[j] *= factor


@elementary
def one_if(condition: Any) -> Any:
    return f32(1.0) if condition else f32(0.0)


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
                e = exp(be * (x - shift)) * one_if(x > keep_above)
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
    near, far, half = f32(positive_margin), f32(negative_margin), f32(0.5)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        u_positive = upstream[i, 0] if upstream.shape[0] else f32(0.0)
        u_negative = upstream[i, 1] if upstream.shape[0] else f32(0.0)
        value, count = f32(0.0), f32(0.0)
        for j in range(a, b):
            distance = np.sqrt(row[j])
            active = distance > near and j != me
            value += distance - near if active else f32(0.0)
            count += f32(1.0) if active else f32(0.0)
            row[j] = half * u_positive / distance if active else f32(0.0)
        out[i, 0], out[i, 2] = value, count
        value, count = f32(0.0), f32(0.0)
        for part in (row[:a], row[b:]):
            for j in range(part.shape[0]):
                distance = np.sqrt(part[j])
                active = one_if(distance < far)
                value += active * (far - distance)
                count += active
                part[j] = -half * u_negative * active * one_if(distance > f32(0.0)) / max(distance, TINY)
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
                hard = one_if(part[j] >= low)
                value += hard * (part[j] - low)
                count += hard
                part[j] = hard * u_negative
        out[i, 1], out[i, 3] = value, count


@part_of_loop
def to_distances(x: Any) -> None:
    for j in range(x.shape[0]):
        x[j] = np.sqrt(x[j])


@part_of_loop
def by_squares(x: Any, distance: Any) -> None:
    """From the derivative by distances, without one at distance 0."""
    for j in range(x.shape[0]):
        x[j] *= f32(0.5) * one_if(distance[j] > f32(0.0)) / max(distance[j], TINY)


FEW = 16  # thresholds that are tried one by one, by vector instructions


@part_of_loop
def exceeded(d: Any, thresholds: Any, counts: Any, below: Any) -> Any:
    """The sum of relu(t - d) over all distances and thresholds t.

    Adds to ``counts`` for each distance how many thresholds lie above it, and to ``below`` for each threshold how many distances
    lie below it.
    """
    total = f32(0.0)
    if thresholds.shape[0] <= FEW:
        for p in range(thresholds.shape[0]):
            t, number = thresholds[p], f32(0.0)
            for j in range(d.shape[0]):
                more = t - d[j]
                active = one_if(more > f32(0.0))
                total += active * more
                number += active
                counts[j] += active
            below[p] += number
        return total
    # Sorted thresholds tell by a binary search how many lie above, and their sums what they add up to.
    order = np.argsort(thresholds)
    ascending = thresholds[order]
    p = thresholds.shape[0]
    sums, hits = np.zeros(p + 1, np.float32), np.zeros(p + 1, np.int64)
    for k in range(p - 1, -1, -1):
        sums[k] = sums[k + 1] + ascending[k]
    for j in range(d.shape[0]):
        low, high = 0, p  # of the thresholds before low none lies above
        while low < high:
            middle = (low + high) >> 1
            above = ascending[middle] > d[j]
            high = middle if above else high
            low = low if above else middle + 1
        hits[low] += 1
        counts[j] += f32(p - low)
        total += sums[low] - f32(p - low) * d[j]
    seen = 0
    for k in range(p):
        seen += hits[k]
        below[order[k]] += f32(seen)
    return total


@loop
def triplet(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, margin: Any) -> None:
    counts = np.empty(s.shape[1], np.float32)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        others = b - a - (me >= 0)
        if others == 0:
            out[i, 0], out[i, 1] = f32(0.0), f32(0.0)
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        to_distances(row)
        thresholds, below, k = np.empty(others, np.float32), np.zeros(others, np.float32), 0
        for j in range(a, b):
            if j != me:
                thresholds[k] = row[j] + f32(margin)
                k += 1
        counts[:] = f32(0.0)
        value = exceeded(row[:a], thresholds, counts[:a], below) + exceeded(row[b:], thresholds, counts[b:], below)
        active = f32(0.0)
        for k in range(others):
            active += below[k]
        out[i, 0], out[i, 1] = value, active
        if upstream.shape[0]:
            multiply(counts, -upstream[i, 0])
            k = 0
            for j in range(a, b):
                if j != me:
                    counts[j] = upstream[i, 0] * below[k]
                    k += 1
            by_squares(counts, row)
            row[:] = counts


SEARCHED = 128  # positives that each search all negatives, by vector instructions; for more of them negatives are sorted
TURNED = i32(-2147483648)


@part_of_loop
def nearest_beyond(d: Any, least: Any) -> Any:
    """How many numbers there are from ``least`` to the smallest distance above it, turned round; not negative if none is above.

    The bits of numbers that are not negative are in their order. What is not above gives a negative difference, which comes behind
    all others once it is turned round: a second condition would keep the compiler from vector instructions.
    """
    found, after = i32(2147483647), i32(as_int(least) + i32(1))
    for j in range(d.shape[0]):
        key = i32(i32(as_int(d[j]) - after) ^ TURNED)
        found = key if key < found else found
    return found


@part_of_loop
def place_of(value: Any, row: Any, a: Any, b: Any) -> Any:
    """The first negative at this distance."""
    for j in range(a):
        if row[j] == value:
            return j
    for j in range(b, row.shape[0]):
        if row[j] == value:
            return j
    return -1


@loop
def semi_hard_triplet(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, margin: Any) -> None:
    slopes = np.empty(s.shape[1], np.float32)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        others, negatives = b - a - (me >= 0), row.shape[0] - (b - a)
        if others == 0 or negatives == 0:
            out[i, 0], out[i, 1] = f32(0.0), f32(0.0)
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        to_distances(row)
        farthest = max(largest(row[:a]), largest(row[b:]))
        order, ascending = np.empty(0, np.int64), np.empty(0, np.float32)
        if others > SEARCHED:
            unsorted = np.concatenate((row[:a], row[b:]))
            order = np.argsort(unsorted)
            ascending = unsorted[order]
        u = upstream[i, 0] if upstream.shape[0] else f32(0.0)
        value = f32(0.0)
        slopes[:] = f32(0.0)
        for p in range(a, b):
            if p == me:
                continue
            if others > SEARCHED:
                k = min(np.searchsorted(ascending, row[p], side="right"), negatives - 1)
                cost = row[p] - ascending[k] + f32(margin)
                n = order[k] + (b - a if order[k] >= a else 0)
            else:
                key = min(nearest_beyond(row[:a], row[p]), nearest_beyond(row[b:], row[p]))
                beyond = as_float(i32(i32(key ^ TURNED) + i32(as_int(row[p]) + i32(1))))
                distance = beyond if key < i32(0) else farthest
                cost = row[p] - distance + f32(margin)
                n = place_of(distance, row, a, b) if cost > f32(0.0) and upstream.shape[0] else 0
            if cost > f32(0.0):
                value += cost
                slopes[p] += u
                slopes[n] -= u
        out[i, 0], out[i, 1] = value, f32(others)
        if upstream.shape[0]:
            by_squares(slopes, row)
            row[:] = slopes


@loop
def generalized_lifted_structure(s: Any, first: Any, last: Any, own: Any, upstream: Any, out: Any, margin: Any) -> None:
    distance = np.empty(s.shape[1], np.float32)
    for i in range(s.shape[0]):
        row, a, b, me = s[i], first[i], last[i], own[i]
        out[i, 0] = f32(0.0)
        out[i, 1] = f32(0.0)
        if b - a - (me >= 0) == 0 or b - a == row.shape[0]:
            if upstream.shape[0]:
                row[:] = f32(0.0)
            continue
        # No distance is above 2, so that no exponential is too large, and no sum too small.
        to_distances(row)
        distance[:] = row
        negatives = exponentials(row[:a], f32(-1.0), f32(0.0)) + exponentials(row[b:], f32(-1.0), f32(0.0))
        positives = exponentials(row[a:b], f32(1.0), f32(0.0))
        if me >= 0:
            positives -= row[me]
            row[me] = f32(0.0)
        value = log(positives) + log(negatives) + f32(margin)
        out[i, 0], out[i, 1] = max(value, f32(0.0)), f32(1.0)
        if upstream.shape[0]:
            u = upstream[i, 0] if value > f32(0.0) else f32(0.0)
            multiply(row[:a], -u / negatives)
            multiply(row[b:], -u / negatives)
            multiply(row[a:b], u / positives)
            by_squares(row, distance)
