"""Elementary functions of single float32 numbers for loops that Numba compiles, and how such loops are compiled.

A loop over numbers is as fast as memory only if the compiler turns it into vector instructions, which a call of the C library
prevents. So the functions here are polynomials after a reduction of the argument, exact to one or two units in the last place;
NaN stays NaN, infinities and zeros give what they give in PyTorch, and subnormal results are 0.

This module imports Numba: import it where a batch on a processor comes, and not before.
"""

import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

T = TypeVar("T")

THREADED = 1 << 16  # elements that are worth a thread

f32: Any = np.float32
i32: Any = np.int32
sqrt: Any = np.sqrt

# The compiler may fuse a product and a sum; in loops it may also reorder sums, without which none is vectorised. It may not
# assume that there are no NaN.
ELEMENTARY = ("exp", "expm1", "log", "log1p", "log_sigmoid", "power", "sigmoid", "softplus")
EXACT, REORDERED = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}


@functools.cache
def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def elementary(function: Callable[..., Any]) -> Any:
    """Compile a function of numbers that loops call, and that vanishes in them."""
    return numba.njit(fastmath=EXACT, error_model="numpy", forceinline=True)(function)


def formula(function: Callable[..., Any]) -> Any:
    """Compile a formula of numbers; several divisions by one number may become products with its reciprocal."""
    return numba.njit(fastmath={*EXACT, "arcp"}, error_model="numpy", forceinline=True)(function)


