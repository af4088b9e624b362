"""Gradient caching: a loss of the batch as a whole on batches that the model does not fit."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.checks import check_tensor
from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="layer", name="gradient_cache")
class GradientCache:
    r"""The backward pass of a loss of the whole batch with the model's activations of one chunk at a time.

    .. math:: \frac{\partial \ell}{\partial \theta} = \sum_{\text{chunks}} \Bigl( \frac{\partial \ell}{\partial x_{\text{chunk}}}
        \Bigr)^{\!\top} \frac{\partial x_{\text{chunk}}}{\partial \theta}

    A loss that compares samples with each other cannot be accumulated over small batches: each would meet only its own. But it
        needs no more
    than the embeddings x of all samples, which are small. So these are computed first, chunk by chunk and without a graph; the loss
    gives its gradient by them; and the model runs a second time, chunk by chunk, to carry that on to its parameters. It costs one
    more forward pass. The random numbers of each chunk (dropout) and the model's buffers are what they were at the first time,
    so that the gradient is that of the chunks' embeddings put side by side; only layers that mix the samples of a batch, such as
    batch normalisation, tell chunks from the whole.

    It is for any loss with ``consumes="embedding"``, and for paired ones with a model for each input. Parameters of the loss itself
    get their gradient as well. Under ``DistributedDataParallel`` the processes exchange gradients once, with the last chunk.

    Args:
        model: gives embeddings of inputs; or a tuple of models, one for each of a tuple of inputs.
        loss: called as ``loss(embedding, *targets)``.
        chunk_size: how many samples the model sees at a time.
    Shape: whatever the model takes, with samples in dimension 0.
    Units: none.
    Errors: inputs that are no tensors, not as many as models, or on a device whose random numbers cannot be replayed, a loss that
        gives no number to differentiate, or a chunk_size below 1, are a ``LossaryError``; what the model refuses, such as inputs of
        another width, it refuses itself.
    Source: Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.

    >>> from lossary.losses import SupConLoss
    >>> model = torch.nn.Linear(4, 2)
    >>> cache = GradientCache(model, SupConLoss(), chunk_size=8)
    >>> value = cache.backward(torch.randn(32, 4), torch.arange(32) % 4)
    >>> value.requires_grad, model.weight.grad.shape
    (False, torch.Size([2, 4]))
    """

    @checked("gradient_cache")
    def __init__(self, model: nn.Module | tuple[nn.Module, ...], loss: Callable[..., Tensor], chunk_size: PositiveCount):
        self.models = model if isinstance(model, tuple) else (model,)
        self.loss, self.chunk_size = loss, chunk_size

    def backward(self, inputs: Tensor | tuple[Tensor, ...], *targets: Tensor, **named: Any) -> Tensor:
        """Add the gradient of ``loss(model(inputs), *targets, **named)`` to every ``.grad``, and return the loss, detached."""
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        if len(given) != len(self.models):
            raise InvalidTypeError(f"gradient_cache: inputs must be as many as models, {len(self.models)}, got {len(given)}")
        for each in given:
            check_tensor("gradient_cache", "inputs", each)
            if each.ndim == 0:
                raise InvalidValueError("gradient_cache: inputs must have samples in dimension 0, got a single number")
        states: list[list[_State]] = []
        embeddings = []
        for model, x in zip(self.models, given, strict=True):
            states.append([])
            with torch.no_grad():
                found = []
                for chunk in self._chunks(x):
                    states[-1].append(_State(model, x))
                    found.append(model(chunk))
            embeddings.append(torch.cat(found).requires_grad_())
        value = self.loss(*embeddings, *targets, **named)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            got = "a constant" if isinstance(value, Tensor) and value.numel() == 1 else got
            raise InvalidValueError(f"gradient_cache: loss must give one number that depends on the embeddings, got {got}")
        value.backward()
        for model, x, embedding, kept in zip(self.models, given, embeddings, states, strict=True):
            after = _State(model, x)
            slopes = embedding.grad if embedding.grad is not None else torch.zeros_like(embedding)
            pieces = zip(self._chunks(x), slopes.split(self.chunk_size), kept, strict=True)
            for place, (chunk, slope, state) in enumerate(pieces):
                last = place == len(kept) - 1
                no_sync: Any = getattr(model, "no_sync", None)
                quiet = contextlib.nullcontext() if last or no_sync is None else no_sync()
                with quiet, state.restored():
                    model(chunk).backward(slope)
            after.put_back()
        return value.detach()

    def _chunks(self, x: Tensor) -> tuple[Tensor, ...]:
        chunks: tuple[Tensor, ...] = x.split(self.chunk_size)
        return chunks


def random_state(device: torch.device) -> Tensor:
    """What the next random numbers of a device depend on."""
    found: Tensor = _random_numbers(device, "get")(*_which(device))
    return found


def set_random_state(device: torch.device, state: Tensor) -> None:
    _random_numbers(device, "set")(state, *_which(device))


def _random_numbers(device: torch.device, verb: str) -> Any:
    module = torch if device.type in ("cpu", "meta") else torch.get_device_module(device.type)
    found = getattr(module, f"{verb}_rng_state", None)
    if found is None:
        raise InvalidValueError(f"gradient_cache: inputs must be on a device whose random numbers can be replayed, got {device}")
    return found


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """There may be several devices of most types."""
    return () if device.type in ("cpu", "meta", "mps") else (device,)


class _State:
    """What a model's forward pass depends on besides its input and parameters: random numbers, and buffers that it changes."""

    def __init__(self, model: nn.Module, x: Tensor):
        self.model = model
        devices = {x.device, *(p.device for p in model.parameters())}
        self.random = {device: random_state(device) for device in (torch.device("cpu"), *devices)}
        self.buffers = [buffer.clone() for buffer in model.buffers()] if model.training else []

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        now = {device: random_state(device) for device in self.random}
        try:
            for device, state in self.random.items():
                set_random_state(device, state)
            self.put_back()
            yield
        finally:
            for device, state in now.items():
                set_random_state(device, state)

    def put_back(self) -> None:
        with torch.no_grad():
            for buffer, kept in zip(self.model.buffers() if self.buffers else (), self.buffers, strict=True):
                buffer.copy_(kept)
