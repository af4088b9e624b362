"""Values that are wrong: classes that do not exist, everywhere, and all the others where somebody asks for a look at them."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossary
from lossary import specs
from lossary._core import values
from lossary._fast import dispatch
from lossary._fast.pairs import classifiers
from lossary.errors import InvalidIndexError, LossaryError
from lossary.testing import Subject, subject_of

OBJECTIVES = sorted(specs())
BY_CLASS = ("classification", "distillation", "sets")


def batch_of(subject: Subject, loss: nn.Module, n: int = 8, kind: str = "", dtype: torch.dtype = torch.float32) -> Any:
    return subject.batch(n, loss=loss, kind=kind or subject.kinds[-1 if "full" in subject.kinds else 0], dtype=dtype)


def indices_of(name: str) -> list[str]:
    """Arguments that are class indices, bags or positions in a memory."""
    subject = subject_of(name)
    batch, family = batch_of(subject, subject.make()), subject.family
    by_class = ["target"] if family in BY_CLASS and "target" in [*batch.given] else []
    return by_class + [argument for argument in ("bag", "index") if argument in batch.given]


INDEXED = [(name, argument) for name in OBJECTIVES for argument in indices_of(name)]


@pytest.mark.parametrize("n", [6, 3000])
@pytest.mark.parametrize("way", ["loop", "blocks", "plain"])
@pytest.mark.parametrize(("name", "argument"), INDEXED)
def test_what_does_not_exist_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, argument: str, way: str, n: int) -> None:
    monkeypatch.setattr(dispatch, "LOOPS", way == "loop")
    if way == "blocks":
        monkeypatch.setattr(dispatch, "SMALL", 0)
    subject = subject_of(name)
    loss = subject.make()
    batch = batch_of(subject, loss, n)
    dtypes = (torch.float32, torch.float64, torch.bfloat16) if n == 6 else (torch.float32,)
    for wrong in (10**4, -1, -7):
        for dtype in dtypes:
            tensor = batch[argument].clone()
            tensor[(2, 1)[: tensor.ndim]] = wrong
            given = batch.changed({argument: tensor}).mapped(lambda x: x.to(dtype) if x.is_floating_point() else x)  # noqa: B023
            for output in given.leaves:
                given[output].requires_grad_()
            with pytest.raises(IndexError) as caught:
                loss(*given.arguments, **given.sides)
            text = str(caught.value)
            assert isinstance(caught.value, LossaryError), text
            assert isinstance(caught.value, ValueError), text
            assert text.startswith(f"{name}: {argument} must be "), text
            assert f"got {wrong} at ({'2,' if tensor.ndim == 1 else '2, 1'})" in text, text
            assert " from 0 to " in text


CLASSIFIERS = [name for name, spec in sorted(specs().items()) if spec.family == "classification" and spec.consumes == "embedding"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_that_does_not_exist_where_scores_are_never_whole(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(classifiers, "LARGE", 0)
    subject = subject_of(name)
    loss = subject.make()
    batch = batch_of(subject, loss)
    for wrong in (5, -1):
        target = torch.where(torch.arange(8) == 3, wrong, batch.target)
        with pytest.raises(
            InvalidIndexError, match=rf"^{name}: target must be class indices from 0 to 4.*, got {wrong} at \(3,\)$"
        ):
            loss(*batch.targeted(target).arguments)


def test_what_does_not_exist_elsewhere() -> None:
    table = lossary.create("dataset_equity", likelihood=torch.rand(5))
    logits, target = torch.zeros(2, 3), torch.tensor([0, 1])
    for wrong in (5, -1):
        with pytest.raises(
            InvalidIndexError, match=rf"dataset_equity: index must be positions in the data set from 0 to 4, got {wrong} at \(1,\)"
        ):
            table(logits, target, index=torch.tensor([0, wrong]))
        classes = torch.tensor([0, 5 if wrong > 0 else -1])
        for name, width in (("naive_bayes", "embedding_dim"), ("nd", "feature_dim")):
            sizes: dict[str, Any] = {"num_classes": 3, width: 3}
            loss: Any = lossary.create(name, **sizes)
            with pytest.raises(InvalidIndexError, match=f"{name}: .* must be class indices from 0 to 2, got"):
                loss.fit(logits, classes)
        for metric in (lossary.metrics.simpson_bias, lossary.metrics.smooth_ece_from_logits):
            with pytest.raises(InvalidIndexError, match="target must be class indices from 0 to 2, got"):
                metric(logits, classes)


def test_the_sentence_names_the_loss_that_was_called_and_what_may_be_ignored() -> None:
    logits, target, group = torch.zeros(3, 4), torch.tensor([0, 4, 1]), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InvalidIndexError, match=r"^worst_group: target must be class indices from 0 to 3, got 4 at \(1,\)$"):
        lossary.functional.worst_group(logits, target, group)
    with pytest.raises(
        InvalidIndexError, match=r"^focal: target must be class indices from 0 to 3 or ignore_index=255, got 4 at \(1,\)$"
    ):
        lossary.functional.focal(logits, target, ignore_index=255)
    with pytest.raises(InvalidIndexError, match=r"^gumbel_optimized: target must be class indices from 0 to 4, got 5 at \(1,\)$"):
        lossary.functional.gumbel_optimized(logits, target + 1)


def test_other_failures_are_left_as_they_are() -> None:
    @lossary.formula
    def mine(logits: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError("out of patience")

    with pytest.raises(RuntimeError, match="out of patience"):
        mine(torch.zeros(2, 3), torch.tensor([0, 7]))


# What is put at one position of an argument, and what the sentence says is allowed there.
NAN = float("nan")
MASKED = ("logits", "adversarial_logits", "scores", "ranker_scores", "log_prob", "student", "teacher", "auxiliary")
OUTPUTS = ("embedding", "a", "b", "image", "text", "prediction", "query", "frame", "video", "document")
FINITE = {**dict.fromkeys(OUTPUTS, "finite"), **dict.fromkeys(MASKED, "finite, or -inf for what is masked")}
RANGES: dict[str, dict[str, tuple[float, str]]] = {
    "multilabel": {"target": (1.5, r"in \[0, 1\]")},
    "label_ranking": {"target": (-0.25, r"in \[0, 1\]")},
    "regression": {"target": (NAN, "finite")},
    "bags": {"target": (NAN, "finite"), "bag": (99, "bags from 0 to 3")},
    "ranking": {"relevance": (NAN, "finite")},
    "classification": {"target": (7, "class indices from 0 to"), "likelihood": (1.25, r"in \[0, 1\]"), "index": (100, "positions")},
    "distillation": {"target": (7, "class indices from 0 to 4")},
    "sets": {"target": (7, "class indices from 0 to 4")},
    "contrastive": {"index": (100, "positions in the data set from 0 to 99"), "target": (NAN, "finite")},
    "embedding": {},
}


def broken(subject: Subject, loss: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Batches with one wrong value: the argument, the batch, and what is allowed."""
    batch = batch_of(subject, loss)
    first = next(iter(signature(specs()[subject.name].function).parameters))
    for key, value in batch.tensors.items():
        argument = first if key == "output" else key
        wrong = RANGES[subject.family].get(argument)
        if wrong is None and value.is_floating_point() and argument in FINITE:
            wrong = (NAN, FINITE[argument])
        if wrong is not None:
            tensor = value.clone()
            tensor[(0, 1, 0) if tensor.ndim > 2 else (0, 0)[: tensor.ndim]] = wrong[0]  # real under every mask of the suite
            yield argument, batch.changed({key: tensor}), wrong[1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_look_catches_a_wrong_value_of_every_input(name: str) -> None:
    subject = subject_of(name)
    loss = subject.make()
    found = list(broken(subject, loss))
    assert found
    for argument, batch, allowed in found:
        with lossary.check_values(), pytest.raises(LossaryError) as caught:
            loss(*batch.arguments, **batch.sides)
        assert re.fullmatch(rf"{name}: {argument} must be {allowed}.*, got \S+ at \(0,( 0| 1, 0)?\)", str(caught.value)), (
            caught.value
        )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_look_raises_no_false_alarm(name: str) -> None:
    """Not on any batch of the conformance suite, nor where what is wrong does not count."""
    subject = subject_of(name)
    loss = subject.make()
    with lossary.check_values():
        for kind in subject.kinds:
            for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
                batch = subject.batch(8, loss=loss, kind=kind, dtype=dtype)
                loss(*batch.arguments, **batch.sides)
            for extreme in subject.inputs.extreme_batches(loss, dtype=torch.float32, kind=kind).values():
                loss(*extreme.arguments, **extreme.sides)
        for uniform in subject.inputs.uniform(loss, 4).values():
            loss(*uniform.arguments, **uniform.sides)
        if subject.takes("ignore_index") and subject.family in ("classification", "multilabel"):
            batch = batch_of(subject, loss)
            output, target = batch.output.clone(), batch.target.clone()
            output[2], target[2] = NAN, -100
            loss(*batch.changed({"output": output, "target": target}).arguments, **batch.sides)
            loss(*batch.targeted(torch.full_like(target, -100)).arguments, **batch.sides)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda f: f.focal(torch.zeros(2, 3), torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.4, 0.0]])),
            "focal: target must be probabilities that sum to 1 over dimension 1, got a sum of 0.9 at (1,)",
        ),
        (
            lambda f: f.focal(torch.zeros(1, 3, 2), torch.tensor([[[0.5, 1.5], [0.5, -0.5], [0.0, 0.0]]])),
            "focal: target must be probabilities in [0, 1], got 1.5 at (0, 0, 1)",
        ),
        (
            lambda f: f.focal(torch.zeros(2, 3), torch.tensor([0, 1]), weight=torch.tensor([1.0, -1.0, 1.0])),
            "focal: weight must be finite numbers >= 0, got -1 at (1,)",
        ),
        (
            lambda f: f.worst_group(torch.zeros(2), torch.tensor([0.0, 2.0]), torch.tensor([0, 1])),
            "worst_group: target must be in [0, 1], got 2 at (1,)",
        ),
        (
            lambda f: f.dco(torch.zeros(1, 2, 3), torch.tensor([[0, 5]]), level="sequence"),
            "dco: target must be class indices from 0 to 2 or ignore_index=-100, got 5 at (0, 1)",
        ),
        (
            lambda f: f.list_net(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)),
            "list_net: mask must be True for something, got False everywhere",
        ),
        (
            lambda f: f.binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[0, 5]], dtype=torch.uint8)),
            "binary_cross_entropy: target must be in [0, 1] or ignore_index=-100, got 5 at (0, 1)",
        ),
        (
            lambda f: f.sup_con(torch.tensor([[0.0, torch.inf]]), torch.tensor([0])),
            "sup_con: embedding must be finite, got inf at (0, 1)",
        ),
        (
            lambda f: f.naive_bayes(torch.zeros(1, 2), torch.tensor([3]), torch.zeros(3, 2), torch.zeros(2), torch.zeros(3)),
            "naive_bayes: target must be class indices from 0 to 2, got 3 at (0,)",
        ),
    ],
)
def test_the_sentences(call: Callable[[Any], Any], sentence: str) -> None:
    with lossary.check_values(), pytest.raises(LossaryError) as caught:
        call(lossary.functional)
    assert str(caught.value) == sentence


