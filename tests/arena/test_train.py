"""A batched program does what the ordinary loop does."""

import numpy as np
import pytest
import torch
from tests.arena.common import double
from torch import Tensor, nn

import lossary
from lossary.arena.data.dataset import load
from lossary.arena.data.splits import Part, Split, make_splits
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.recipe import Recipe, batch_order
from lossary.arena.tasks import Candidate, outputs
from lossary.arena.train.loop import Predict, Run, Trained, stacked_features, train
from lossary.arena.train.models import Predictor, Trainee, make_trainee

DATA = ("wine", "breast_cancer", "diabetes")
RUNS = [Run(0, 1e-3), Run(0, 1e-2), Run(1, 1e-3), Run(1, 1e-2)]


def both_ways(name: str, candidate: Candidate, model: str = "mlp", epochs: int = 4) -> tuple[Trained, Trained, list[Split]]:
    data = load(name)
    splits = [double(split) for split in make_splits(data, (0, 1), 0.2, 0.2)]
    family = candidate.spec.family
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee(
                model,
                (splits[0].width,),
                outputs(family, data.task),
                16,
                run.split,
                lossary.create(candidate.objective, **candidate.parameters),
                family,
            ).double()
            for run in RUNS
        ]
        results.append(train(trainees, splits, RUNS, Recipe(epochs, 16), batched=batched))
    return results[0], results[1], splits


