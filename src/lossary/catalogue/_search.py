"""Search by meaning, offline: SQLite's full-text index finds the words, a hand-made vocabulary finds the same idea in other words.

A query is compared with every record in two ways. Its words and pairs of words are looked up as they are (stemmed, ranked by
BM25, a symptom counting for more than a note). And the ideas in it ("fp16", "mixed precision", "NaN": one idea) are looked up
by all the ways people say them. Both are in the answer's ``because``, so that nobody has to trust the order blindly.
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

from lossary.catalogue._records import Paper, load
from lossary.errors import InvalidValueError

_VOCABULARY = Path(__file__).with_name("vocabulary.json")
# How much a word counts in each column of the index.
_WEIGHTS = {"names": 3.0, "title": 2.5, "summary": 1.5, "symptoms": 3.0, "techniques": 2.5, "tasks": 2.0, "data": 0.7, "note": 0.7}
_SHOWN = ("symptoms", "techniques", "tasks", "data")
_IDEA_WEIGHT = 4.5  # of an idea that both the query and the record express, against 1 for a word in common
_PAIR_WEIGHT = 0.3  # of two words standing side by side in both, beyond what each counts alone
_SATURATION = 24.0  # the BM25 score at which a record has half of a weight: saying it often adds little
_EXPRESSED = 0.15  # the share from which a record is said to express an idea
_APART = 2  # words that may stand between those of one phrase
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


@functools.cache
def _index() -> "_Index":
    return _Index(load())


class _Index:
    """The records in an in-memory full-text index; making it takes a few milliseconds."""

    def __init__(self, papers: tuple[Paper, ...]):
        vocabulary = json.loads(_VOCABULARY.read_text(encoding="utf-8"))
        self.papers = papers
        self.stopwords = frozenset(vocabulary["stopwords"].split())
        said = iter(_normal(phrase for phrases in vocabulary["concepts"].values() for phrase in phrases))
        self.concepts = {name: list(itertools.islice(said, len(phrases))) for name, phrases in vocabulary["concepts"].items()}
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join(_WEIGHTS)
        self.db.execute(f"CREATE VIRTUAL TABLE records USING fts5({columns}, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE asked USING fts5(text, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(records, row)")
        cells = _normal(text for paper in papers for text in self._row(paper))
        rows = [(number, *cells[len(_WEIGHTS) * number : len(_WEIGHTS) * (number + 1)]) for number in range(len(papers))]
        marks = ", ".join("?" * (len(_WEIGHTS) + 1))
        self.db.executemany(f"INSERT INTO records(rowid, {columns}) VALUES ({marks})", rows)
        self.plain_words = frozenset(word for row in rows for text in row[1:] for word in str(text).split())
        self.said_words = frozenset(word for said in self.concepts.values() for phrase in said for word in phrase.split())

    @staticmethod
    def _row(paper: Paper) -> list[str]:
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

    def correct(self, words: Iterable[str]) -> dict[str, str]:
        """Words that nothing here knows, and the nearest word that something does."""
        known = self.plain_words | self.said_words
        wrong = {}
        for word in words:
            if len(word) < 4 or word in known or word in self.stopwords or self._count(word) or any(c.isdigit() for c in word):
                continue
            near = difflib.get_close_matches(word, [k for k in known if abs(len(k) - len(word)) < 3], n=1, cutoff=0.8)
            if near:
                wrong[word] = near[0]
        return wrong

    def _count(self, word: str) -> int:
        """In how many records a word occurs, in any of its forms."""
        return int(self.db.execute("SELECT count(*) FROM records WHERE records MATCH ?", (f'"{word}"',)).fetchone()[0])

    def _scores(self, phrases: Iterable[str]) -> dict[int, float]:
        """BM25 of the records that hold any of the phrases; each phrase is quoted, so no sign in it can mean anything."""
        wanted = _any_of(phrases)
        if not wanted:
            return {}
        weights = ", ".join(str(weight) for weight in _WEIGHTS.values())
        rows = self.db.execute(f"SELECT rowid, -bm25(records, {weights}) FROM records WHERE records MATCH ?", (wanted,))
        return dict(rows.fetchall())

    def ideas(self, text: str) -> list[str]:
        """The concepts of the vocabulary that a text expresses, in any of their wordings."""
        self.db.execute("DELETE FROM asked")
        self.db.execute("INSERT INTO asked(text) VALUES (?)", (text,))
        found = []
        for name, said in self.concepts.items():
            if self.db.execute("SELECT 1 FROM asked WHERE asked MATCH ?", (_any_of(said),)).fetchone():
                found.append(name)
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
        ]
        total: dict[int, float] = {}
        shared: dict[int, list[str]] = {}
        for weight, phrases, idea in weighed:
            hits = self._scores(phrases)
            rarity = max(math.log(len(self.papers) / (1 + len(hits))), 0.1) / math.log(len(self.papers))
            for row, score in hits.items():
                share = score / (score + _SATURATION)
                total[row] = total.get(row, 0.0) + weight * rarity * share
                if idea and share > _EXPRESSED:
                    shared.setdefault(row, []).append(idea)
        best = sorted(total, key=lambda row: (-total[row], row))[:limit]
        top = total[best[0]] if best else 1.0
        wordings = [*words, *(phrase for idea in ideas for phrase in self.concepts[idea])]
        return [
            Match(self.papers[row], round(total[row] / top, 3), self._because(row, wordings), tuple(shared.get(row, ())))
            for row in best
        ]

    def _because(self, row: int, wordings: list[str]) -> tuple[str, ...]:
        """The record's own symptoms, techniques, tasks and data that hold what was asked for."""
        wanted = _any_of(dict.fromkeys(wordings))
        marked = ", ".join(f"highlight(records, {list(_WEIGHTS).index(column)}, '<', '>')" for column in _SHOWN)
        sql = f"SELECT {marked} FROM records WHERE records MATCH ? AND rowid = ?"
        for texts in self.db.execute(sql, (wanted, row)):
            found = []
            for column, text in zip(_SHOWN, texts, strict=True):
                for own, part in zip(getattr(self.papers[row], column), text.split(_SEPARATOR), strict=True):
                    if "<" in part:
                        found.append((column in ("symptoms", "techniques"), part.count("<"), own))
            return tuple(own for *_, own in sorted(found, key=lambda each: each[:2], reverse=True))[:4]
        return ()
