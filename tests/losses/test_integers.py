"""Integers of every width are the same numbers: PyTorch casts a number to a tensor's dtype before it compares the two, so that the
uint8 label 156 equals -100; a small dtype overflows; and a uint8 index is a mask."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossary
from lossary import specs
from lossary._core.objective import class_indices, is_ignored
from lossary._fast import dispatch
from lossary.errors import LossaryError
from lossary.testing import Subject, subject_of

SOURCES = Path(lossary.__file__).parent
WIDTHS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64)
BYTES = {torch.bool: 1, **{dtype: dtype.itemsize for dtype in WIDTHS}}
WAYS = ("loop", "blocks", "plain")
NAMES_OF_CLASSES = ("labels", "object_id", "group")  # any integers will do


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(dispatch, "LOOPS", request.param == "loop")
    if request.param == "blocks":
        monkeypatch.setattr(dispatch, "SMALL", 0)
        monkeypatch.setattr(dispatch, "BLOCK", 16)
    return str(request.param)


def integers_of(subject: Subject, loss: nn.Module, n: int = 12) -> tuple[Any, dict[str, Tensor]]:
    """A batch with everything that the loss takes, and those of its arguments that are integers or may be."""
    batch = subject.batch(n, loss=loss, kind="full" if "full" in subject.kinds else "", dtype=torch.float32)
    found = {name: value for name, value in batch.tensors.items() if not value.is_floating_point() and value.dtype != torch.bool}
    if subject.family in ("multilabel", "label_ranking"):
        found["target"] = batch.target.long()
    if "relevance" in batch.given:
        found["relevance"] = batch["relevance"].long()
    # as large as the smallest dtype holds, so that sums and products overflow
    found = {
        name: value * (127 // max(1, int(value.max()))) if name in NAMES_OF_CLASSES else value for name, value in found.items()
    }
    return batch, found


def value_and_gradient(loss: nn.Module, batch: Any) -> list[Tensor]:
    leaves = {name: batch[name].detach().clone().requires_grad_() for name in batch.leaves}
    given = batch.changed(leaves)
    torch.manual_seed(0)
    value = loss(*given.arguments, **given.sides)
    found = torch.autograd.grad(value.sum(), [*leaves.values()], allow_unused=True)
    return [value.detach(), *(gradient for gradient in found if gradient is not None)]


def agree(found: list[Tensor], expected: list[Tensor], what: str) -> None:
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5, msg=lambda text: f"{what}: {text}")


INTEGER = sorted(name for name in specs() if integers_of(subject_of(name), subject_of(name).make())[1])
IGNORING = [name for name in INTEGER if specs()[name].takes("ignore_index")]
CLASSES = [name for name in INTEGER if specs()[name].family in ("classification", "distillation")]


@pytest.mark.parametrize("name", INTEGER)
def test_integers_of_every_width_are_the_same_numbers(name: str, way: str) -> None:
    subject = subject_of(name)
    batch, integers = integers_of(subject, subject.make())
    expected = value_and_gradient(subject.make(), batch.changed(integers))
    for dtype in (*WIDTHS, *([torch.bool] if subject.family in ("multilabel", "label_ranking") else [])):
        narrow = {argument: value.to(dtype) for argument, value in integers.items()}
        agree(value_and_gradient(subject.make(), batch.changed(narrow)), expected, str(dtype))


@pytest.mark.parametrize("name", IGNORING)
def test_a_label_is_not_ignored_because_it_wraps(name: str, way: str) -> None:
    subject = subject_of(name)
    batch, integers = integers_of(subject, subject.make())
    target = integers["target"]
    label = int(target.max())
    kept, left_out = (value_and_gradient(subject.make(**given), batch.targeted(target)) for given in ({}, {"ignore_index": label}))
    assert not torch.equal(kept[-1], left_out[-1])
    for dtype in WIDTHS:
        narrow = batch.targeted(target.to(dtype))
        agree(value_and_gradient(subject.make(ignore_index=label), narrow), left_out, f"{dtype}, ignored")
        if BYTES[dtype] == 8:
            continue
        for wrapped in (label + (1 << 8 * BYTES[dtype]), label - (1 << 8 * BYTES[dtype])):
            agree(value_and_gradient(subject.make(ignore_index=wrapped), narrow), kept, f"{dtype}, wrapped")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", CLASSES)
def test_byte_156_is_a_class(name: str, dtype: torch.dtype) -> None:
    subject = subject_of(name, parameters={"num_classes": 160} if specs()[name].takes("num_classes") else {})
    subject = replace(subject, inputs=replace(subject.inputs, classes=160))
    loss = subject.make()
    batch = subject.batch(6, loss=loss, kind="full" if "full" in subject.kinds else "", dtype=dtype)
    target = batch.target if "target" not in batch.given else batch["target"]
    target = torch.where(torch.arange(6) % 2 == 0, 156, target)
    argument = "target" if "target" in batch.given else next(iter(batch.given))
    found, expected = (
        value_and_gradient(subject.make(), batch.changed({argument: target.to(d)})) for d in (torch.uint8, torch.int64)
    )
    agree(found, expected, name)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint32])
@pytest.mark.parametrize("name", [name for name in INTEGER if specs()[name].family in ("embedding", "contrastive")])
def test_integers_of_every_width_are_the_same_numbers_in_a_large_batch(name: str, dtype: torch.dtype) -> None:
    subject = subject_of(name)
    batch, integers = integers_of(subject, subject.make(), 300)
    narrow = {argument: value.to(dtype) for argument, value in integers.items()}
    expected, found = (value_and_gradient(subject.make(), batch.changed(given)) for given in (integers, narrow))
    agree(found, expected, str(dtype))


@pytest.mark.parametrize("dtype", [*WIDTHS, torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize("ignore_index", [-100, 0, 1, 7, 255, 256, 1 << 16, 1 << 32, -1])
def test_is_ignored_compares_numbers(dtype: torch.dtype, ignore_index: int) -> None:
    values = [0, 1] if dtype == torch.bool else [0, 1, 7, 100, 127]
    target = torch.tensor(values).to(dtype)
    right = torch.tensor([value == ignore_index for value in values])
    assert torch.equal(is_ignored(target, ignore_index), right)
    assert torch.equal(torch.vmap(lambda t: is_ignored(t, ignore_index))(target.unsqueeze(1)), right.unsqueeze(1))
    index, ignored = class_indices(target, ignore_index)
    assert index.dtype == torch.int64
    assert index.tolist() == [0 if value == ignore_index else int(value) for value in values]
    assert torch.equal(ignored, right)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_is_ignored_compiles_and_exports(dtype: torch.dtype) -> None:
    class Kept(nn.Module):
        def forward(self, target: Tensor) -> Tensor:
            return is_ignored(target, -100)

    target = torch.tensor([156, -100 if dtype == torch.int64 else 3]).to(dtype)
    right = torch.tensor([False, dtype == torch.int64])
    torch.compiler.reset()
    assert torch.equal(torch.compile(Kept(), backend="aot_eager", fullgraph=True)(target), right)
    assert torch.equal(torch.export.export(Kept(), (target,)).module()(target), right)


def test_no_widening_where_nothing_is_to_be_widened() -> None:
    target = torch.arange(4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        is_ignored(target, -100)
    assert [event.name for event in profile.events()] == ["aten::eq"]


X = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 3


def _enrolled(labels: Tensor) -> Tensor:
    classifier = lossary.nn.NearestPrototype()
    classifier.enroll(X, labels)
    return classifier.predict(X)


def _fitted(labels: Tensor) -> Tensor:
    loss: Any = lossary.create("naive_bayes", num_classes=3, embedding_dim=4)
    loss.fit(X, labels)
    return torch.as_tensor(loss.link(X))


def _means(labels: Tensor) -> Tensor:
    loss: Any = lossary.create("nd", num_classes=3, feature_dim=4)
    loss.fit(X, labels)
    return torch.as_tensor(loss(X, X.flip(0), target=labels))


OTHERS = {
    "recall_at_k": lambda y: lossary.metrics.recall_at_k(X, y),
    "mean_average_precision_at_r": lambda y: lossary.metrics.mean_average_precision_at_r(X, y),
    "icnn_score": lambda y: lossary.metrics.icnn_score(X, y),
    "opis": lambda y: lossary.metrics.opis(X, y),
    "epsilon_opis": lambda y: lossary.metrics.epsilon_opis(X, y),
    "tolerance": lambda y: lossary.metrics.tolerance(X, y),
    "smooth_ece_from_logits": lambda y: lossary.metrics.smooth_ece_from_logits(X, y),
    "smooth_ece": lambda y: lossary.metrics.smooth_ece(X[:, 0].sigmoid(), y),
    "simpson_bias": lambda y: lossary.metrics.simpson_bias(X, y),
    "ndcg_at_k": lambda y: lossary.metrics.ndcg_at_k(X, y.view(-1, 1).expand(-1, 4).contiguous()),
    "mean_reciprocal_rank": lambda y: lossary.metrics.mean_reciprocal_rank(X, y.view(-1, 1).expand(-1, 4).contiguous()),
    "pass_at_n_from_counts": lambda y: lossary.metrics.pass_at_n_from_counts(y, torch.full_like(y, 127), 100),
    "aggregate": lambda y: lossary.data.aggregate(X[:, 0], y),
    "cluster_likelihood": lambda y: lossary.data.cluster_likelihood(None, y),
    "nearest_prototype": lambda y: _enrolled(y),
    "naive_bayes.fit": _fitted,
    "nd.fit": _means,
}
LABELLED = [
    name for name in OTHERS if name not in ("simpson_bias", "smooth_ece_from_logits", "aggregate", "naive_bayes.fit", "nd.fit")
]


@pytest.mark.parametrize("name", OTHERS)
def test_integers_of_every_width_are_the_same_numbers_elsewhere(name: str) -> None:
    labels = Y.clamp_max(1) if name == "smooth_ece" else 63 * Y if name in LABELLED else Y
    expected = OTHERS[name](labels)
    for dtype in WIDTHS:
        torch.testing.assert_close(OTHERS[name](labels.to(dtype)), expected, msg=lambda text: f"{dtype}: {text}")  # noqa: B023


def test_no_file_compares_an_ignored_class_by_itself() -> None:
    """What is compared with ``ignore_index`` may be a tensor of any dtype: the one place that minds is ``is_ignored``."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                if any(side.rpartition(".")[2] in ("ignore_index", "IGNORED") or side == "-100" for side in sides):
                    found.append((path.name, " ".join(sides)))
    assert found == [("objective.py", "target ignore_index")] * 2


def test_a_count_of_attempts_is_not_narrowed() -> None:
    counts = torch.tensor([1, 2], dtype=torch.uint8)
    with pytest.raises(LossaryError, match="samples at least n=300"):  # as a byte 300 would be 44
        lossary.metrics.pass_at_n_from_counts(counts, torch.tensor([100, 50], dtype=torch.uint8), 300)
