"""The default candidates follow what the data look like, say why, and are the same each time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lossary
from lossary.arena import Data, from_arrays
from lossary.arena.plan.choice import BASELINES, MOST, Look, choose_candidates, look_at
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.tasks import METRICS, Candidate, Kind, Task, check_candidate

VERDICTS = Path(lossary.__file__).parent / "claims" / "verdicts.json"
Array = NDArray[Any]


def classes(counts: list[int], wrong: float = 0.0, apart: float = 6.0) -> Data:
    """Rows around one point for each class, a share of whose labels is replaced by those of other classes."""
    generator = np.random.default_rng(0)
    target = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts))
    features = centres[target] + generator.normal(size=(len(target), len(counts)))
    flipped = generator.random(len(target)) < wrong
    target[flipped] = (target[flipped] + generator.integers(1, len(counts), flipped.sum())) % len(counts)
    return from_arrays("made", features, np.array([f"class {code:02d}" for code in target]))


def labels(shares: list[float]) -> Data:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 4))
    return from_arrays("made", features, (generator.random((400, len(shares))) < shares).astype(float))


def chosen(data: Data, metric: str | None = None) -> dict[str, str]:
    return make_protocol(data, metric=metric).why


ALWAYS = {"squentropy", "dual_focal(gamma=3.0)", "comp_sum(tau=1.7)"}


def test_balanced_classes_with_labels_that_can_be_predicted() -> None:
    for data, baseline in ((classes([150, 150]), "binary_cross_entropy"), (classes([100, 100, 100]), "cross_entropy")):
        found = chosen(data)
        assert set(found) == {baseline, *ALWAYS, "polyloss(epsilon=-1.0)", f"{baseline}(label_smoothing=0.1)"}
        assert not any("imbalance" in reason for reason in found.values())


def test_two_imbalanced_classes_get_weights_and_losses_of_the_metric() -> None:
    found = chosen(classes([450, 50]))
    assert {"binary_cross_entropy(pos_weight=9.0)", "anyloss(metric='balanced_accuracy')", "set_dice", *ALWAYS} < set(found)
    assert "270 and 30 rows" in found["binary_cross_entropy(pos_weight=9.0)"]
    assert "anyloss(metric='f_beta')" in chosen(classes([450, 50]), "f1_macro")


def test_several_imbalanced_classes() -> None:
    found = chosen(classes([300, 150, 30]))
    assert {"cross_entropy(weight=(0.53, 1.1, 5.3))", "set_dice", *ALWAYS} < set(found)
    assert "gumbel_optimized" not in found


def test_a_long_tail_of_classes() -> None:
    found = chosen(classes([400, 200, 100, 80, 60, 50, 40, 30, 25, 20]))
    assert {"set_dice", "gumbel_optimized", *ALWAYS} < set(found)
    assert "(20 rows of the most frequent class for one of the rarest)" in found["gumbel_optimized"]


def test_many_classes() -> None:
    found = chosen(classes([30] * 25))
    assert {"z_loss", *ALWAYS} < set(found)
    assert "here 25" in found["z_loss"]
    assert "z_loss" not in chosen(classes([30] * 15))


def test_labels_that_may_be_wrong() -> None:
    clean, noisy = (make_protocol(classes([150, 150, 150], wrong=wrong)) for wrong in (0.0, 0.3))
    assert "polyloss" in noisy.why
    assert "polyloss" not in clean.why
    assert "whether the others are wrong or only hard cannot be told" in noisy.look
    assert "hardly more than 1% can be wrong by chance" in clean.look
    assert "ensloss" in chosen(classes([150, 150], wrong=0.3))


@pytest.mark.parametrize("wrong", [0.05, 0.15, 0.3])
def test_the_share_of_wrong_labels_is_bounded_by_what_is_not_predicted(wrong: float) -> None:
    """Where classes lie apart the bound is near; where they overlap it is only a bound."""
    near = look_at(classes([500, 500, 500], wrong=wrong), 0.2, 0.2).disagreement
    far = look_at(classes([500, 500, 500], wrong=wrong, apart=1.0), 0.2, 0.2).disagreement
    assert near is not None
    assert far is not None
    assert near == pytest.approx(wrong, abs=0.08)
    assert far > near > wrong - 0.03


def test_rare_labels() -> None:
    found = chosen(labels([0.5, 0.3, 0.04]))
    assert list(found)[:3] == ["binary_cross_entropy", "ldam_multilabel", "asymmetric"]
    assert "1 of 3 are in less than 10% of the rows" in found["ldam_multilabel"]
    frequent = chosen(labels([0.5, 0.3, 0.4]))
    assert "ldam_multilabel" not in frequent
    assert {"asymmetric", "sigmoid_focal(alpha=None)"} < set(frequent)


def test_a_skewed_regression_target() -> None:
    features = np.random.default_rng(0).normal(size=(200, 3))
    for target, said in ((np.exp(3 * features[:, 0]), True), (features[:, 0], False)):
        protocol = make_protocol(from_arrays("made", features, target))
        assert list(protocol.why) == ["mean_squared_error", "mean_absolute_error", "huber", "huber(delta=0.5)", "log_cosh"]
        assert ("far out on one side" in protocol.look) == said
        assert ("far out on one side" in protocol.why["mean_absolute_error"]) == said


def test_a_metric_of_probabilities_takes_no_others() -> None:
    found = chosen(classes([30] * 25), "log_loss")
    assert "z_loss" not in found
    assert "polyloss(epsilon=-1.0)" in found
    for label in found:
        assert Candidate.parse(label).spec.link == "probabilities"


COUNTS = ((50, 50), (90, 10), (40, 40, 40), (90, 40, 9), (100, *(9,) * 9), (20,) * 25, (400, *(9,) * 24))
LOOKS = [
    *(
        Look("binary" if len(counts) == 2 else "multiclass", sum(counts), counts, max(counts) > 4 * min(counts), disagreement)
        for counts in COUNTS
        for disagreement in (None, 0.01, 0.4)
    ),
    Look("multilabel", 100, (50, 3), True),
    Look("multilabel", 100, (50, 30), False),
    Look("regression", 100, (), True),
    Look("regression", 100, (), False),
]


@pytest.mark.parametrize("look", LOOKS, ids=repr)
def test_every_list_is_short_and_can_be_trained(look: Look) -> None:
    task = Task(look.kind, len(look.counts), look.imbalanced)
    for judge in (metric for metric in METRICS.values() if look.kind in metric.tasks):
        found = choose_candidates(look, judge)
        assert 4 <= len(found) <= MOST
        assert found == choose_candidates(look, judge)
        assert found[0].candidate == BASELINES[look.kind]
        assert len({choice.candidate.label for choice in found}) == len(found)
        for choice in found:
            check_candidate(choice.candidate, task)
            assert len(choice.reason) > 20
            assert not choice.reason.endswith(".")
        if look.kind in ("binary", "multiclass"):
            assert {choice.candidate.label for choice in found} >= ALWAYS


def test_only_training_rows_of_the_first_seed_are_looked_at() -> None:
    from lossary.arena.data.division import divide

    data = classes([150, 150, 150], wrong=0.1)
    _, validation, test = divide(data.target, "multiclass", None, 0, 0.2, 0.2)
    others = data.numbers.copy()
    others[np.concatenate([validation, test])] = 1e6
    moved = from_arrays("made", others, np.array(data.classes)[data.target])
    assert look_at(moved, 0.2, 0.2) == look_at(data, 0.2, 0.2)


def test_groups_are_kept_whole_and_few_rows_are_not_judged() -> None:
    """Rows of one group are the same, and their labels are random: only a model that has seen the group knows them."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 6)
    features, target = generator.normal(size=(60, 3))[groups], generator.integers(0, 2, 60)[groups]
    apart = look_at(from_arrays("made", features, target, groups=groups, group_name="patient"), 0.2, 0.2).disagreement
    mixed = look_at(from_arrays("made", features, target), 0.2, 0.2).disagreement
    assert apart is not None
    assert mixed is not None
    assert mixed < 0.05 < 0.3 < apart
    small = look_at(classes([20, 20]), 0.2, 0.2)
    assert small.disagreement is None
    assert small.doubtful
    assert "too few to see" in str(small)


