"""Which objectives are worth trying on these data, and why: chosen by what the training part looks like, before any training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsClassifier

from lossary.arena.data.dataset import Data
from lossary.arena.data.division import divide
from lossary.arena.data.splits import prepared
from lossary.arena.tasks import Candidate, Kind, Metric

Array = NDArray[Any]

# What people use when they have not thought about it.
BASELINES: dict[Kind, Candidate] = {
    "binary": Candidate("binary_cross_entropy"),
    "multiclass": Candidate("cross_entropy"),
    "multilabel": Candidate("binary_cross_entropy"),
    "regression": Candidate("mean_squared_error"),
    "retrieval": Candidate("contrastive"),
    "ranking": Candidate("mean_squared_error"),
}
USUAL: dict[Kind, str] = {
    "retrieval": "the oldest loss of pairs and still the usual one: same classes near each other, others a margin apart; where all"
    " else was equal, newer ones hardly surpassed it (Musgrave et al., 2020)",
    "ranking": "what is used when nobody has thought of lists: fits the relevance of each item for itself",
}
MOST = 7  # candidates, the baseline among them: each one more widens every interval, and takes its time
MANY_CLASSES = 20
LONG_TAIL = 10  # classes from which on, and times by which the most frequent one outnumbers the rarest
RARE_LABEL = 0.1
LONG_LIST = 100  # items beyond which a smooth sort takes many times as long as anything else
FEW_IRRELEVANT = 0.2  # share of the items below which the whole order is known, and not only what belongs to the head
MOST_WEIGHTS = 6  # classes whose weights can still be read in the name of a candidate
DOUBTFUL = 0.1  # labels that a quick model does not predict; with fewer, wrong labels can hardly matter
PROBED, FEWEST, FOLDS = 2000, 50, 3  # rows that the quick model sees at most, and needs at least


@dataclass(frozen=True)
class Choice:
    """A candidate and, in one sentence, why it is one."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Look:
    """What the training part of the first seed looks like; all that a choice depends on."""

    kind: Kind
    rows: int
    counts: tuple[int, ...]  # rows of each class, or positives of each label
    imbalanced: bool
    disagreement: float | None = None  # share of the labels that a quick model, cross-validated, does not predict
    lists: tuple[int, ...] = ()  # items of each list of a ranking
    grades: int = 0  # different relevances
    irrelevant: float = 0.0  # share of the items whose relevance is 0
    barren: float = 0.0  # share of the lists without a relevant item
    lone: bool = False  # no list has two relevant items

    @property
    def ratio(self) -> float:
        """By how much the most frequent class outnumbers the rarest; of labels, how rare the rarest is."""
        return max(self.counts) / max(min(self.counts), 1)

    @property
    def doubtful(self) -> bool:
        return self.disagreement is None or self.disagreement >= DOUBTFUL

    @property
    def typical(self) -> float:
        """The median size of a class or of a list."""
        return float(np.median(self.lists or self.counts))

    @property
    def _relevance(self) -> str:
        grades = f"{self.grades:,} grades of relevance" if self.grades > 2 else "relevant or not"
        shares = f"{grades}, {_percent(self.irrelevant)} of the items irrelevant"
        if self.lone:
            shares += ", at most one relevant in a list"
        return (
            f"{shares}; {_percent(self.barren)} of the lists have none that is relevant and do not count" if self.barren else shares
        )

    def __str__(self) -> str:
        seen = f"{self.rows:,} training rows"
        if self.kind == "regression":
            tail = "; few of them, far out on one side, would decide the squared error" if self.imbalanced else ""
            return f"{seen}{tail}"
        if self.kind == "retrieval":
            fewest, most = min(self.counts), max(self.counts)
            rows = f"{fewest:,} rows each" if fewest == most else f"{fewest:,} to {most:,} rows, {self.typical:g} in the middle"
            return f"{seen} of {len(self.counts):,} classes, of {rows}; validation and test have other classes"
        if self.kind == "ranking":
            return f"{seen} in {len(self.lists):,} lists of {_span(self.lists)} items, {self._relevance}"
        if self.kind == "multilabel":
            each = sum(self.counts) / self.rows
            shares = f"{100 * min(self.counts) / self.rows:.1f} to {100 * max(self.counts) / self.rows:.1f}% of them"
            return (
                f"{seen}, {len(self.counts)} labels, each in {shares}, {each:.1f} in a row on average;"
                f" whether labels are missing cannot be seen"
            )
        classes = f"{seen}, {len(self.counts)} classes of {min(self.counts):,} to {max(self.counts):,} rows"
        if self.disagreement is None:
            return f"{classes}; too few to see whether labels are wrong"
        wrong = max(round(100 * self.disagreement), 1)
        right = f"a quick model predicts {100 - wrong}% of the labels of rows that it has not seen"
        if self.doubtful:
            return f"{classes}; {right}, and whether the others are wrong or only hard cannot be told"
        return f"{classes}; {right}, so that hardly more than {wrong}% can be wrong by chance"


