"""Backward's inputs are saved by autograd: it frees them afterwards, and notices what is changed in place."""

import gc
import sys

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from lossary import specs
from lossary.testing import Subject, subject_of
from lossary.testing._batch import Batch


def drawn(subject: Subject, loss: torch.nn.Module, kind: str) -> Batch:
    """A batch whose differentiated inputs are no leaves, as autograd keeps those."""
    batch = subject.batch(8, loss=loss, kind=kind, dtype=torch.float32)
    return batch.changed({name: batch[name].detach().clone().requires_grad_() * 1.0 for name in batch.leaves})


def check_nothing_outlives_backward(loss: torch.nn.Module, batch: Batch) -> None:
    value = loss(*batch.arguments, **batch.sides)
    value.sum().backward()
    storages = {key: StorageWeakRef(x.untyped_storage()) for key, x in batch.tensors.items()}
    batch = batch.changed({key: torch.empty(0) for key in batch.tensors})
    gc.collect()
    assert [key for key, storage in storages.items() if not storage.expired()] == []
    assert value.grad_fn is not None


def check_changes_are_noticed(loss: torch.nn.Module, batch: Batch) -> None:
    value = loss(*batch.arguments, **batch.sides).sum()
    leaves = [batch[key] for key in batch.leaves]
    first = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    kept = [None if gradient is None else gradient.clone() for gradient in first]
    for key, x in batch.tensors.items():
        if key not in batch.leaves:
            x.copy_(x.flip(0))
    try:
        second = torch.autograd.grad(value, leaves, allow_unused=True)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return
    torch.testing.assert_close(second, tuple(kept), equal_nan=True)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("name", sorted(specs()))
def test_a_kept_loss_keeps_nothing_of_its_batch_and_notices_changes(monkeypatch: pytest.MonkeyPatch, name: str, size: str) -> None:
    if size == "large":  # eight samples count as a large batch everywhere
        for module in list(sys.modules.values()):
            if module.__name__.startswith("lossary.") and isinstance(getattr(module, "SMALL", None), int):
                monkeypatch.setattr(module, "SMALL", 0)
    subject = subject_of(name)
    for kind in subject.kinds:
        loss = subject.make()
        check_changes_are_noticed(loss, drawn(subject, loss, kind))
        check_nothing_outlives_backward(loss, drawn(subject, loss, kind))