def test_what_is_masked_may_be_anything() -> None:
    scores, mask = torch.tensor([[1.0, NAN, 0.0]]), torch.tensor([[True, False, True]])
    with lossary.check_values():
        lossary.functional.list_net(scores, torch.tensor([[1.0, NAN, 0.0]]), mask)
        lossary.functional.list_net(scores, torch.tensor([[1.0, -1.0, 0.0]]))
        lossary.functional.focal(torch.tensor([[0.0, -torch.inf, 1.0]]), torch.tensor([2]))


WRONG = torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [5.0, 0.0]])


def test_a_look_ends_with_its_context() -> None:
    loss = lossary.create("binary_cross_entropy")
    looking = lossary.check_values()
    for _ in range(2):  # a context can be used again, and within itself
        with looking, looking, pytest.raises(LossaryError):
            loss(*WRONG)
        loss(*WRONG)
    assert values.contexts == 0


def test_a_look_is_of_one_thread() -> None:
    loss, entered, done = lossary.create("binary_cross_entropy"), threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def looking() -> None:
        with lossary.check_values():
            entered.set()
            done.wait(60)
            try:
                loss(*WRONG)
            except LossaryError as error:
                caught.append(error)

    thread = threading.Thread(target=looking)
    thread.start()
    assert entered.wait(60)
    loss(*WRONG)  # here nobody looks
    done.set()
    thread.join()
    assert len(caught) == 1


def test_a_look_is_of_the_tasks_that_begin_in_it() -> None:
    loss = lossary.create("binary_cross_entropy")

    async def task(turn: asyncio.Event) -> None:
        await turn.wait()
        loss(*WRONG)

    async def main() -> None:
        turn = asyncio.Event()
        before = asyncio.create_task(task(turn))
        with lossary.check_values():
            inside = asyncio.create_task(task(turn))
            turn.set()
            await before
            with pytest.raises(LossaryError):
                await inside

    asyncio.run(main())


def test_nobody_looks_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("somebody looks")

    monkeypatch.setattr(values, "call_checked", never)
    monkeypatch.setattr(values, "failure_of", never)
    lossary.functional.focal(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_a_compiled_graph_is_not_looked_at() -> None:
    loss, logits, target = lossary.create("focal"), torch.zeros(2, 3), torch.tensor([0, 1])
    torch.compiler.reset()
    with lossary.check_values():
        found = torch.compile(loss, backend="aot_eager", fullgraph=True)(logits, target)
    torch.testing.assert_close(found, loss(logits, target))
