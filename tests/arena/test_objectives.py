"""What an objective may ask of a comparison: facts about the data, embeddings, side inputs, its own weights, one batch size."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.arena.common import double
from torch import Tensor, nn

import lossary
from lossary.arena import Data, from_arrays, load
from lossary.arena.data.splits import make_splits
from lossary.arena.plan.networks import make_model, without_head
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.recipe import Recipe
from lossary.arena.tasks import Candidate
from lossary.arena.train.loop import Run, stacked_features, train
from lossary.arena.train.models import make_trainee
from lossary.arena.train.unit_of_work import _build, run_unit
from lossary.errors import InvalidTypeError, InvalidValueError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rates": [1e-3, 1e-2], "hidden": 8, "store": None}
cross_entropy = lossary.functional.cross_entropy


@lossary.formula
def centred(embedding: Tensor, target: Tensor, *, num_classes: int, embedding_dim: int) -> Tensor:
    raise NotImplementedError


class Centred(lossary.Objective):
    """The nearest of one centre for each class."""

    consumes = "embedding"

    def __init__(self, *, num_classes: int, embedding_dim: int):
        super().__init__(num_classes=num_classes, embedding_dim=embedding_dim)
        self.centres = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def logits(self, embedding: Tensor) -> Tensor:
        return -((embedding[:, None] - self.centres) ** 2).sum(2)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(self.logits(output), target)

    def link(self, output: Tensor) -> Tensor:
        return self.logits(output).softmax(1)


@lossary.formula
def remembering(logits: Tensor, target: Tensor, *, num_samples: int) -> Tensor:
    raise NotImplementedError


class Remembering(lossary.SoftmaxObjective):
    """Cross-entropy that counts how often it saw each sample, and how far the training was then."""

    requires = ("index", "progress")

    def __init__(self, *, num_samples: int):
        super().__init__(num_samples=num_samples)
        self.register_buffer("seen", torch.zeros(num_samples))
        self.register_buffer("latest", torch.zeros(()))
        self.register_buffer("epochs", torch.zeros(()))

    def forward(self, logits: Tensor, target: Tensor, index: Tensor | None = None, progress: float = 0.0) -> Tensor:
        assert index is not None
        assert isinstance(self.seen, Tensor)
        assert isinstance(self.latest, Tensor)
        self.seen[index] += 1
        self.latest.fill_(progress)
        return cross_entropy(logits, target)

    def epoch_end(self) -> None:
        assert isinstance(self.epochs, Tensor)
        self.epochs += 1


@lossary.formula
def counted(logits: Tensor, target: Tensor, *, class_counts: Tensor) -> Tensor:
    raise NotImplementedError


class Counted(lossary.SoftmaxObjective):
    """Cross-entropy of logits to which the log-frequencies of the classes are added."""

    def __init__(self, *, class_counts: Tensor):
        super().__init__(class_counts=class_counts)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        assert isinstance(self.class_counts, Tensor)
        return cross_entropy(logits + self.class_counts.to(logits.dtype).log(), target)


@lossary.formula
def wanting(logits: Tensor, target: Tensor) -> Tensor:
    raise NotImplementedError


class Wanting(lossary.SoftmaxObjective):
    """What no comparison can supply."""

    requires = ("index", "teacher", "mask")


@lossary.formula
def headless(logits: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(logits, target)


class Headless(lossary.SoftmaxObjective):
    """Cross-entropy under another name."""


class Both(lossary.SoftmaxObjective):
    """Wants two outputs."""

    consumes = ("logits", "embedding")


@pytest.fixture(autouse=True)
def _registered(registry: None) -> None:
    lossary.objective(family="classification", function=centred)(Centred)
    lossary.objective(family="classification", function=remembering)(Remembering)
    lossary.objective(family="classification", function=counted)(Counted)


def centres(width: int) -> Centred:
    return Centred(num_classes=3, embedding_dim=width)


def make_splits_of(name: str, seeds: tuple[int, ...] = (0, 1)) -> Any:
    return make_splits(load(name), seeds, 0.2, 0.2)


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_an_objective_on_embeddings_takes_the_place_of_the_last_layer(model: str) -> None:
    result = lossary.compare("wine", objectives=["centred"], model=model, **{**QUICK, "epochs": 30})
    unit = result.units[1]
    assert unit.batched, unit.why_not_batched
    np.testing.assert_allclose(unit.predictions.sum(2), 1, rtol=1e-5)
    assert result.leaderboard[0].mean > 0.8
    assert min(row.mean for row in result.leaderboard) > 0.6
    assert Candidate("centred").code == ('loss = lossary.create("centred", num_classes=num_classes, embedding_dim=embedding_dim)')


def test_images_have_embeddings_too() -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(60, 8, 8)).astype(np.float32)
    images[::2, :, :4] += 2.0
    result = lossary.compare(from_arrays("halves", images, np.arange(60) % 2), objectives=["centred"], **QUICK)
    assert result.protocol.model == "cnn"
    assert result.units[1].batched, result.units[1].why_not_batched


def test_both_ways_of_training_agree_on_an_embedding_with_weights_of_its_own() -> None:
    splits = make_splits_of("wine")
    runs = [Run(0, 1e-3), Run(1, 1e-2), Run(0, 1e-2)]
    for model in ("mlp", "linear"):
        results = []
        for batched in (True, False):
            trainees = [make_trainee(model, (13,), 3, 8, run.split, centres, "classification", True) for run in runs]
            results.append(train(trainees, splits, runs, Recipe(3, 16, weight_decay=0.5), batched=batched))
        assert results[0].batched, results[0].why_not_batched
        for name, value in results[1].state.items():
            torch.testing.assert_close(results[0].state[name], value, rtol=1e-4, atol=1e-5)


def test_first_weights_are_those_of_the_seed_with_and_without_the_head() -> None:
    whole = make_trainee("mlp", (13,), 3, 8, 5, lossary.create("focal"), "classification")
    one, other, third = (make_trainee("mlp", (13,), 3, 8, seed, centres, "classification", True) for seed in (5, 5, 6))
    assert torch.equal(next(whole.model.parameters()), next(one.model.parameters()))
    assert torch.equal(one.objective.centres, other.objective.centres)  # type: ignore[arg-type]
    assert not torch.equal(one.objective.centres, third.objective.centres)  # type: ignore[arg-type]


def test_a_model_without_a_last_linear_layer_is_refused() -> None:
    model, width = without_head(make_model("cnn", (1, 8, 8), 3, 6), 3, "cnn")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, width) == (2, 24)
    flat, width = without_head(nn.Linear(5, 3), 3, "my:linear")
    assert flat(torch.ones(2, 5)).shape == (2, width) == (2, 5)
    with pytest.raises(InvalidTypeError, match=r"the model 'my:model' must end in a torch.nn.Linear of 3 outputs.*got Softmax"):
        without_head(nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)), 3, "my:model")
    with pytest.raises(InvalidTypeError, match="must end in"):
        without_head(nn.Linear(5, 4), 3, "my:model")


def test_side_inputs_are_supplied() -> None:
    splits = make_splits_of("wine", (0,))
    rows = len(splits[0].train.target)
    runs = [Run(0, 1e-3), Run(0, 1e-2)]
    trainees = [make_trainee("mlp", (13,), 3, 8, 0, Remembering(num_samples=rows), "classification") for _ in runs]
    trained = train(trainees, splits, runs, Recipe(5, 16))
    assert trained.why_not_batched == "the objective follows index and progress and the end of epochs"
    seen = trained.state["objective.seen"]
    assert seen.sum(1).tolist() == [5 * (rows // 16 * 16)] * 2
    assert seen.max() <= 5
    steps = rows // 16
    assert trained.state["objective.latest"].tolist() == pytest.approx([(4 + (steps - 1) / steps) / 5] * 2)
    assert trained.state["objective.epochs"].tolist() == [5, 5]
    result = lossary.compare("wine", objectives=["remembering"], **QUICK)
    assert result.leaderboard[0].mean == result.leaderboard[1].mean  # as it is cross-entropy after all


def test_facts_about_the_training_part_are_supplied_for_each_seed() -> None:
    data = load("wine")
    splits = make_splits(data, (0, 1, 2), 0.2, 0.2)
    for split in splits:
        made = _build(Candidate("counted"), {}, data.task, split, 0)
        assert made.class_counts.tolist() == [int((split.train.truth == c).sum()) for c in range(3)]  # type: ignore[operator]
    result = lossary.compare("wine", objectives=["counted"], **QUICK)
    assert result.units[1].batched, result.units[1].why_not_batched


def test_runs_whose_objectives_differ_are_not_one_program() -> None:
    splits = make_splits_of("wine", (0,))
    runs = [Run(0, 1e-3), Run(0, 1e-2)]
    trainees = [make_trainee("mlp", (13,), 3, 8, 0, lossary.create("focal", gamma=gamma), "classification") for gamma in (1.0, 5.0)]
    trained = train(trainees, splits, runs, Recipe(9, 16))
    assert "different hyper-parameters" in trained.why_not_batched


def test_posthoc_objectives_and_wants_that_nobody_has_are_refused() -> None:
    lossary.objective(family="classification", function=wanting)(Wanting)
    with pytest.raises(InvalidValueError, match="wanting: it needs teacher, mask, which a comparison cannot give it"):
        lossary.compare("wine", objectives=["wanting"], **QUICK)
    lossary.objective(family="classification", function=headless, stage="posthoc")(Headless)
    with pytest.raises(InvalidValueError, match="headless: it is for a model that is trained already, and trains none"):
        lossary.compare("wine", objectives=["headless"], **QUICK)


def test_an_objective_that_wants_two_outputs_is_refused() -> None:
    lossary.objective(family="classification", function=headless)(Both)
    with pytest.raises(InvalidValueError, match="headless: it wants logits and embedding, and the models of a comparison have one"):
        lossary.compare("wine", objectives=["headless"], **QUICK)


def test_what_predicts_no_probabilities_is_not_judged_by_them() -> None:
    lossary.objective(family="classification", function=headless, link="scores")(Headless)
    with pytest.raises(InvalidValueError, match="headless: it predicts no probabilities, which the metric brier is about"):
        lossary.compare("wine", objectives=["headless"], metric="brier", **QUICK)
    row = next(r for r in lossary.compare("wine", objectives=["headless"], **QUICK).leaderboard if r.difference is not None)
    assert np.isfinite(row.mean)
    assert np.isnan(row.test["brier"])


def test_a_loss_of_the_batch_as_a_whole_is_said_to_fix_the_batch_size(tmp_path: Path) -> None:
    lossary.objective(family="classification", function=headless, decomposable=False)(Headless)
    result = lossary.compare("wine", objectives=["headless", "focal"], **QUICK)
    sentence = "the same size and order for every objective; the loss of headless is a function of the batch as a whole"
    assert sentence in result.protocol.batches
    assert sentence in result.report(tmp_path / "report.html").read_text()
    assert "function of the batch" not in lossary.compare("wine", objectives=["focal"], **QUICK).protocol.batches


def test_nobody_stops_early_on_a_value_that_means_nothing() -> None:
    """The value rises with every step, the gradient is that of cross-entropy: the best epoch is the same."""

    class Rising(lossary.SoftmaxObjective):
        """Cross-entropy's gradient with its value turned round."""

        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            value: Tensor = cross_entropy(logits, target)
            return value - 2 * value.detach()

    lossary.objective(family="classification", function=headless, value_is_objective=False)(Rising)
    settings = {**QUICK, "epochs": 12, "patience": 3, "learning_rates": [3e-2]}
    honest, rising = lossary.compare("wine", objectives=["headless"], **settings).units
    np.testing.assert_array_equal(honest.predictions, rising.predictions)
    np.testing.assert_array_equal(honest.curve, rising.curve)
    assert (np.diff(rising.losses[:, 0, :3]) > 0).all()
    np.testing.assert_allclose(honest.losses, -rising.losses, rtol=1e-5)


