"""The loops over rows of classes that Numba compiles: cost and gradient of each row while it is in the cache.

See :mod:`lossary._rows` for what is computed. This module imports Numba: import it where a batch on a processor comes, and not
before.
"""

import functools
from typing import Any

import numpy as np

from lossary import _kernels
from lossary._formulas import compiled
from lossary._kernels import (
    as_float,
    as_int,
    elementary,
    exp,
    f32,
    i32,
    log,
    log_of_ordinary,
    loop,
    on_disk,
    on_threads,
    select,
    widest,
)

SORTED = 1 << 16  # logits that are sorted at a time
SHORT = 12  # bits of a place in a row, up to which it is kept in 32 bits together with what has room of a logit
SEARCHED = 8  # classes of a row that have a probability, up to which each is searched for by itself, which takes less than sorting

# Parts of a row that do not depend on a formula, compiled once.


@elementary
def _ordered(x: Any) -> Any:
    """An integer for a number, in the same order, with NaN above all: integers compare at the speed of memory."""
    bits = as_int(x)
    return i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))


@elementary
def _unordered(found: Any) -> Any:
    return as_float(i32(found ^ i32(i32(found >> i32(31)) & i32(0x7FFFFFFF))))


LEAST = i32(-0x7F800001)  # of minus infinity


@loop
def _largest(z: Any) -> Any:
    """The largest number, or NaN."""
    found = LEAST
    for j in range(z.shape[0]):
        found = max(found, _ordered(z[j]))
    return _unordered(found)


@loop
def _largest_below(z: Any, bound: Any) -> Any:
    """The largest number that is smaller than the bound, or minus infinity."""
    found, limit = LEAST, _ordered(bound)  # of -0 that is -1
    for j in range(z.shape[0]):
        candidate = i32(_ordered(z[j]))
        candidate = i32(0) if candidate == i32(-1) else candidate  # one zero instead of two
        found = max(found, candidate if candidate < limit else LEAST)
    return _unordered(found)


@loop
def _first_place(z: Any, of: Any) -> Any:
    found = end = i32(z.shape[0])
    for j in range(z.shape[0]):
        found = min(found, i32(j) if z[j] == of else end)
    return found


@loop
def _exponentials(z: Any, largest: Any, scale: Any, out: Any) -> Any:
    """exp((z - largest) scale), and their sum."""
    total = f32(0.0)
    for j in range(z.shape[0]):
        e = exp((z[j] - largest) * scale)
        out[j] = e
        total += e
    return total


@loop
def _sum(z: Any) -> Any:
    total = f32(0.0)
    for j in range(z.shape[0]):
        total += z[j]
    return total


@loop
def _sum_of_squares(z: Any, centre: Any) -> Any:
    total = f32(0.0)
    for j in range(z.shape[0]):
        total += (z[j] - centre) * (z[j] - centre)
    return total


@loop
def _scaled(x: Any, factor: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] = x[j] * factor


@loop
def _combined(e: Any, of_e: Any, z: Any, of_z: Any, centre: Any, of_distance: Any, constant: Any, out: Any) -> None:
    for j in range(z.shape[0]):
        out[j] = e[j] * of_e + z[j] * of_z + (z[j] - centre) * of_distance + constant


@loop
def _linear(z: Any, of_z: Any, centre: Any, of_distance: Any, constant: Any, out: Any) -> None:
    for j in range(z.shape[0]):
        out[j] = z[j] * of_z + (z[j] - centre) * of_distance + constant


@loop
def _added(x: Any, factor: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] += x[j] * factor


@loop
def _joined(x: Any, of_x: Any, y: Any, of_y: Any, out: Any) -> None:
    for j in range(x.shape[0]):
        out[j] = x[j] * of_x + y[j] * of_y


@loop
def _masses(q: Any, index: Any, weight: Any, smoothing: Any, out: Any) -> None:
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
            oi[j] = (np.int64(_ordered(zi[j])) << 32) | j


@loop
def _short_keys(z: Any, bits: Any, out: Any) -> None:
    """The same in half of the room, where the place takes the last bits of the number."""
    for i in range(z.shape[0]):
        zi, oi = z[i], out[i]
        for j in range(zi.shape[0]):
            oi[j] = i32(i32(i32(_ordered(zi[j]) >> bits) << bits) | i32(j))


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
def _next_lower(z: Any, keys: Any, lowers: Any, places: Any) -> None:
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


