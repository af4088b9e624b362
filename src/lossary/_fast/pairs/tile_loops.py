"""What is done with the scores of a tile, as compiled loops: for float32 on a processor, where :mod:`._tiles` imports it.

Each tile is read and written once or twice while it is in the cache; the same in plain operations takes several passes.
"""

from typing import Any

from lossary._fast.mathematics import exp, f32, loop, sigmoid, softplus


@loop
def sum_softplus(z: Any, sums: Any, slope: bool) -> None:
    """Add the softplus of each row to its sum; with ``slope`` the scores become their sigmoids."""
    for i in range(z.shape[0]):
        row, total = z[i], f32(0.0)
        if slope:
            for j in range(row.shape[0]):
                x = row[j]
                total += softplus(x)
                row[j] = sigmoid(x)
        else:
            for j in range(row.shape[0]):
                total += softplus(row[j])
        sums[i] += total


@loop
def merge_rows(z: Any, largest: Any, sums: Any, new: Any) -> None:
    """Take each row into its running sum of exponentials, which becomes relative to the new largest."""
    for i in range(z.shape[0]):
        row, most, total = z[i], new[i], f32(0.0)
        for j in range(row.shape[0]):
            total += exp(row[j] - most)
        sums[i] = sums[i] * exp(largest[i] - most) + total
        largest[i] = most


@loop
def merge_columns(z: Any, largest: Any, sums: Any, new: Any) -> None:
    """The same for each column."""
    for j in range(new.shape[0]):
        sums[j] *= exp(largest[j] - new[j])
        largest[j] = new[j]
    for i in range(z.shape[0]):
        row = z[i]
        for j in range(row.shape[0]):
            sums[j] += exp(row[j] - new[j])


@loop
def weigh_rows(z: Any, log_sums: Any, flow: Any) -> None:
    """The scores become their share of the row's exponentials, times what flows to the row."""
    for i in range(z.shape[0]):
        row, shift, factor = z[i], log_sums[i], flow[i]
        for j in range(row.shape[0]):
            row[j] = factor * exp(row[j] - shift)


@loop
def weigh_both(z: Any, log_sums: Any, flow: Any, column_log_sums: Any, column_flow: Any) -> None:
    """The same of rows and columns, added up."""
    for i in range(z.shape[0]):
        row, shift, factor = z[i], log_sums[i], flow[i]
        for j in range(row.shape[0]):
            x = row[j]
            row[j] = factor * exp(x - shift) + column_flow[j] * exp(x - column_log_sums[j])


@loop
def exponentials(z: Any, largest: Any, sums: Any) -> None:
    """The scores become exponentials relative to the largest of their row, whose sum is kept."""
    for i in range(z.shape[0]):
        row, most, total = z[i], largest[i], f32(0.0)
        for j in range(row.shape[0]):
            each = exp(row[j] - most)
            total += each
            row[j] = each
        sums[i] = total
