"""Losses that are not registered: how a subject is made of them, and what the suite says."""

import re
from dataclasses import replace

import pytest
import torch
from tests.testing import foreign_losses
from torch import nn

from lossary import LossaryError, specs
from lossary.testing import CHECKS, check_objective, describe, subject_of
from lossary.testing._detect import TOLD_BY_BEHAVIOUR

HERE = "tests.testing.foreign_losses"


def test_an_honest_loss_passes_everything_that_applies() -> None:
    card = check_objective(foreign_losses.HonestLoss)
    assert card.passed, card
    assert card.counts["passed"] >= 25
    for result in card.results:
        if result.status == "not applicable":
            assert result.detail


@pytest.mark.parametrize(
    ("loss", "family"),
    [
        (nn.CrossEntropyLoss, "classification"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "classification"),
        (nn.MultiMarginLoss, "classification"),
        (nn.BCEWithLogitsLoss, "multilabel"),
        (nn.MultiLabelSoftMarginLoss, "multilabel"),
        (nn.MSELoss, "regression"),
        (nn.HuberLoss(), "regression"),
        (nn.functional.cross_entropy, "classification"),
        (foreign_losses.factory, "classification"),
        (foreign_losses.squared, "regression"),
        (f"{HERE}:instance", "multilabel"),
        (f"{HERE}:HonestLoss", "classification"),
        ("torch.nn:L1Loss", "regression"),
        ("focal", "classification"),
        (foreign_losses.Grouped, "classification"),
        (foreign_losses.Centres, "classification"),
        (foreign_losses.by_rows, "label_ranking"),
        (foreign_losses.by_bags, "bags"),
        (foreign_losses.ByPairs, "embedding"),
        (lambda x, y: foreign_losses.ByPairs()(x, y), "embedding"),
        (foreign_losses.ByViews, "contrastive"),
        (foreign_losses.by_lists, "ranking"),
        (foreign_losses.by_teacher, "distillation"),
    ],
)
def test_the_family_is_told_from_behaviour(loss: object, family: str) -> None:
    assert subject_of(loss).family == family


def test_a_family_that_cannot_be_told_is_named() -> None:
    with pytest.raises(LossaryError, match="--family"):
        subject_of(foreign_losses.of_a_set)
    checks = ["permutation_of_the_batch", "permutation_within_samples", "gradcheck_float64", "empty_batch", "useful_gradient"]
    assert check_objective(foreign_losses.of_a_set, family="sets", only=checks).counts["passed"] == 4


def test_losses_of_pairs_views_lists_and_teachers_are_checked_as_such() -> None:
    checks = ["permutation_of_the_batch", "gradcheck_float64", "empty_batch", "single_class_batch", "leaves_no_trace"]
    for loss in (foreign_losses.ByPairs, foreign_losses.ByViews, foreign_losses.by_lists, foreign_losses.by_teacher):
        card = check_objective(loss, only=checks)
        assert card.counts["passed"] == 5, card
    card = check_objective(foreign_losses.by_lists, only=["ignored_is_absent", "permutation_within_samples", "side_inputs"])
    assert [result.status for result in card.results] == ["passed", "passed", "failed"]
    card = check_objective(foreign_losses.by_teacher, only=["constants_get_no_gradient", "accumulation_over_micro_batches"])
    assert card.counts["passed"] == 2
    apart = ["accumulation_over_micro_batches", "duplicated_batch", "distributed_data_parallel"]
    assert check_objective(foreign_losses.ByPairs, only=apart).counts["not applicable"] == 3


@pytest.mark.parametrize("name", [name for name, spec in sorted(specs().items()) if spec.family in TOLD_BY_BEHAVIOUR])
def test_behaviour_tells_the_family_of_every_registered_objective(name: str) -> None:
    """Through a factory, so that the registry cannot answer."""
    assert subject_of(lambda: subject_of(name).make()).family == specs()[name].family


def test_what_a_loss_supports_is_read_from_its_signature_and_behaviour() -> None:
    peer = subject_of(nn.CrossEntropyLoss)
    assert peer.takes("label_smoothing")
    assert peer.soft_targets
    assert peer.spatial
    own = subject_of(foreign_losses.HonestLoss)
    assert not own.takes("label_smoothing")
    assert not own.soft_targets


def test_what_a_loss_cannot_do_without_is_made_up() -> None:
    card = check_objective(foreign_losses.Grouped, only=["permutation_of_the_batch", "side_inputs", "gradcheck_float64"])
    assert [result.status for result in card.results] == ["passed", "passed", "failed"], card
    assert "group that is no tensor: AttributeError" in card.failures[0].detail
    subject = subject_of(foreign_losses.Centres)
    assert subject.required == {"num_classes": 5, "embedding_dim": 4}
    first, second, other = subject.make(), subject.make(), replace(subject, seed=1).make()
    assert torch.equal(first.state_dict()["centres"], second.state_dict()["centres"])
    assert not torch.equal(first.state_dict()["centres"], other.state_dict()["centres"])
    card = check_objective(foreign_losses.Centres, only=["own_parameters", "permutation_of_the_batch", "state_dict_round_trip"])
    assert card.counts["passed"] == 3, card
    given = subject_of(foreign_losses.Centres, parameters={"num_classes": 7, "embedding_dim": 2})
    assert given.batch(3).output.shape == (3, 2)
    assert given.inputs.classes == 7


