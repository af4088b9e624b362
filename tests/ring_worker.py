"""One of the processes of test_distributed.py: finds, with the others, what one process would find alone."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

import lossary
from lossary.distributed import Group, all_items, total
from lossary.errors import LossaryError
from lossary.losses.contrastive.info_nce import info_nce

LIMIT = timedelta(minutes=30)  # for a machine that has other things to do
PAIR = (1, 3)  # the members of the smaller group: their ranks in it are not their ranks in the world


class Towers(nn.Module):
    """Two encoders and their loss, in double precision."""

    def __init__(self, loss: Callable[..., Tensor]):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a, self.b = (nn.utils.skip_init(nn.Linear, 3, 6, dtype=torch.float64) for _ in range(2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        self.loss = loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.a(x), self.b(y))


class GatheredSoftmax(nn.Module):
    """What a loss does that wants an anchor's whole row: gather the items, and take the mean over the anchors of all processes."""

    def __init__(self, group: Group = None):
        super().__init__()
        self.group = group

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        gathered = all_items("gathered_softmax", normalize(b), self.group)
        z = normalize(a) @ gathered.items.T * 5
        own = torch.arange(len(a)) + gathered.start
        return cross_entropy(z, own, reduction="sum") / gathered.divisor


class Spread(nn.Module):
    """A function of the batch as a whole: the squared length of the mean over everybody's samples."""

    def __init__(self, group: Group = None):
        super().__init__()
        self.group = group

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        count = total("spread", torch.tensor(float(len(a)), dtype=torch.float64), self.group)
        return (total("spread", (a * b).sum(0), self.group) / count).square().sum()


class Tokens(nn.Module):
    """Each vector as two tokens, of which one may be masked."""

    def __init__(self, group: Group = None):
        super().__init__()
        self.loss = lossary.create("video_colbert", group=group, init_bias=-2.0).double()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        documents = b.unflatten(1, (2, -1))
        mask = torch.stack([torch.ones(len(b), dtype=torch.bool), b[:, 0] > 0], 1)
        value: Tensor = self.loss(a.unflatten(1, (2, -1)), documents, frame_mask=mask)
        return value


def classes(b: Tensor) -> Tensor:
    """Four classes of samples, by their second view."""
    return (b.detach()[:, :2] > 0).long() @ torch.tensor([1, 2])


class Labelled(nn.Module):
    """Both views together as an embedding with a class; a loss of more than that finds what it wants in them."""

    def __init__(self, name: str, group: Group = None, **parameters: Any):
        super().__init__()
        self.name = name
        self.loss = lossary.create(name, group=group, **parameters).double()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a + b, classes(b))
        return value


class Supported(Labelled):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a + b, classes(b), b[:, 2] > -1)
        return value


class Described(Labelled):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a, b, classes(b))
        return value


class Heads(Labelled):
    """Each vector as that of two heads, whose weights are the same in every process."""

    def __init__(self, name: str, group: Group = None, **parameters: Any):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(name, group, **parameters)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a.unflatten(1, (2, 3)), b.unflatten(1, (2, 3)))
        return value


class BothWays(Labelled):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a, b) + self.loss(b, a)
        return value


class ThreeViews(Labelled):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        value: Tensor = self.loss(a, b, a - b)
        return value


class Remembering(Labelled):
    """The second step of a loss with a memory, and all of the memory as well."""

    def __init__(self, name: str, group: Group = None, base: str | None = None, **parameters: Any):
        if base is not None:
            parameters["base"] = lossary.create(base, group=group, reduction="none")
        super().__init__(name, group, **parameters)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        sides: list[dict[str, float]] = [{"progress": 0.0}, {"progress": 0.5}] if self.name == "dbpm" else [{}, {}]
        index = (b.detach()[:, 0].abs() * 1e4).long() % 97
        self.loss(a, b, index, **sides[0])
        value: Tensor = self.loss(b, a, index, **sides[1])
        for memory in self.loss.buffers():
            weight = torch.arange(memory.numel(), dtype=torch.float64).cos()
            value = value + weight @ memory.double().nan_to_num().flatten() / 10
        return value


