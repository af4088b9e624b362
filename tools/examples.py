"""Compare objectives on five real data sets, and put the reports and what they answer into docs/examples: `make examples`.

The pages share one copy of the drawing library, which a report otherwise has inside. Data and finished work are in build/examples,
where the printed commands can be run again; a second run takes seconds.
"""

import csv
import importlib.metadata
import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

ROOT = Path(__file__).parent.parent
PAGES, WORK = ROOT / "docs" / "examples", ROOT / "build" / "examples"
LIBRARY = "plotly.min.js"
RANKEVAL = "rankeval==0.8.2"
OPENING = """# Five questions, asked as anybody would

Each is one command with its defaults: which objectives are compared is chosen by what the data look like, before any training. This
page and the reports beside it are written by `make examples`, which leaves the data in `build/examples`, where the commands can be
run again. A clone has the reports as pages for a browser; they share the drawing library beside them, which an ordinary report has
inside."""


@dataclass(frozen=True)
class Example:
    """A question, the data that can answer it, and how to ask."""

    name: str
    question: str
    about: str
    source: str  # the first argument of lossary compare
    options: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None

    @property
    def command(self) -> str:
        return shlex.join(["lossary", "compare", self.source, *self.options])


def table(name: str) -> list[dict[str, str]]:
    """A table of the package pydataset, read without importing it, as that would unpack all of them into the home directory."""
    archive = importlib.metadata.distribution("pydataset").locate_file("pydataset/resources.tar.gz")
    with tarfile.open(str(archive)) as files:
        member = files.extractfile(f"resources/rdata/csv/{name}.csv")
        if member is None:
            raise SystemExit(f"pydataset has no table {name}")
        return list(csv.DictReader(io.TextIOWrapper(member, "utf-8", newline="")))


def web_pages() -> None:
    """Queries and web pages from Microsoft's MSLR-WEB10K, as far as the source of the package rankeval has them for its tests."""
    source = ("--no-deps", "--no-build-isolation", "--no-binary", "rankeval")  # it is looked into, never built
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *source, "--dest", str(WORK), RANKEVAL], check=True)
    with tarfile.open(WORK / f"{RANKEVAL.replace('==', '-')}.tar.gz") as files, (WORK / "webpages.letor").open("wb") as out:
        for part in ("train", "test"):
            name = f"{RANKEVAL.replace('==', '-')}/rankeval/test/data/msn1.fold1.{part}.5k.txt"
            member = files.extractfile(name)
            if member is None:
                raise SystemExit(f"{RANKEVAL} has no file {name}")
            out.write(member.read())


def write(name: str, rows: Sequence[dict[str, str]], without: set[str]) -> None:
    columns = [column for column in rows[0] if column not in without]
    with (WORK / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows({column: "" if row[column] == "NA" else row[column] for column in columns} for row in rows)


EXAMPLES = (
    Example(
        "mortgages",
        "Which applications for a mortgage will be denied?",
        "Applications in Boston in 1990 (table Hdma of the R package Ecdat): debts, credit history and circumstances of the"
        " applicant. Few are denied.",
        "mortgages.csv",
        ("--target", "deny"),
        lambda: write("mortgages.csv", table("Ecdat/Hdma"), {""}),
    ),
    Example(
        "digits",
        "Which digit is in the image?",
        "Images of handwritten digits, 8 x 8 pixels (scikit-learn). Ten classes of about the same size, and labels that can be"
        " trusted.",
        "digits",
    ),
    Example(
        "movies",
        "Which genres does a film have?",
        "Films of IMDB (table movies of the R package ggplot2): year, length, budget and how people voted. A film has none, one or"
        " several of seven genres, some of them rare.",
        "movies.csv",
        ("--target", "Action,Animation,Comedy,Drama,Documentary,Romance,Short", "--max-rows", "5000"),
        lambda: write("movies.csv", table("ggplot2/movies"), {"", "title"}),
    ),
    Example(
        "unseen",
        "Which images show the same digit, of digits that training has never seen?",
        "The same images. Training has four of the ten digits and is judged on others, where an image is to lie next to one of its"
        " own digit.",
        "digits",
        ("--task", "retrieval"),
    ),
    Example(
        "webpages",
        "Which pages answer a query?",
        "Queries to a search engine and the pages found for them, 136 numbers about each pair, judged from 0 to 4 (10,000 lines of"
        " Microsoft's MSLR-WEB10K, as the package rankeval has them). Each query is a list whose best pages should come first.",
        "webpages.letor",
        prepare=web_pages,
    ),
)


def run(example: Example) -> dict[str, Any]:
    """What the command says, as values."""
    if example.prepare is not None:
        example.prepare()
    command = [sys.executable, "-m", "lossary", "compare", example.source, *example.options, "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=WORK).stdout)
    return found


def publish(example: Example, found: dict[str, Any]) -> None:
    page = (WORK / found["report"]).read_text(encoding="utf-8")
    inside = f"<script>{get_plotlyjs()}</script>"
    if page.count(inside) != 1:
        raise SystemExit(f"{found['report']} does not hold the drawing library once")
    shared = page.replace(inside, f'<script src="{LIBRARY}"></script>')
    (PAGES / f"{example.name}.html").write_text(shared, encoding="utf-8")


def section(example: Example, found: dict[str, Any]) -> str:
    protocol, rows = found["protocol"], found["leaderboard"]
    runs = len(rows) * len(protocol["seeds"]) * len(protocol["learning_rates"])
    lines = [
        f"## {example.name}: {example.question}",
        "",
        example.about,
        "",
        "```console",
        f"$ {example.command}",
        "```",
        "",
        f"**Answer.** {found['answer']}",
        "",
        f"[The report]({example.name}.html): {runs} trainings on {found['data']['rows']:,} rows; protocol `{found['digest']}`.",
        "",
        f"**Why these?** {protocol['look']}.",
        "",
        f"| objective | {found['metric']} | better by | why it was tried |",
        "| --- | ---: | ---: | --- |",
    ]
    for row in rows:
        difference = (
            "baseline" if row["difference"] is None else f"{row['difference']['mean']:+.4f} ({row['difference']['verdict']})"
        )
        lines.append(f"| `{row['label']}` | {row['mean']:.4f} | {difference} | {row['reason']} |")
    return "\n".join(lines)


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / LIBRARY).write_text(get_plotlyjs(), encoding="utf-8")
    sections = []
    for example in EXAMPLES:
        found = run(example)
        publish(example, found)
        sections.append(section(example, found))
    (PAGES / "README.md").write_text("\n\n".join([OPENING, *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