def test_what_is_named_is_what_is_compared() -> None:
    data = classes([100, 100, 100])
    named = make_protocol(data, objectives=["focal"])
    assert [candidate.label for candidate in named.candidates] == ["cross_entropy", "focal"]
    assert named.look == ""
    assert named.why == {}
    other = make_protocol(data, baseline="focal")
    assert list(other.why)[:2] == ["focal", "cross_entropy"]
    assert other.why["focal"] == "named as the baseline"
    assert other.baseline == Candidate("focal")


def retrieval(counts: list[int]) -> Data:
    target = np.repeat(np.arange(len(counts)), counts)
    return from_arrays("made", np.random.default_rng(0).normal(size=(len(target), 3)), target, task="retrieval")


def test_retrieval_with_few_and_with_many_classes() -> None:
    always = {"contrastive", "normalized_softmax", "multi_similarity(beta=40.0, threshold=0.5)", "sup_con"}
    few, many = chosen(retrieval([20] * 10)), chosen(retrieval([6] * 80))
    assert set(few) == {*always, "batch_hard_triplet", "circle"}
    assert set(many) == {*always, "proxy_anchor", "cosface"}
    assert "for few classes, here 4" in few["batch_hard_triplet"]
    assert "for many classes, here 40" in many["proxy_anchor"]
    assert make_protocol(retrieval([20] * 10)).look == (
        "80 training rows of 4 classes, of 20 rows each; validation and test have other classes"
    )
    assert "of 3 to 60 rows" in make_protocol(retrieval([3, 60] * 20)).look