class MixedByAll(nn.Module):
    """What its docstring says about Metrix: every process mixes everybody's samples, by the same draws."""

    def __init__(self, name: str, group: Group = None):
        super().__init__()
        self.loss, self.group = lossary.create(name), group

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        embedding, labels = (all_items("mixed", x, self.group).items for x in (a + b, classes(b)))
        value: Tensor = self.loss(embedding, labels, torch.Generator().manual_seed(5))
        return value


class Rows(nn.Module):
    """The losses of rows, weighed by the caller, so that what flows back differs from row to row and process to process."""

    def __init__(self, name: str, group: Group = None):
        super().__init__()
        self.loss, self.group = lossary.create(name, group=group, reduction="none").double(), group

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        weights = 1 + a.detach()[:, 0].sigmoid()
        value: Tensor = (self.loss(a, b) * weights).sum() / all_items("rows", b, self.group).divisor
        return value


@dataclass(frozen=True)
class Case:
    """A loss, and how many samples each process has; two sizes are for the smaller group."""

    loss: str
    sizes: tuple[int, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    wrapped: bool = False  # in DistributedDataParallel

    def make(self, group: Group = None) -> nn.Module:
        own = {"gathered_softmax": GatheredSoftmax, "spread": Spread, "tokens": Tokens}
        if self.loss.startswith("rows of "):
            return Rows(self.loss.removeprefix("rows of "), group)
        if self.loss in own:
            return own[self.loss](group)
        if self.loss in WRAPPED:
            return WRAPPED[self.loss](self.loss, group, **self.parameters)
        made: nn.Module = lossary.create(self.loss, group=group, **self.parameters)
        return made.double()

    def batch(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(2)
        x, noise = (torch.randn(sum(self.sizes), 3, generator=generator, dtype=torch.float64) for _ in range(2))
        return x, x + noise


WRAPPED: dict[str, Callable[..., nn.Module]] = {
    **dict.fromkeys(("icnn", "give_oiic", "give_oid", "sup_con", "batch_hard_triplet", "semi_hard_triplet"), Labelled),
    **dict.fromkeys(("angular", "margin", "lifted_structure", "generalized_lifted_structure"), Labelled),
    **dict.fromkeys(("give", "give_oitc"), Described),
    **dict.fromkeys(("isogclr", "dbpm"), Remembering),
    **dict.fromkeys(("cross_cosine_similarity", "cross_sigmoid_similarity"), BothWays),
    "proto_triplet": Supported,
    "amcl": Heads,
    "groco": ThreeViews,
    "metrix": MixedByAll,
}
MEMORY: dict[str, dict[str, Any]] = {
    "isogclr": {"num_samples": 97, "temperature_lr": 0.1},
    "dbpm": {"num_samples": 97, "num_epochs": 2, "warmup": 0.5},
}
MEMORY["dbpm"] |= {"noisy_threshold": 0.5, "faulty_threshold": 0.5}
SETS: list[tuple[str, dict[str, Any]]] = [  # losses of which every process has a part of the batch, with an empty one and without
    ("proto_triplet", {}),
    ("icnn", {}),
    ("icnn", {"neighbors": 2, "retrieved": 5}),
    ("sup_con", {}),
    ("batch_hard_triplet", {}),
    ("semi_hard_triplet", {}),
    ("angular", {}),
    ("margin", {"learn_beta": True}),
    ("lifted_structure", {}),
    ("generalized_lifted_structure", {}),
    ("give", {}),
    ("amcl", {"embedding_dim": 3, "num_heads": 2, "top_k": 3}),
    ("groco", {"num_negatives": 4, "stop_gradient": False}),
    ("groco", {"num_negatives": 40, "steepness": 30.0}),
    ("cross_cosine_similarity", {"positive_threshold": 0.3, "negative_weight": 1.0}),
    ("cross_sigmoid_similarity", {"negative_weight": 1.0}),
    *MEMORY.items(),
    ("metrix", {}),
]
LOSSES = [("siglip", {"init_bias": -2.0}), ("clip", {}), ("info_nce", {"temperature": 0.3})]
SIZES = [(5, 5, 5, 5), (7, 1, 0, 4), (6, 6), (3, 8)]
CASES = [
    *(Case(loss, sizes, parameters) for loss, parameters in LOSSES for sizes in SIZES),
    *(Case(loss, (3, 2, 4, 1), {**parameters, "reduction": "sum"}) for loss, parameters in LOSSES),
    *(Case(loss, (300, 300, 2, 1), parameters) for loss, parameters in LOSSES),  # several tiles
    *(Case(loss, (5, 5, 5, 5), parameters, wrapped=True) for loss, parameters in LOSSES),
    *(Case(loss, sizes) for loss in ("gathered_softmax", "spread", "tokens") for sizes in SIZES),
    *(Case(loss, sizes) for loss in ("hard_contrastive", "simple_contrastive", "univitar") for sizes in SIZES[1:3]),
    *(Case(f"rows of {loss}", (4, 1, 3, 2)) for loss in ("siglip", "clip", "info_nce", "hard_contrastive", "univitar")),
    Case("simple_contrastive", (4, 1, 3, 2), {"hard_fraction": 0.3}),
    *(Case(loss, sizes, parameters) for loss, parameters in SETS for sizes in ((7, 1, 0, 4), (6, 9))),
    *(Case(loss, (3, 2, 4, 1), {**parameters, "reduction": "sum"}) for loss, parameters in SETS if loss not in ("icnn", "metrix")),
    *(Case(loss, (3, 2, 4, 1)) for loss in ("give_oiic", "give_oid", "give_oitc")),
    *(Case(loss, (5, 3, 5, 4), parameters, wrapped=True) for loss, parameters in MEMORY.items()),
    Case("dbpm", (5, 3, 1, 4), {**MEMORY["dbpm"], "base": "clip"}),
    *(Case(loss, (200, 250, 2, 1), parameters) for loss, parameters in SETS if loss != "metrix"),  # several blocks
]


def alone(case: Case) -> list[Tensor]:
    """The loss, and the gradients of all parameters, in one process."""
    towers = Towers(case.make())
    value = towers(*case.batch())
    return [value.detach(), *torch.autograd.grad(value, list(towers.parameters()))]


def together(case: Case, group: Any, rank: int) -> list[Tensor]:
    """The same, as means over the processes."""
    named: Any = "world" if len(case.sizes) == dist.get_world_size() else group
    towers = Towers(case.make(named))
    shard = [x.split(list(case.sizes))[rank] for x in case.batch()]
    if case.wrapped:
        wrapped = DistributedDataParallel(towers)  # has to live until its hooks have averaged the gradients
        value = wrapped(*shard)
        value.backward()
        return [_mean(value.detach(), None), *(p.grad for p in towers.parameters() if p.grad is not None)]
    value = towers(*shard)
    found = torch.autograd.grad(value, list(towers.parameters()))
    return [_mean(x, group if named != "world" else None) for x in (value.detach(), *found)]


def _mean(x: Tensor, group: Any) -> Tensor:
    out = x.clone()
    dist.all_reduce(out, group=group)
    return out / dist.get_world_size(group)


def refused(work: Callable[[], object]) -> str:
    try:
        work()
    except LossaryError as error:
        return str(error)
    return "not refused"


def main() -> None:
    store, size, rank, answer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=LIMIT)
    pair = dist.new_group(list(PAIR))
    found: dict[Any, Any] = {"cases": []}
    for case in CASES:
        if len(case.sizes) == size:
            found["cases"].append(together(case, None, rank))
        elif rank in PAIR:
            found["cases"].append(together(case, pair, PAIR.index(rank)))
        else:
            found["cases"].append(None)
    x = torch.ones(2, 3 + (rank == 2))
    found["refused"] = refused(lambda: info_nce(x, x, group="world"))
    everybody: Any = "everybody"
    found["not a group"] = refused(lambda: info_nce(x, x, group=everybody))
    labels = all_items("labels", torch.tensor([rank] * (rank + 1)), "world")
    found["labels"] = (labels.items.tolist(), labels.start)

    # the gradient twice from one graph, and with rows weighed one by one
    a, b = (torch.randn(4, 6, generator=torch.Generator().manual_seed(rank + 10 * side)).requires_grad_() for side in (0, 1))
    for name in ("siglip", "clip"):
        value = lossary.create(name, group="world")(a, b)
        found[name, "twice"] = [torch.autograd.grad(value, a, retain_graph=True)[0].clone() for _ in range(2)]
    answer.write_bytes(pickle.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