def loop(function: Callable[..., Any], told: object = None) -> Any:
    """Compile a function with loops over arrays, and keep it on disk if there is a place for it.

    Numba finds what it kept by a function's name, its code and the date of its file. What else makes the difference goes into the
    name: the text of the files whose functions it may call, as these vanish in it, and what it is ``told``.
    """
    files = {__file__, function.__code__.co_filename}
    for known in function.__globals__.values():
        if isinstance(known, Dispatcher):
            files.add(known.py_func.__code__.co_filename)
        elif isinstance(known, ModuleType) and known.__name__.startswith("lossary."):
            files.add(str(known.__file__))
    digests = [_digest(file) for file in sorted(files) if not file.startswith("<")]  # a formula has no file, and is told
    name = hashlib.sha256(repr((told, digests)).encode()).hexdigest()[:16]
    function.__qualname__ = f"{function.__qualname__}_{name}"
    options: dict[str, Any] = {"fastmath": REORDERED, "error_model": "numpy", "nogil": True, "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no directory can be written
        return numba.njit(**options)(function)


def _as_float(_: Any, bits: Any) -> Any:
    """The float32 of these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _as_int(_: Any, number: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _select(_: Any, condition: Any, one: Any, other: Any) -> Any:
    """One of two numbers, without a branch, which takes the compiler long to get rid of."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return one(types.boolean, one, one), generate


def _widest(_: Any) -> Any:
    """Let the loops of the function that calls this use vectors of 512 bits where the processor has them.

    The compiler leaves these out, as older processors slow down for them; a loop with exponentials gains more than that. llvmlite
    passes attributes on as they are, but knows those alone that are one word.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


as_float: Any = intrinsic(_as_float)
as_int: Any = intrinsic(_as_int)
select: Any = intrinsic(_select)
widest: Any = intrinsic(_widest)


@elementary
def in_order(x: Any) -> Any:
    """An integer for a number, in the same order, with NaN above all: integers compare at the speed of memory."""
    bits = as_int(x)
    return i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))


@elementary
def from_order(found: Any) -> Any:
    return as_float(i32(found ^ i32(i32(found >> i32(31)) & i32(0x7FFFFFFF))))


LEAST: Any = i32(-0x7F800001)  # of minus infinity


@elementary
def _powers_of_two(x: Any) -> Any:
    """k and r with x = k log 2 + r and |r| <= (log 2) / 2, for an x that is not far beyond what float32 can hold e^x of."""
    x = select(x < f32(-88.0), f32(-88.0), x)
    x = select(x > f32(88.8), f32(88.8), x)
    k = np.floor(x * f32(1.44269504) + f32(0.5))
    return k, (x - k * f32(0.693359375)) - k * f32(-2.12194440e-4)


@elementary
def _expm1_near_0(r: Any) -> Any:
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r) * r + r


@elementary
def _two_to_the(k: Any) -> Any:
    """2^k for -127 <= k <= 128, where the ends are 0 and infinity."""
    return as_float(i32(i32(i32(k) + i32(127)) << i32(23)))


@elementary
def exp(x: Any) -> Any:
    k, r = _powers_of_two(x)
    return (_expm1_near_0(r) + f32(1.0)) * _two_to_the(k)


@elementary
def expm1(x: Any) -> Any:
    k, r = _powers_of_two(x)
    scale = _two_to_the(k)
    return _expm1_near_0(r) * scale + (scale - f32(1.0))


@elementary
def log_of_ordinary(x: Any) -> Any:
    """log x for a number that is neither 0, subnormal nor infinite."""
    bits = as_int(x)
    k = i32(i32(bits - i32(0x3F3504F3)) >> i32(23))  # Numba widens sums of integers, which halves the speed
    r = as_float(i32(bits - i32(k << i32(23)))) - f32(1.0)  # x = 2^k (1 + r), and 1 + r is from sqrt(1/2) to sqrt(2)
    square = r * r
    p = f32(7.0376836292e-2)
    p = p * r - f32(1.1514610310e-1)
    p = p * r + f32(1.1676998740e-1)
    p = p * r - f32(1.2420140846e-1)
    p = p * r + f32(1.4249322787e-1)
    p = p * r - f32(1.6668057665e-1)
    p = p * r + f32(2.0000714765e-1)
    p = p * r - f32(2.4999993993e-1)
    p = p * r + f32(3.3333331174e-1)
    tail = (p * r) * square + f32(k) * f32(-2.12194440e-4) - f32(0.5) * square
    return (tail + r) + f32(k) * f32(0.693359375)


@elementary
def log(x: Any) -> Any:
    tiny = x < f32(1.17549435e-38)
    found = log_of_ordinary(select(tiny, x * f32(8388608.0), x)) - select(tiny, f32(15.942385), f32(0.0))
    found = select(x < f32(np.inf), found, x)  # infinity, NaN
    return select(x > f32(0.0), found, select(x == f32(0.0), f32(-np.inf), f32(np.nan)))


@formula
def log1p(x: Any) -> Any:
    y = f32(1.0) + x
    found = log_of_ordinary(y) + (x - (y - f32(1.0))) / y  # with what of x is not left in y
    found = select(y < f32(np.inf), found, y)
    return select(y > f32(0.0), found, select(y == f32(0.0), f32(-np.inf), f32(np.nan)))


@elementary
def _log1p_unit(x: Any) -> Any:
    """log(1 + x) for x from 0 to 1."""
    s = x / (f32(2.0) + x)
    square = s * s + f32(1e-30)  # at most 1/9, and never subnormal, which would take a hundred times as long
    p = f32(0.11619438)
    p = p * square + f32(0.10851679)
    p = p * square + f32(0.1429629)
    p = p * square + f32(0.19999851)
    p = p * square + f32(0.33333334)
    return f32(2.0) * ((p * square) * s + s)


@elementary
def sigmoid(x: Any) -> Any:
    small = exp(-abs(x))
    large = f32(1.0) / (f32(1.0) + small)
    return select(x >= f32(0.0), large, small * large)


@elementary
def softplus(x: Any) -> Any:
    """log(1 + e^x)."""
    tail = _log1p_unit(exp(-abs(x)))
    return select(x > f32(0.0), x, f32(0.0)) + tail


@elementary
def log_sigmoid(x: Any) -> Any:
    return -softplus(-x)


@elementary
def power(x: Any, exponent: Any) -> Any:
    """x ** exponent for x >= 0 and an exponent > 0."""
    return exp(exponent * log(x))


@loop
def counted(at: Any, classes: Any, ignored: Any, weight: Any) -> Any:
    """How many rows count, or what their classes weigh; NaN if there is a class that does not exist."""
    found = 0.0
    for i in range(at.shape[0]):
        c = at[i]
        if c != ignored:
            if c < 0 or c >= classes:
                return np.nan
            found += weight[c] if weight is not None else f32(1.0)
    return found


def with_names(template: Callable[..., Any], told: object, **names: Any) -> Any:
    """Compile a function with these names among its globals; ``told`` says all that is in them, such as the text of a formula."""
    function = FunctionType(template.__code__, {**template.__globals__, **names}, template.__name__)
    function.__module__, function.__qualname__ = template.__module__, template.__qualname__
    return loop(function, told)


def on_threads(run: Callable[[slice], T], rows: int, columns: int) -> list[T]:
    """Run a compiled loop over all rows, on as many threads as PyTorch has and the batch is worth."""
    threads = min(torch.get_num_threads(), rows, rows * columns // THREADED)
    if threads <= 1:
        return [run(slice(rows))]
    step = -(-rows // threads)
    with ThreadPoolExecutor(threads) as pool:  # made anew, as a process that is forked in between would have none
        return list(pool.map(run, [slice(start, start + step) for start in range(0, rows, step)]))