# What the loop below finds in place of these.
formula: Any = None
curve: Any = None
hard = plain = margined = of_logits = softmax = linear = apart = every_lower = False
wants_total = wants_lower = wants_top = wants_mean = wants_variance = wants_squares = False


@loop
def _how_many(q: Any) -> Any:
    """How many are not 0."""
    count = i32(0)
    for j in range(q.shape[0]):
        count += i32(1) if q[j] != 0 else i32(0)
    return count


@loop
def _few_in_each(q: Any, most: Any) -> Any:
    """Whether no row of probabilities has more than so many that are not 0."""
    for i in range(q.shape[0]):  # noqa: SIM110  # Numba compiles no generators
        if _how_many(q[i]) > most:
            return False
    return True


@loop
def _where(q: Any, out: Any) -> Any:
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


@functools.lru_cache(maxsize=128)
def of_rows(
    cost: str, total: str | None, needs: tuple[str, ...], total_of_logits: bool, with_margin: bool, known: bool, plain_masses: bool
) -> Any:
    """The loop for the text of a formula of the :data:`lossary._row_numbers.NUMBERS`.

    Args:
        total: the text of what the total sums up, if the formula needs the total.
        needs: which of the numbers the formula uses.
        total_of_logits: what is summed up is a function of logits, not of probabilities.
        with_margin: there is a margin.
        known: the class of each row is known, so that the formula is only needed for that one.
        plain_masses: the probabilities are float32, and there are no weights and no smoothing.
    """
    told = cost, total, needs, total_of_logits, with_margin, known, plain_masses
    top, lower, moments = {"top_log_p", "is_top"} & {*needs}, "lower_log_p" in needs, {"mean", "variance"} & {*needs}
    return on_disk(
        _run,
        told,
        formula=compiled(cost),
        curve=None if total is None else compiled(total),
        hard=known,
        plain=plain_masses,
        margined=with_margin,
        of_logits=total_of_logits,
        softmax=bool(top) or lower or "log_p" in needs or (total is not None and not total_of_logits),
        linear=bool(moments) or "sum_of_squares" in needs,
        apart=not known and (with_margin or bool(top)),  # the largest class needs other formulas than the rest
        every_lower=lower and not known,
        wants_total=total is not None,
        wants_lower=lower,
        wants_top=bool(top),
        wants_mean=bool(moments),
        wants_variance="variance" in needs,
        wants_squares="sum_of_squares" in needs,
    )