def test_rows_and_bags_are_checked_as_such() -> None:
    checks = ["ignored_is_absent", "permutation_of_the_batch", "gradcheck_float64", "empty_batch", "useful_gradient"]
    assert check_objective(foreign_losses.by_rows, only=checks).counts["passed"] == 5
    assert check_objective(foreign_losses.by_bags, only=checks).counts["passed"] == 5
    apart = ["accumulation_over_micro_batches", "duplicated_batch", "distributed_data_parallel"]
    assert check_objective(foreign_losses.by_bags, only=apart).counts["not applicable"] == 3


def test_an_instance_is_rebuilt_with_what_it_holds() -> None:
    subject = subject_of(nn.CrossEntropyLoss(label_smoothing=0.1))
    rebuilt = subject.make(reduction="sum")
    assert isinstance(rebuilt, nn.CrossEntropyLoss)
    assert (rebuilt.reduction, rebuilt.label_smoothing) == ("sum", 0.1)


def test_parameters_reach_the_loss() -> None:
    loss = subject_of(f"{HERE}:NeedsMargin", parameters={"margin": 2.0}).make()
    assert isinstance(loss, foreign_losses.NeedsMargin)
    assert loss.margin == 2.0
    card = check_objective("asymmetric", parameters={"clip": 0.0, "label_smoothing": 0.1})  # better than declared: no fault
    assert card.passed, card


def test_reduction_and_weights_of_an_instance_are_set_back() -> None:
    loss = subject_of(nn.CrossEntropyLoss(weight=torch.ones(3), reduction="none", label_smoothing=0.1)).make()
    assert isinstance(loss, nn.CrossEntropyLoss)
    assert (loss.weight, loss.reduction, loss.label_smoothing) == (None, "mean", 0.1)


@pytest.mark.parametrize(
    ("loss", "parameters", "family", "message"),
    [
        ("fcal", {}, None, "did you mean 'focal'"),
        ("no_such_module:Loss", {}, None, "no module 'no_such_module'"),
        ("torch.nn:CrossEntropyLos", {}, None, "did you mean 'CrossEntropyLoss'"),
        ("focal", {"gama": 1.0}, None, "no parameter 'gama'"),
        ("focal", {"gamma": -1.0}, None, "gamma must be"),
        ("focal", {"weight": [1.0, 2.0]}, None, "try values of weight themselves"),
        ("torch.nn:MSELoss", {"reduction": "sum"}, None, "try values of reduction themselves"),
        ("focal", {}, "regression", "family must be 'classification'"),
        ("torch.nn:MSELoss", {}, "regresion", "did you mean 'regression'"),
        ("torch.nn:MSELoss", {"margin": 1}, None, "no parameter 'margin'"),
        (f"{HERE}:NeedsMargin", {}, None, "cannot be built.*--param"),
        (f"{HERE}:TakesThree", {}, None, "no family.*--family"),
        (f"{HERE}:Plain", {}, None, "must be a torch.nn.Module"),
        (f"{HERE}:__doc__", {}, None, "must be a loss class"),
    ],
)
def test_misuse_is_one_sentence(loss: str, parameters: dict[str, object], family: str | None, message: str) -> None:
    with pytest.raises(LossaryError, match=message) as caught:
        check_objective(loss, parameters=parameters, family=family)
    assert "\n" not in str(caught.value)


def test_what_pytorch_s_own_losses_fail() -> None:
    peer = check_objective(
        nn.CrossEntropyLoss, only=["empty_batch", "everything_ignored", "half_precision_accuracy", "reductions_agree"]
    )
    assert [result.status for result in peer.results] == ["passed", "failed", "failed", "failed"]
    assert "nan instead of 0" in peer.results[2].detail
    assert not check_objective(nn.BCEWithLogitsLoss, only=["empty_batch"]).passed
    maps = check_objective(nn.MSELoss, only=["half_precision_maps"])
    assert "inf" in maps.results[0].detail


def test_a_loss_without_gradient_is_told_so() -> None:
    def detached(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).square().mean().detach()

    card = check_objective(detached, family="regression", only=["permutation_of_the_batch"])
    assert card.results[0].detail == "the loss carries no gradient"


def test_checks_describe_themselves() -> None:
    for name in CHECKS:
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert describe(name).endswith(".")


def test_a_card_as_text_and_as_data() -> None:
    card = check_objective("focal", only=["empty_batch", "special_cases"])
    assert str(card).startswith("focal (classification): 2 passed")
    data = card.to_dict()
    assert data["passed"] is True
    assert [result["check"] for result in data["results"]] == ["special_cases", "empty_batch"]