def _span(sizes: tuple[int, ...]) -> str:
    return f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if 0.01 <= share <= 0.99 or share in (0.0, 1.0) else "less than 1%" if share < 0.01 else "over 99%"


def look_at(data: Data, validation_share: float, test_share: float) -> Look:
    """Facts about the training part of the first seed, the only rows that are looked at."""
    kind = data.task.kind
    train, _, _ = divide(data.target, kind, data.groups, 0, validation_share, test_share)
    target = data.target[train]
    if kind == "regression":
        return Look(kind, len(train), (), data.task.imbalanced)
    if kind == "ranking" and data.groups is not None:
        return _look_at_lists(target, np.unique(data.groups[train], return_inverse=True)[1])
    if kind == "retrieval":
        counts = np.unique(target, return_counts=True)[1]
        return Look(kind, len(train), tuple(counts.tolist()), data.task.imbalanced)
    if kind == "multilabel":
        return Look(kind, len(train), tuple(int(count) for count in target.sum(axis=0)), data.task.imbalanced)
    of_class = tuple(int(count) for count in np.bincount(target, minlength=data.task.num_classes))
    return Look(kind, len(train), of_class, data.task.imbalanced, _disagreement(data, train[:PROBED]))


def _look_at_lists(relevance: Array, lists: Array) -> Look:
    relevant = np.bincount(lists, weights=relevance > 0)
    return Look(
        "ranking",
        len(lists),
        (),
        imbalanced=False,
        lists=tuple(np.bincount(lists).tolist()),
        grades=len(np.unique(relevance)),
        irrelevant=float((relevance == 0).mean()),
        barren=float((relevant == 0).mean()),
        lone=bool(relevant.max() <= 1),
    )


def _disagreement(data: Data, rows: Array) -> float | None:
    """The cross-validated error of the better of two quick models.

    If some labels are wrong by chance, no model can predict them, so that the share of wrong ones is hardly higher than this; it
    can be much lower, where rows are only hard. Mistakes that the features give away are not seen.
    """
    groups = None if data.groups is None else data.groups[rows]
    if len(rows) < FEWEST or (groups is not None and len(np.unique(groups)) < FOLDS):
        return None
    part = replace(
        data,
        numbers=data.numbers[rows],
        words=data.words[rows],
        target=data.target[rows],
        images=None if data.images is None else data.images[rows],
        groups=None,
    )
    features, target = prepared(part, np.arange(len(rows))).reshape(len(rows), -1), part.target
    folds = KFold(FOLDS) if groups is None else GroupKFold(FOLDS)  # the rows come in random order
    models = (KNeighborsClassifier(), ExtraTreesClassifier(30, random_state=0))
    wrong = [0, 0]
    for fit, held in folds.split(features, target, groups):
        for place, model in enumerate(models):
            wrong[place] += int((model.fit(features[fit], target[fit]).predict(features[held]) != target[held]).sum())
    return min(wrong) / len(rows)


