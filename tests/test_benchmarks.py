"""The benchmark of the losses runs, counts memory exactly, and measures against losses that are the same."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lossary
from lossary._core.registry import spec, specs

HOME = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a file of the benchmarks as running one does."""
    monkeypatch.syspath_prepend(HOME)
    return importlib.import_module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(HOME / "losses.py"), *arguments], capture_output=True, text=True)


def test_a_quick_run() -> None:
    done = run("--quick", "--only", "squentropy,asymmetric,harmonic", "--seconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["left_out"] == {"harmonic": "it has weights of its own"}
    rows = {each["title"]: {row["by"] + " " + row["loss"]: row for row in each["results"]} for each in found["settings"]}
    assert [len(each) >= 2 for each in rows.values()] == [True] * 6
    hard = rows["1,024 x 1,000, class indices"]
    assert 0.99 < hard["lossary squentropy"]["memory"] < 1.1 < hard["torch cross_entropy"]["memory"]
    assert hard["torch cross_entropy"]["of_torch"] == 1.0
    for each in (row for setting in rows.values() for row in setting.values()):
        assert each["milliseconds"] > 0
        assert each["of_limit"] > 0
        assert (each["missed"] is None) == (each["by"] != "lossary")
        assert each["value_gap"] < 1e-3
    label = "timm AsymmetricLossMultiLabel"
    assert (label in found["missing"]) != any(f"{label} asymmetric" in each for each in rows.values())
    small = {(row["loss"], row["rows"]) for row in found["small"]}
    assert small == {(name, rows) for name in ("squentropy", "asymmetric") for rows in (32, 128)}
    assert found["smooth_ece"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--only", "squentrpy"), "did you mean 'squentropy'"), (("--quick", "--save", "page.md"), "--save is for the whole table")],
)
def test_misuse_is_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_peak_memory_is_counted_to_the_byte(benchmarks: Any) -> None:
    losses = benchmarks("losses")

    def work() -> None:
        x = torch.zeros(1000)  # 4,000 bytes
        y = x.clone()  # 4,000 more
        del x
        torch.zeros(100)
        del y

    assert losses.peak_bytes(work) == 8000
    assert losses.peak_bytes(lambda: torch.empty(1 << 24, dtype=torch.uint8)) == 0  # given back untouched
    assert losses.peak_bytes(lambda: torch.empty(1 << 23, dtype=torch.uint8).clone()) == 1 << 24


def test_every_objective_is_measured_or_left_out_for_a_reason(benchmarks: Any) -> None:
    losses = benchmarks("losses")
    for name, found in specs().items():
        if losses.wanted(found) is None and found.family in {setting.family for setting in losses.SETTINGS}:
            logits, target = losses.batch(found.family, 4, 7, False)
            assert losses.forward_and_backward(losses.make(name, 7), logits, target).isfinite(), name


def test_composed_forms_are_the_same_losses(benchmarks: Any) -> None:
    losses, composed = benchmarks("losses"), benchmarks("peers").COMPOSED
    assert len(composed) >= 18
    for name, loss in composed.items():
        logits, target = losses.batch(spec(name).family, 64, 9, False)
        logits = logits.detach().double().requires_grad_()
        target = target.double() if target.is_floating_point() else target
        ours = lossary.create(name) if name != "ldam_multilabel" else losses.make(name, 9)
        (expected,) = torch.autograd.grad(ours(logits, target), logits)
        (found,) = torch.autograd.grad(loss(logits, target), logits)
        torch.testing.assert_close(loss(logits, target), ours(logits, target), rtol=1e-5, atol=1e-8, check_dtype=False, msg=name)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8, msg=name)


def test_the_quadrature_is_the_definition(benchmarks: Any) -> None:
    # One prediction and a wide kernel: its density is spread over all of [0, 1], so the error is the residual itself.
    quadrature = benchmarks("losses").quadrature
    assert quadrature(torch.tensor([0.3]), torch.tensor([1.0]), 2.0) == pytest.approx(0.7, abs=1e-6)
    # Opposite residuals far apart: narrow kernels do not see each other, wide ones cancel.
    apart = torch.tensor([0.25, 0.75]), torch.tensor([0.75, 0.25])
    assert quadrature(*apart, 0.01) == pytest.approx(0.5, abs=1e-3)
    assert quadrature(*apart, 3.0) < 1e-6


