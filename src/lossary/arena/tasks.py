"""What a data set asks for: its task, the metrics that judge it and the objectives that can take part.

Metrics belong to the task and never to an objective. Of classes and values they see what ``objective.link`` returns, and are
scikit-learn's; the few that validation asks for at every checkpoint are written out, as scikit-learn's checks take longer than the
counting. A retrieval is judged by the nearest neighbours of embeddings, a ranking by lists of scores, with ``lossary.metrics``.
"""

import ast
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from torch import Tensor

from lossary._core.names import suggestion
from lossary._core.objective import Objective
from lossary._core.registry import Spec, create, spec
from lossary.arena.statistics import smooth_calibration_error
from lossary.errors import InvalidValueError, UnknownNameError
from lossary.metrics import mean_average_precision_at_r, mean_reciprocal_rank, ndcg_at_k, recall_at_k

Array = NDArray[Any]
Kind = Literal["binary", "multiclass", "multilabel", "regression", "retrieval", "ranking"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel", "regression", "retrieval", "ranking")
PADDING = -1.0  # the relevance of what only fills a list up to the length of the longest


@dataclass(frozen=True)
class Metric:
    """A judge of predictions: scores (n, classes) for classes, (n, labels) for labels, values (n,) for regression, unit embeddings
    (n, width) for retrieval, scores (lists, items) for ranking, whose truth is below 0 where a list is padded."""

    name: str
    greater_is_better: bool
    function: Callable[[Array, Array], float]
    tasks: tuple[Kind, ...]
    needs_probabilities: bool = False

    def __call__(self, truth: Array, prediction: Array) -> float:
        if not np.isfinite(prediction).all():
            return float("nan")
        return float(self.function(truth, prediction))


def _columns(truth: Array, scores: Array) -> tuple[Array, Array]:
    """Each class against the rest, so that scores need not sum to one; labels that have only one value are left out."""
    present = truth if truth.ndim == 2 else np.eye(scores.shape[1])[truth]
    kept = (present.min(0) == 0) & (present.max(0) == 1)
    return present[:, kept], scores[:, kept]


def _balanced_accuracy(truth: Array, scores: Array) -> float:
    """The share that is right, of each class that is there."""
    there = np.bincount(truth, minlength=scores.shape[1])
    right = np.bincount(truth[scores.argmax(1) == truth], minlength=scores.shape[1])
    return float(np.mean(right[there > 0] / there[there > 0]))


def _auroc(truth: Array, scores: Array) -> float:
    present, kept = _columns(truth, scores)
    return float(np.mean([sk.roc_auc_score(y, s) for y, s in zip(present.T, kept.T, strict=True)])) if kept.size else float("nan")


def _average_precision(truth: Array, scores: Array) -> float:
    if truth.ndim == 1:
        return float(sk.average_precision_score(truth, scores[:, 1]))
    present, kept = _columns(truth, scores)
    return float(sk.average_precision_score(present, kept, average="macro")) if kept.size else float("nan")


def _decided(truth: Array, scores: Array) -> Array:
    """The class with the highest score, or the labels above one half."""
    return (scores > 0.5).astype(np.int64) if truth.ndim == 2 else np.asarray(scores.argmax(1))


def _f1_macro(truth: Array, scores: Array) -> float:
    return float(sk.f1_score(truth, _decided(truth, scores), average="macro", zero_division=0))


def _f1_micro(truth: Array, scores: Array) -> float:
    return float(sk.f1_score(truth, _decided(truth, scores), average="micro", zero_division=0))


def _brier(truth: Array, probabilities: Array) -> float:
    if truth.ndim == 2:
        return float(np.mean((probabilities - truth) ** 2))
    return float(np.mean(np.sum((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2, axis=1)))


def _log_loss(truth: Array, probabilities: Array) -> float:
    rows = probabilities.astype(np.float64)
    if truth.ndim == 2:  # the mean over labels of what one label costs
        rows = np.clip(rows, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
        return float(-np.mean(truth * np.log(rows) + (1 - truth) * np.log1p(-rows)))
    return float(sk.log_loss(truth, rows / rows.sum(axis=1, keepdims=True), labels=np.arange(rows.shape[1])))


def _recall(truth: Array, embedding: Array, k: int) -> float:
    """For what share of the samples one of the k nearest others, by cosine, has the same class."""
    return float(recall_at_k(torch.from_numpy(embedding), torch.from_numpy(truth), k))


def _map_at_r(truth: Array, embedding: Array) -> float:
    return float(mean_average_precision_at_r(torch.from_numpy(embedding), torch.from_numpy(truth)))


def _lists(truth: Array, scores: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, relevance and mask. Lists without a relevant item do not count, by the convention of the metrics."""
    return torch.from_numpy(scores), torch.from_numpy(truth).clamp_min(0), torch.from_numpy(truth >= 0)


def _ndcg(truth: Array, scores: Array, k: int | None) -> float:
    given, relevance, mask = _lists(truth, scores)
    return float(ndcg_at_k(given, relevance, k, mask))


def _reciprocal_rank(truth: Array, scores: Array) -> float:
    given, relevance, mask = _lists(truth, scores)
    return float(mean_reciprocal_rank(given, relevance, mask=mask))


_CLASSES: tuple[Kind, ...] = ("binary", "multiclass")
_ANY_CLASSES: tuple[Kind, ...] = (*_CLASSES, "multilabel")
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, lambda y, p: np.mean(p.argmax(1) == y), _CLASSES),
        Metric("balanced_accuracy", True, _balanced_accuracy, _CLASSES),
        Metric("f1_macro", True, _f1_macro, _ANY_CLASSES),
        Metric("f1_micro", True, _f1_micro, ("multilabel",)),
        Metric("auroc", True, _auroc, _ANY_CLASSES),
        Metric("average_precision", True, _average_precision, ("binary", "multilabel")),
        Metric("log_loss", False, _log_loss, _ANY_CLASSES, needs_probabilities=True),
        Metric("brier", False, _brier, _ANY_CLASSES, needs_probabilities=True),
        Metric("smooth_calibration_error", False, smooth_calibration_error, _ANY_CLASSES, needs_probabilities=True),
        Metric("rmse", False, lambda y, p: np.sqrt(np.mean((p - y) ** 2)), ("regression",)),
        Metric("mae", False, lambda y, p: np.mean(np.abs(p - y)), ("regression",)),
        Metric("r2", True, sk.r2_score, ("regression",)),
        *(Metric(f"recall_at_{k}", True, functools.partial(_recall, k=k), ("retrieval",)) for k in (1, 2, 4, 8)),
        Metric("map_at_r", True, _map_at_r, ("retrieval",)),
        Metric("ndcg_at_10", True, functools.partial(_ndcg, k=10), ("ranking",)),
        Metric("ndcg_at_5", True, functools.partial(_ndcg, k=5), ("ranking",)),
        Metric("ndcg_at_1", True, functools.partial(_ndcg, k=1), ("ranking",)),
        Metric("ndcg", True, functools.partial(_ndcg, k=None), ("ranking",)),
        Metric("mean_reciprocal_rank", True, _reciprocal_rank, ("ranking",)),
    )
}


@dataclass(frozen=True)
class Task:
    """The kind of question, the number of outputs, and the metric that decides."""

    kind: Kind
    num_classes: int = 0  # or labels
    imbalanced: bool = False

    @property
    def default_metric(self) -> str:
        usual = {"regression": "rmse", "multilabel": "average_precision", "retrieval": "recall_at_1", "ranking": "ndcg_at_10"}
        return usual.get(self.kind, "balanced_accuracy" if self.imbalanced else "accuracy")

    @property
    def of_probabilities(self) -> bool:
        """Whether predictions can be probabilities, which can be asked how sure they are."""
        return self.kind in _ANY_CLASSES

    def metric(self, name: str | None) -> Metric:
        known = [metric.name for metric in METRICS.values() if self.kind in metric.tasks]
        chosen = name or self.default_metric
        if chosen not in known:
            raise UnknownNameError(
                f"there is no metric {chosen!r} for a {self.kind} task{suggestion(chosen, known)} (there are {', '.join(known)})"
            )
        return METRICS[chosen]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in METRICS.values() if self.kind in metric.tasks)

    def __str__(self) -> str:
        words = {
            "binary": "two classes",
            "multiclass": f"{self.num_classes} classes",
            "multilabel": f"{self.num_classes} labels",
            "regression": "regression",
            "retrieval": f"retrieval, {self.num_classes} classes",
            "ranking": "ranking",
        }[self.kind]
        return f"{words}, imbalanced" if self.imbalanced else words


TENSORS = ("weight", "pos_weight", "class_weight", "class_frequency")  # parameters that are typed as numbers and given as tensors


@dataclass(frozen=True)
class Candidate:
    """An objective with its parameters, as it enters a comparison."""

    objective: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        if not self.parameters:
            return self.objective
        return f"{self.objective}({', '.join(f'{name}={value!r}' for name, value in self.parameters.items())})"

    @property
    def can_fit(self) -> bool:
        """Whether it has a way of its own to find its weights, which a comparison does not take."""
        return hasattr(self.spec.cls, "fit")

    @property
    def code(self) -> str:
        """The line that makes it in somebody's own training loop."""
        given = "".join(
            f", {name}=torch.tensor({value!r})" if name in TENSORS else f", {name}={value!r}"
            for name, value in self.parameters.items()
        )
        needed = [p.name for p in self.spec.parameters if p.required and p.name not in self.parameters]
        return f'loss = lossary.create("{self.objective}"{given}{"".join(f", {name}={name}" for name in needed)})'

    @property
    def spec(self) -> Spec:
        return spec(self.objective)

    @classmethod
    def parse(cls, text: str) -> "Candidate":
        """From what a user types: ``focal`` or ``focal(gamma=3.0)``."""
        form = "an objective is written as focal or focal(gamma=3.0)"
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            raise InvalidValueError(f"{form}, got {text!r}") from None
        if isinstance(node, ast.Name):
            return cls(node.id)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            raise InvalidValueError(f"{form}, got {text!r}")
        parameters = {}
        for keyword in node.keywords:
            try:
                parameters[str(keyword.arg)] = ast.literal_eval(keyword.value)
            except ValueError:
                raise InvalidValueError(f"{form} with plain values, got {text!r}") from None
        return cls(node.func.id, parameters)


# The families of the calling convention that can answer each kind of task: with how many outputs is decided in `outputs`.
# A ranking also takes what fits the relevance of each item for itself.
FAMILIES: Mapping[Kind, tuple[str, ...]] = {
    "binary": ("multilabel", "classification"),
    "multiclass": ("classification",),
    "multilabel": ("multilabel",),
    "regression": ("regression",),
    "retrieval": ("embedding", "classification"),
    "ranking": ("ranking", "regression"),
}

SIDE_INPUTS = ("index", "progress")  # what training can hand to an objective beside output and target


def build(candidate: Candidate, own: Mapping[str, Any], facts: Mapping[str, Any]) -> Objective:
    """The objective with its parameters, those that tuning chose, and the facts that it cannot do without."""
    given = {**candidate.parameters, **own}
    needed = [parameter.name for parameter in candidate.spec.parameters if parameter.required and parameter.name not in given]
    made: Objective = create(candidate.objective, **given, **{name: facts[name] for name in needed if name in facts})
    return made


def check_candidate(candidate: Candidate, task: Task) -> None:
    """Refuse, before any training, what cannot take part."""
    found = candidate.spec
    if found.family not in FAMILIES[task.kind]:
        allowed = " or ".join(FAMILIES[task.kind])
        raise InvalidValueError(
            f"{candidate.objective}: a {task.kind} task takes objectives of the family {allowed}, this one is {found.family}"
        )
    if candidate.parameters.get("group") is not None:
        raise InvalidValueError(
            f"{candidate.objective}: group is for a training in several processes, and those of a comparison are in one each"
        )
    if found.stage != "train":
        raise InvalidValueError(f"{candidate.objective}: it is for a model that is trained already, and trains none")
    wanted = found.consumes if isinstance(found.consumes, str) else " and ".join(found.consumes)
    if found.consumes not in ("logits", "embedding"):
        raise InvalidValueError(f"{candidate.objective}: it wants {wanted}, and the models of a comparison have one output")
    if task.kind == "retrieval" and found.consumes != "embedding":
        raise InvalidValueError(f"{candidate.objective}: a retrieval task takes objectives on embeddings, this one wants {wanted}")
    if task.kind == "ranking" and found.family == "regression" and not found.decomposable:
        raise InvalidValueError(f"{candidate.objective}: it is a function of the batch as a whole, and lists are padded")
    classes = task.num_classes if task.kind == "retrieval" else outputs(found.family, task)
    facts = {"num_classes": classes, "embedding_dim": 8, "num_samples": 8, "class_counts": torch.full((classes,), 8)}
    with torch.random.fork_rng(devices=[]):
        asked = build(candidate, {}, facts).requires
    lacking = [name for name in asked if name not in SIDE_INPUTS]
    if lacking:
        raise InvalidValueError(f"{candidate.objective}: it needs {', '.join(lacking)}, which a comparison cannot give it")


def outputs(family: str, task: Task, width: int = 0) -> int:
    """How many outputs the model needs for a family: a softmax one for each class, yes-or-no objectives one for each label, and
    a retrieval as many as its embeddings are to be wide."""
    if task.kind == "retrieval":
        return width
    return task.num_classes if family == "classification" or task.kind == "multilabel" else 1