def choose_candidates(look: Look, judge: Metric) -> tuple[Choice, ...]:
    """At most :data:`MOST` candidates, the baseline first; the same for the same look and metric."""
    ways = {
        "binary": _binary,
        "multiclass": _multiclass,
        "multilabel": _multilabel,
        "regression": _regression,
        "retrieval": _retrieval,
        "ranking": _ranking,
    }
    found = [
        Choice(BASELINES[look.kind], USUAL.get(look.kind, "what is used when nobody has thought about it")),
        *(Choice(candidate, reason) for candidate, reason in ways[look.kind](look, judge)),
    ]
    if judge.needs_probabilities:
        found = [choice for choice in found if choice.candidate.spec.link == "probabilities"]
    return tuple(found[:MOST])


Chosen = Iterator[tuple[Candidate, str]]  # what matters most comes first


def _binary(look: Look, judge: Metric) -> Chosen:
    if look.imbalanced:
        negatives, positives = look.counts
        yield (
            Candidate("binary_cross_entropy", {"pos_weight": float(f"{negatives / max(positives, 1):.2g}")}),
            f"the usual remedy for imbalance: both classes, {negatives:,} and {positives:,} rows, weigh the same",
        )
        metric = {"accuracy": "accuracy", "f1_macro": "f_beta"}.get(judge.name, "balanced_accuracy")
        yield (
            Candidate("anyloss", {"metric": metric}),
            f"for imbalance: trains {metric.replace('_', ' ')} itself, made smooth, of each batch as a whole",
        )
        yield (
            Candidate("set_dice"),
            "for imbalance: a smooth macro F1 of each batch, in which a rare class counts like another",
        )
    yield from _always()
    if look.doubtful and not look.imbalanced:
        yield (
            Candidate("ensloss"),
            "for labels that may be wrong: another random loss in each batch, which overfits less",
        )
    yield from _bounded(look, judge)
    yield Candidate("binary_cross_entropy", {"label_smoothing": 0.1}), "the most common change to the baseline"


def _multiclass(look: Look, judge: Metric) -> Chosen:
    classes = len(look.counts)
    if look.imbalanced:
        if classes <= MOST_WEIGHTS:
            weights = tuple(float(f"{look.rows / (classes * max(count, 1)):.2g}") for count in look.counts)
            yield Candidate("cross_entropy", {"weight": weights}), "the usual remedy for imbalance: every class weighs the same"
        yield (
            Candidate("set_dice"),
            "for imbalance: a smooth macro F1 of each batch, in which a rare class counts like another",
        )
    if classes >= LONG_TAIL and look.ratio >= LONG_TAIL:
        yield (
            Candidate("gumbel_optimized"),
            f"for a long tail ({look.ratio:.0f} rows of the most frequent class for one of the rarest):"
            " rows of rare classes that are missed pull exponentially",
        )
    if classes >= MANY_CLASSES:
        yield Candidate("z_loss"), f"for many classes, here {classes}: what counts is how far the true one stands out of the row"
    yield from _always()
    yield from _bounded(look, judge)
    yield Candidate("cross_entropy", {"label_smoothing": 0.1}), "the most common change to the baseline"


def _always() -> Chosen:
    """What classes always get: one candidate each for accuracy, for calibration and for wrong labels."""
    yield (
        Candidate("squentropy"),
        "for accuracy: in its claim it was more accurate than cross-entropy, with few rows and with wrong labels (docs/claims.md)",
    )
    yield (
        Candidate("dual_focal", {"gamma": 3.0}),
        "for calibration: in its claim it was better calibrated than cross-entropy, on noisy inputs (docs/claims.md)",
    )
    yield (
        Candidate("comp_sum", {"tau": 1.7}),
        "for labels that may be wrong: no row can cost more than a bounded amount",
    )


def _bounded(look: Look, judge: Metric) -> Chosen:
    """The same family bends either way: surer where labels can be trusted less, less sure where they can be trusted more."""
    if look.doubtful and not judge.needs_probabilities:
        yield (
            Candidate("polyloss"),
            "for labels that may be wrong: in its claim it was more accurate than cross-entropy with wrong labels (docs/claims.md)",
        )
    else:
        yield (
            Candidate("polyloss", {"epsilon": -1.0}),
            "for calibration: stops pulling at rows that are right, where cross-entropy goes on to be too sure",
        )