def ranking(relevance: Array, items: int) -> Data:
    features = np.random.default_rng(0).normal(size=(len(relevance), 3))
    return from_arrays("made", features, relevance, task="ranking", groups=np.arange(len(relevance)) // items, group_name="query")


def test_rankings_of_each_kind() -> None:
    always = {"mean_squared_error", "lambda_loss", "list_net", "approx_ndcg"}
    lone = ranking((np.arange(120) % 4 == 0).astype(float), 4)
    assert set(chosen(lone)) == {*always, "neural_ndcg"}
    assert "the chance that it is chosen" in chosen(lone)["list_net"]
    assert make_protocol(lone).look == (
        "72 training rows in 18 lists of 4 items, relevant or not, 75% of the items irrelevant, at most one relevant in a list"
    )
    graded = np.array([0, 0, 1, 2] * 60)
    graded[:24] = 0
    assert set(chosen(ranking(graded, 6))) == {*always, "neural_ndcg", "rank_net"}
    assert "of the lists have none that is relevant and do not count" in make_protocol(ranking(graded, 6)).look
    assert set(chosen(ranking(np.arange(240) % 5 + 1, 6))) == {*always, "neural_ndcg", "rank_net", "list_mle"}
    assert "neural_ndcg" not in chosen(ranking(np.arange(1500) % 3, 120))


def test_reasons_are_part_of_the_protocol_and_not_of_the_work() -> None:
    protocol = make_protocol(classes([100, 100, 100]))
    assert protocol.to_dict()["reasons"] == protocol.why
    assert protocol.to_dict()["look"] == protocol.look
    named = make_protocol(classes([100, 100, 100]), objectives=[candidate.label for candidate in protocol.candidates])
    assert named.candidates == protocol.candidates
    assert named.digest != protocol.digest
    for candidate in protocol.candidates:
        assert named.unit_key(candidate) == protocol.unit_key(candidate)


def test_the_result_and_its_report_say_why(tmp_path: Path) -> None:
    result = lossary.compare(classes([160, 40]), seeds=2, epochs=1, learning_rates=[1e-2], hidden=4, store=None)
    why = result.protocol.why
    assert {row.candidate.label: row.reason for row in result.leaderboard} == why
    plain: Any = result.to_dict()
    assert {row["label"]: row["reason"] for row in plain["leaderboard"]} == why
    page = result.report(tmp_path / "page.html").read_text()
    assert result.protocol.look in page
    for reason in why.values():
        assert reason in page


def test_numbers_become_the_tensors_that_weights_are() -> None:
    weighted = Candidate("binary_cross_entropy", {"pos_weight": 4.3})
    assert weighted.code == 'loss = lossary.create("binary_cross_entropy", pos_weight=torch.tensor(4.3))'
    data = classes([100, 100, 100])
    settings: dict[str, Any] = {"seeds": 2, "epochs": 2, "learning_rates": [1e-2], "hidden": 4, "store": None}
    result = lossary.compare(data, objectives=["cross_entropy(weight=[1, 1, 1])", "cross_entropy(weight=[9, 1, 1])"], **settings)
    plain, same, other = (result.units[place].predictions for place in range(3))
    np.testing.assert_allclose(same, plain, atol=1e-5)
    assert np.abs(other - plain).max() > 1e-2


@pytest.mark.parametrize(
    ("claim", "title", "text"),
    [
        ("squentropy", "200 clean images", "accuracy of squentropy is higher"),
        ("squentropy", "40% of the labels wrong", "accuracy of squentropy is higher"),
        (
            "dual_focal",
            "200 images, tested on noisy inputs",
            "smooth calibration error of dual_focal is lower than that of cross_entropy",
        ),
        ("polyloss", "40% of the labels wrong", "accuracy of polyloss is higher"),
        ("asymmetric", "half of the positives not annotated", "f1 macro of asymmetric is higher than that of binary_cross_entropy"),
    ],
)
def test_what_reasons_say_of_claims_is_what_was_found(claim: str, title: str, text: str) -> None:
    experiments = {each["title"]: each["findings"] for each in json.loads(VERDICTS.read_text())[claim]["experiments"]}
    (finding,) = (each for each in experiments[title] if each["text"].startswith(text))
    assert finding["verdict"] == "held"


def test_kinds_have_a_baseline() -> None:
    kinds: tuple[Kind, ...] = ("binary", "multiclass", "multilabel", "regression", "retrieval", "ranking")
    assert tuple(BASELINES) == kinds
