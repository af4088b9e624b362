"""``lossary claim`` as a person and as a program meet it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lossary import claims
from lossary.cli import main


def lossary(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossary", *arguments], capture_output=True, text=True, cwd=cwd, timeout=1800, check=False
    )


def test_a_verdict_numbers_and_a_picture(tmp_path: Path) -> None:
    done = lossary("claim", "smooth_ece", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for expected in ("smooth_ece: ", "arXiv:2309.12236", "predictions on both sides of one half", "0.0189 against", "Verdict: "):
        assert expected in done.stdout
    assert "smooth_ece (1 of 1): finished" in done.stderr
    folder = tmp_path / "lossary-results" / "claims"
    assert (folder / "smooth_ece.svg").read_text().startswith("<svg")
    assert json.loads((folder / "smooth_ece.claim.json").read_text())["digest"] == claims.load("smooth_ece").digest

    again = json.loads(lossary("claim", "smooth-ece", "--json", cwd=tmp_path).stdout)
    (outcome,) = again["claims"]
    assert outcome["reused"]
    assert outcome["verdict"] in ("held", "not held", "not decided")
    assert outcome["picture"] == "lossary-results/claims/smooth_ece.svg"
    assert {finding["verdict"] for experiment in outcome["experiments"] for finding in experiment["findings"]}

    listed = json.loads(lossary("claim", "--list", "--json", cwd=tmp_path).stdout)["claims"]
    assert {row["name"]: row["verdict_here"] for row in listed}["smooth_ece"] == outcome["verdict"]


def test_the_list_has_every_claim_and_its_verdict(tmp_path: Path) -> None:
    listed = json.loads(lossary("claim", "--list", "--json", cwd=tmp_path).stdout)["claims"]
    assert [row["name"] for row in listed] == claims.names()
    for row in listed:
        assert row["verdict"] == claims.published()[row["name"]]["verdict"]
        assert row["statement"]
        assert row["verdict_here"] is None
    text = lossary("claim", "--list", cwd=tmp_path).stdout
    assert all(name in text for name in claims.names())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "claim: name a claim, such as squentropy, or give --all or --list"),
        (["squentropy", "--all"], "one of the three"),
        (["soft_topk"], "claim: there is no claim named 'soft_topk'; its paper's is 'decoupled_softmax'"),
        (["squentropi"], "claim: there is no claim named 'squentropi'; did you mean 'squentropy'"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = lossary("claim", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_showing_an_objective_shows_what_was_found(tmp_path: Path) -> None:
    verdict = claims.published()["squentropy"]["verdict"]
    shown = lossary("show", "squentropy", cwd=tmp_path).stdout
    assert f"claim       {verdict}: " in shown
    assert json.loads(lossary("show", "squentropy", "--json", cwd=tmp_path).stdout)["papers"][0]["claims"][0]["verdict"] == verdict


@pytest.mark.parametrize("place", ["lossary.claims.run", "lossary.claims._write.picture"])
def test_ctrl_c_at_any_time_says_so(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    monkeypatch.setattr(sys, "argv", ["lossary", "claim", "smooth_ece", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("lossary: stopped; finished work is kept, and the same command goes on from there\n")
