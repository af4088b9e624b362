"""What a comparison will do, written down before it does it, and the key under which each unit of its work is kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from lossary._core.parameters import Count, Interval, OneOf, OneOrMore, PositiveCount, checked
from lossary._core.registry import spec, specs
from lossary.arena.code import code_of
from lossary.arena.data.dataset import Data
from lossary.arena.data.division import shares_of_classes
from lossary.arena.plan.choice import BASELINES, Choice, choose_candidates, look_at
from lossary.arena.plan.networks import check_model, load_factory
from lossary.arena.plan.recipe import Recipe
from lossary.arena.plan.tuning import LEARNING_RATES, SAMPLERS, Points, draw, parameters_of, rates_of
from lossary.arena.tasks import Candidate, Metric, Task, check_candidate
from lossary.errors import InvalidValueError

FORMAT = 5  # raise when a stored unit would mean something else
UNIT_OF_WORK = ("lossary.arena.train.unit_of_work", "lossary.arena.data.splits")  # the modules that do what a protocol says
VALIDATION_SHARE, TEST_SHARE = 0.2, 0.2
Seeds = Annotated[int, Interval(low=2, whole=True)]  # of one alone a difference has no interval
Rates = Annotated[float | Sequence[float], OneOrMore(Interval(low=0.0, high=1e3, open_low=True))]
Sampler = Annotated[str, OneOf(SAMPLERS)]
MOST_ALIKE = 4  # rows of each class in a batch of a retrieval, where there are classes enough to fill it


@dataclass(frozen=True)
class Protocol:
    """Everything that determines the result of a comparison, and nothing that does not."""

    data_name: str
    data_fingerprint: str
    task: Task
    candidates: tuple[Candidate, ...]
    baseline: Candidate
    metric: str
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]  # one for each trial, ascending
    points: Points  # of the trials in the unit cube; empty for a grid of learning rates
    model: str
    hidden: int
    recipe: Recipe
    validation_share: float = VALIDATION_SHARE
    test_share: float = TEST_SHARE
    confidence: float = 0.95
    look: str = ""  # what the candidates were chosen by; empty if they were named
    reasons: tuple[str, ...] = ()  # one for each candidate, as far as they were chosen

    @property
    def runs(self) -> int:
        return len(self.candidates) * len(self.seeds) * len(self.learning_rates)

    @property
    def digest(self) -> str:
        return _digest(self.to_dict())[:12]

    @property
    def inference(self) -> str:
        """How differences are judged."""
        return (
            "paired differences to the baseline, corrected resampled t-test (Nadeau and Bengio); intervals, p-values and verdicts"
            f" all corrected for {self.comparisons} (Bonferroni)"
        )

    @property
    def comparisons(self) -> str:
        """How many there are with the baseline."""
        others = len(self.candidates) - 1
        return f"{others} comparison{'' if others == 1 else 's'}"

    @property
    def batches(self) -> str:
        """How the training part is divided, and why it must be the same for all."""
        size = str(self.recipe.batch_size)
        if self.task.kind == "ranking":
            size = f"{size} whole lists"
        elif each := self.recipe.per_class:
            size = f"{size} ({each} rows of each of {self.recipe.batch_size // each} classes)"
        sets = [candidate.label for candidate in self.candidates if not candidate.spec.decomposable]
        reason = f"; the loss of {', '.join(sets)} is a function of the batch as a whole" if sets else ""
        return f"batches of {size}, the same size and order for every objective{reason}"

    @property
    def why(self) -> dict[str, str]:
        """Why each candidate is one, by label; nothing about those that were named."""
        return {candidate.label: reason for candidate, reason in zip(self.candidates, self.reasons, strict=False)}

    def trials(self, candidate: Candidate) -> tuple[dict[str, float], ...]:
        """The candidate's own hyper-parameters in each trial, beside the learning rate."""
        if not self.points:
            return ({},) * len(self.learning_rates)
        return parameters_of(self.points, candidate.spec.tune, list(candidate.parameters))

    def unit_key(self, candidate: Candidate) -> str:
        """The key of one objective's runs: what determines their outcome, which the other objectives do not."""
        shared = self.to_dict()
        others = ("data_name", "candidates", "look", "reasons", "baseline", "confidence", "own_parameters", "batches", "inference")
        for other in others:
            del shared[other]
        own = {
            "objective": candidate.objective,
            "parameters": _plain(candidate.parameters),
            "trials": self.trials(candidate),
            "code": _code(candidate, self.model),
        }
        return _digest({"format": FORMAT, **shared, **own})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the words of the report."""
        return {
            "data_name": self.data_name,
            "data_fingerprint": self.data_fingerprint,
            "task": asdict(self.task),
            "candidates": [candidate.label for candidate in self.candidates],
            "look": self.look,
            "reasons": self.why,
            "baseline": self.baseline.label,
            "metric": self.metric,
            "seeds": list(self.seeds),
            "learning_rates": list(self.learning_rates),
            "own_parameters": {candidate.label: list(self.trials(candidate)) for candidate in self.candidates},
            "model": self.model,
            "hidden": self.hidden if self.model in ("mlp", "cnn") or self.task.kind == "retrieval" else None,
            "recipe": {name: value for name, value in asdict(self.recipe).items() if value or name != "per_class"},
            "validation_share": self.validation_share,
            "test_share": self.test_share,
            "confidence": self.confidence,
            "batches": self.batches,
            "inference": self.inference,
        }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _code(candidate: Candidate, model: str) -> str:
    """Everything that trains and measures one objective: its own code, that of a model of the user, and the arena's."""
    named = [value for value in candidate.parameters.values() if isinstance(value, str) and value in specs()]
    own = [load_factory(model), model.partition(":")[0]] if ":" in model else []
    return code_of(*UNIT_OF_WORK, candidate.spec.cls, candidate.spec.function, *(spec(name).cls for name in named), *own)


