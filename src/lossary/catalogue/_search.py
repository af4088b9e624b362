"""Search by meaning, offline: SQLite's full-text index finds the words, a hand-made vocabulary finds the same idea in other words.

A query is compared with every record in four ways. Its words and pairs of words are looked up as they are (stemmed, ranked by
BM25, a symptom counting for more than a note). The ideas in it ("fp16", "mixed precision", "NaN": one idea) are looked up by all
the ways people say them. Ideas that it only hints at, sharing words with some of those ways, count for less. And a record lends a
part of its score to those that are most like it. Words, sentences and ideas in common are in the answer's ``because``, so that
nobody has to trust the order blindly.

What does not depend on the query is in ``search.json``, made by ``python tools/index.py`` from the records and the vocabulary.
"""

import difflib
import functools
import itertools
import json
import math
import re
import sqlite3
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossary.catalogue._records import Paper, load
from lossary.errors import InvalidValueError

VOCABULARY = Path(__file__).with_name("vocabulary.json")
FILE = Path(__file__).with_name("search.json")
# How much a word counts in each column of the index.
_WEIGHTS = {"names": 3.0, "title": 2.5, "summary": 1.5, "symptoms": 3.0, "techniques": 2.5, "tasks": 2.0, "data": 0.7, "note": 0.7}
_SHOWN = ("symptoms", "techniques", "tasks", "data")
# Chosen by cross-validation over the questions in tests/catalogue; the result changes little in a wide range around them.
_IDEA_WEIGHT = 3.0  # of an idea that both the query and the record express, against 1 for a word in common
_HINT_WEIGHT = 1.2  # of an idea that the query hints at, before its own share
_HINT_SATURATION = 8.0  # the BM25 score at which a hint has half of that weight
_HINTS = 4  # ideas hinted at that are looked up
_PAIR_WEIGHT = 0.3  # of two words standing side by side in both, beyond what each counts alone
_SATURATION = 12.0  # the BM25 score at which a record has half of a weight: saying it often adds little
_EXPRESSED = 0.25  # the share from which a record is said to express an idea
_LENT = 0.2  # of its score to a record that is the same, less to one that is less alike
_LENDERS = 10  # the best records, which lend
_ALIKE = 5  # records that each lends to
_HERE = 0.03  # how much worse an entry may fit that can be used now, and still come before one that cannot
_APART = 2  # words that may stand between those of one phrase
_PREFIX = 3  # letters that all forms of a word share
_LONGEST = 64  # distinct words of a query that are looked at
_SEPARATOR = " zqz "  # stands between the symptoms of a record; it has to survive normalisation


@dataclass(frozen=True)
class Match:
    """One result: a record, how well it fits relative to the best one, and why."""

    paper: Paper
    score: float
    because: tuple[str, ...]
    ideas: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The results of a query, best first, and the words that were taken for a misspelling of others."""

    matches: tuple[Match, ...]
    corrections: dict[str, str]


def search(query: str, limit: int = 5) -> tuple[Match, ...]:
    """The records nearest in meaning to a question or a complaint, best first."""
    return find(query, limit).matches


def find(query: str, limit: int = 5) -> Found:
    """As :func:`search`, and with the corrected spellings."""
    if limit < 1:
        raise InvalidValueError(f"find: limit must be at least 1, got {limit}")
    words = list(dict.fromkeys(normal(query).split()))[:_LONGEST]
    if not words:
        raise InvalidValueError("find: the query has no words; say what you need, such as 'noisy labels' or 'soft labels for Dice'")
    index = _index()
    corrected = index.correct(words)
    text = " ".join(corrected.get(word, word) for word in normal(query).split()[: 4 * _LONGEST])
    return Found(tuple(index.rank(text, limit)), corrected)


def normal(text: str) -> str:
    """Lower case, no accents, words only, and one spelling for British and American English."""
    return _normal([text])[0]


def _normal(texts: Iterable[str]) -> list[str]:
    """Many texts in one pass, which takes a fraction of the time of one by one."""
    joined = "\0".join(text.replace("\0", " ") for text in texts).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    plain = unicodedata.normalize("NFKD", joined).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"'s\b|(?<=\w)'(?=\w)", "", plain)
    plain = re.sub(r"(\d)-?bits?\b", r"\1 bit", plain).replace("@", " at ")
    words = " ".join(map(_american, re.findall(r"[a-z0-9]+|\0", plain)))
    return [part.strip() for part in words.split("\0")]


@functools.cache
def _american(word: str) -> str:
    if "is" in word[3:]:
        word = re.sub(r"(?<!no)(?<!superv)(?<!prec)(?<!rev)(?<!w)is(e|ed|es|er|ers|ing|ation|ations|able)$", r"iz\1", word)
    if "our" in word[3:] or word.startswith("tumour"):
        word = re.sub(r"(.{2,}[lmdbvr])our(s|ed|ing|al|able)?$", r"\1or\2", word)
    if word.startswith("centre"):
        word = word.replace("centre", "center")
    return word.replace("labell", "label").replace("modell", "model")


def _quoted(word: str) -> str:
    return f'"{word}"'


def _any_of(phrases: Iterable[str]) -> str:
    """A full-text query for any of the phrases, whose words may stand a little apart and in any order: "label noise" is also
    "noise in the labels". Every word is quoted, so that no sign in it can mean anything."""
    groups = (phrase.split() for phrase in phrases)
    return " OR ".join(f"NEAR({' '.join(map(_quoted, words))}, {_APART})" for words in groups if words)


def prepared() -> dict[str, Any]:
    """What ``search.json`` holds: the records and the vocabulary normalised, and for each record those that are most like it."""
    vocabulary = json.loads(VOCABULARY.read_text(encoding="utf-8"))
    said = iter(_normal(phrase for phrases in vocabulary["concepts"].values() for phrase in phrases))
    concepts = {name: list(itertools.islice(said, len(phrases))) for name, phrases in vocabulary["concepts"].items()}
    cells = _normal(text for paper in load() for text in _row(paper))
    found: dict[str, Any] = {
        "stopwords": vocabulary["stopwords"],
        "concepts": concepts,
        "records": [cells[start : start + len(_WEIGHTS)] for start in range(0, len(cells), len(_WEIGHTS))],
        "alike": [],
    }
    return {**found, "alike": _Index(load(), found).alike_by_words()}


def _row(paper: Paper) -> list[str]:
    """A record's texts, one for each column of the index."""
    names = [paper.key, *(name for names in paper.provides.values() for name in names)]
    fields: dict[str, Iterable[str]] = {
        "names": [" ".join(names).replace("_", " ")],
        "title": [paper.title],
        "summary": [paper.summary],
        "note": [paper.note],
    }
    for column in _SHOWN:
        fields[column] = getattr(paper, column)
    return [_SEPARATOR.join(fields[column]) for column in _WEIGHTS]


