"""The loops over rows of classes that Numba compiles: cost and gradient of each row while it is in the cache.

See :mod:`lossary._fast.classes.rule` for what is computed. This module imports Numba: import it where a batch on a processor
comes, and not before.
"""

import functools
from typing import Any

import numpy as np

from lossary._fast import mathematics
from lossary._fast.classes import parts
from lossary._fast.mathematics import exp, f32, log, log_of_ordinary, on_threads, select, widest, with_names
from lossary._fast.tracing import compiled

SORTED = 1 << 16  # logits that are sorted at a time
SEARCHED = 8  # classes of a row that have a probability, up to which each is searched for by itself, which takes less than sorting

# What the loop below finds in place of these.
formula: Any = None
curve: Any = None
hard = plain = margined = of_logits = softmax = linear = apart = every_lower = False
watches_masks = wants_total = wants_lower = wants_top = wants_mean = wants_variance = wants_squares = False


@functools.lru_cache(maxsize=128)
def of_rows(
    cost: str, total: str | None, needs: tuple[str, ...], total_of_logits: bool, with_margin: bool, known: bool, plain_masses: bool
) -> Any:
    """The loop for the text of a formula of the :data:`lossary._fast.classes.plain.NUMBERS`.

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
    return with_names(
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
        watches_masks=not known or total is not None or bool({"mean", "variance", "sum_of_squares", "classes"} & {*needs}),
        wants_total=total is not None,
        wants_lower=lower,
        wants_top=bool(top),
        wants_mean=bool(moments),
        wants_variance="variance" in needs,
        wants_squares="sum_of_squares" in needs,
    )


def over_rows(run: Any, given: tuple[Any, ...], numbers: tuple[Any, ...], taken: tuple[Any, ...], every_lower: bool) -> float:
    """Call the loop that :func:`of_rows` gives on all rows, and add up what it gives."""
    if given[0].size < 2 * mathematics.THREADED and not every_lower:
        return float(run(*given, *numbers, *taken, None))
    z, at, q, weight = given

    def go(rows: slice, order: Any = None) -> float:
        part = [None if x is None else x[rows] for x in (z, at, q, *taken)]
        return float(run(*part[:3], weight, *numbers, *part[3:], order))

    def go_sorted(rows: slice) -> float:
        blocks = [slice(start, min(start + step, rows.stop)) for start in range(rows.start or 0, rows.stop, step)]
        return sum(go(block, None if few(block) else parts.sorted_keys(z[block])) for block in blocks)

    def few(rows: slice) -> bool:
        return q is not None and numbers[0] == 0.0 and bool(parts.few_in_each(q[rows], SEARCHED))

    step = max(1, SORTED // z.shape[1])
    return sum(on_threads(go_sorted if every_lower else go, *z.shape))


def _run(
    z: Any, at: Any, q: Any, weight: Any, smoothing: Any, temperature: Any, margin: Any, constants: Any, curve_constants: Any,
    scale: Any, ignored: Any, value: Any, gradient: Any, order: Any,
) -> Any:  # fmt: skip
    """What all rows cost together, or NaN where a masked class needs more care.

    From (N, C) and the class ``at`` of each, where the ignored one costs nothing, or its probabilities ``q``; ``order`` is
    :func:`sorted_keys` where the formula needs the next lower number of every class, or None where few classes of a row have
    a probability.
    """
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

        if watches_masks and parts.smallest(zi) == f32(-np.inf):
            return np.nan

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
                largest = max(parts.largest(before), parts.largest(after))
                largest = lead if not largest > lead else largest
                e[c] = exp((lead - largest) * rate)
                sum_exp = (
                    parts.exponentials(before, largest, rate, e[:c]) + parts.exponentials(after, largest, rate, e[c + 1 :]) + e[c]
                )
            else:
                largest = parts.largest(zi)
                sum_exp = parts.exponentials(zi, largest, rate, e)
            log_sum = log(sum_exp)
        if wants_top or (margined and not hard):
            top = min(parts.first_place(zi, largest), classes - 1)
        if margined and not hard:
            others = parts.sum_of(e[:top]) + parts.sum_of(e[top + 1 :])
        if wants_mean:
            mean = parts.sum_of(zi) / f32(classes)
        if wants_variance:
            variance = parts.sum_of_squares(zi, mean) / f32(classes)
        if wants_squares:
            squares = parts.sum_of_squares(zi, f32(0.0))
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
            lower = parts.largest_below(zi, zi[c])
            lower_place = min(parts.first_place(zi, lower), classes - 1)
            if lower > f32(-np.inf):
                lower = (lower - largest) * rate - log_sum
        if every_lower:
            if order is not None:
                parts.next_lower(zi, order[i], lowers, places)
            elif q is not None:
                picked = parts.where(q[i], chosen)
                lowers[:] = f32(-np.inf)
                for k in range(picked):
                    j = chosen[k]
                    lowers[j] = parts.largest_below(zi, zi[j])
                    places[j] = min(parts.first_place(zi, lowers[j]), classes - 1)
        top_log_p = -log_sum

        # What the row costs, and the slopes by the numbers.
        cost, to_p, to_row, to_top, to_lower = f32(0.0), f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        to_mean, to_variance, to_squares, to_total = f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        if hard:
            found, own_slope, to_p, to_lower, to_top, _, to_mean, to_variance, to_squares, to_total, _ = formula(
                zi[c], (lead - largest) * rate - log_sum, lower, top_log_p, f32(1.0) if c == top else f32(0.0), mean, variance,
                squares, total, f32(classes), constants,
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
                parts.masses(q[i] if q is not None else None, c, weight, smoothing, mass)
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
                    found, by_logit, by_log_p, by_lower, by_top, _, by_mean, by_variance, by_squares, by_total, _ = formula(
                        zs[j], log_p, below, top_log_p, is_top, mean, variance, squares, total, f32(classes), constants
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
                    parts.combined(e, of_e, zi, of_z, mean, of_distance, constant, out)
                elif softmax:
                    parts.scaled(e, of_e, out)
                else:
                    parts.linear(zi, of_z, mean, of_distance, constant, out)
                out[c] += (own_slope + to_p) * factor
            else:
                if margined:
                    slope_of_largest = out[top] * factor + of_e * e[top]
                    parts.joined(out, factor, e, of_e - to_largest * rate * factor, out)
                    out[top] = slope_of_largest
                elif softmax:
                    parts.joined(out, factor, e, of_e, out)
                else:
                    parts.scaled(out, factor, out)
                if linear:
                    parts.linear(zi, of_z, mean, of_distance, constant, e)
                    parts.added(e, f32(1.0), out)
            if wants_total:
                parts.added(slopes, of_slope, out)
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