def over_rows(run: Any, given: tuple[Any, ...], numbers: tuple[Any, ...], taken: tuple[Any, ...], every_lower: bool) -> float:
    """Call the loop that :func:`of_rows` gives on all rows, and add up what it gives."""
    if given[0].size < 2 * _kernels.THREADED and not every_lower:
        return float(run(*given, *numbers, *taken, None))
    z, at, q, weight = given

    def go(rows: slice, order: Any = None) -> float:
        part = [None if x is None else x[rows] for x in (z, at, q, *taken)]
        return float(run(*part[:3], weight, *numbers, *part[3:], order))

    def go_sorted(rows: slice) -> float:
        blocks = [slice(start, min(start + step, rows.stop)) for start in range(rows.start or 0, rows.stop, step)]
        return sum(go(block, None if few(block) else sorted_keys(z[block])) for block in blocks)

    def few(rows: slice) -> bool:
        return q is not None and numbers[0] == 0.0 and bool(_few_in_each(q[rows], SEARCHED))

    step = max(1, SORTED // z.shape[1])
    return sum(on_threads(go_sorted if every_lower else go, *z.shape))


def _run(
    z: Any, at: Any, q: Any, weight: Any, smoothing: Any, temperature: Any, margin: Any, constants: Any, curve_constants: Any,
    scale: Any, ignored: Any, value: Any, gradient: Any, order: Any,
) -> Any:  # fmt: skip
    """What all rows cost together, from (N, C) and the class ``at`` of each, where the ignored one costs nothing, or its
    probabilities ``q``; ``order`` is :func:`sorted_keys` where the formula needs the next lower number of every class, or None
    where few classes of a row have a probability."""
    widest()
    classes = z.shape[1]
    smoothing, temperature, margin, scale = f32(smoothing), f32(temperature), f32(margin), f32(scale)
    summed = 0.0
    scratch, slopes, own = np.empty(classes, f32), np.empty(classes, f32), np.empty(classes, f32)
    if every_lower:
        lowers, to_lowers, places = np.empty(classes, f32), np.empty(classes, f32), np.empty(classes, np.uint32)
        chosen, picked = np.empty(SEARCHED, np.int64), 0
    rate = f32(1.0) / temperature
    for i in range(z.shape[0]):
        zi = z[i]
        c = at[i] if at is not None else 0
        if at is not None and c == ignored:
            value[i] = f32(0.0)
            if gradient is not None:
                gradient[i] = f32(0.0)
            continue
        e = scratch
        if gradient is not None:
            out = gradient[i]
            if hard:
                e = out

        # What is asked of the row.
        largest, sum_exp, log_sum, others, top = f32(0.0), f32(1.0), f32(0.0), f32(0.0), 0
        mean, variance, squares, total, bend = f32(0.0), f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        lower, lower_place = f32(-np.inf), 0
        lead = zi[c]
        if hard and margined:
            lead -= margin
        if softmax:
            if hard and margined:
                before, after = zi[:c], zi[c + 1 :]
                largest = max(_largest(before), _largest(after))
                largest = lead if not largest > lead else largest
                e[c] = exp((lead - largest) * rate)
                sum_exp = _exponentials(before, largest, rate, e[:c]) + _exponentials(after, largest, rate, e[c + 1 :]) + e[c]
            else:
                largest = _largest(zi)
                sum_exp = _exponentials(zi, largest, rate, e)
            log_sum = log(sum_exp)
        if wants_top or (margined and not hard):
            top = min(_first_place(zi, largest), classes - 1)
        if margined and not hard:
            others = _sum(e[:top]) + _sum(e[top + 1 :])
        if wants_mean:
            mean = _sum(zi) / f32(classes)
        if wants_variance:
            variance = _sum_of_squares(zi, mean) / f32(classes)
        if wants_squares:
            squares = _sum_of_squares(zi, f32(0.0))
        if wants_total:
            share = f32(1.0) / sum_exp
            for j in range(classes):
                log_p = (zi[j] - largest) * rate - log_sum
                if of_logits:
                    each, slope, _ = curve(zi[j], log_p, curve_constants)
                else:
                    p = e[j] * share
                    each, by_p, by_log_p = curve(p, log_p, curve_constants)
                    slope = by_p * p + by_log_p
                total += each
                bend += slope
                if gradient is not None:
                    slopes[j] = slope
        if wants_lower and hard:
            lower = _largest_below(zi, zi[c])
            lower_place = min(_first_place(zi, lower), classes - 1)
            if lower > f32(-np.inf):
                lower = (lower - largest) * rate - log_sum
        if every_lower:
            if order is not None:
                _next_lower(zi, order[i], lowers, places)
            elif q is not None:
                picked = _where(q[i], chosen)
                lowers[:] = f32(-np.inf)
                for k in range(picked):
                    j = chosen[k]
                    lowers[j] = _largest_below(zi, zi[j])
                    places[j] = min(_first_place(zi, lowers[j]), classes - 1)
        top_log_p = -log_sum

        # What the row costs, and the slopes by the numbers.
        cost, to_p, to_row, to_top, to_lower = f32(0.0), f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        to_mean, to_variance, to_squares, to_total = f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        if hard:
            found, own_slope, to_p, to_lower, to_top, _, to_mean, to_variance, to_squares, to_total = formula(
                zi[c], (lead - largest) * rate - log_sum, lower, top_log_p, f32(1.0) if c == top else f32(0.0), mean, variance,
                squares, total, constants,
            )  # fmt: skip
            if not lower > f32(-np.inf):
                to_lower = f32(0.0)
            factor = weight[c] if weight is not None else f32(1.0)
            value[i] = found * factor
            factor *= scale
        else:
            mass = slopes if not wants_total else own
            if plain:
                mass = q[i]
            else:
                _masses(q[i] if q is not None else None, c, weight, smoothing, mass)
            keep, to_largest = f32(1.0), f32(0.0)
            if margined:
                keep = exp(-margin * rate)
            for part in range(3 if apart else 1):
                start, stop, is_top = 0, classes, f32(0.0)
                if apart:
                    start, stop = (0, top, top + 1)[part], (top, top + 1, classes)[part]
                    is_top = f32(1.0) if part == 1 else f32(0.0)
                zs, es, masses = zi[start:stop], e[start:stop], mass[start:stop]
                if gradient is not None:
                    outs = out[start:stop]
                if every_lower:
                    next_lower, to_next_lower = lowers[start:stop], to_lowers[start:stop]
                here, below = f32(0.0), f32(-np.inf)
                for j in range(zs.shape[0]):
                    x = (zs[j] - largest) * rate
                    spread = f32(1.0)
                    if margined:  # the class's own exponential is less by a factor, in its sum too
                        bulk = select(is_top > f32(0.0), others + keep, sum_exp - es[j] * (f32(1.0) - keep))
                        share = f32(1.0) / bulk
                        log_p = x - margin * rate - log_of_ordinary(bulk)
                        spread = select(is_top > f32(0.0), others * share, f32(1.0) + (f32(1.0) - keep) * (es[j] * share))
                    else:
                        log_p = x - log_sum
                    if every_lower:
                        below = (next_lower[j] - largest) * rate - log_sum
                    found, by_logit, by_log_p, by_lower, by_top, _, by_mean, by_variance, by_squares, by_total = formula(
                        zs[j], log_p, below, top_log_p, is_top, mean, variance, squares, total, constants
                    )
                    times = masses[j]
                    if every_lower:
                        by_lower = select(below > f32(-np.inf), by_lower, f32(0.0))
                        to_next_lower[j] = times * by_lower * rate
                        here += times * by_lower
                    cost += times * found
                    here += times * by_log_p * (share if margined else f32(1.0))
                    to_top += times * by_top
                    to_mean += times * by_mean
                    to_variance += times * by_variance
                    to_squares += times * by_squares
                    to_total += times * by_total
                    if gradient is not None:
                        outs[j] = times * (by_logit + by_log_p * rate * spread)
                # with a margin that of the largest is of another size, and added only where their sum is meant
                if margined and part == 1:
                    to_largest = here
                else:
                    to_row += here
            if not margined:
                to_row /= sum_exp
            value[i] = cost
            factor = scale
        summed += value[i]

        # The gradient.
        if gradient is not None:
            to_p, to_lower, to_top, to_row = to_p * rate, to_lower * rate, to_top * rate, to_row * rate
            of_e = -(to_row + (to_p + to_lower + to_top) / sum_exp) * factor
            of_slope = to_total * factor
            if wants_total and not of_logits:
                of_slope *= rate
                of_e -= of_slope * bend / sum_exp
            of_z = f32(2.0) * to_squares * factor
            of_distance = f32(2.0) * to_variance * factor / f32(classes)
            constant = to_mean * factor / f32(classes)
            if hard:
                if softmax and linear:
                    _combined(e, of_e, zi, of_z, mean, of_distance, constant, out)
                elif softmax:
                    _scaled(e, of_e, out)
                else:
                    _linear(zi, of_z, mean, of_distance, constant, out)
                out[c] += (own_slope + to_p) * factor
            else:
                if margined:
                    slope_of_largest = out[top] * factor + of_e * e[top]
                    _joined(out, factor, e, of_e - to_largest * rate * factor, out)
                    out[top] = slope_of_largest
                elif softmax:
                    _joined(out, factor, e, of_e, out)
                else:
                    _scaled(out, factor, out)
                if linear:
                    _linear(zi, of_z, mean, of_distance, constant, e)
                    _added(e, f32(1.0), out)
            if wants_total:
                _added(slopes, of_slope, out)
            if wants_top:
                out[top] += to_top * factor
            if every_lower:
                if order is not None:
                    for j in range(classes):
                        out[places[j]] += to_lowers[j] * factor
                else:
                    for k in range(picked):
                        out[places[chosen[k]]] += to_lowers[chosen[k]] * factor
            elif wants_lower:
                out[lower_place] += to_lower * factor
    return summed
