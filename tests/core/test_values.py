"""Numbers and vectors are alike whatever they come as: Python's and NumPy's, lists, arrays and tensors."""

import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossary
from lossary import specs
from lossary._core.parameters import Domain, Interval, Numbers, OneOrMore, Range, Vector, formula, shown
from lossary.errors import InvalidTypeError
from lossary.metrics import pass_at_n_from_counts
from lossary.testing import Subject, subject_of

NAMES = lossary.list_objectives()
TABLES = {"likelihood": (9,), "label_cooccurrence": (5, 5), "class_means": (5, 4)}  # vectors that are no weights of classes
VECTORS = [(name, p.name) for name in NAMES for p in specs()[name].parameters if isinstance(p.domain, Numbers)]


def other_forms(value: object, domain: Domain | None) -> list[object]:
    """What else may be given for a value of this domain."""
    if isinstance(domain, Interval) and isinstance(value, int):
        return [np.int64(value), np.int16(value), np.array(value), torch.tensor(value)]
    if isinstance(domain, Interval) and isinstance(value, float):
        return [np.float64(value), np.array(value), torch.tensor(value, dtype=torch.float64), Fraction(value)]
    if isinstance(domain, OneOrMore | Range) and isinstance(value, tuple):
        return [list(value), np.array(value), torch.tensor(value, dtype=torch.float64), tuple(map(np.float64, value))]
    return []


@pytest.mark.parametrize("name", NAMES)
def test_a_number_may_be_numpys_or_a_tensor_without_dimensions(name: str) -> None:
    spec, required = specs()[name], subject_of(name).required
    forms = {p.name: other_forms({**spec.defaults, **required}[p.name], p.domain) for p in spec.parameters}
    expected = spec.cls(**required)
    for which in range(4):
        given = {key: of[which] for key, of in forms.items() if of}
        loss = spec.cls(**{**required, **given})
        for key in given:
            assert type(getattr(loss, key)) is type(getattr(expected, key)), key
            assert getattr(loss, key) == getattr(expected, key), key
        assert repr(loss) == repr(expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_function_takes_what_the_constructor_takes(name: str) -> None:
    subject = subject_of(name)
    batch, spec = subject.batch(6), subject.need_spec("")
    takes = inspect.signature(spec.function).parameters
    forms = {p.name: other_forms(spec.defaults.get(p.name), p.domain) for p in spec.parameters if p.name in takes}
    expected = subject.by_function(batch)
    for which in range(4):
        found = subject.by_function(batch, **{key: of[which] for key, of in forms.items() if of})
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def by_module(subject: Subject, vector: str, given: object) -> Tensor:
    loss = subject.make(**{vector: given})
    batch = subject.batch(6, loss=loss)
    torch.manual_seed(0)
    value: Tensor = loss(*batch.arguments, **batch.sides)
    return value.detach()


def by_function(subject: Subject, vector: str, given: object) -> Tensor:
    return subject.by_function(subject.batch(6), **{vector: given}).detach()


@pytest.mark.parametrize(("name", "vector"), VECTORS)
def test_a_vector_may_be_a_list_or_an_array(name: str, vector: str) -> None:
    subject = subject_of(name)
    if subject.family == "regression":
        shape: tuple[int, ...] = ()
    else:
        shape = TABLES.get(vector, (subject.inputs.classes,))
    numbers = torch.arange(1, 1 + int(torch.tensor(shape).prod())).reshape(shape)
    real, whole = (numbers / 8).tolist(), numbers.tolist()
    ways = [by_module]
    if vector in inspect.signature(subject.need_spec("").function).parameters and vector not in TABLES:
        ways.append(by_function)
    for way in ways:
        for values in (real, whole):
            expected = way(subject, vector, torch.tensor(values, dtype=torch.float32))
            forms: list[Any] = [values, np.array(values), torch.tensor(values)]
            forms += [tuple(values), np.array(values, dtype=np.float32), list(map(np.float32, values))] if len(shape) == 1 else []
            for form in forms:
                torch.testing.assert_close(way(subject, vector, form), expected, rtol=1e-6, atol=0)
    loss = subject.make(**{vector: real})
    assert vector in dict(loss.named_buffers())
    assert vector in loss.state_dict()


def test_an_array_is_copied_and_may_be_read_only() -> None:
    weight = np.array([1.0, 2.0, 3.0])
    weight.setflags(write=False)
    loss = lossary.create("focal", weight=weight)
    assert loss.get_buffer("weight").dtype == torch.float64
    weight.setflags(write=True)
    weight[0] = 9
    assert loss.get_buffer("weight").tolist() == [1.0, 2.0, 3.0]
    logits = torch.zeros(2, 3, dtype=torch.float32)
    assert loss(logits, torch.tensor([0, 1])).dtype == torch.float32


@pytest.mark.parametrize("bad", ["much", [[1.0], [1.0, 2.0]], [None], {"a": 1.0}, np.array(["a"]), np.array([1j]), object()])
def test_what_is_no_vector_is_refused_in_a_sentence(bad: object) -> None:
    for attempt in (
        lambda: lossary.create("focal", weight=bad),
        lambda: lossary.functional.focal(torch.zeros(2, 3), torch.tensor([0, 1]), weight=bad),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidTypeError, match=r"^focal: weight must be a tensor, an array or a sequence"):
            attempt()


@pytest.mark.parametrize(
    "bad", [np.float32("nan"), np.array([1.0]), torch.tensor([2.0]), torch.tensor(2.0, requires_grad=True), np.bool_(True), "2"]
)
def test_what_is_no_number_is_refused_in_a_sentence(bad: object) -> None:
    for attempt in (
        lambda: lossary.create("focal", gamma=bad),
        lambda: lossary.functional.focal(torch.zeros(2, 3), torch.tensor([0, 1]), gamma=bad),  # type: ignore[arg-type]
    ):
        with pytest.raises((TypeError, ValueError), match=r"^focal: gamma must be a finite number >= 0, got .*$"):
            attempt()


def test_whole_numbers_stay_whole() -> None:
    with pytest.raises(InvalidTypeError, match=r"^arcface: num_classes must be an integer >= 1, got np\.float64\(3\.0\)$"):
        lossary.create("arcface", num_classes=np.float64(3), embedding_dim=2)
    with pytest.raises(InvalidTypeError, match=r"^focal: ignore_index must be an integer, got 1\.5$"):
        lossary.create("focal", ignore_index=1.5)


def test_vectors_stand_where_the_batch_stands() -> None:
    found: list[Tensor | None] = []

    def keeps(logits: Tensor, *, weight: Tensor | None = None) -> Tensor:
        found.append(weight)
        return logits

    def declared(logits: Tensor, *, weight: Vector | None = None) -> Tensor:
        return logits

    for function in (keeps, declared):
        formula(function)(torch.zeros(3, device="meta"), weight=[1.0, 2.0, 3.0])  # type: ignore[arg-type]
    assert found[0] is not None
    assert found[0].device.type == "meta"


def test_other_units_take_numpys_numbers_too() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = lossary.create("sign_sgd", kind="optimizer", params=[weight], lr=np.float32(0.5))
    assert type(optimizer.param_groups[0]["lr"]) is float
    layer = lossary.create("code_wise_attention", kind="layer", hidden_dim=np.int64(4), num_labels=torch.tensor(3))
    assert layer.num_labels == 3
    counts = torch.tensor([1, 0])
    assert torch.equal(pass_at_n_from_counts(counts, np.int64(4), n=np.int32(2)), pass_at_n_from_counts(counts, 4, n=2))  # type: ignore[arg-type]
    late = lossary.create("cross_cosine_similarity", warmup=0.5)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(late(a, b, progress=np.float32(0.25)), late(a, b, progress=0.25))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.arange(10.0), "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]"),
        (torch.arange(1000.0), "<(1000,): 0, ..., 999>"),
        (torch.eye(20), "<(20, 20): 1, ..., 1>"),
        (np.arange(11), "<(11,): 0, ..., 10>"),
        (torch.zeros(3, device="meta"), "<(3,)>"),
        (tuple(range(12)), "<(12,): 0, ..., 11>"),
        ((1.0, 2.0), "(1.0, 2.0)"),
        ("mean", "'mean'"),
        (None, "None"),
    ],
)
def test_a_value_is_shown_in_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text