def test_preparing_a_comparison_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    protocol = make_protocol(load("wine"), objectives=["centred"], seeds=2, epochs=1)
    run_unit(protocol, Candidate("centred"), make_splits_of("wine"))
    assert torch.equal(torch.random.get_rng_state(), before)


def labels() -> Data:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(120, 4))
    return from_arrays("labels", features, (features[:, :3] + generator.normal(0, 0.5, (120, 3)) > 0.5).astype(float))


REAL = ["harmonic", "naive_bayes", "legendretron", "aldr_kl", "ldam_multilabel"]


@pytest.mark.parametrize("name", [name for name in REAL if name in lossary.list_objectives()])
def test_registered_objectives_with_wants_can_be_compared(name: str) -> None:
    data = labels() if lossary.specs()[name].family == "multilabel" else load("wine")
    result = lossary.compare(data, objectives=[name], **{**QUICK, "epochs": 6})
    row = next(row for row in result.leaderboard if row.difference is not None)
    assert np.isfinite(row.mean)
    assert row.diverged == 0
    assert f'lossary.create("{name}", ' in row.code


@pytest.mark.parametrize("name", [name for name in REAL if name in lossary.list_objectives() and lossary.specs()[name].vmap])
def test_both_ways_of_training_agree_on_registered_objectives_with_wants(name: str) -> None:
    candidate = Candidate(name)
    data = labels() if candidate.spec.family == "multilabel" else load("wine")
    splits = [double(split) for split in make_splits(data, (0, 1), 0.2, 0.2)]
    runs = [Run(0, 1e-3), Run(1, 1e-3), Run(0, 1e-2)]
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee(
                "mlp",
                splits[0].shape,
                3,
                8,
                run.split,
                functools.partial(_build, candidate, {}, data.task, splits[run.split]),
                candidate.spec.family,
                candidate.spec.consumes == "embedding",
            ).double()
            for run in runs
        ]
        results.append(train(trainees, splits, runs, Recipe(4, 16), batched=batched))
    for key, value in results[1].state.items():
        torch.testing.assert_close(results[0].state[key], value, rtol=1e-6, atol=1e-8)
    everyone = range(len(runs))
    features = stacked_features(splits, runs, "validation")
    torch.testing.assert_close(results[0].predict(features, everyone), results[1].predict(features, everyone), rtol=1e-6, atol=1e-8)
