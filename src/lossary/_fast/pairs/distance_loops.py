"""Squared distances from products, as a compiled loop: for float32 on a processor, where :mod:`._pair_distances` imports it."""

from typing import Any

import numba

from lossary._fast.mathematics import REORDERED, f32, loop


@numba.njit(fastmath=REORDERED, error_model="numpy")
def _of_differences(a: Any, b: Any) -> Any:
    total = f32(0.0)
    for k in range(a.shape[0]):
        apart = a[k] - b[k]
        total += apart * apart
    return total


@loop
def squares(s: Any, a: Any, b: Any, of_a: Any, of_b: Any, close: Any) -> None:
    """Replaces the products s (B, M) of a (B, D) and b (M, D) by their squared distances; of_a and of_b are squared lengths."""
    share = f32(close)
    for i in range(s.shape[0]):
        row, own, few = s[i], of_a[i], f32(0.0)
        for j in range(row.shape[0]):
            both = own + of_b[j]
            row[j] = both - f32(2.0) * row[j]
            few += f32(1.0) if row[j] <= share * both else f32(0.0)
        if few > f32(0.0):
            for j in range(row.shape[0]):
                if row[j] <= share * (own + of_b[j]):
                    row[j] = _of_differences(a[i], b[j])
