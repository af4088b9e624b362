"""``lossary compare`` as a person and as a program meet it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossary.cli import main

QUICK = ["--seeds", "2", "--epochs", "3", "--learning-rate", "0.001", "--hidden", "8"]


def lossary(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossary", *arguments], capture_output=True, text=True, cwd=cwd, timeout=1800, check=False
    )


def test_a_leaderboard_an_answer_and_a_report(tmp_path: Path) -> None:
    done = lossary("compare", "wine", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for expected in ("cross_entropy", "squentropy", "baseline", "95% interval", "wine with 2 seeds", "lossary-results/wine.html"):
        assert expected in done.stdout
    assert "squentropy (2 of 6): finished" in done.stderr
    assert (tmp_path / "lossary-results" / "wine.html").stat().st_size > 1_000_000  # the drawing library is inside
    again = lossary("compare", "wine", *QUICK, "--json", cwd=tmp_path)
    assert "squentropy (2 of 6): taken from earlier work" in again.stderr
    result = json.loads(again.stdout)
    assert all(row["reused"] for row in result["leaderboard"])
    assert result["report"] == "lossary-results/wine.html"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    rows = [f"{i % 7},{'abc'[i % 3]},{(i % 7) * 1.5 + i % 3}" for i in range(80)]
    (tmp_path / "mine.csv").write_text("x,kind,y\n" + "\n".join(rows))
    done = lossary("compare", "mine.csv", "--target", "y", "-o", "huber", *QUICK, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [result["metric"], result["baseline"]] == ["rmse", "mean_squared_error"]


def test_several_data_sets_and_exports(tmp_path: Path) -> None:
    done = lossary("compare", "wine", "iris", "-o", "focal", *QUICK, "--export", "csv", "--track", "tensorboard", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "average rank" in done.stdout
    for name in ("wine.html", "iris.html", "wine.csv", "iris.protocol.json", "tensorboard"):
        assert (tmp_path / "lossary-results" / name).exists()
    again = lossary("compare", "wine", "iris", "-o", "focal", *QUICK, "--json", cwd=tmp_path)
    result = json.loads(again.stdout)
    assert [each["data"]["name"] for each in result["comparisons"]] == ["wine", "iris"]
    assert result["across"]["data"] == ["wine", "iris"]


def test_a_report_of_other_data_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other data of the same name are refused before training; the same file goes on, also when its rows have changed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lossary", "compare", *arguments, "-o", "focal", *QUICK])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 2} 1:{i % 7} 2:{(i * i) % 5}" for i in range(60)]
    Path("a.letor").write_text("\n".join(rows))
    Path("a.svm").write_text("\n".join([*rows, "1 1:3 2:4"]))
    assert run("a.letor")[0] == 0
    report = Path("lossary-results/a.html")
    before = report.read_bytes()
    one, other = Path("a.letor").resolve(), Path("a.svm").resolve()
    sentence = f"{report} is the report of {one}, and that of {other} would take its place; name another folder with --out"
    assert run("a.svm") == (2, f"lossary: {sentence}\n")
    assert run("wine", "a.svm") == (2, f"lossary: {sentence}\n")
    assert report.read_bytes() == before
    assert run("a.svm", "--out", "other")[0] == 0
    assert "focal (2 of 2): taken from earlier work" in run("a.letor")[1]
    Path("a.letor").write_text("\n".join(rows[:-2]))
    assert run("a.letor")[0] == 0
    Path("a.letor").rename("a.svm")
    assert "focal (2 of 2): taken from earlier work" in run("a.svm")[1]


def test_an_export_does_not_replace_the_data(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("x,y\n" + "\n".join(f"{i % 7},{i % 7 * 1.5}" for i in range(40)))
    before = mine.read_text()
    done = lossary("compare", "mine.csv", "-t", "y", "-o", "huber", *QUICK, "--out", ".", "--export", "csv", cwd=tmp_path)
    assert (done.returncode, mine.read_text()) == (2, before)
    assert done.stderr == "lossary: --export csv would write over mine.csv; name another folder with --out\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digts"], "did you mean 'digits'"),
        (["wine", "-o", "squentropi"], "there is no objective named 'squentropi'; did you mean 'squentropy'"),
        (["nothing.csv", "-t", "y"], "there is no file nothing.csv"),
        (["wine", "--seeds", "1"], "seeds must be an integer >= 2"),
        (["wine", "--target", "y"], "wine has its own target"),
        (["wine", "--export", "xls"], "a comparison can be written as .csv, .parquet, .json, .md, got '.xls'"),
        (["wine", "iris", "wine"], "data sets must differ in name, as their reports do, got wine and wine"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = lossary("compare", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lossary", "compare", "digits", "--seeds", "2", "--epochs", "40", "--learning-rate", "0.001"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=take_interrupts,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "cross_entropy (1 of 6): finished" in first
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=1800)
    assert process.returncode == 130
    assert "stopped; finished objectives are kept" in rest
    assert "Traceback" not in rest
    again = lossary("compare", "digits", *command[5:], "-o", "focal", cwd=tmp_path)
    assert "cross_entropy (1 of 2): taken from earlier work" in again.stderr


def test_ctrl_c_while_libraries_are_read_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("lossary.arena.answer.tracking.check_tracker", "lossary.arena.load"):
        monkeypatch.setattr(place, interrupted)
        monkeypatch.setattr(sys, "argv", ["lossary", "compare", "wine", "--track", "tensorboard"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 130
        assert (
            capsys.readouterr().err == "lossary: stopped; finished objectives are kept, and the same command goes on from there\n"
        )
        monkeypatch.undo()


def take_interrupts() -> None:
    """A shell that starts a job in the background makes it deaf to Ctrl-C; this one shall hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
