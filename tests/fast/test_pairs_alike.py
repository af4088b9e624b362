"""Losses of pairs behave alike below and above every threshold of size: nothing but time depends on it."""

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor

from lossary import specs
from lossary._fast import dispatch
from lossary._fast.pairs import classifiers, once, tiles
from lossary._fast.pairs import rule as pairs_rule
from lossary.errors import InvalidTypeError
from lossary.losses.classification import unpg
from lossary.losses.contrastive import video_colbert
from lossary.testing import subject_of
from lossary.testing._batch import Batch
from lossary.testing._subject import seeded

CLASSIFIERS = ("arcface", "cosface", "normalized_softmax", "proxy_anchor", "sface", "unpg")
NAMES = sorted(name for name, spec in specs().items() if spec.family in ("embedding", "contrastive") or name in CLASSIFIERS)
MAPPED = [name for name in NAMES if specs()[name].vmap]

KEPT = [name for name in NAMES if name not in ("cosface", "normalized_softmax")]  # which are losses of classes in one pass

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(params=["below", "above"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On which side of every threshold a batch of a few samples lies."""
    if request.param == "above":
        for module in (dispatch, pairs_rule, tiles, unpg):
            monkeypatch.setattr(module, "SMALL", 0)
        monkeypatch.setattr(pairs_rule, "BLOCK", 1)
        monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", 4)
        monkeypatch.setattr(once, "TILE", 4)
        monkeypatch.setattr(tiles, "ROWS", 4)
        monkeypatch.setattr(tiles, "COLUMNS", 4)
        monkeypatch.setattr(classifiers, "LARGE", 0)
        monkeypatch.setattr(video_colbert, "BLOCK", 40)
    return str(request.param)


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Batch]:
    subject = subject_of(name)
    loss = subject.make().to(dtype)
    return loss, subject.batch(9, kind=subject.kinds[-1], dtype=dtype, loss=loss)


def of_leaves(loss: nn.Module, batch: Batch) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The loss as a function of the tensors that carry a gradient, always with the same random numbers."""

    def run(*leaves: Tensor) -> Tensor:
        with seeded():
            seen = batch.changed(dict(zip(batch.leaves, leaves, strict=True)))
            value: Tensor = loss(*seen.arguments, **seen.sides)
        return value.sum()

    return run, tuple(batch[name] for name in batch.leaves)


def tangents_of(leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in leaves)


def along(gradients: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([(g * t).sum() for g, t in zip(gradients, tangents, strict=True)]).sum()


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", MAPPED)
def test_forward_mode_equals_backward(name: str) -> None:
    run, leaves = of_leaves(*made(name))
    tangents = tangents_of(leaves)
    value, derivative = torch.func.jvp(run, leaves, tangents)[:2]
    close(value, run(*leaves))
    close(derivative, along(torch.func.grad(run, tuple(range(len(leaves))))(*leaves), tangents))


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", MAPPED)
def test_second_derivatives_are_those_of_autograd_in_every_order(name: str) -> None:
    run, leaves = of_leaves(*made(name))
    every = tuple(range(len(leaves)))
    tangents = tangents_of(leaves)
    given = [x.clone().requires_grad_() for x in leaves]
    derivative = along(torch.autograd.grad(run(*given), given, create_graph=True), tangents)
    second = torch.autograd.grad(derivative, given, allow_unused=True) if derivative.requires_grad else [None] * len(given)
    expected = tuple(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, second, strict=True))
    forward_over_reverse = torch.func.jvp(torch.func.grad(run, every), leaves, tangents)[1]
    close(forward_over_reverse, expected)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", MAPPED)
def test_side_by_side_equals_one_by_one(name: str) -> None:
    run, leaves = of_leaves(*made(name))
    stacked = tuple(torch.stack([x, x.flip(-1) + 0.1]) for x in leaves)
    value = torch.func.vmap(run, randomness="same")(*stacked)
    close(value, torch.stack([run(*(x[i] for x in stacked)) for i in range(2)]))


class Named(Tensor):
    """A subclass that carries something along, and whose ``new_empty`` takes a tuple alone, as those of imaging libraries do."""

    @staticmethod
    def __new__(cls, x: Tensor) -> Self:
        return x.as_subclass(cls)

    def new_empty(self, size: Any, **options: Any) -> Tensor:  # type: ignore[override]
        if not isinstance(size, (tuple, list)):
            raise TypeError(f"new_empty(): argument 'size' must be tuple of ints, not {type(size).__name__}")
        return super().new_empty(tuple(size), **options)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", NAMES)
def test_a_subclass_of_tensor_gives_the_same_numbers(name: str) -> None:
    found = []
    for kind in (lambda x: x, Named):
        run, leaves = of_leaves(*made(name, torch.float32))
        given = [kind(x.clone()).requires_grad_() for x in leaves]
        value = run(*given)
        gradients = torch.autograd.grad(value, given)
        found.append([x.detach().as_subclass(Tensor) for x in (value, *gradients)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", NAMES)
def test_meta_tensors_have_a_forward(name: str) -> None:
    if name in ("dbpm", "isogclr"):
        pytest.skip("its memory is read at each call")
    loss, batch = made(name, torch.float32)
    seen = batch.mapped(lambda x: x.to("meta"))
    value = loss.to("meta")(*seen.arguments, **seen.sides)
    assert value.is_meta
    assert value.shape == ()


def tensors(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, x) for name, x in batch.tensors.items() if name not in batch.leaves)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", KEPT)
def test_a_kept_loss_lets_its_inputs_go_after_backward(name: str) -> None:
    loss, batch = made(name, torch.float32)
    given = {key: x.clone() for key, x in batch.tensors.items()}
    sources = {key: given[key].requires_grad_() for key in batch.leaves}
    seen = batch.changed({**given, **{key: x * 1 for key, x in sources.items()}})
    watched = {key: weakref.ref(x) for key, x in seen.tensors.items()}
    value = loss(*seen.arguments, **seen.sides)
    value.sum().backward()
    del seen, given
    gc.collect()
    assert [key for key, each in watched.items() if each() is not None] == []


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", KEPT)
def test_what_changes_between_two_backward_calls_is_noticed_or_does_not_count(name: str) -> None:
    for changed in dict(tensors(made(name, torch.float32)[1])):
        loss, batch = made(name, torch.float32)
        batch = batch.mapped(torch.clone)
        given = [batch[key].requires_grad_() for key in batch.leaves]
        seen = batch.changed({key: x * 1 for key, x in zip(batch.leaves, given, strict=True)})
        with seeded():
            value = loss(*seen.arguments, **seen.sides).sum()
        first = torch.autograd.grad(value, given, retain_graph=True)
        x = seen[changed]
        with torch.no_grad():
            x.copy_(~x if x.dtype == torch.bool else x.roll(1, 0))
        with contextlib.suppress(RuntimeError):  # that a tensor has been "modified by an inplace operation"
            torch.testing.assert_close(torch.autograd.grad(value, given), first)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_exported_for_any_number_of_samples(name: str) -> None:
    loss, batch = made(name, torch.float32)

    class Link(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = loss

        def forward(self, x: Tensor) -> Any:
            return loss.link(x)  # type: ignore[operator]

    x = batch.output
    program = torch.export.export(Link(), (x,), dynamic_shapes=({0: torch.export.Dim("samples", min=2)},)).module()
    for n in (2, 17, 40_000):
        more = x[:1].expand(n, *x.shape[1:]).contiguous()
        torch.testing.assert_close(program(more), loss.link(more))  # type: ignore[operator]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    """Of this process alone: what a DTensor's operations do not know, they do not know here either."""
    store = (tmp_path_factory.mktemp("mesh") / "store").as_uri()
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("name", NAMES)
def test_divided_tensors_give_the_same_number_or_one_sentence(name: str, mesh: DeviceMesh) -> None:
    loss, batch = made(name, torch.float32)
    with seeded():
        expected = loss(*batch.arguments, **batch.sides)
    divided = batch.mapped(lambda x: distribute_tensor(x, mesh, [Shard(0)]))
    with contextlib.suppress(InvalidTypeError), seeded():
        found = distribute_module(made(name, torch.float32)[0], mesh)(*divided.arguments, **divided.sides)
        torch.testing.assert_close(found.full_tensor() if isinstance(found, DTensor) else found, expected)
