"""One of the two processes of the distributed check: reads jobs from its standard input, answers on its standard output.

A plain child process with pipes rather than ``multiprocessing``, which would import the caller's main program again.
"""

import importlib
import os
import pickle
import struct
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossary.testing._batch import Batch

FEATURES = 3


class Joint(nn.Module):
    """A small model and its loss as one module, so that parameters of the loss are averaged over processes too.

    Each input that carries a gradient is put out by a layer of its own, from three features for each row of it.
    """

    def __init__(self, loss: nn.Module, widths: Mapping[str, int], flat: bool = False):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.layers = nn.ModuleDict()
        for name, width in widths.items():
            layer = nn.utils.skip_init(nn.Linear, FEATURES, width, dtype=torch.float64)  # draws no global random numbers
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            self.layers[name] = layer
        self.loss, self.flat = loss, flat

    def forward(self, batch: Batch) -> Tensor:
        made = {name: layer(batch[name]) for name, layer in self.layers.items()}
        seen = batch.changed({name: output.squeeze(1) if self.flat else output for name, output in made.items()})
        value: Tensor = self.loss(*seen.arguments, **seen.sides)
        return value


def gradients(joint: nn.Module, batch: Batch) -> list[Tensor]:
    """The gradients of every parameter for one batch."""
    joint(batch).backward()
    return [parameter.grad.detach().clone() for parameter in joint.parameters() if parameter.grad is not None]


def run(job: Mapping[str, Any]) -> list[Tensor]:
    """Train one step on this process's half of the batch, averaged with the other process's."""
    from torch.nn.parallel import DistributedDataParallel

    for place in reversed(job["path"]):
        if place not in sys.path:
            sys.path.insert(0, place)
    loss = pickle.loads(job["loss"])
    if job["exchange"]:
        loss.group = "world"
    return gradients(DistributedDataParallel(Joint(loss, job["widths"], job["flat"])), job["shards"][job["rank"]])


def read(stream: IO[bytes]) -> bytes:
    """One message: its length, then itself."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return stream.read(struct.unpack("<Q", head)[0])


def write(stream: IO[bytes], message: bytes) -> None:
    stream.write(struct.pack("<Q", len(message)) + message)
    stream.flush()


def main() -> None:
    """Join the other process (arguments: store, rank, size, time-out in seconds), then answer jobs until the pipe is closed."""
    store, rank, size, seconds = sys.argv[1:]
    torch.set_num_threads(1)
    importlib.import_module("torch._dynamo")  # DistributedDataParallel imports it, which takes longer than any job
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a loss that prints must not garble the answers
    dist.init_process_group(
        "gloo", init_method=store, rank=int(rank), world_size=int(size), timeout=timedelta(seconds=float(seconds))
    )
    while True:
        try:
            message = read(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: tuple[str, object] = ("done", [gradient.numpy() for gradient in run(pickle.loads(message))])
        except Exception as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        write(answers, pickle.dumps(answer))


if __name__ == "__main__":
    main()
