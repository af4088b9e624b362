"""Loops over the pairs of each list that Numba compiles, with their gradients in closed form.

This module imports Numba: import it where a large batch on a processor comes, and not before.
"""

import numpy as np

from lossary._fast.mathematics import exp, f32, loop, select, sigmoid, softplus, widest

# e to this is nothing beside 1, and its products with gradients are not yet subnormal numbers, which take many times as long
NOTHING = -60.0


@loop
def _with_those_below(s_i, g_i, d_i, s, g, steps, d, pull, by_gain):  # type: ignore[no-untyped-def]
    """The loss of an item's pairs with all that have lower scores, and its derivative by the item's score."""
    loss, pull_i = f32(0.0), f32(0.0)
    for j in range(len(s)):
        more = g[j] - g_i  # above 0 if j should stand before i, which it does not
        weight = (steps[j] + (d_i - d[j])) * abs(more) if by_gain else (f32(0.0) if more == f32(0.0) else f32(1.0))
        margin = s[j] - s_i if more < f32(0.0) else s_i - s[j]
        small = exp(-abs(margin))
        share = f32(1.0) / (f32(1.0) + small)
        share = weight * (share if margin >= f32(0.0) else small * share)
        share = -share if more < f32(0.0) else share
        loss += weight * softplus(margin)
        pull_i += share
        pull[j] -= share
    return loss, pull_i


@loop
def logistic_pairs(scores, gain, real, order, steps, discount, value, gradient, sigma, by_gain, first):  # type: ignore[no-untyped-def]
    """Each pair once, in the order of the scores, whichever of the two is the better one."""
    lists, items = scores.shape
    s, g, pull = np.empty(items, f32), np.empty(items, f32), np.empty(items, f32)
    for row in range(lists):
        n = 0
        for place in range(items):
            item = order[row, place]
            if real[row, item]:
                s[n], g[n], pull[n] = f32(sigma) * scores[row, item], gain[row, item], f32(0.0)
                n += 1
        total = 0.0
        for i in range(min(first, n)):
            below = slice(i + 1, n)
            loss, pull_i = _with_those_below(
                s[i], g[i], discount[i], s[below], g[below], steps[1 : n - i], discount[below], pull[below], by_gain
            )
            total += loss
            pull[i] += pull_i
        value[row] = total
        if len(gradient):
            for place in range(n):
                gradient[row, order[row, place]] = f32(sigma) * pull[place]


@loop
def _behind_those_after(s_i, s, rank):  # type: ignore[no-untyped-def]
    """Smooth counts of who stands before whom: those after i before it, which is returned, and i before each of them."""
    total = f32(0.0)
    for j in range(len(s)):
        before = sigmoid(s[j] - s_i)
        total += before
        rank[j] += f32(1.0) - before
    return total


@loop
def _pull_of_those_after(s_i, c_i, s, c, pull):  # type: ignore[no-untyped-def]
    total = f32(0.0)
    for j in range(len(s)):
        small = exp(-abs(s[j] - s_i))
        share = small / ((f32(1.0) + small) * (f32(1.0) + small)) * (c[j] - c_i)
        total += share
        pull[j] -= share
    return total


@loop
def approximate_ndcg(scores, gain, real, value, gradient, alpha):  # type: ignore[no-untyped-def]
    """Smooth ranks in a first pass over the pairs, what they do to the scores in a second."""
    lists, items = scores.shape
    s, g, rank = np.empty(items, f32), np.empty(items, f32), np.empty(items, f32)
    c, pull = np.empty(items, f32), np.empty(items, f32)
    for row in range(lists):
        n = 0
        for item in range(items):
            if real[row, item]:
                s[n], g[n], rank[n], pull[n] = f32(alpha) * scores[row, item], gain[row, item], f32(1.0), f32(0.0)
                n += 1
        for i in range(n):
            rank[i] += _behind_those_after(s[i], s[i + 1 : n], rank[i + 1 : n])
        total = 0.0
        for i in range(n):
            logarithm = np.log2(1.0 + rank[i])
            total -= g[i] / logarithm
            c[i] = g[i] / (np.log(2.0) * (1.0 + rank[i]) * logarithm * logarithm)
        value[row] = total
        if len(gradient):
            for i in range(n):
                pull[i] += _pull_of_those_after(s[i], c[i], s[i + 1 : n], c[i + 1 : n], pull[i + 1 : n])
            n = 0
            for item in range(items):
                if real[row, item]:
                    gradient[row, item] = f32(alpha) * pull[n]
                    n += 1


