"""Families whose losses take tensors of their own: each argument is made from its name.

A loss says what it takes by the names of its forward's arguments. The first two that have no default are given by position, what
it requires beyond them by name, and what it can do without in batches of the kind "full".
"""

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossary.testing._batch import Batch, inputs_of, made_up, wants
from lossary.testing._inputs import Inputs, Mistake, extreme_rows

ITEMS, SLOTS, MEMBERS, CANDIDATES = 6, 4, 3, 5
TOKENS = {"query": 3, "document": 4, "frame": 4, "video": 5}
MASKS = {"query_mask": ("query",), "document_mask": ("document",), "frame_mask": ("frame",), "video_mask": ("video",)}
ROWS = {"mask": ("scores", "relevance", "ranker_scores")}  # a mask of lists hides entries of everything that has an entry for each
NAMES = torch.tensor([7, 0, 41])  # classes are names in these families, not positions


@dataclass(frozen=True)
class Draw:
    """What the maker of an argument is given."""

    inputs: "Named"
    n: int
    generator: torch.Generator
    dtype: torch.dtype
    scale: float

    def normal(self, *shape: int) -> Tensor:
        drawn = torch.randn((self.n, *shape), generator=self.generator, dtype=torch.float64)
        return (drawn * self.scale).to(self.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, (self.n, *shape), generator=self.generator)


def _vector(draw: Draw) -> Tensor:
    heads = draw.inputs.heads
    return draw.normal(*([] if heads is None else [heads]), draw.inputs.width)


def _labels(draw: Draw) -> Tensor:
    """Three classes, as even as can be, in any order."""
    return NAMES[torch.randperm(draw.n, generator=draw.generator) % 3]


def _support(draw: Draw) -> Tensor:
    return torch.arange(draw.n) < (draw.n + 1) // 2 + 1


def _mask(draw: Draw) -> Tensor:
    real = torch.rand(draw.n, ITEMS, generator=draw.generator) < 0.5
    return real | torch.isin(torch.arange(ITEMS), torch.tensor([0, 3]))


def _tokens(name: str) -> Callable[[Draw], Tensor]:
    return lambda draw: draw.normal(TOKENS[name], draw.inputs.width)


def _token_mask(name: str) -> Callable[[Draw], Tensor]:
    def made(draw: Draw) -> Tensor:
        real = torch.rand(draw.n, TOKENS[name], generator=draw.generator) < 0.6
        return real | (torch.arange(TOKENS[name]) == 1)

    return made


def _relevance(draw: Draw) -> Tensor:
    """Grades from 0 to 3; the first item has some, so that every list has a relevant item whatever a mask hides."""
    grades = draw.integers(4, ITEMS)
    return grades.clamp_min((torch.arange(ITEMS) == 0).long()).to(draw.dtype)


Maker = Callable[[Draw], Tensor]