def test_the_repr_of_a_loss_stays_short() -> None:
    loss = lossary.create("focal", weight=np.linspace(0.1, 2.0, 1000))
    text = "FocalLoss(gamma=2.0, weight=<(1000,): 0.1, ..., 2>, ignore_index=-100, label_smoothing=0.0, reduction='mean')"
    assert repr(loss) == text


WITH_STATE = [name for name in NAMES if subject_of(name).build(**subject_of(name).required).state_dict()]


@pytest.mark.parametrize("name", WITH_STATE)
def test_own_weights_and_memory_start_anew_after_to_empty(name: str) -> None:
    subject = subject_of(name)
    torch.manual_seed(3)
    expected = subject.build(**subject.required)
    with torch.device("meta"):
        required = {key: value for key, value in subject.required.items() if not isinstance(value, Tensor)}
        given = {key: value for key, value in subject.required.items() if isinstance(value, Tensor)}
        loss = subject.build(**required, **given)
    loss.to_empty(device="cpu")
    with torch.no_grad():
        for value in (*loss.parameters(), *loss.buffers()):
            value.fill_(True if value.dtype == torch.bool else 7)
        for key, value in given.items():
            getattr(loss, key).copy_(value)
    torch.manual_seed(3)
    assert isinstance(loss, lossary.Objective)
    loss.reset_parameters()
    assert dict(loss.named_parameters()).keys() == dict(expected.named_parameters()).keys()
    for (key, value), (other, wanted) in zip(loss.state_dict().items(), expected.state_dict().items(), strict=True):
        assert key == other
        torch.testing.assert_close(value, wanted, rtol=0, atol=0, equal_nan=True, msg=key)
    for (key, value), (_, wanted) in zip(loss.named_buffers(), expected.named_buffers(), strict=True):  # those not saved as well
        torch.testing.assert_close(value, wanted, rtol=0, atol=0, equal_nan=True, msg=key)


@pytest.mark.parametrize("name", WITH_STATE)
def test_a_used_loss_starts_anew(name: str) -> None:
    subject = subject_of(name)
    loss = subject.make()  # has seen a batch
    torch.manual_seed(3)
    expected = subject.build(**subject.required)
    torch.manual_seed(3)
    assert isinstance(loss, lossary.Objective)
    loss.reset_parameters()
    torch.testing.assert_close(dict(loss.state_dict()), dict(expected.state_dict()), rtol=0, atol=0, equal_nan=True)
