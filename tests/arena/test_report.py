"""The report: what stands in it for each kind of task, names that stay names, and pictures a browser can read."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lossary
from lossary.arena import Comparison, from_arrays
from lossary.arena.answer import figures
from lossary.arena.answer.across import rank_across
from lossary.arena.answer.analysis import analyse
from lossary.arena.answer.report import write_report
from lossary.arena.tasks import METRICS, Task

EVIL = "</script><script>alert(1)</script>"
QUICK: dict[str, Any] = {"store": None, "seeds": 3, "epochs": 2, "learning_rates": [1e-3, 1e-2], "hidden": 4}


@pytest.fixture(scope="module")
def classes() -> Comparison:
    generator = np.random.default_rng(0)
    data = from_arrays(
        EVIL,
        generator.normal(size=(90, 2)),
        np.array([EVIL, "<b>bold</b>", "plain"] * 30),
        columns=[EVIL, "y"],
        target_name=EVIL,
        notes=("<em>some</em> rows were left out",),
    )
    return lossary.compare(data, objectives=["focal", "squentropy"], **QUICK)


@pytest.fixture(scope="module")
def values() -> Comparison:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(90, 2))
    data = from_arrays("values", features, features @ [1.0, 2.0] + generator.normal(size=90), target_name=EVIL)
    return lossary.compare(data, objectives=["huber"], **QUICK)


def pictures(page: str) -> dict[str, Any]:
    text = re.search(r"^const figures = \{(.*)\};$", page, re.M)
    assert text
    found: dict[str, Any] = json.loads("{" + text.group(1) + "}")
    return found


def test_classes_have_reliability_and_confusion(classes: Comparison, tmp_path: Path) -> None:
    page = classes.report(tmp_path / "report.html").read_text()
    found = pictures(page)
    assert set(found) == {"differences", "curves", "rates", "reliability", "confusion-0", "confusion-1"}
    assert all(f'id="{place}"' in page for place in found)
    rows = np.array(found["confusion-0"]["data"][0]["z"])
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-4)
    visible = [trace["name"] for trace in found["reliability"]["data"] if trace["visible"] is True and trace["type"] == "scatter"]
    assert len(visible) == 2
    assert visible[0] == "cross_entropy"


def test_values_have_predicted_against_true(values: Comparison, tmp_path: Path) -> None:
    found = pictures(values.report(tmp_path / "report.html").read_text())
    assert set(found) == {"differences", "curves", "rates", "predicted"}
    trace = found["predicted"]["data"][0]
    assert len(trace["x"]) == len(trace["y"]) == values.units[0].truth.size


def test_what_one_learning_rate_and_two_seeds_cannot_tell(classes: Comparison, tmp_path: Path) -> None:
    dash, section = "a dash, because two seeds are too few to tell it", "Sensitivity to the learning rate"
    whole = classes.report(tmp_path / "report.html").read_text()
    assert dash not in whole
    assert section in whole
    few = lossary.compare(classes.data, objectives=["focal"], **{**QUICK, "seeds": 2, "learning_rates": [1e-2]})
    page = few.report(tmp_path / "report.html").read_text()
    assert dash in page
    assert section not in page
    assert set(pictures(page)) == {"differences", "curves", "reliability", "confusion-0", "confusion-1"}


def test_names_from_the_data_are_only_names(classes: Comparison, values: Comparison, tmp_path: Path) -> None:
    for result in (classes, values):
        page = result.report(tmp_path / "report.html").read_text()
        assert "alert(1)</script>" not in page
        assert "<em>" not in page
        own = json.dumps(pictures(page))
        assert "<b>" not in own
        assert "<script" not in own


def test_notes_about_the_data_come_before_the_numbers(classes: Comparison, tmp_path: Path) -> None:
    page = classes.report(tmp_path / "report.html").read_text()
    assert 0 < page.index("&lt;em&gt;some&lt;/em&gt; rows were left out") < page.index("<h2>Leaderboard")


def test_what_is_not_a_number_is_a_dash(classes: Comparison, tmp_path: Path) -> None:
    """An objective of which every run diverged, on every seed."""
    base, lost, kept = classes.units
    nothing = np.full(3, np.nan)
    lost = replace(
        lost,
        chosen=np.full(3, -1),
        validation=lost.validation * np.nan,
        curve=lost.curve * np.nan,
        predictions=lost.predictions * np.nan,
        test=dict.fromkeys(lost.test, nothing),
        seconds_per_step=0.0,
        peak_memory=0,
    )
    units = [base, lost, kept]
    answer = analyse(classes.protocol, units)
    row = next(row for row in answer.rows if row.candidate == lost.candidate)
    assert row.difference is not None
    assert row.difference.verdict == "could not be trained"
    page = write_report(classes.data, classes.protocol, units, answer, tmp_path / "report.html").read_text()
    assert "nan" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S).lower()
    assert "NaN" not in json.dumps(pictures(page))
    assert "could not be trained" in page


def test_labels_are_judged_one_by_one() -> None:
    generator = np.random.default_rng(0)
    chance = generator.random((2, 200, 3))
    truth = (generator.random((2, 200, 3)) < chance).astype(np.int64)
    candidate = SimpleNamespace(label="any", spec=SimpleNamespace(link="probabilities"))
    unit: Any = SimpleNamespace(candidate=candidate, predictions=chance, truth=truth, chosen=np.zeros(2, dtype=np.int64))
    protocol: Any = SimpleNamespace(task=Task("multilabel", 3))
    figure = figures.reliability(protocol, [unit], ["any"])
    assert figure is not None
    curve = figure["data"][0]
    off = [abs(x - y) for x, y in zip(curve["x"], curve["y"], strict=True) if y is not None]
    assert len(off) > 100
    assert np.mean(off) < 0.1  # drawn from the very chances, so that they are to be believed


def test_ranks_across_data_sets_are_drawn() -> None:
    def compared(name: str, means: dict[str, float]) -> Any:
        rows = tuple(SimpleNamespace(candidate=SimpleNamespace(label=label), mean=mean) for label, mean in means.items())
        protocol = SimpleNamespace(task=SimpleNamespace(metric=METRICS.__getitem__), metric="accuracy")
        return SimpleNamespace(data=SimpleNamespace(name=name), protocol=protocol, answer=SimpleNamespace(rows=rows))

    across = rank_across([compared(str(n), {"a": 0.9, "b": 0.8, "<b>": 0.7 + 0.05 * n}) for n in range(5)])
    diagram, profile = figures.critical_difference_diagram(across), figures.performance_profile(across)
    assert diagram["data"][0]["x"] == pytest.approx(across.average_ranks.tolist(), rel=1e-4)
    assert len(diagram["data"]) == 2 + len(across.groups)
    assert "&lt;b&gt;" in diagram["layout"]["yaxis"]["ticktext"]
    for trace in profile["data"]:
        assert trace["y"] == sorted(trace["y"])
        assert trace["y"][-1] == 1.0


@pytest.mark.timing
def test_a_report_is_written_fast(classes: Comparison, tmp_path: Path) -> None:
    classes.report(tmp_path / "report.html")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        classes.report(tmp_path / "report.html")
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0


def test_it_says_that_a_fit_of_ones_own_was_not_used(tmp_path: Path) -> None:
    result = lossary.compare("wine", objectives=["naive_bayes"], **{**QUICK, "learning_rates": [1e-2]})
    page = result.report(tmp_path / "r.html").read_text()
    assert page.count("its fit() is no part of a comparison") == 1
    assert "1 learning rate each" in " ".join(page.split())
    assert "learning rate 0.01 for every objective" in page