def test_a_page_keeps_its_other_sections(tmp_path: Path, benchmarks: Any) -> None:
    save, page = benchmarks("page").save, tmp_path / "page.md"
    for part, printed in (("one", "1"), ("two", "2"), ("one", "\nchanged  \n\nagain\n")):
        save(page, part, f"make {part}", printed)
    text = page.read_text()
    assert text.index("## one") < text.index("## two")
    assert "`make one`\n\n```text\nchanged\nagain\n```\n\n## two\n\n`make two`\n\n```text\n2\n```\n" in text


def test_paired_losses_are_measured_beside_the_same_losses(benchmarks: Any) -> None:
    found, missing, limits = benchmarks("contrastive").measure(400, 16, 1)
    assert set(missing) <= {"open_clip"}
    assert limits[0] > 0
    ours = {entry.loss: entry for entry in found if entry.by == "lossary"}
    assert {entry.loss for entry in found if entry.by == "matrix form"} == set(ours)
    for entry in found:
        assert entry.seconds[0] > 0
        assert entry.value == pytest.approx(ours[entry.loss].value, rel=1e-5)
        assert entry.memory >= 2 * 400 * 16 * 4  # the gradients
        assert entry.by == "lossary" or entry.memory > 400 * 400 * 4


def test_ranked_lists_without_another_package() -> None:
    command = [sys.executable, str(HOME / "ranking.py"), "--quick", "--rounds", "1", "--allrank", str(HOME), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for row in found["results"]:
        of_one_list = 4 * row["items"] ** 2 + 12 * 51 * row["items"] if row["loss"].startswith("neural") else 0
        assert 0 < row["memory"] < of_one_list + 80 * row["items"] * row["lists"]


def test_classifiers_are_measured_beside_the_same_losses_of_others(benchmarks: Any) -> None:
    found, missing, limits = benchmarks("classifiers").measure(32, 50, 8, 1)
    assert limits[0] > 0
    ours = {entry.loss: entry for entry in found if entry.by == "lossary"}
    theirs = {entry.loss for entry in found if entry.by != "lossary"}
    assert theirs == (set() if missing else {"arcface", "cosface", "normalized_softmax", "proxy_anchor"})
    assert set(ours) > {"arcface", "sface", "unpg"}
    for entry in found:
        assert entry.seconds[0] > 0
        assert entry.value == pytest.approx(ours[entry.loss].value, rel=1e-5)
        assert entry.memory >= 50 * 8 * 4  # the gradient


def test_losses_of_pairs_are_measured_against_the_whole_matrix() -> None:
    done = subprocess.run(
        [sys.executable, str(HOME / "pairs.py"), "--rows", "300", "--only", "sup_con", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["300"]["sup_con"]
    assert {"lossary", "plain"} <= set(found)
    assert found["lossary"]["seconds"] > 0
    assert found["lossary"]["mib"] >= 0
    assert set(found) - {"lossary", "plain"} <= {"PML"}
    for by, numbers in found.items():
        assert numbers["value_gap"] < 1e-5, by


def test_a_package_that_is_not_there_and_a_value_that_differs_are_said(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = benchmarks("pairs")
    monkeypatch.setitem(pairs.MODULES, "ST", "no_such_package.losses")
    pairs.reason_without.cache_clear()
    assert set(pairs.candidates("info_nce", 300)) == {"lossary"}
    found = {300: {"info_nce": {"lossary": {"value_gap": 0.0}, "PML": {"value_gap": 0.25}, "plain": {"value_gap": None}}}}
    assert pairs.remarks(["info_nce"], found) == [
        "Not measured: ST (no-such-package): ModuleNotFoundError: No module named 'no_such_package'.",
        "info_nce at 300: the value of PML differs by 2.5e-01 of ours.",
    ]
    pairs.reason_without.cache_clear()


def test_losses_of_sentence_transformers_equal_ours(benchmarks: Any) -> None:
    pairs = benchmarks("pairs")
    if pairs.reason_without("ST") is not None:
        pytest.skip("sentence-transformers is not installed")
    code = """
import json, pairs
x, labels = pairs.batch(100)
found = [(name, peer.load()) for name, peers in pairs.PEERS.items() for peer in peers if peer.by == "ST"]
print(json.dumps({name: [float(loss(x, labels)), float(pairs.ours(name)(x, labels))] for name, loss in found}))
"""
    # In a process of its own, as importing the package takes seconds and warns.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOME)
    found = json.loads(done.stdout)
    assert set(found) == {"triplet", "batch_hard_triplet", "semi_hard_triplet", "info_nce", "clip"}
    for theirs, own in found.values():
        assert theirs == pytest.approx(own, rel=1e-5)