def _multilabel(look: Look, judge: Metric) -> Chosen:
    rare = sum(count < RARE_LABEL * look.rows for count in look.counts)
    if rare:
        which = f"{rare} of {len(look.counts)} are in less than {RARE_LABEL:.0%} of the rows"
        yield Candidate("ldam_multilabel"), f"for rare labels ({which}): the rarer a label, the wider the margin of its positives"
    yield (
        Candidate("asymmetric"),
        "for labels that may be missing: in its claim, with half of the positives not annotated, it found more than the baseline,"
        " but ranked them worse (docs/claims.md)",
    )
    yield (
        Candidate("sigmoid_focal", {"alpha": None}),
        "for calibration: pulls less at what is right, and is less sure of it",
    )
    yield Candidate("poly_focal"), "for the many negatives of a row: a focal loss that lets go of the easy ones even more"
    yield Candidate("asymmetric", {"gamma_neg": 2.0}), "a middle way between the baseline and asymmetric"
    yield Candidate("binary_cross_entropy", {"label_smoothing": 0.1}), "the most common change to the baseline"


def _regression(look: Look, judge: Metric) -> Chosen:
    far = (
        "here few values far out on one side would decide the squared error"
        if look.imbalanced
        else "values far out pull no more than others"
    )
    yield Candidate("mean_absolute_error"), f"fits the median: {far}"
    yield Candidate("huber"), "squared for small errors and absolute for large ones, from one deviation of the target on"
    yield Candidate("huber", {"delta": 0.5}), "nearer to the absolute error, from half a deviation on"
    yield Candidate("log_cosh"), "between the squared and the absolute error, without a bend"


def _retrieval(look: Look, judge: Metric) -> Chosen:
    classes = len(look.counts)
    yield (
        Candidate("normalized_softmax"),
        "a classifier on the sphere, which needs no pairs: one direction for each training class",
    )
    yield (
        Candidate("multi_similarity", {"beta": 40.0, "threshold": 0.5}),
        "weighs a pair by the others of its anchor and leaves out the easy ones, with the values of the authors' own program",
    )
    yield (
        Candidate("sup_con"),
        "each positive against all the others of its anchor in one softmax, so that near negatives push most",
    )
    if classes >= MANY_CLASSES:
        yield (
            Candidate("proxy_anchor"),
            f"for many classes, here {classes:,}: one proxy for each, which sees the whole batch and not only the few of its class",
        )
        yield Candidate("cosface"), f"for many classes, here {classes:,}: the classifier with a margin, as faces are recognised"
    else:
        yield (
            Candidate("batch_hard_triplet"),
            f"for few classes, here {classes}: most triplets are soon right, and only the hardest of each anchor count",
        )
        yield Candidate("circle"), "weighs each similarity by how far it is from where it should be"


def _ranking(look: Look, judge: Metric) -> Chosen:
    longest = max(look.lists)
    yield (
        Candidate("lambda_loss"),
        "for NDCG: a pair of items counts as much as NDCG would change if they traded places; the usual one where lists are there",
    )
    if look.lone:
        yield Candidate("list_net"), "for one relevant item in a list: the softmax over the list is the chance that it is chosen"
    else:
        yield (
            Candidate("list_net"),
            "for whole lists: a softmax of the scores against one of the relevance, at the cost of a softmax",
        )
    yield Candidate("approx_ndcg"), "trains NDCG itself, made smooth by counting who stands before whom"
    if longest <= LONG_LIST:
        yield Candidate("neural_ndcg"), f"trains NDCG through a sort made smooth, which lists of at most {longest:,} items allow"
    if not look.lone:
        yield Candidate("rank_net"), "for the order as a whole: each pair counts the same, at the foot of a list as at its head"
    if look.irrelevant < FEW_IRRELEVANT:
        yield (
            Candidate("list_mle"),
            f"for relevance all over the list ({_percent(look.irrelevant)} of the items have none): the likelihood of the order",
        )
