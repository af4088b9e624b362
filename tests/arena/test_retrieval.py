"""Retrieval: classes that training has not seen, balanced batches, neighbours of embeddings."""

import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.arena.common import double, same
from torch import Tensor

import lossary
from lossary._fast.pairs import rule as pairs_rule
from lossary.arena import Data, from_arrays, load
from lossary.arena.data.splits import make_splits
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.recipe import Recipe, balanced_order
from lossary.arena.tasks import METRICS, Candidate
from lossary.arena.train.loop import Run, Trained, stacked_features, train
from lossary.arena.train.models import make_trainee
from lossary.arena.train.unit_of_work import _build
from lossary.errors import DataError, InvalidValueError, LossaryError, UnknownNameError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rates": [1e-3, 1e-2], "hidden": 8, "store": None}
SHARES = (0.2, 0.3)


@lossary.formula
def together(embedding: Tensor, labels: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(embedding, dim=1)
    cosine = unit @ unit.T
    alike = labels[:, None] == labels
    return ((1 - cosine) * alike).mean() + (cosine.clamp_min(0) * ~alike).mean()


class Together(lossary.Objective):
    """Same classes together, others at a right angle."""

    consumes: ClassVar[str] = "embedding"

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return together(embedding, labels)

    def link(self, output: Tensor) -> Tensor:
        return output


@lossary.formula
def directions(embedding: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    unit, others = (torch.nn.functional.normalize(x, dim=1) for x in (embedding, weight))
    return torch.nn.functional.cross_entropy(10 * unit @ others.T, target)


class Directions(lossary.Objective):
    """A direction for each class of the training part."""

    consumes: ClassVar[str] = "embedding"

    def __init__(self, *, num_classes: int, embedding_dim: int):
        super().__init__(num_classes=num_classes, embedding_dim=embedding_dim)
        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        return directions(embedding, target, self.weight)

    def link(self, output: Tensor) -> Tensor:
        return output @ self.weight.T


@lossary.formula
def aimless(embedding: Tensor, labels: Tensor) -> Tensor:
    return (embedding * torch.linspace(-1.0, 1.0, embedding.shape[1])).mean()


class Aimless(Together):
    """Knows nothing of the labels."""

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return aimless(embedding, labels)


@pytest.fixture(autouse=True)
def objectives(registry: None) -> None:
    lossary.list_objectives()
    lossary.objective(family="embedding", function=together, link="scores", decomposable=False)(Together)
    lossary.objective(family="embedding", function=aimless, link="scores")(Aimless)
    lossary.objective(family="classification", function=directions)(Directions)


def clouds(classes: int = 10, rows: int = 12, spread: float = 0.5, sizes: tuple[int, ...] | None = None) -> Data:
    generator = np.random.default_rng(0)
    target = np.repeat(np.arange(classes), rows if sizes is None else sizes)
    features = 3 * generator.normal(size=(classes, 6))[target] + spread * generator.normal(size=(len(target), 6))
    return from_arrays("clouds", features, target, task="retrieval")


def classes_of(truth: NDArray[Any]) -> set[int]:
    return set(truth.tolist())


def test_parts_share_no_class_and_seeds_differ() -> None:
    splits = make_splits(clouds(20), (0, 1, 2, 3), *SHARES)
    for split in splits:
        train_, validation, test = (classes_of(part.truth) for part in (split.train, split.validation, split.test))
        assert not train_ & validation
        assert not (train_ | validation) & test
        assert [len(train_), len(validation), len(test)] == [10, 4, 6]
        assert len(train_ | validation | test) == 20
        assert split.train.target.unique().tolist() == list(range(10))  # numbered anew, so that no number tells of other classes
    assert len({tuple(sorted(classes_of(split.test.truth))) for split in splits}) == 4
    again = make_splits(clouds(20), (2,), *SHARES)[0]
    np.testing.assert_array_equal(again.test.truth, splits[2].test.truth)


def test_features_are_prepared_by_the_training_classes_alone() -> None:
    data = clouds(9, spread=0.1)
    split = make_splits(data, (0,), *SHARES)[0]
    assert split.train.features.mean(0).abs().max() < 1e-5
    assert split.test.features.mean(0).abs().max() > 0.1


def test_parts_are_of_one_size_and_keep_every_class() -> None:
    sizes = (2, 3, 4, 5, 8, 13, 21, 34, 55, 89, 144, 10)
    data = clouds(12, sizes=sizes)
    assert data.notes[-1].startswith("parts share no class and classes differ in size, so each part is cut by chance")
    splits = make_splits(data, range(8), *SHARES)  # type: ignore[arg-type]
    for name in ("train", "validation", "test"):
        parts = [getattr(split, name) for split in splits]
        assert len({len(part.truth) for part in parts}) == 1
        assert all(np.unique(part.truth, return_counts=True)[1].min() >= 2 for part in parts)


@pytest.mark.parametrize(("counts", "size", "each"), [([7, 7, 7, 7], 8, 4), ([20, 3, 9], 8, 4), ([2, 50, 50, 50, 50], 12, 4)])
def test_batches_hold_as_many_rows_of_each_of_different_classes(counts: list[int], size: int, each: int) -> None:
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[torch.randperm(sum(counts))]
    batches = torch.cat([balanced_order(0, epoch, target, size, each) for epoch in range(40)])
    assert batches.shape[1] == size
    for batch in batches:
        names, found = target[batch].unique(return_counts=True)
        assert found.tolist() == [each] * (size // each)
        for name in names.tolist():
            chosen = batch[target[batch] == name]
            assert len(chosen.unique()) == min(each, counts[name])
    often = torch.bincount(target[batches.flatten()]) / batches.numel()
    torch.testing.assert_close(often, torch.full_like(often, 1 / len(counts)), rtol=0.3, atol=0)
    assert len(batches.unique()) == len(target)  # every row has its turn


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    target = torch.arange(6).repeat(5)
    order = balanced_order(0, 0, target, 8, 4)
    assert torch.equal(order, balanced_order(0, 0, target, 8, 4))
    assert not torch.equal(order, balanced_order(0, 1, target, 8, 4))
    assert not torch.equal(order, balanced_order(1, 0, target, 8, 4))


def test_neighbours_are_counted_by_cosine_without_the_row_itself() -> None:
    angles = np.deg2rad([0, 10, 12, 90, 103, 110])  # nearest others by hand: 1, 2, 1, 4, 5, 4
    embedding = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    truth = np.array([0, 0, 1, 1, 2, 2])
    assert METRICS["recall_at_1"](truth, embedding) == pytest.approx(3 / 6)
    assert METRICS["recall_at_2"](truth, embedding) == pytest.approx(4 / 6)
    assert METRICS["recall_at_8"](truth, embedding) == 1.0
    assert METRICS["map_at_r"](truth, embedding) == pytest.approx(3 / 6)  # R is 1 for each of these
    assert np.isnan(METRICS["recall_at_1"](truth, embedding * np.nan))


def both_ways(name: str, model: str = "mlp") -> tuple[Trained, Trained]:
    data, candidate = clouds(), Candidate(name)
    splits = [double(split) for split in make_splits(data, (0, 1), *SHARES)]
    runs = [Run(0, 1e-3), Run(1, 1e-3), Run(0, 1e-2), Run(1, 1e-2)]
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee(
                model, (6,), 5, 8, run.split, functools.partial(_build, candidate, {}, data.task, splits[run.split]),
                candidate.spec.family, True, "retrieval",
            ).double()
            for run in runs
        ]  # fmt: skip
        results.append(train(trainees, splits, runs, Recipe(6, 16, per_class=4), batched=batched))
    features = stacked_features(splits, runs, "test")
    found = [result.predict(features, range(len(runs))) for result in results]
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found[0].norm(dim=2), torch.ones(found[0].shape[:2], dtype=torch.float64))
    return results[0], results[1]


@pytest.mark.parametrize("name", ["together", "directions"])
def test_one_program_gives_what_the_ordinary_loop_gives(name: str) -> None:
    batched, plain = both_ways(name)
    assert batched.batched, batched.why_not_batched
    for key, value in plain.state.items():
        torch.testing.assert_close(batched.state[key], value, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(batched.losses, plain.losses, rtol=1e-7)


@pytest.mark.parametrize("name", ["sup_con", "proxy_anchor", "circle"])
def test_losses_of_pairs_in_compiled_loops_are_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, where they take their loops."""
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    data, candidate = clouds(), Candidate(name)
    splits = make_splits(data, (0, 1), *SHARES)
    runs = [Run(0, 1e-3), Run(1, 1e-3), Run(0, 3e-3)]
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee(
                "mlp", (6,), 5, 8, run.split, functools.partial(_build, candidate, {}, data.task, splits[run.split]),
                candidate.spec.family, True, "retrieval",
            )
            for run in runs
        ]  # fmt: skip
        results.append(train(trainees, splits, runs, Recipe(5, 16, per_class=4), batched=batched))
    assert results[0].batched, results[0].why_not_batched
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-3)


def test_a_comparison_learns_and_resumes(tmp_path: Path) -> None:
    settings = {**QUICK, "epochs": 20, "store": tmp_path / "arena.sqlite", "objectives": ["directions", "aimless"]}
    data = clouds(12, 15, spread=3.0)
    result = lossary.compare(data, baseline="together", **settings)
    means = {row.candidate.label: row.mean for row in result.leaderboard}
    assert (result.protocol.metric, result.data.task.kind) == ("recall_at_1", "retrieval")
    assert means["together"] > 0.5 > 1.5 / result.protocol.task.num_classes
    assert "rows of each of" in result.protocol.batches
    assert result.units[0].predictions.shape[-1] == 8
    for split, truth in zip(make_splits(data, (0, 1), 2 / 12, 4 / 12), result.units[0].truth, strict=True):
        assert not classes_of(truth) & classes_of(split.train.truth)
    again = lossary.compare(data, baseline="together", **settings)
    assert all(unit.reused for unit in again.units)
    same(result, again)
    page = result.report(tmp_path / "report.html").read_text()
    assert "of the classes, none of which is in two parts" in page
    assert all(f'id="{place}"' in page for place in ("cutoffs", "seen-0", "seen-1"))
    assert "Can the probabilities be believed?" not in page
    assert len(result.export(tmp_path / "clouds.csv").read_text().splitlines()) == 1 + 3 * 2
    with pytest.raises(InvalidValueError, match="there are no probabilities"):
        result.plot_reliability()


def test_what_knows_nothing_is_not_found_better() -> None:
    """The same start and a gradient without labels, against itself at another size."""
    for seed in range(3):
        generator = np.random.default_rng(seed)
        data = from_arrays("noise", generator.normal(size=(240, 5)), np.repeat(np.arange(20), 12), task="retrieval")
        result = lossary.compare(data, objectives=["aimless", "directions"], baseline="together", **{**QUICK, "seeds": 4})
        assert result.answer.recommended is None


def test_images_are_embedded_too() -> None:
    images = np.random.default_rng(0).normal(size=(80, 8, 8)).astype(np.float32)
    data = from_arrays("pictures", images, np.arange(80) % 8, task="retrieval")
    result = lossary.compare(data, objectives=["directions"], baseline="together", **{**QUICK, "epochs": 12})
    assert result.protocol.model == "cnn"
    assert all(unit.batched for unit in result.units)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"objectives": ["cross_entropy"]}, "cross_entropy: a retrieval task takes objectives on embeddings, this one wants logits"),
    (
        {"objectives": ["huber"]},
        "huber: a retrieval task takes objectives of the family embedding or classification, this one is regres",
    ),
    (
        {"objectives": ["byol"]},
        "byol: a retrieval task takes objectives of the family embedding or classification, this one is contrastive",
    ),
    *(
        (
            {"objectives": ["directions"], "batch_size": size},
            "batch_size must be from 8 to the 48 training rows, as a batch of a retrieval holds two classes of 4 or more, got"
            f" {size}",
        )
        for size in (7, 49)
    ),
    (
        {"objectives": ["contrastive(group='world')"]},
        "contrastive: group is for a training in several processes, and those of a comparison are in one each",
    ),
    ({"objectives": ["directions"], "metric": "accuracy"}, "there is no metric 'accuracy' for a retrieval task"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_mistakes_are_refused_before_any_training(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LossaryError, match=message) as caught:
        lossary.compare(clouds(), baseline="together", **{**QUICK, **settings}, tell=lambda event: pytest.fail("trained"))
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_divided_by_class_are_refused() -> None:
    features = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(DataError, match="'target' has 3 classes of two rows or more; a retrieval needs at least 6"):
        load("iris", task="retrieval")
    with pytest.raises(DataError, match="rows of one person are in several classes, so that it cannot be kept together"):
        from_arrays("x", features, np.arange(60) % 10, task="retrieval", groups=np.arange(60) // 6, group_name="person")
    with pytest.raises(DataError, match="x: a retrieval needs classes in 'target', got the quantity"):
        from_arrays("x", features, np.arange(60) // 3 / 2, task="retrieval")
    with pytest.raises(UnknownNameError, match="there is no task 'retrival'; did you mean 'retrieval'"):
        load("digits", task="retrival")


def test_groups_within_classes_stay_together_with_their_class() -> None:
    groups = np.repeat(np.arange(20), 3)
    data = from_arrays("x", np.random.default_rng(0).normal(size=(60, 2)), groups // 2, task="retrieval", groups=groups)
    assert data.groups is not None
    for split in make_splits(data, (0, 1), *SHARES):
        assert not classes_of(split.train.truth) & classes_of(split.test.truth)


def test_rows_alone_in_their_class_are_left_out_and_it_is_said() -> None:
    target = np.array([*np.repeat(np.arange(8), 5), 100, 101])
    data = from_arrays("x", np.random.default_rng(0).normal(size=(42, 2)), target, task="retrieval")
    assert (data.rows, data.task.num_classes) == (40, 8)
    assert data.notes == ("2 rows alone in their class were left out",)


def test_the_protocol_says_how_batches_are_made() -> None:
    protocol = make_protocol(clouds(40), objectives=["directions"], baseline="together")
    assert protocol.recipe.per_class == 4
    assert protocol.batches.startswith("batches of 32 (4 rows of each of 8 classes)")
    assert protocol.to_dict()["recipe"]["per_class"] == 4
    few = make_protocol(clouds(6), objectives=["directions"], baseline="together")
    assert (few.recipe.per_class, few.recipe.batch_size) == (12, 24)
    assert "per_class" not in make_protocol(load("wine"), objectives=["focal"]).to_dict()["recipe"]
