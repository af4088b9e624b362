"""The elementary functions of the loops that Numba compiles are those of NumPy, to a few units in the last place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from lossary._fast import mathematics
from lossary._fast.classes import loop as classes_loop
from lossary._fast.labels import loop as labels_loop

WIDE = np.concatenate([np.linspace(-87.0, 88.0, 20_001), np.linspace(-1.0, 1.0, 5_001), -np.logspace(-20, 0, 3_001)])
POSITIVE = np.concatenate([np.logspace(-37, 37, 20_001), np.linspace(0.5, 2.0, 5_001)])
ABOVE_MINUS_ONE = np.concatenate([np.logspace(-30, 20, 20_001), -np.logspace(-30, -1e-4, 20_001)])

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Any, float]] = {
    "exp": (np.exp, WIDE, 1.5),
    "expm1": (np.expm1, WIDE, 2.0),
    "log": (np.log, POSITIVE, 1.5),
    "log1p": (np.log1p, ABOVE_MINUS_ONE, 3.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), WIDE, 4.0),
    "softplus": (lambda x: np.logaddexp(0, x), WIDE, 4.0),
    "log_sigmoid": (lambda x: -np.logaddexp(0, -x), WIDE, 4.0),
}


def over(name: str) -> Callable[[Any], Any]:
    function = getattr(mathematics, name)

    @numba.njit(fastmath=mathematics.REORDERED, error_model="numpy")
    def run(x: Any, out: Any) -> None:
        for j in range(x.shape[0]):
            out[j] = function(x[j])

    def apply(x: Any) -> Any:
        out = np.empty_like(x)
        run(x, out)
        return out

    return apply


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions(name: str) -> None:
    exact, at, units = FUNCTIONS[name]
    x, apply = at.astype(np.float32), over(name)
    expected = exact(x.astype(np.float64))
    off = np.abs(apply(x) - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert off[np.abs(expected) > np.finfo(np.float32).tiny].max() < units
    special = np.array([0.0, np.inf, -np.inf, np.nan, 1e4, -1e4], np.float32)
    with np.errstate(all="ignore"):
        limits = exact(special.astype(np.float64)).astype(np.float32)
    if name == "log1p":
        limits = np.array([0.0, np.inf, np.nan, np.nan, np.log1p(1e4), np.nan], np.float32)
    if name in ("softplus", "log_sigmoid"):  # of infinity it is the limit
        limits[:3] = {"softplus": [np.log(2), np.inf, 0.0], "log_sigmoid": [-np.log(2), 0.0, -np.inf]}[name]
    np.testing.assert_allclose(apply(special), limits, rtol=1e-6)


def test_powers() -> None:
    @numba.njit
    def run(x: Any, exponent: Any) -> Any:
        return mathematics.power(x, exponent)

    for x in (0.0, 1e-6, 0.3, 1.0):
        assert run(np.float32(x), np.float32(1.7)) == pytest.approx(x**1.7, rel=2e-6)


def test_a_loop_with_a_formula_is_kept_on_disk_under_a_name_of_its_own() -> None:
    def total(text: str) -> tuple[float, Any]:
        run = labels_loop.of_labels.__wrapped__(text)  # as another process would make it
        z, y, one = np.full((1, 3), 2.0, np.float32), np.ones((1, 3), np.float32), np.empty(1, np.float32)
        return run(z, y, None, None, None, (), -100.0, 0.0, 1.0, one, None, one.copy(), None)[0], run

    head, slopes = "def formula(x0, x1, constants):\n    return", "f32(1.0), f32(0.0), x0, f32(1.0), f32(0.0)"
    plain, other = f"{head} x0, {slopes}", f"{head} x0 * x0, {slopes}"
    assert [total(text)[0] for text in (plain, other)] == [6.0, 12.0]
    again, run = total(other)
    assert again == 12.0
    assert [sum(hits.values()) for hits in (run.stats.cache_hits, run.stats.cache_misses)] == [1, 0]


def test_a_kept_loop_is_not_taken_once_a_part_of_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for text in ("one", "other", "one"):
        monkeypatch.setattr(mathematics, "_digest", lambda file: text if Path(file).name == "parts.py" else "")  # noqa: B023
        names.append(mathematics.with_names(classes_loop._run, None).py_func.__qualname__)
    assert names[0] == names[2] != names[1]
