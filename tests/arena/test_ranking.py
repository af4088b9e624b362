"""Ranking: whole lists on one side, padding that costs nothing, order within lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from sklearn.datasets import dump_svmlight_file
from tests.arena.common import double, same
from torch import Tensor

import lossary
from lossary._fast.lists import rule as lists_rule
from lossary.arena import Data, from_arrays, load
from lossary.arena.data.splits import make_splits
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.recipe import Recipe
from lossary.arena.tasks import METRICS, PADDING
from lossary.arena.train.loop import Run, train
from lossary.arena.train.models import make_trainee
from lossary.errors import DataError, InvalidValueError, LossaryError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rates": [1e-3, 1e-2], "hidden": 8, "store": None}


@lossary.formula
def softmax_of_list(scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    real = torch.ones_like(relevance, dtype=torch.bool) if mask is None else mask
    wanted = relevance.masked_fill(~real, -torch.inf).softmax(1)
    return -(wanted * scores.masked_fill(~real, -1e4).log_softmax(1)).sum(1).mean()


class SoftmaxOfListLoss(lossary.Objective):
    """Cross-entropy over each list."""

    def forward(self, scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
        return softmax_of_list(scores, relevance, mask)

    def link(self, output: Tensor) -> Tensor:
        return output


@lossary.formula
def flat(scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    return scores.square().mean()


class FlatLoss(SoftmaxOfListLoss):
    """Knows nothing of the relevance."""

    def forward(self, scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
        return flat(scores, relevance, mask)


@pytest.fixture(autouse=True)
def objectives(registry: None) -> None:
    lossary.list_objectives()
    lossary.objective(family="ranking", function=softmax_of_list, link="ranking")(SoftmaxOfListLoss)
    lossary.objective(family="ranking", function=flat, link="ranking")(FlatLoss)


def lists(count: int = 30, longest: int = 9, noise: float = 0.3, seed: int = 0) -> Data:
    """Lists of 2 to ``longest`` items in random order of rows, whose relevance, 0 to 3, follows the first two columns."""
    generator = np.random.default_rng(seed)
    names = np.repeat(np.arange(count), generator.integers(2, longest + 1, count))
    features = generator.normal(size=(len(names), 4))
    quality = features[:, 0] - features[:, 1] + noise * generator.normal(size=len(names))
    order = generator.permutation(len(names))
    relevance = np.digitize(quality, (0.0, 1.0, 2.0))
    return from_arrays("lists", features[order], relevance[order], task="ranking", groups=names[order], group_name="query")


def test_lists_stay_whole_and_on_one_side() -> None:
    data = lists()
    assert data.groups is not None
    sizes = np.bincount(data.groups)
    splits = make_splits(data, (0, 1, 2), 0.2, 0.2)
    for split in splits:
        parts = split.train, split.validation, split.test
        assert [len(part.truth) for part in parts] == [18, 6, 6]
        assert split.shape == (4,)
        found = np.concatenate([(part.truth >= 0).sum(1) for part in parts])
        assert sorted(found) == sorted(sizes)
        for part in parts:
            real = part.truth >= 0
            assert part.features.shape == (*part.truth.shape, 4)
            assert (part.truth[~real] == PADDING).all()
            assert (part.features.numpy()[~real] == 0).all()
    assert len({split.test.truth.tobytes() for split in splits}) == 3


def test_items_keep_their_features_and_relevance() -> None:
    data = lists()
    split = make_splits(data, (0,), 0.2, 0.2)[0]
    rows = {tuple(row): relevance for row, relevance in zip(data.numbers.round(4), data.target, strict=True)}
    train_ = np.concatenate([split.train.features.numpy()[i][truth >= 0] for i, truth in enumerate(split.train.truth)])
    assert abs(train_.mean()) < 1e-6  # scaled by the training lists alone
    # so undo it by the two moments, which are those of the same rows of the data
    known = np.array([row for row, relevance in rows.items()])
    for i, truth in enumerate(split.test.truth):
        for features, relevance in zip(split.test.features[i][truth >= 0].numpy(), truth[truth >= 0], strict=True):
            scaled = (known - known.mean(0)) / known.std(0)
            near = np.abs(scaled - features).sum(1).argsort()[:3]
            assert relevance in {rows[tuple(known[place])] for place in near}


def test_lists_without_a_relevant_item_do_not_count() -> None:
    truth = np.array([[1.0, 0.0, PADDING], [0.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    scores = np.array([[0.1, 0.9, 99.0], [0.3, 0.2, 0.1], [0.1, 0.9, 0.5]])
    discount = 1 / np.log2(3)
    assert METRICS["ndcg_at_10"](truth, scores) == pytest.approx((discount + 1.0) / 2)
    assert METRICS["ndcg_at_1"](truth, scores) == pytest.approx(0.5)
    assert METRICS["mean_reciprocal_rank"](truth, scores) == pytest.approx((0.5 + 1.0) / 2)


def test_padding_changes_no_gradient_item_by_item_and_over_lists() -> None:
    """Against the mean of the real items alone, and against the loss of each list alone."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 4, generator=generator)
    target = torch.tensor([[1.0, 0, 2, -1, -1], [0, 1, -1, -1, -1], [3.0, 0, 0, 1, 0]])
    for name, family in (("mean_squared_error", "regression"), ("huber", "regression"), ("softmax_of_list", "ranking")):
        trainee = make_trainee("mlp", (4,), 1, 8, 0, lossary.create(name), family, kind="ranking")
        trainee(features, target).backward()
        found = [weight.grad.clone() for weight in trainee.parameters() if weight.grad is not None]
        trainee.zero_grad()
        scores = trainee.model(features.flatten(0, 1)).view(3, 5)
        if family == "regression":
            wanted: Tensor = trainee.objective(scores[target >= 0], target[target >= 0])
        else:
            parts = [trainee.objective(s[None, t >= 0], t[None, t >= 0]) for s, t in zip(scores, target, strict=True)]
            wanted = torch.stack(parts).mean()
        wanted.backward()
        for one, weight in zip(found, trainee.parameters(), strict=True):
            torch.testing.assert_close(one, weight.grad)