def assert_same(batched: Trained, plain: Trained, splits: list[Split]) -> None:
    """In double precision, where rounding cannot hide a difference in the maths."""
    assert batched.batched, batched.why_not_batched
    assert not plain.batched
    for name, value in plain.state.items():
        torch.testing.assert_close(batched.state[name], value, rtol=1e-7, atol=1e-9)
    features = stacked_features(splits, RUNS, "validation")
    everyone = range(len(RUNS))
    torch.testing.assert_close(batched.predict(features, everyone), plain.predict(features, everyone), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(torch.from_numpy(batched.losses), torch.from_numpy(plain.losses), rtol=1e-7, atol=1e-9)


CASES = [(name, candidate) for name in DATA for candidate in make_protocol(load(name)).candidates]


@pytest.mark.parametrize(("name", "candidate"), CASES, ids=[f"{name}-{candidate.label}" for name, candidate in CASES])
def test_every_default_is_batched_and_equals_the_ordinary_loop(name: str, candidate: Candidate) -> None:
    assert_same(*both_ways(name, candidate))


def test_a_linear_model_too() -> None:
    assert_same(*both_ways("wine", Candidate("squentropy"), model="linear"))


class Scaled(lossary.SoftmaxObjective):
    """Cross-entropy of logits times a scale that is learned."""

    name = "scaled"
    function = staticmethod(lossary.functional.cross_entropy)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        value: Tensor = self.function(logits * self.scale, target)
        return value


class Peeking(lossary.SoftmaxObjective):
    """Cross-entropy that reads a value back, which no trace can."""

    name = "peeking"
    function = staticmethod(lossary.functional.cross_entropy)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        factor = 2.0 if logits.sum().item() > 1e9 else 1.0
        value: Tensor = self.function(logits, target) * factor
        return value


def train_on_wine(make: type[Scaled | Peeking], batched: bool) -> Trained:
    splits = [double(split) for split in make_splits(load("wine"), (0, 1), 0.2, 0.2)]
    trainees = [make_trainee("mlp", (13,), 3, 8, run.split, make(), "classification").double() for run in RUNS]
    return train(trainees, splits, RUNS, Recipe(3, 16, weight_decay=0.5), batched=batched)


def test_parameters_of_the_objective_are_trained_without_weight_decay() -> None:
    batched, plain = train_on_wine(Scaled, True), train_on_wine(Scaled, False)
    assert batched.batched
    scales = batched.state["objective.scale"]
    assert (scales != 1.0).all()
    for name, value in plain.state.items():
        torch.testing.assert_close(batched.state[name], value, rtol=1e-7, atol=1e-9)


def test_what_cannot_be_batched_is_trained_one_by_one_and_says_why() -> None:
    fallen_back, plain = train_on_wine(Peeking, True), train_on_wine(Peeking, False)
    assert not fallen_back.batched
    assert "item" in fallen_back.why_not_batched
    for name, value in plain.state.items():
        torch.testing.assert_close(fallen_back.state[name], value, rtol=0, atol=0)


class Normalised(nn.Module):
    """A model with running statistics, which a recorded step cannot keep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.layers(x)
        return value


def test_what_is_done_sooner_than_recorded_is_not_recorded() -> None:
    splits = make_splits(load("wine"), (0,), 0.2, 0.2)
    for runs, epochs, batched in ((2, 3, False), (2, 4, True), (1, 90, False), (5, 1, True)):
        trainees = [make_trainee("mlp", (13,), 3, 8, 0, lossary.create("focal"), "classification") for _ in range(runs)]
        trained = train(trainees, splits, [Run(0, 1e-3)] * runs, Recipe(epochs, 16))  # six steps an epoch
        assert (trained.batched, trained.why_not_batched) == (batched, "")


def test_running_statistics_are_kept_for_each_run() -> None:
    splits = make_splits(load("wine"), (0, 1), 0.2, 0.2)
    trainees = [Predictor(Normalised(), lossary.create("focal"), "classification", 3) for _ in RUNS]
    trained = train(trainees, splits, RUNS, Recipe(2, 16))
    assert not trained.batched
    assert "running statistics" in trained.why_not_batched or "batch_norm" in trained.why_not_batched
    means = trained.state["model.layers.1.running_mean"]
    assert len({tuple(row) for row in means.tolist()}) == len(RUNS)
    features = stacked_features(splits, RUNS, "test")
    alone = trained.predict(features[:1, :1], [0])  # judged by the running statistics, not by those of the rows at hand
    torch.testing.assert_close(alone, trained.predict(features[:1], [0])[:, :1])


class Scripted:
    """A judge that says what a test wants it to say, epoch by epoch, for each run."""

    def __init__(self, *said: list[float]):
        self.said = iter(said)
        self.weights: list[Tensor] = []

    def __call__(self, predict: Predict) -> np.ndarray:
        self.weights.append(predict("validation"))
        return np.array(next(self.said))


@pytest.mark.parametrize("batched", [True, False])
def test_a_run_out_of_patience_keeps_its_best_epoch_whatever_the_others_do(batched: bool) -> None:
    splits = make_splits(load("wine"), (0,), 0.2, 0.2)
    runs = [Run(0, 1e-2), Run(0, 1e-3)]
    trainees = [make_trainee("mlp", (13,), 3, 8, 0, lossary.create("focal"), "classification") for _ in runs]
    judge = Scripted([0.5, 0.1], [0.4, 0.2], [0.3, 0.3], [0.9, 0.3], [0.2, 0.3], [1.0, 1.0])
    epochs: list[int] = []
    trained = train(trainees, splits, runs, Recipe(20, 16, patience=2), judge, epochs.append, batched=batched)
    assert epochs == [1, 2, 3, 4, 5]  # the first is out of patience after 3, the second after 5
    assert trained.best.tolist() == [0, 2]
    assert np.isnan(trained.losses[:, 5:]).all()
    kept = trained.predict(stacked_features(splits, runs, "validation"), [0, 1])
    torch.testing.assert_close(kept[0], judge.weights[0][0])
    torch.testing.assert_close(kept[1], judge.weights[2][1])


def test_without_patience_the_last_weights_are_kept() -> None:
    splits = make_splits(load("wine"), (0,), 0.2, 0.2)
    trainees = [make_trainee("mlp", (13,), 3, 8, 0, lossary.create("focal"), "classification")]
    judge = Scripted(*([float(12 - i)] for i in range(12)))
    trained = train(trainees, splits, [Run(0, 1e-2)], Recipe(24, 16), judge)
    assert trained.curve_epochs.tolist() == list(range(2, 25, 2))
    assert trained.best.tolist() == [11]
    torch.testing.assert_close(trained.predict(stacked_features(splits, [Run(0, 0.0)], "validation"), [0]), judge.weights[-1])


def test_a_small_network_for_images_is_batched_too() -> None:
    generator = torch.Generator().manual_seed(0)

    def part(rows: int) -> Part:
        target = torch.randint(3, (rows,), generator=generator)
        return Part(torch.randn(rows, 1, 8, 8, generator=generator, dtype=torch.float64), target, target.numpy())

    splits = [Split(seed, part(32), part(8), part(8)) for seed in (0, 1)]
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee("cnn", (1, 8, 8), 3, 8, run.split, lossary.create("squentropy"), "classification").double() for run in RUNS
        ]
        results.append(train(trainees, splits, RUNS, Recipe(4, 16), batched=batched))
    assert results[0].batched, results[0].why_not_batched
    for name, value in results[1].state.items():
        torch.testing.assert_close(results[0].state[name], value, rtol=1e-7, atol=1e-9)


def test_first_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone() -> None:
    def first(seed: int, objective: str) -> Trainee:
        return make_trainee("mlp", (5,), 3, 8, seed, lossary.create(objective), "classification")

    before = torch.random.get_rng_state()
    a, b, c = first(3, "focal"), first(3, "squentropy"), first(4, "focal")
    assert torch.equal(torch.random.get_rng_state(), before)
    for one, other, third in zip(a.model.parameters(), b.model.parameters(), c.model.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, third)


def test_batches_are_a_permutation_that_depends_on_seed_and_epoch() -> None:
    order = batch_order(0, 0, 50, 8)
    assert order.shape == (6, 8)
    assert len(set(order.flatten().tolist())) == 48
    assert torch.equal(order, batch_order(0, 0, 50, 8))
    assert not torch.equal(order, batch_order(0, 1, 50, 8))
    assert not torch.equal(order, batch_order(1, 0, 50, 8))


class Dropping(nn.Module):
    """A model that draws random numbers in training."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, outputs))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.layers(x)
        return value


def test_a_model_that_draws_is_batched_draws_for_each_run_and_can_be_repeated() -> None:
    def trained() -> Trained:
        splits = make_splits(load("wine"), (0,), 0.2, 0.2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = Dropping((13,), 3)
            runs = [Run(0, 1e-2)] * 3
            return train([Predictor(model, lossary.create("focal"), "classification", 3)] * 3, splits, runs, Recipe(3, 16))

    one, other = trained(), trained()
    assert one.batched, one.why_not_batched
    for name, value in one.state.items():
        torch.testing.assert_close(value, other.state[name], rtol=0, atol=0)
    first, second, _ = one.state["model.layers.0.weight"]
    assert not torch.equal(first, second)  # the same in everything but what was drawn