@functools.cache
def _index() -> "_Index":
    return _Index(load(), json.loads(FILE.read_text(encoding="utf-8")))


class _Index:
    """The records in an in-memory full-text index; making it takes a few milliseconds."""

    def __init__(self, papers: tuple[Paper, ...], ready: dict[str, Any]):
        self.papers = papers
        self.stopwords = frozenset(ready["stopwords"].split())
        self.concepts: dict[str, list[str]] = ready["concepts"]
        self.names = list(self.concepts)
        self.rows: list[list[str]] = ready["records"]
        self.alike: list[list[tuple[int, float]]] = ready["alike"]
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.execute(f"CREATE VIRTUAL TABLE records USING fts5({', '.join(_WEIGHTS)}, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE concepts USING fts5(text, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE asked USING fts5(text, tokenize='porter ascii')")
        marks = ", ".join("?" * (len(_WEIGHTS) + 1))
        rows = [(number, *cells) for number, cells in enumerate(self.rows)]
        self.db.executemany(f"INSERT INTO records(rowid, {', '.join(_WEIGHTS)}) VALUES ({marks})", rows)
        said = [(number, _SEPARATOR.join(phrases)) for number, phrases in enumerate(self.concepts.values())]
        self.db.executemany("INSERT INTO concepts(rowid, text) VALUES (?, ?)", said)

    def correct(self, words: Iterable[str]) -> dict[str, str]:
        """Words that nothing here knows, and the nearest word that something does."""
        wrong = {}
        for word in words:
            if len(word) < 4 or word in self.stopwords or any(c.isdigit() for c in word) or self._occurs(word):
                continue
            near = difflib.get_close_matches(word, [k for k in self.known if abs(len(k) - len(word)) < 3], n=1, cutoff=0.8)
            if near:
                wrong[word] = near[0]
        return wrong

    @functools.cached_property
    def known(self) -> list[str]:
        """Every word of the records and of the vocabulary."""
        texts = itertools.chain(*self.rows, *self.concepts.values())
        return sorted({word for text in texts for word in text.split()})

    def _occurs(self, word: str) -> bool:
        """Whether a word occurs in a record or a concept, in any of its forms."""
        counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE {table} MATCH :word)" for table in ("records", "concepts"))
        return bool(self.db.execute(f"SELECT {counts}", {"word": _quoted(word)}).fetchone()[0])

    def _scores(self, phrases: Iterable[str]) -> dict[int, float]:
        """BM25 of the records that hold any of the phrases; each phrase is quoted, so no sign in it can mean anything."""
        wanted = _any_of(phrases)
        if not wanted:
            return {}
        weights = ", ".join(str(weight) for weight in _WEIGHTS.values())
        rows = self.db.execute(f"SELECT rowid, -bm25(records, {weights}) FROM records WHERE records MATCH ?", (wanted,))
        return dict(rows.fetchall())

    def _shares(self, phrases: Iterable[str]) -> dict[int, float]:
        """How much each record has of what is looked for, from 0 to 1, less of it if many records have it."""
        hits = self._scores(phrases)
        rarity = max(math.log(len(self.papers) / (1 + len(hits))), 0.1) / math.log(len(self.papers))
        return {row: rarity * score / (score + _SATURATION) for row, score in hits.items()}

    def ideas(self, text: str) -> list[str]:
        """The concepts of the vocabulary that a text expresses, in any of their wordings."""
        self.db.execute("DELETE FROM asked")
        self.db.execute("INSERT INTO asked(text) VALUES (?)", (text,))
        begun = {word[:_PREFIX] for word in text.split()}
        starts = tuple(begun)
        found = []
        for name, phrases in self.concepts.items():
            near = [phrase for phrase in phrases if phrase.startswith(starts)]
            near = [phrase for phrase in near if all(word[:_PREFIX] in begun for word in phrase.split())]
            if near and self.db.execute("SELECT 1 FROM asked WHERE asked MATCH ?", (_any_of(near),)).fetchone():
                found.append(name)
        return found

    def hints(self, words: Iterable[str]) -> dict[str, float]:
        """The concepts that share most words with a text, and their weights."""
        sql = "SELECT rowid, -bm25(concepts) AS score FROM concepts WHERE concepts MATCH ? ORDER BY score DESC, rowid LIMIT ?"
        rows = self.db.execute(sql, (_any_of(words), _HINTS)).fetchall()
        return {self.names[row]: _HINT_WEIGHT * score / (score + _HINT_SATURATION) for row, score in rows}

    def alike_by_words(self) -> list[list[tuple[int, float]]]:
        """For each record those that share most of its words, and how much, against what it shares with itself."""
        found = []
        shares: dict[str, dict[int, float]] = {}
        own = [list(_WEIGHTS).index(column) for column in ("symptoms", "techniques", "tasks")]
        for row, cells in enumerate(self.rows):
            total: dict[int, float] = {}
            for word in dict.fromkeys(word for column in own for word in cells[column].split()):
                if word not in self.stopwords and word != _SEPARATOR.strip():
                    if word not in shares:
                        shares[word] = self._shares([word])
                    for other, share in shares[word].items():
                        total[other] = total.get(other, 0.0) + share
            best = sorted((other for other in total if other != row), key=lambda other: (-round(total[other], 6), other))
            found.append([(other, round(total[other] / total[row], 2)) for other in best[:_ALIKE]])
        return found

    def rank(self, text: str, limit: int) -> list[Match]:
        every = text.split()
        words = [word for word in dict.fromkeys(every) if word not in self.stopwords] or list(dict.fromkeys(every))
        pairs = [f"{a} {b}" for a, b in itertools.pairwise(every) if not {a, b} <= self.stopwords]
        ideas = self.ideas(text)
        weighed = [
            *((1.0, [word], None) for word in words),
            *((_PAIR_WEIGHT, [pair], None) for pair in dict.fromkeys(pairs)),
            *((_IDEA_WEIGHT, self.concepts[idea], idea) for idea in ideas),
            *((weight, self.concepts[idea], None) for idea, weight in self.hints(words).items() if idea not in ideas),
        ]
        total: dict[int, float] = {}
        shared: dict[int, list[str]] = {}
        for weight, phrases, idea in weighed:
            shares = self._shares(phrases)
            least = _EXPRESSED * max(shares.values(), default=0.0)
            for row, share in shares.items():
                total[row] = total.get(row, 0.0) + weight * share
                if idea and share > least:
                    shared.setdefault(row, []).append(idea)
        for row, score in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:_LENDERS]:
            for other, likeness in self.alike[row]:
                total[other] = total.get(other, 0.0) + _LENT * likeness * score
        for row in total:
            if self.papers[row].units:
                total[row] *= 1 + _HERE
        for row, paper in enumerate(self.papers):  # whoever knows a unit's name wants that unit
            if any(name.replace("_", " ") == text for names in paper.provides.values() for name in names):
                total[row] = max(total.values(), default=1.0) * (1 + _HERE)
        best = sorted(total, key=lambda row: (-total[row], row))[:limit]
        top = total[best[0]] if best else 1.0
        wordings = [phrase for idea in ideas for phrase in self.concepts[idea]]
        return [
            Match(self.papers[row], round(total[row] / top, 3), self._because(row, words, wordings), tuple(shared.get(row, ())))
            for row in best
        ]

    def _because(self, row: int, words: list[str], wordings: list[str]) -> tuple[str, ...]:
        """The record's own symptoms, techniques, tasks and data that hold what was asked for, in the same words first."""
        wanted = _any_of(dict.fromkeys([*words, *wordings]))
        marked = ", ".join(f"highlight(records, {list(_WEIGHTS).index(column)}, '<', '>')" for column in _SHOWN)
        sql = f"SELECT {marked} FROM records WHERE records MATCH ? AND rowid = ?"
        for texts in self.db.execute(sql, (wanted, row)):
            found = []
            for column, text in zip(_SHOWN, texts, strict=True):
                for own, part in zip(getattr(self.papers[row], column), text.split(_SEPARATOR), strict=True):
                    if "<" in part:
                        same = len(set(words).intersection(re.findall(r"\w+", part)))
                        found.append((column in ("symptoms", "techniques"), same, part.count("<"), own))
            return tuple(own for *_, own in sorted(found, key=lambda each: each[:3], reverse=True))[:4]
        return ()