@pytest.mark.parametrize(("name", "family"), [("mean_squared_error", "regression"), ("softmax_of_list", "ranking")])
@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_one_program_gives_what_the_ordinary_loop_gives(name: str, family: str, model: str) -> None:
    splits = [double(split) for split in make_splits(lists(), (0, 1), 0.2, 0.2)]
    runs = [Run(0, 1e-3), Run(1, 1e-3), Run(0, 1e-2), Run(1, 1e-2)]
    results = []
    for batched in (True, False):
        trainees = [
            make_trainee(model, (4,), 1, 8, run.split, lossary.create(name), family, kind="ranking").double() for run in runs
        ]
        results.append(train(trainees, splits, runs, Recipe(8, 4), batched=batched))
    assert results[0].batched, results[0].why_not_batched
    for key, value in results[1].state.items():
        torch.testing.assert_close(results[0].state[key], value, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-7)


@pytest.mark.parametrize("name", ["rank_net", "lambda_loss", "approx_ndcg", "neural_ndcg"])
def test_losses_of_lists_in_compiled_loops_are_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, where they take their loops."""
    monkeypatch.setattr(lists_rule, "SMALL", 0)
    splits = make_splits(lists(), (0, 1), 0.2, 0.2)
    runs = [Run(0, 1e-3), Run(1, 1e-3), Run(0, 3e-3)]
    results = []
    for batched in (True, False):
        trainees = [make_trainee("mlp", (4,), 1, 8, run.split, lossary.create(name), "ranking", kind="ranking") for run in runs]
        results.append(train(trainees, splits, runs, Recipe(8, 4), batched=batched))
    assert results[0].batched, results[0].why_not_batched
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-3)


def test_a_comparison_learns_and_resumes(tmp_path: Path) -> None:
    settings = {**QUICK, "epochs": 30, "store": tmp_path / "arena.sqlite", "objectives": ["softmax_of_list", "flat"]}
    result = lossary.compare(lists(60), **settings)
    means = {row.candidate.label: row.mean for row in result.leaderboard}
    assert (result.protocol.metric, result.protocol.baseline.label) == ("ndcg_at_10", "mean_squared_error")
    assert min(means["softmax_of_list"], means["mean_squared_error"]) > means["flat"] + 0.05
    assert "whole lists, the same size and order" in result.protocol.batches
    again = lossary.compare(lists(60), **settings)
    assert all(unit.reused for unit in again.units)
    same(result, again)
    page = result.report(tmp_path / "report.html").read_text()
    assert "of the lists, which stay whole" in page
    assert all(f'id="{place}"' in page for place in ("cutoffs", "seen-0", "seen-1"))
    assert "test_mean_reciprocal_rank" in result.export(tmp_path / "lists.csv").read_text()


def test_what_knows_nothing_is_not_found_better() -> None:
    for seed in range(4):
        data = lists(40, noise=100.0, seed=seed)
        result = lossary.compare(data, objectives=["softmax_of_list", "flat"], **{**QUICK, "seeds": 4})
        assert result.answer.recommended is None


def test_a_table_with_a_column_of_queries(tmp_path: Path) -> None:
    data = lists(20)
    assert data.groups is not None
    columns = {
        "a": data.numbers[:, 0],
        "kind": data.groups % 3,
        "who": [f"user {code}" for code in data.groups],
        "stars": data.target,
    }
    table = pa.table(columns)
    pa.csv.write_csv(table, tmp_path / "stars.csv")
    found = load(tmp_path / "stars.csv", "stars", query="who")
    assert (found.task.kind, found.columns, found.group_name) == ("ranking", ("a", "kind"), "who")
    np.testing.assert_array_equal(found.target, data.target)
    assert found.groups is not None
    assert len(np.unique(np.stack([found.groups, data.groups]), axis=1).T) == 20  # the same lists under other numbers
    result = lossary.compare(tmp_path / "stars.csv", target="stars", query="who", objectives=["softmax_of_list"], **QUICK)
    assert np.isfinite([row.mean for row in result.leaderboard]).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_of_a_large_table_whole_lists_are_read(tmp_path: Path, suffix: str) -> None:
    who = np.random.default_rng(0).permutation(np.repeat(np.arange(200), 10))
    table = pa.table({"x": np.arange(2000) / 7, "who": [f"u{name}" for name in who], "y": np.arange(2000) % 4})
    path = tmp_path / f"large.{suffix}"
    (pa.csv.write_csv if suffix == "csv" else pa.parquet.write_table)(table, path)
    found = load(path, "y", query="who", max_rows=500)
    assert found.groups is not None
    sizes = np.bincount(found.groups)
    assert 480 <= found.rows <= 500
    assert (sizes == 10).sum() >= len(sizes) - 1  # all but the one at the limit
    assert "a random sample of 500 of 2000 rows" in found.notes


def test_arrays_in_a_file_with_lists(tmp_path: Path) -> None:
    who = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 6))
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=(300, 2)), y=np.arange(300) % 3, who=who)
    found = load(tmp_path / "a.npz", query="who", max_rows=100)
    assert found.groups is not None
    assert (found.task.kind, found.rows, set(np.bincount(found.groups))) == ("ranking", 96, {6})
    with pytest.raises(DataError, match="a ranking needs lists"):
        load(tmp_path / "a.npz", task="ranking", group="who")


def svmlight(path: Path, data: Data, queries: bool = True) -> Path:
    assert data.groups is not None
    order = np.argsort(data.groups, kind="stable")
    dump_svmlight_file(data.numbers[order], data.target[order], str(path), query_id=data.groups[order] if queries else None)
    return path


def test_files_of_letor(tmp_path: Path) -> None:
    data = lists(50)
    found = load(svmlight(tmp_path / "train.txt", data))
    assert (found.task.kind, found.name, found.group_name) == ("ranking", "train", "query")
    assert data.groups is not None
    np.testing.assert_allclose(found.numbers, data.numbers[np.argsort(data.groups, kind="stable")])
    part = load(tmp_path / "train.txt", max_rows=120)
    assert part.groups is not None
    assert 111 <= part.rows <= 120
    assert set(np.bincount(part.groups)) <= set(np.bincount(data.groups))
    plain = load(svmlight(tmp_path / "plain.svm", data, queries=False))
    assert (plain.task.kind, plain.groups) == ("multiclass", None)
    assert load(tmp_path / "train.txt", task="regression").groups is None


def table(tmp_path: Path, **columns: Any) -> Path:
    rows = 60
    base = {"q": np.repeat(np.arange(12), 5), "x": np.arange(rows) / 7, "y": np.arange(rows) % 3}
    pa.csv.write_csv(pa.table({**base, **columns}), tmp_path / "t.csv")
    return tmp_path / "t.csv"


def test_what_is_no_ranking_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def refused(message: str, *arguments: Any, error: type[LossaryError] = DataError, **settings: Any) -> None:
        with pytest.raises(error, match=message) as caught:
            load(*arguments, **settings)
        assert "\n" not in str(caught.value)

    path = table(tmp_path)
    refused("a ranking needs lists; name the column that says to which one a row belongs with --query", path, "y", "ranking")
    refused("a ranking needs lists", "diabetes", task="ranking")
    refused("digits names no lists, so --query cannot be given", "digits", query="q")
    refused("t has no column 'qq'", path, "y", query="qq")
    refused("the column 'y' cannot be the target and the list", path, "y", query="y")
    refused("--group cannot be given with --query", path, "y", query="q", group="x", error=InvalidValueError)
    refused("--query is for a ranking, got the task binary", path, "y", "binary", query="q", error=InvalidValueError)
    refused("relevance 'y' of a ranking must be 0 or more, got -1", table(tmp_path, y=np.arange(60) % 3 - 1), "y", query="q")
    refused("must be at most 30, as its gain is 2\\^relevance - 1", table(tmp_path, y=np.arange(60)), "y", query="q")
    sentence = "the relevance 'y' of a ranking must be numbers from 0 to 30, such as 0 for no and 1 for yes, got 'yes'"
    refused(sentence, table(tmp_path, y=["yes", "no"] * 30), "y", query="q")
    refused("'y' is the same for every item of each list", table(tmp_path, y=np.repeat(np.arange(12), 5)), "y", query="q")
    refused(
        "a ranking needs at least 10 lists of two items or more, got 6",
        table(tmp_path, q=np.arange(60) // 10),
        "y",
        query="q",
    )
    refused("a ranking needs at least 10 lists of two items or more, got 1", table(tmp_path, q=np.zeros(60, int)), "y", query="q")
    refused("a ranking task takes one target column, got 2", path, "y,x", query="q")
    data = lists(20)
    letor = svmlight(tmp_path / "a.txt", data)
    refused("its lines begin with the target and the qid, so --query cannot be given", letor, query="q")
    refused("a ranking needs a qid in every line", svmlight(tmp_path / "b.txt", data, queries=False), task="ranking")
    lines = letor.read_text().splitlines()
    (tmp_path / "c.txt").write_text("\n".join([*lines[::2], *lines[1::2]]))
    refused("the rows of qid 0 do not stand together; sort the file by qid", tmp_path / "c.txt")
    (tmp_path / "d.txt").write_text("words and more words\n")
    refused(
        "d.txt cannot be read as lines of SVMlight: line 1 must look like '2 qid:1 1:0.5 2:0.1', got 'words and", tmp_path / "d.txt"
    )
    for broken in ("1 qid:3 1:abc", "qid:3 1:0.5", "1 qid:x 1:0.5", "1 1:0.5 qid:3", "1 qid:3 1=0.5"):
        (tmp_path / "e.txt").write_text("\n".join(["# a comment", "", *lines[:7], f"{broken} # and why", *lines[7:]]))
        refused(f"e.txt cannot be read as lines of SVMlight: line 10 must .* got '{broken} # and why'", tmp_path / "e.txt")
    (tmp_path / "f.txt").write_text("\n".join(["+1.5e0 1:.5", *lines]))
    refused("every line or none must have a qid, as in .*, and 1 of \\d+ lack it", tmp_path / "f.txt")
    (tmp_path / "g.txt").write_text("# nothing\n")
    refused("g.txt cannot be read as lines of SVMlight: there is none in it", tmp_path / "g.txt")


def test_mistakes_are_refused_before_any_training() -> None:
    for settings, message in (
        ({"objectives": ["focal"]}, "focal: a ranking task takes objectives of the family ranking or regression, this one is clas"),
        ({"objectives": ["flat"], "batch_size": 19}, "batch_size must be from 1 to the 18 training lists, got 19"),
        ({"objectives": ["flat"], "metric": "rmse"}, "there is no metric 'rmse' for a ranking task"),
        ({"objectives": ["flat"], "model": "cnn"}, "the model cnn needs images"),
    ):
        with pytest.raises(LossaryError, match=message):
            lossary.compare(lists(), **{**QUICK, **settings}, tell=lambda event: pytest.fail("trained"))
    features = np.zeros((60, 4, 4))
    with pytest.raises(DataError, match="the items of a ranking must be rows of a table, got images"):
        from_arrays("x", features, np.arange(60) % 3, task="ranking", groups=np.arange(60) // 4)


def test_relevance_that_few_lists_have_is_refused() -> None:
    relevance = np.zeros(100)
    relevance[:10] = 1
    data = from_arrays("x", np.random.default_rng(0).normal(size=(100, 2)), relevance, task="ranking", groups=np.arange(100) // 9)
    with pytest.raises(DataError, match="'target' is above 0 in too few of the lists to be so in training, validation and test"):
        lossary.compare(data, objectives=["flat"], **QUICK)


def test_long_lists_are_cut_and_single_items_left_out_and_it_is_said() -> None:
    names = np.array([*np.repeat(np.arange(11), 5), *[20] * 300, 21, 22])
    data = from_arrays("x", np.random.default_rng(0).normal(size=(357, 2)), np.arange(357) % 3, task="ranking", groups=names)
    assert data.rows == 55 + 200
    assert data.notes == ("2 lists of a single item were left out", "of 1 list of more than 200 items a random 200 were kept")


def test_the_protocol_counts_lists() -> None:
    protocol = make_protocol(lists(), objectives=["flat"])
    assert (protocol.recipe.batch_size, protocol.recipe.per_class) == (8, 0)
    assert protocol.batches == "batches of 8 whole lists, the same size and order for every objective"
