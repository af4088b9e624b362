"""The dispatch: which tensors may go through blocks and loops, and that every loss answers alike where they may not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lossary._fast import dispatch


class Named(Tensor):
    """A subclass as simple as possible."""


def test_ordinary_tensors_are_those_with_plain_memory() -> None:
    x = torch.zeros(3)
    assert dispatch.ordinary(x, torch.nn.Parameter(x), None)
    assert not dispatch.ordinary(x, x.as_subclass(Named))
    assert not dispatch.ordinary(torch.nn.Parameter(x.as_subclass(Named)))
    assert not dispatch.ordinary(x.to("meta"))
    with FakeTensorMode():
        assert not dispatch.ordinary(torch.zeros(3))


def test_a_functorch_wrapper_is_as_ordinary_as_what_it_wraps() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(dispatch.ordinary(x))
        return x

    torch.vmap(torch.vmap(look))(torch.zeros(2, 2, 2))
    torch.vmap(look)(torch.zeros(2, 2).as_subclass(Named))
    assert seen == [True, False]


WITHOUT = {
    "switched off": ("", {"NUMBA_DISABLE_JIT": "1"}),
    "no Numba": ("import sys; sys.modules['numba'] = None", {}),
    "a broken llvmlite": ("import sys; sys.modules['llvmlite'] = None", {}),
}
SCRIPT = """
import torch, lossary
generator = torch.Generator().manual_seed(0)
F = lossary.functional
for n in (9, 700):
    x, b = (torch.randn(n, 24, generator=generator) for _ in range(2))
    classes, pairs = torch.randint(24, (n,), generator=generator), torch.arange(n) // 4
    grades = torch.randint(3, (n, 24), generator=generator)
    cases = {
        "squentropy": (classes,), "dual_focal": (classes,), "focal": (x.softmax(1),), "binary_cross_entropy": (x.sigmoid(),),
        "sup_con": (pairs,), "contrastive": (pairs,), "siglip": (b,), "info_nce": (b,),
        "lambda_loss": (grades,), "approx_ndcg": (grades,),
    }
    for name, rest in cases.items():
        leaf = x.clone().requires_grad_()
        extra = {"log_scale": torch.tensor(1.0), "bias": torch.tensor(-1.0)} if name == "siglip" else {}
        value = getattr(F, name)(leaf, *rest, **extra)
        (slope,) = torch.autograd.grad(value, leaf)
        print(n, name, value.item(), slope.square().sum().item(), slope.flatten()[7].item())
"""


def run(script: str, **environment: str) -> list[list[str]]:
    path = os.pathsep.join(str(Path(place).resolve()) for place in sys.path if place)
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not found.returncode, found.stderr
    return [line.split() for line in found.stdout.splitlines()]


@pytest.fixture(scope="module")
def compiled() -> list[list[str]]:
    return run(SCRIPT)


@pytest.mark.parametrize("how", WITHOUT)
def test_without_a_compiler_the_numbers_are_the_same(compiled: list[list[str]], how: str) -> None:
    before, environment = WITHOUT[how]
    plain = run(before + SCRIPT, **environment)
    assert len(plain) == len(compiled) == 20
    for one, other in zip(plain, compiled, strict=True):
        assert one[:2] == other[:2]
        for a, b in zip(one[2:], other[2:], strict=True):
            assert float(a) == pytest.approx(float(b), rel=2e-4, abs=1e-7), (one, other)