@loop
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = f32(0.0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total


@loop
def _add_row(x, a, i, place, total, moment):  # type: ignore[no-untyped-def]
    """Add a times a row of K to the sums of the columns, and to those weighted with how far the columns stand behind the row."""
    for j in range(len(x)):
        term = a * x[j]
        total[j] += term
        moment[j] += term * (place[j] - i)


@loop
def _exponentials(weight, s_i, a_i, s, a, out):  # type: ignore[no-untyped-def]
    total = f32(0.0)
    for j in range(len(s)):
        out[j] = exp(f32(weight * (s[j] - s_i) - (a[j] - a_i)))
        total += out[j]
    return total


@loop
def _distances(s_i, s):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(len(s)):
        total += abs(s[j] - s_i)
    return total


@loop
def _pull_of_distances(s_i, s, c):  # type: ignore[no-untyped-def]
    """The sum over items of the sign of s_i - s_j times c_j, and of the sign alone."""
    total, signs = 0.0, 0.0
    for j in range(len(s)):
        sign = 1.0 if s[j] < s_i else (-1.0 if s[j] > s_i else 0.0)
        total += sign * c[j]
        signs += sign
    return total, signs


@loop
def _first_beyond(weight, s, a, i, step):  # type: ignore[no-untyped-def]
    """From place i on the exponents only fall, in both directions: the first place where e to them is nothing, by halving."""
    near, far = 0, (len(s) - i if step > 0 else i + 1)
    while far - near > 1:
        middle = (near + far) // 2
        j = i + step * middle
        if weight * (s[j] - s[i]) - (a[j] - a[i]) > NOTHING:
            near = middle
        else:
            far = middle
    return i + step * far


@loop
def relaxed_ndcg(scores, gain, real, order, discount, value, gradient, K, of_rounds, temperature, tolerance):  # type: ignore[no-untyped-def]
    """NDCG by the relaxed sorting matrix P = diag(u) K diag(v), of which only K and the scaling vectors of each round are kept.

    Row i of K has its largest number at item i, as items are in the order of their scores, and falls to both sides, so that only
    the places from ``low[i]`` to ``high[i]`` have to be looked at. Going back through the rounds, the sums over the rows and over
    the columns of K times its gradient telescope (a constant factor of a row or a column of K makes no difference to what
    follows), so that the gradient by the exponents is never needed as a matrix, but only its sums over rows, and their moments
    about the diagonal: the scores come in by ``weight``, which the distances take back on the diagonal, where K is large.
    """
    lists, items = scores.shape
    low, high = np.empty(items, np.int64), np.empty(items, np.int64)
    s, a, weight = np.empty(items), np.empty(items), np.empty(items)
    # by round: the scaling of rows and of columns, and the moments of the columns of K when its rows are scaled
    u, v, x = of_rounds[0], of_rounds[1], of_rounds[2]
    rounds = len(u) - 1
    sums, moments, right, to_u = np.empty(items, f32), np.empty(items, f32), np.empty(items, f32), np.empty(items, f32)
    to_v, pull, column = np.empty(items, f32), np.empty(items), np.empty(items)
    place = np.arange(items).astype(f32)
    for row in range(lists):
        n = 0
        for at in range(items):
            item = order[row, at]
            if real[row, item]:
                s[n] = np.float64(scores[row, item]) / temperature
                n += 1
        for i in range(n):
            a[i], weight[i] = _distances(s[i], s[:n]), n - 1 - 2 * i
            u[0, i], v[0, i] = 1.0, 1.0
        sums[:n] = f32(0.0)
        x[0, :n] = f32(0.0)
        for i in range(n):
            low[i] = _first_beyond(weight[i], s[:n], a[:n], i, -1) + 1
            high[i] = _first_beyond(weight[i], s[:n], a[:n], i, 1)
            here = slice(low[i], high[i])
            total = _exponentials(weight[i], s[i], a[i], s[here], a[here], K[i, here])
            for j in range(low[i], high[i]):
                K[i, j] /= total
            _add_row(K[i, here], f32(1.0), f32(i), place[here], sums[here], x[0, here])
        last = 0
        while last < rounds:
            last += 1
            for j in range(n):
                v[last, j] = f32(1.0) / sums[j]
                sums[j] = f32(0.0)
                x[last, j] = f32(0.0)
            for i in range(n):
                here = slice(low[i], high[i])
                u[last, i] = f32(1.0) / _dot(K[i, here], v[last, here])
                _add_row(K[i, here], u[last, i], f32(i), place[here], sums[here], x[last, here])
            off = f32(0.0)
            for j in range(n):
                off = max(off, abs(v[last, j] * sums[j] - f32(1.0)))
            if off < tolerance:
                break
        for j in range(n):
            right[j] = v[last, j] * gain[row, order[row, j]]
            sums[j], moments[j] = f32(0.0), f32(0.0)
        total = 0.0
        for i in range(n):
            here = slice(low[i], high[i])
            to_u[i] = -discount[i] * _dot(K[i, here], right[here])
            total += to_u[i] * u[last, i]
            _add_row(K[i, here], discount[i] * u[last, i], f32(i), place[here], sums[here], moments[here])
        value[row] = total
        if not len(gradient):
            continue
        for j in range(n):
            to_v[j] = -gain[row, order[row, j]] * sums[j]
            pull[j] = -right[j] * moments[j]
        for step in range(last, -1, -1):
            sums[:n], moments[:n] = f32(0.0), f32(0.0)
            for i in range(n):
                here = slice(low[i], high[i])
                if step < last:
                    to_u[i] = _dot(K[i, here], right[here])
                left = -to_u[i] * u[step, i] * u[step, i]
                _add_row(K[i, here], left, f32(i), place[here], sums[here], moments[here])
            for j in range(n):
                pull[j] += v[step, j] * moments[j]
                if step > 0:
                    right[j] = -(to_v[j] + sums[j]) * v[step, j] * v[step, j]
                    pull[j] += right[j] * x[step - 1, j]
                    to_v[j] = f32(0.0)
                else:
                    column[j] = -(to_v[j] + sums[j])
        for j in range(n):
            through, signs = _pull_of_distances(s[j], s[:n], column[:n])
            own = column[j] * (signs - weight[j])  # nothing but for items of equal scores
            gradient[row, order[row, j]] = (2.0 * pull[j] + own + through) / temperature


@loop
def count_relevant(scores, relevance, mask):  # type: ignore[no-untyped-def]
    """How many lists have a relevant item."""
    found = 0
    for row in range(len(scores)):
        for item in range(scores.shape[1]):
            there = scores[row, item] != f32(-np.inf) and (mask is None or mask[row, item])
            if there and relevance[row, item] > 0:
                found += 1
                break
    return found


@loop
def _real_items(scores, relevance, mask, s, y):  # type: ignore[no-untyped-def]
    """Scores and relevance of a list, -inf for what is no real item; the largest of both, and whether one is relevant."""
    most, best = f32(-np.inf), f32(-np.inf)
    for j in range(len(s)):
        if mask is not None:
            real = mask[j] and scores[j] != f32(-np.inf)
        else:
            real = not (relevance[j] < f32(0.0)) and scores[j] != f32(-np.inf)
        s[j] = select(real, scores[j], f32(-np.inf))
        y[j] = select(real, relevance[j], f32(-np.inf))
        most = select(s[j] > most, s[j], most)
        best = select(y[j] > best, y[j], best)
    return most, best


@loop
def list_net(scores, relevance, mask, value, gradient, scale):  # type: ignore[no-untyped-def]
    """Cross-entropy between the softmax of the relevance and that of the scores; its sum over the lists that count."""
    widest()
    lists, items = scores.shape
    s, y = np.empty(items, f32), np.empty(items, f32)
    scale, all_lists = f32(scale), 0.0
    for row in range(lists):
        of_mask = None if mask is None else mask[row]
        most, best = _real_items(scores[row], relevance[row], of_mask, s, y)
        value[row] = f32(0.0)
        if not best > f32(0.0):
            if gradient is not None:
                gradient[row] = f32(0.0)
            continue
        of_scores, of_relevance, crossed = f32(0.0), f32(0.0), f32(0.0)
        for j in range(items):
            real = s[j] != f32(-np.inf)
            behind = select(real, s[j] - most, f32(-np.inf))
            share = select(real, exp(y[j] - best), f32(0.0))
            of_scores += exp(behind)
            of_relevance += share
            crossed += share * select(real, behind, f32(0.0))
            s[j], y[j] = behind, share
        value[row] = np.log(of_scores) - crossed / of_relevance
        all_lists += value[row]
        if gradient is not None:
            slope, of_score, of_grade = gradient[row], scale / of_scores, scale / of_relevance
            for j in range(items):
                slope[j] = exp(s[j]) * of_score - y[j] * of_grade
    return all_lists


@loop
def _of_grades(s, y, grade, sums, weight):  # type: ignore[no-untyped-def]
    """The grades of a list in ascending order, with the log of the sum of e^s over the items up to each, and how many items
    have it. Returns the number of grades, or 0 if there are too many of them."""
    grades, largest, total, before = 0, f32(-np.inf), f32(0.0), f32(-np.inf)
    while True:
        following = f32(np.inf)
        for j in range(len(y)):
            following = select((y[j] > before) & (y[j] < following), y[j], following)
        if following == f32(np.inf):
            return grades
        if grades == len(grade):
            return 0
        top, count = f32(-np.inf), f32(0.0)
        for j in range(len(y)):
            here = y[j] == following
            count += select(here, f32(1.0), f32(0.0))
            top = select(here & (s[j] > top), s[j], top)
        now = max(largest, top)
        part = f32(0.0)
        for j in range(len(y)):
            part += select(y[j] == following, exp(s[j] - now), f32(0.0))
        total = total * exp(largest - now) + part
        largest, before = now, following
        grade[grades], sums[grades], weight[grades] = following, now + np.log(total), count
        grades += 1


@loop
def _of_sorted(s, y, grade, sums, weight):  # type: ignore[no-untyped-def]
    """The same for any number of grades, from items in the order of their relevance."""
    order = np.argsort(y)
    grades, largest, total = 0, f32(-np.inf), f32(0.0)
    for at in range(len(y)):
        j = order[at]
        if y[j] == f32(-np.inf):
            continue
        now = max(largest, s[j])
        total = total * exp(largest - now) + exp(s[j] - now)
        largest = now
        if grades and grade[grades - 1] == y[j]:
            weight[grades - 1] += f32(1.0)
        else:
            grade[grades], weight[grades] = y[j], f32(1.0)
            grades += 1
        sums[grades - 1] = largest + np.log(total)
    return grades


FEW = 16  # grades up to which each is looked for by itself


@loop
def list_mle(scores, relevance, mask, value, gradient, scale):  # type: ignore[no-untyped-def]
    """Minus the log-likelihood of the order of the relevance; its sum over the lists that count.

    All items of a grade compete with all items up to that grade, so that each grade needs one sum.
    """
    widest()
    lists, items = scores.shape
    s, y = np.empty(items, f32), np.empty(items, f32)
    grade, sums, weight = np.empty(items, f32), np.empty(items, f32), np.empty(items, f32)
    scale, all_lists = f32(scale), 0.0
    for row in range(lists):
        of_mask = None if mask is None else mask[row]
        best = _real_items(scores[row], relevance[row], of_mask, s, y)[1]
        value[row] = f32(0.0)
        if not best > f32(0.0):
            if gradient is not None:
                gradient[row] = f32(0.0)
            continue
        broken = f32(0.0)
        for j in range(items):
            broken += select(s[j] != f32(-np.inf), (s[j] - s[j]) + (y[j] - y[j]), f32(0.0))
        if broken != f32(0.0):  # some number is none
            value[row] = f32(np.nan)
            all_lists += np.nan
            if gradient is not None:
                gradient[row] = f32(np.nan)
            continue
        grades = _of_grades(s, y, grade[:FEW], sums, weight)
        if not grades:
            grades = _of_sorted(s, y, grade, sums, weight)
        loss = 0.0
        for j in range(items):
            loss -= select(s[j] != f32(-np.inf), s[j], f32(0.0))
        for g in range(grades):
            loss += weight[g] * sums[g]
        value[row] = loss
        all_lists += loss
        if gradient is not None:
            for g in range(grades - 2, -1, -1):  # what all sums from this one on take of an item
                weight[g] += weight[g + 1] * exp(sums[g] - sums[g + 1])
            slope = gradient[row]
            if grades <= FEW:
                for j in range(items):
                    slope[j] = select(s[j] != f32(-np.inf), -scale, f32(0.0))
                for g in range(grades):
                    factor = scale * weight[g]
                    for j in range(items):
                        slope[j] += select(y[j] == grade[g], factor * exp(s[j] - sums[g]), f32(0.0))
            else:
                for j in range(items):
                    real = s[j] != f32(-np.inf)
                    g = np.searchsorted(grade[:grades], y[j]) if real else 0
                    slope[j] = scale * (weight[g] * exp(s[j] - sums[g]) - f32(1.0)) if real else f32(0.0)
    return all_lists
