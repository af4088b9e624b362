"""Names as people type them."""

import json

import pytest
from typer.testing import CliRunner

import lossary
from lossary import specs
from lossary._core.names import squashed
from lossary._core.registry import spec
from lossary.cli import app
from lossary.errors import UnknownNameError

TYPED = {
    "cross_entropy": [
        "ce",
        "CE",
        "CrossEntropyLoss",
        "cross-entropy",
        "CrossEntropy",
        "cross_entropy_loss",
        "SoftTargetCrossEntropy",
    ],
    "binary_cross_entropy": ["bce", "bce_loss", "BCEWithLogitsLoss", "bce_with_logits", "binary_cross_entropy_with_logits"],
    "mean_squared_error": ["mse", "MSELoss", "mse_loss"],
    "mean_absolute_error": ["mae", "l1", "L1Loss", "l1_loss"],
    "huber": ["HuberLoss", "huber_loss"],
    "focal": ["FocalLoss", "focal_loss", "Focal"],
    "sigmoid_focal": ["sigmoid_focal_loss"],
    "info_nce": ["infonce", "InfoNCE", "InfoNCELoss"],
    "nt_xent": ["ntxent", "NTXentLoss", "NT-Xent"],
    "sup_con": ["supcon", "SupConLoss", "supervised_contrastive"],
    "arcface": ["ArcFaceLoss", "ArcFace"],
    "cosface": ["CosFaceLoss"],
    "multi_similarity": ["MultiSimilarityLoss"],
    "asymmetric": ["asl", "AsymmetricLoss"],
    "knowledge_distillation": ["kd"],
    "siglip": ["SigLipLoss"],
    "clip": ["ClipLoss"],
    "list_net": ["ListNet"],
}


@pytest.mark.parametrize(("name", "spelling"), [(name, each) for name, every in TYPED.items() for each in every])
def test_what_people_type_is_found(name: str, spelling: str) -> None:
    assert spec(spelling).name == name
    shown = json.loads(CliRunner().invoke(app, ["show", spelling, "--json"]).output)
    assert shown["unit"]["name"] == name


@pytest.mark.parametrize("name", lossary.list_objectives())
def test_the_class_s_name_is_a_name_too(name: str) -> None:
    assert spec(specs()[name].cls.__name__).name == name


def test_no_two_spellings_are_alike() -> None:
    of: dict[str, str] = {}
    for found in specs().values():
        for spelling in (found.name, *found.spellings):
            assert of.setdefault(squashed(spelling), found.name) == found.name


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("cee", ["'ce'"], ["sface", "circle"]),
        ("dice", ["'set_dice'", "'sample_dice'"], ["circle"]),
        ("squentropi", ["'squentropy'"], []),
        ("crossentropie", ["'cross_entropy'"], []),
        ("ndcg", ["'approx_ndcg'"], []),
        ("zz", [], ["did you mean"]),
        ("BCELoss", ["'bce'"], []),  # torch's takes probabilities
    ],
)
def test_suggestions_are_near(typed: str, wanted: list[str], unwanted: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        lossary.create(typed)
    assert all(word in str(caught.value) for word in wanted), caught.value
    assert not any(word in str(caught.value) for word in unwanted), caught.value
    assert "\n" not in str(caught.value)


def test_a_function_has_its_registered_names_alone() -> None:
    assert lossary.functional.ce is lossary.functional.cross_entropy
    with pytest.raises(AttributeError, match="did you mean"):
        getattr(lossary.functional, "FocalLoss")  # noqa: B009
