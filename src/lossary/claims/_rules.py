"""When a statement counts as held, fixed before anything is measured.

A rule compares one quantity of two arms over the seeds, paired, by a confidence interval. *Held*: the interval lies wholly on
the claimed side of the rule's limit. *Not held*: wholly on the other side. *Not decided*: the limit is inside. A claim of several
rules divides its error among them, so that the chance of a wrong verdict stays what it says for the claim as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.arena.statistics import corrected_interval
from lossary.errors import InvalidValueError

Array = NDArray[Any]
Values = Mapping[str, Mapping[str, Array]]  # quantity -> arm -> (seeds,)
Verdict = Literal["held", "not held", "not decided"]
CONFIDENCE = 0.95  # of a claim as a whole


@dataclass(frozen=True)
class Rule:
    """What one arm's quantity has to be against another arm, or against a number."""

    kind: Literal["higher", "lower", "same", "steadier"]
    quantity: str
    arm: str
    than: str | float
    by: float = 0.0
    times: float = 1.0

    @property
    def limit(self) -> float:
        """The difference at which the verdict changes; of ``same`` the size, of ``steadier`` the ratio of deviations."""
        return {"higher": self.by, "lower": 0.0 - self.by, "same": self.by, "steadier": 1.0}[self.kind]

    def __str__(self) -> str:
        quantity = self.quantity.replace("_", " ")
        other = f"{self.than:g}" if isinstance(self.than, float) else str(self.than)
        other = other if isinstance(self.than, float) else f"that of {other}"
        other = other if self.times == 1 else f"{self.times:.3g} times {other}"
        if self.kind == "steadier":
            return f"{quantity} of {self.arm} varies less from seed to seed than {other}"
        if self.kind == "same":
            return f"{quantity} of {self.arm} is within {self.by:g} of {other}"
        if self.by < 0:
            return f"{quantity} of {self.arm} is at most {-self.by:g} {'lower' if self.kind == 'higher' else 'higher'} than {other}"
        return f"{quantity} of {self.arm} is {self.kind} than {other}{f' by more than {self.by:g}' if self.by else ''}"


def higher(quantity: str, arm: str, *, than: str | float, by: float = 0.0, times: float = 1.0) -> Rule:
    """``arm - times * than > by``. A ``by`` below 0 allows the arm to be so much lower and is still called level with it."""
    return _rule("higher", quantity, arm, than, by, times)


def lower(quantity: str, arm: str, *, than: str | float, by: float = 0.0, times: float = 1.0) -> Rule:
    """``times * than - arm > by``. A ``by`` below 0 allows the arm to be so much higher."""
    return _rule("lower", quantity, arm, than, by, times)


def same(quantity: str, arm: str, *, than: str | float, within: float, times: float = 1.0) -> Rule:
    """``|arm - times * than| < within``: an equivalence, which has to be shown as any other statement."""
    if not within > 0:
        raise InvalidValueError(f"same: within must be a number > 0, got {within}")
    return _rule("same", quantity, arm, than, within, times)


def steadier(quantity: str, arm: str, *, than: str) -> Rule:
    """The arm has the smaller standard deviation over seeds, by Pitman and Morgan's interval for paired values."""
    return _rule("steadier", quantity, arm, than, 0.0, 1.0)


def _rule(
    kind: Literal["higher", "lower", "same", "steadier"], quantity: str, arm: str, than: str | float, by: float, times: float
) -> Rule:
    if arm == than:
        raise InvalidValueError(f"{kind}: {arm} cannot be compared with itself")
    return Rule(kind, quantity, arm, than if isinstance(than, str) else float(than), float(by), float(times))