@checked("compare")
def make_protocol(
    data: Data,
    *,
    objectives: Sequence[str] | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    seeds: Seeds = 5,
    learning_rates: Rates | None = None,
    trials: Count = 0,
    sampler: Sampler = "qmc",
    epochs: PositiveCount = 60,
    batch_size: PositiveCount | None = None,
    patience: Count = 0,
    model: str | None = None,
    hidden: PositiveCount = 64,
) -> Protocol:
    """Fill in what was left open from what the data look like, and refuse what cannot work before any training."""
    given = LEARNING_RATES if learning_rates is None else learning_rates
    rates = tuple(sorted(set(given))) if isinstance(given, Sequence) else (given,)
    images = data.images is not None
    chosen_model = model or ("cnn" if images else "mlp")
    check_model(chosen_model, images)
    kind, judge = data.task.kind, data.task.metric(metric)
    validation_share, test_share = VALIDATION_SHARE, TEST_SHARE
    if kind == "retrieval":
        validation_share, test_share = shares_of_classes(data.task.num_classes)
    look, choices = _chosen(data, judge, validation_share, test_share) if objectives is None else ("", [])
    named = [choice.candidate for choice in choices] if objectives is None else [Candidate.parse(text) for text in objectives]
    base = BASELINES[kind] if baseline is None else Candidate.parse(baseline)
    candidates = named if base in named or not named else [base, *named]
    if choices and base not in named:
        choices.insert(0, Choice(base, "named as the baseline"))
    _check_candidates(candidates, base, data.task, judge)
    points: Points = ()
    if trials:  # the grid's ends are then the bounds of what is drawn
        points = draw(trials, 1 + max(len(candidate.spec.tune) for candidate in candidates), sampler)
        rates = rates_of(points, rates[0], rates[-1])
    batch_size, per_class = _batches(data, validation_share, test_share, batch_size)
    return Protocol(
        data_name=data.name,
        data_fingerprint=data.fingerprint,
        task=data.task,
        candidates=tuple(candidates),
        baseline=base,
        metric=judge.name,
        seeds=tuple(range(seeds)),
        learning_rates=rates,
        points=points,
        model=chosen_model,
        hidden=hidden,
        recipe=Recipe(epochs, batch_size, patience=patience, per_class=per_class),
        validation_share=validation_share,
        test_share=test_share,
        look=look,
        reasons=tuple(choice.reason for choice in choices),
    )


def _chosen(data: Data, judge: Metric, validation_share: float, test_share: float) -> tuple[str, list[Choice]]:
    """What the data look like, and the candidates that suit them."""
    look = look_at(data, validation_share, test_share)
    return str(look), list(choose_candidates(look, judge))


def _check_candidates(candidates: Sequence[Candidate], base: Candidate, task: Task, judge: Metric) -> None:
    if not candidates:
        raise InvalidValueError("compare: objectives must name at least one objective, got none")
    labels = [candidate.label for candidate in candidates]
    if len(set(labels)) < len(labels):
        raise InvalidValueError(f"compare: objectives must differ, got {', '.join(labels)}")
    if len(candidates) < 2:
        raise InvalidValueError(f"compare: objectives must name another one than the baseline {base.label}")
    for candidate in candidates:
        check_candidate(candidate, task)
        if judge.needs_probabilities and candidate.spec.link != "probabilities":
            raise InvalidValueError(f"{candidate.objective}: it predicts no probabilities, which the metric {judge.name} is about")


def _batches(data: Data, validation_share: float, test_share: float, asked: int | None) -> tuple[int, int]:
    """The batch size, and for a retrieval how many rows of each class are in a batch."""
    units = data.lists if data.task.kind == "ranking" else data.rows
    train = units - round(validation_share * units) - round(test_share * units)
    what = "training lists" if data.task.kind == "ranking" else "training rows"
    # About sixteen steps an epoch, as far as batches of 8 to 128 allow; losses on pairs want enough of them.
    usual_least = 32 if data.task.kind == "retrieval" else 8
    size = next((size for size in (128, 64, 32, 16) if train >= 16 * size), 8) if asked is None else asked
    size = min(max(size, usual_least), train) if asked is None else size
    each, least, why = 0, 1, ""
    if data.task.kind == "retrieval":
        counts = np.bincount(data.target)
        each = int(np.clip(np.median(counts[counts > 1]), 2, MOST_ALIKE))
        least, why = 2 * each, f", as a batch of a retrieval holds two classes of {each} or more"
    if not least <= size <= train:
        raise InvalidValueError(f"compare: batch_size must be from {least} to the {train} {what}{why}, got {size}")
    if not each:
        return size, 0
    classes = data.task.num_classes - round(validation_share * data.task.num_classes) - round(test_share * data.task.num_classes)
    each = max(each, size // classes)
    return size // each * each, each