@dataclass(frozen=True)
class Named(Inputs):
    """A family whose batches are made from the names of the arguments."""

    names: tuple[str, ...] = ()  # of the arguments given by position, as this page knows them
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    heads: int | None = None
    takes_space: ClassVar[bool] = False
    costly: ClassVar[bool] = True
    few: ClassVar[int] = 6
    usual: ClassVar[tuple[str, ...]]  # what the first arguments are where their names say nothing
    makers: ClassVar[Mapping[str, Maker]]
    trained: ClassVar[tuple[str, ...]] = ()  # what carries a gradient beside the first argument

    @property
    def width(self) -> int:
        return 4 if self.embedding is None else self.embedding

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("bare", "full") if self.optional else ("bare",)

    def fitted(self, loss: object, sizes: Mapping[str, object]) -> "Named":
        """The inputs of one loss (a module or its class), by the names of its arguments."""
        arguments = list(inputs_of(loss).items())
        second = 2 if len(arguments) < 1 or (len(arguments) > 1 and arguments[1][1].default is inspect.Parameter.empty) else 1
        given = [name for name, _ in arguments[:second]] or list(self.usual)
        names = tuple(name if name in self.makers else usual for name, usual in zip(given, self.usual, strict=False))
        rest = arguments[second:]
        said = getattr(loss, "requires", None)
        required = tuple(said) if said is not None else tuple(name for name, p in rest if p.default is p.empty)
        optional = tuple(name for name, p in rest if p.default is None and name not in required and self.knows(name))
        heads = sizes.get("num_heads", getattr(loss, "num_heads", None))
        width = next((sizes[name] for name in ("embedding_dim", "feature_dim") if isinstance(sizes.get(name), int)), None)
        return replace(
            self,
            names=names,
            required=required,
            optional=optional,
            heads=heads if isinstance(heads, int) and heads > 1 else None,
            embedding=width if isinstance(width, int) else None,
        )

    def knows(self, name: str) -> bool:
        return name in self.makers or name in ("index", "progress")

    def call(self, loss: nn.Module, output: Tensor, target: Tensor, side_seed: int = 0) -> Batch:
        return Batch(dict(zip(self.names, (output, target), strict=True)), (self.names[0],))

    def target(self, n: int, **drawing: Any) -> Tensor:
        raise NotImplementedError  # there may be none

    def draw(self, name: str, n: int, seed: int, dtype: torch.dtype, scale: float = 2.0) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) % 10**6 + 17 * seed)
        return self.makers[name](Draw(self, n, generator, dtype, scale))

    def batch(
        self,
        loss: nn.Module,
        n: int,
        *,
        seed: int = 0,
        kind: str = "",
        dtype: torch.dtype = torch.float64,
        space: tuple[int, ...] = (),
        scale: float = 2.0,
        side_seed: int = 0,
    ) -> Batch:
        given: dict[str, Tensor | float] = {name: self.draw(name, n, seed, dtype, scale) for name in self.names}
        samples = getattr(loss, "num_samples", None)
        count = samples if isinstance(samples, int) else None
        wanted = self.required if getattr(loss, "requires", None) is None else wants(loss)
        for name in (*wanted, *(self.optional if kind == "full" else ())):
            if name in self.makers:
                given[name] = self.draw(name, n, seed + 31 * side_seed, dtype, scale)
            else:
                given.update(made_up([name], next(iter(given.values())), None, samples=count, seed=side_seed))  # type: ignore[arg-type]
        leaves = [name for name in given if name in self.trained]
        return Batch(given, tuple(dict.fromkeys([self.names[0], *leaves])), len(self.names))

    def per_item(self, batch: Batch) -> tuple[int, ...]:
        return (batch.output.shape[0],)

    def divisor(self, batch: Batch, weight: Tensor | None) -> Tensor | None:
        return None

    def predicted(self, output: Tensor) -> tuple[int, ...]:
        return tuple(output.shape)

    def extreme_batches(self, loss: nn.Module, *, dtype: torch.dtype = torch.float64, kind: str = "") -> dict[str, Batch]:
        """Rows of extremes against other rows of extremes; everything zero; all rows alike; each row twice; one sample alone."""
        count = len(extreme_rows(self.width))
        batch = self.batch(loss, count, dtype=dtype, kind=kind)
        far: dict[str, Tensor | float] = {}
        for place, (name, value) in enumerate(batch.tensors.items()):
            if value.is_floating_point() and name not in ("relevance", "likelihood"):
                far[name] = self._extreme(value, place)
        extreme, few = batch.changed(far), self.batch(loss, self.few, dtype=dtype, kind=kind)
        nothing = few.mapped(lambda value: torch.zeros_like(value) if value.is_floating_point() else value)
        alike = few.changed({n: v[:1].expand_as(v) for n, v in few.tensors.items() if v.is_floating_point() and n != "relevance"})
        return {
            f"{count} extreme samples": extreme,
            "everything zero": nothing,
            "all samples alike": alike,
            "each sample twice": few.take(torch.arange(2 * self.few) // 2),
            "one sample": few.take(slice(0, 1)),
            "one extreme sample": extreme.take(slice(1, 2)),
        }

    def _extreme(self, value: Tensor, place: int) -> Tensor:
        """As many rows of extremes as there are, in another order for every argument."""
        rows = extreme_rows(value.shape[-1]).roll(7 * place, 0)
        rows = rows[torch.arange(value.shape[0]) % len(rows)]
        for axis in range(value.ndim - 2):
            rows = torch.stack([rows.roll(k, 0) for k in range(value.shape[-2 - axis])], 1)
        return rows.to(value.dtype)

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        found = {}
        for kind in self.kinds:
            batch = self.batch(loss, n, kind=kind)
            alike = {name: value[:1].expand_as(value) for name, value in batch.tensors.items() if not value.is_floating_point()}
            found[f"{n} samples of one class, {kind}"] = batch.changed(alike)
        return found

    def constants(self, batch: Batch) -> list[str]:
        names = ("teacher", "target", "ranker_scores")
        return [name for name in names if name in batch.given and name not in batch.leaves and batch[name].is_floating_point()]

    def hidden(self, batch: Batch) -> dict[str, Tensor]:
        return {
            name: batch[mask]
            for mask, names in {**MASKS, **ROWS}.items()
            if mask in batch.given
            for name in names
            if name in batch.given
        }

    def mistakes(self, batch: Batch, first: str, second: str | None) -> list[Mistake]:
        """Every tensor given by position: no tensor, of another kind of number, of another batch size, of fewer dimensions."""
        wrong: list[Mistake] = []
        for name, said in zip(self.names, (first, second), strict=False):
            value, shown = batch[name], said or name
            wrong.append((f"{shown} that is no tensor", shown, {name: value.tolist()}))
            if value.is_floating_point():
                wrong.append((f"{shown} of integers", shown, {name: value.long()}))
                wrong.append((f"{shown} with a dimension missing", shown, {name: value[:, 0]}))
            else:
                wrong.append((f"{shown} of floating-point numbers", shown, {name: value.double()}))
                wrong.append((f"{shown} of bools", shown, {name: value.bool()}))
                wrong.append((f"{shown} with a dimension too many", shown, {name: value.unsqueeze(1)}))
            wrong.append((f"complex {shown}", shown, {name: value.to(torch.complex64)}))
            if len(self.names) > 1:
                wrong.append((f"{shown} of another batch size", None, {name: value[:-1]}))
                if all(batch[other].is_floating_point() for other in self.names):
                    wrong.append((f"{shown} of another width", None, {name: value[..., :-1]}))
        if self.embedding is not None:
            wrong.append(("embeddings of another width", first, {self.names[0]: batch.output[..., :-1]}))
        # scores may be compared with grades that are whole numbers
        return [each for each in wrong if not (second == "relevance" and "relevance of integers" in each[0])]


class Metric(Named):
    """Embeddings and the names of their classes."""

    family = "embedding"
    usual = ("embedding", "labels")
    makers: ClassVar[Mapping[str, Maker]] = {"embedding": _vector, "labels": _labels, "support": _support}

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        batch = self.batch(loss, n)
        return {**super().uniform(loss, n), f"{n} samples of {n} classes": batch.targeted(torch.arange(n).flip(0) * 3)}


class Contrastive(Named):
    """Two views of the same samples, or two kinds of the same thing."""

    family = "contrastive"
    usual = ("a", "b")
    makers: ClassVar[Mapping[str, Maker]] = {
        **dict.fromkeys(("a", "b", "image", "text", "prediction", "target"), _vector),
        **{name: _tokens(name) for name in TOKENS},
        **{mask: _token_mask(names[0]) for mask, names in MASKS.items()},
        "object_id": _labels,
        "student": lambda draw: draw.normal(2, draw.inputs.width),
        "teacher": lambda draw: draw.normal(2, draw.inputs.width),
    }
    trained = ("a", "b", "image", "text", "prediction", "query", "document", "frame", "video", "student")

    def symmetries(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Of tokens, each kind by itself; and of heads, all at once."""
        found = {}
        for name in TOKENS:
            if name in batch.given:
                order = torch.arange(TOKENS[name]).roll(1)
                mask = f"{name}_mask"
                found[f"tokens of {name}"] = {name: order, **({mask: order} if mask in batch.given else {})}
        if self.heads is not None:
            order = torch.arange(self.heads).flip(0)
            found["heads"] = {name: order for name in self.names if batch[name].ndim > 2}
        return found


class Ranking(Named):
    """Lists of items: what they score, and how relevant they are."""

    family = "ranking"
    few = 3
    usual = ("scores", "relevance")
    makers: ClassVar[Mapping[str, Maker]] = {
        "scores": lambda draw: draw.normal(ITEMS),
        "ranker_scores": lambda draw: draw.normal(ITEMS),
        "relevance": _relevance,
        "mask": _mask,
    }

    @property
    def positive_first(self) -> bool:
        """Whether the first item is the relevant one, there being no other argument that says it."""
        return "relevance" not in self.names

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        found = super().uniform(loss, n)
        if not self.positive_first:
            batch = self.batch(loss, n)
            found |= {f"every relevance {grade}": batch.targeted(torch.full_like(batch.target, grade)) for grade in (0.0, 1.0, 3.0)}
        return found

    def symmetries(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        order = torch.tensor([0, 4, 2, 5, 3, 1]) if self.positive_first else torch.tensor([3, 0, 5, 1, 4, 2])
        return {"items": {name: order for name in batch.tensors if batch[name].ndim == 2}}

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        if self.names != self.usual:
            return None
        scores = torch.zeros(1, ITEMS, dtype=dtype)
        scores[0, 0], scores[0, 1] = -margin, margin
        return scores, torch.eye(1, ITEMS, dtype=dtype)

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        return -gradient[0, :1].double()


class Distillation(Named):
    """What a student puts out, and what a teacher does."""

    family = "distillation"
    simplex = 1
    usual = ("student", "teacher")
    makers: ClassVar[Mapping[str, Maker]] = {
        **dict.fromkeys(("student", "teacher", "auxiliary"), lambda draw: draw.normal(draw.inputs.width)),
        "target": lambda draw: draw.integers(draw.inputs.classes),
    }
    trained = ("student", "auxiliary")

    def prepare(self, loss: object) -> None:
        fit = getattr(loss, "fit", None)
        if callable(fit):
            fit(self.draw("teacher", 30, 5, torch.float64), self.draw("target", 30, 5, torch.float64))

    @property
    def width(self) -> int:
        return self.classes if self.embedding is None else self.embedding


class Sets(Named):
    """Sets to be put out in whatever order."""

    family = "sets"
    simplex = -1
    usual = ("logits", "target")
    makers: ClassVar[Mapping[str, Maker]] = {
        "logits": lambda draw: draw.normal(SLOTS, draw.inputs.classes),
        "target": lambda draw: draw.integers(draw.inputs.classes, MEMBERS),
        "log_prob": lambda draw: -draw.normal(CANDIDATES).abs(),
    }

    def symmetries(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        if self.names != self.usual:
            return {"candidates": {self.names[0]: torch.tensor([3, 0, 4, 1, 2])}}
        return {"members": {"target": torch.tensor([2, 0, 1])}, "slots": {"logits": torch.tensor([3, 0, 1, 2])}}

    def _extreme(self, value: Tensor, place: int) -> Tensor:
        found = super()._extreme(value, place)
        return -found.abs() if self.names == ("log_prob",) else found