@dataclass(frozen=True)
class Finding:
    """What the numbers say about one rule: two means, the second with its factor, and their difference with its interval.

    Of ``steadier`` it is the two deviations and their ratio.
    """

    text: str
    limit: float
    arm: float
    than: float
    difference: float
    low: float
    high: float
    verdict: Verdict
    differences: tuple[float, ...] = ()  # of each seed; none for a ratio of deviations
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; numbers to six digits, and None for what is not a number."""
        plain = {name: _plain(value) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**plain, "differences": [_plain(value) for value in self.differences]}


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def judge(rule: Rule, values: Values, ratio: float = 0.0, confidence: float = CONFIDENCE, least: float = 0.0) -> Finding:
    """Apply a rule.

    Args:
        rule: what is stated.
        values: the measured numbers. One seed is a computation without chance, and its numbers are compared as they are.
        ratio: how far the seeds share data, as :func:`lossary.arena.statistics.corrected_interval` wants it; 0 for not at all.
        confidence: of this rule's interval.
        least: the deviation assumed where all differences are equal, as coarse quantities let them be.
    """
    known = values.get(rule.quantity, {})
    for name in (rule.arm, rule.than):
        if isinstance(name, str) and name not in known:
            there = ", ".join(f"{arm}: {quantity}" for quantity, arms in values.items() for arm in arms)
            raise InvalidValueError(f"there is no {rule.quantity} of {name} (there are {there})")
    arm = np.asarray(known[rule.arm], dtype=np.float64)
    than = np.full_like(arm, rule.than) if isinstance(rule.than, float) else np.asarray(known[rule.than], dtype=np.float64)
    bad = int((~np.isfinite(arm + than)).sum())
    if bad:
        note = f"{bad} of {len(arm)} seeds gave no number"
        nothing = float("nan")
        return Finding(str(rule), rule.limit, nothing, nothing, nothing, nothing, nothing, "not decided", note=note)
    if rule.kind == "steadier":
        ratio_found, low, high = deviation_ratio(arm, than, confidence)
        verdict: Verdict = "held" if high < 1 else "not held" if low > 1 else "not decided"
        return Finding(str(rule), 1.0, float(arm.std(ddof=1)), float(than.std(ddof=1)), ratio_found, low, high, verdict)
    than = rule.times * than
    differences = arm - than
    if len(differences) == 1:
        mean = low = high = float(differences[0])
    else:
        mean, low, high, _ = corrected_interval(differences, ratio, confidence, least)
    found = _verdict(rule, low, high, exact=len(differences) == 1)
    return Finding(
        str(rule), rule.limit, float(arm.mean()), float(than.mean()), mean, low, high, found, tuple(differences.tolist())
    )


def _verdict(rule: Rule, low: float, high: float, *, exact: bool) -> Verdict:
    if rule.kind == "same":
        inside, outside = -rule.by < low and high < rule.by, low > rule.by or high < -rule.by
    elif rule.kind == "higher":
        inside, outside = low > rule.limit, high < rule.limit
    else:
        inside, outside = high < rule.limit, low > rule.limit
    return "held" if inside else "not held" if outside or exact else "not decided"


def deviation_ratio(one: Array, other: Array, confidence: float) -> tuple[float, float, float]:
    """The ratio of two paired standard deviations with Pitman and Morgan's interval, exact for normal values."""
    count = len(one)
    deviations = float(one.std(ddof=1)), float(other.std(ddof=1))
    if count < 4 or 0.0 in deviations:
        return float("nan"), 0.0, float("inf")
    correlation = float(np.corrcoef(one, other)[0, 1])
    t = float(stats.t.ppf(0.5 + confidence / 2, count - 2))
    widening = 1 + 2 * (1 - correlation**2) * t**2 / (count - 2)
    root = float(np.sqrt(widening**2 - 1))
    found = deviations[0] / deviations[1]
    return found, found * float(np.sqrt(widening - root)), found * float(np.sqrt(widening + root))


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim holds if all of it holds, and does not if any of it does not."""
    if "not held" in verdicts:
        return "not held"
    return "held" if all(verdict == "held" for verdict in verdicts) else "not decided"
