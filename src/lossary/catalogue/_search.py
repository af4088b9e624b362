"""Search by meaning, offline: SQLite's full-text index finds the words, a hand-made vocabulary finds the same idea in other words.

A query is compared with every record in two ways. Its words and pairs of words are looked up as they are (stemmed, ranked by
BM25, a symptom counting for more than a note). And the ideas in it ("fp16", "mixed precision", "NaN": one idea) are looked up
by all the ways people say them. Both are in the answer's ``because``, so that nobody has to trust the order blindly.
"""

import difflib
import functools
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
_WEIGHTS = {"names": 3.0, "title": 2.5, "summary": 1.5, "symptoms": 3.0, "techniques": 2.5, "tasks": 1.0, "data": 0.7, "note": 0.7}
_SHOWN = ("symptoms", "techniques", "tasks", "data")
_IDEA_WEIGHT = 3.0  # of an idea that both the query and the record express
_WORD_WEIGHT = 1.0  # of a word in common that is part of some idea
_PLAIN_WORD_WEIGHT = 0.6  # of any other word in common
_PAIR_WEIGHT = 0.6  # of two words standing side by side in both, beyond what each counts alone
_RARITY = 1.0  # how much more a rare word or idea counts than a common one
_SATURATION = 6.0  # the BM25 score at which a record has half of a weight: saying it often adds little
_LONGEST = 64  # distinct words of a query that are looked at
_SEPARATOR = " | "


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
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[’']s\b|(?<=\w)'(?=\w)", "", plain)
    plain = re.sub(r"(\d)-?bits?\b", r"\1 bit", plain).replace("@", " at ")
    return " ".join(_american(word) for word in re.findall(r"[a-z0-9]+", plain))


def _american(word: str) -> str:
    if len(word) < 6:
        return {"tumour": "tumor", "grey": "gray"}.get(word, word)
    word = re.sub(r"is(e|ed|es|er|ers|ing|ation|ations|able)$", r"iz\1", word) if word not in _KEEP_S else word
    word = re.sub(r"(.{2,}[lmdbvr])our(s|ed|ing|al|able)?$", r"\1or\2", word)
    return re.sub(r"^(cent)re(s?)$", r"\1er\2", word).replace("labell", "label").replace("modell", "model").replace("cancell", "cancel")


# Words that end like "organise" and are spelt with an s everywhere.
_KEEP_S = frozenset(
    "precise otherwise exercise surprise supervise supervised supervising noise raise promise likewise compromise concise disease "
    "increase decrease pairwise pointwise listwise elementwise denoise denoised denoising denoiser raised raising noises "
    "promising surprising exercises advise advised revise revised unsupervised".split()
)


@functools.cache
def _index() -> "_Index":
    return _Index(load())


class _Index:
    """The records in an in-memory full-text index; making it takes a few milliseconds."""

    def __init__(self, papers: tuple[Paper, ...]):
        vocabulary = json.loads(_VOCABULARY.read_text(encoding="utf-8"))
        self.papers = papers
        self.stopwords = frozenset(vocabulary["stopwords"].split())
        self.concepts = {name: [normal(phrase) for phrase in said] for name, said in vocabulary["concepts"].items()}
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join(_WEIGHTS)
        self.db.execute(f"CREATE VIRTUAL TABLE records USING fts5({columns}, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE asked USING fts5(text, tokenize='porter ascii')")
        self.db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(records, row)")
        rows = [(number, *self._row(paper)) for number, paper in enumerate(papers)]
        marks = ", ".join("?" * (len(_WEIGHTS) + 1))
        self.db.executemany(f"INSERT INTO records(rowid, {columns}) VALUES ({marks})", rows)
        self.plain_words = frozenset(word for row in rows for text in row[1:] for word in text.split())
        self.said_words = frozenset(word for said in self.concepts.values() for phrase in said for word in phrase.split())

    @staticmethod
    def _row(paper: Paper) -> list[str]:
        names = [paper.key, *(name for names in paper.provides.values() for name in names)]
        fields = {"names": [" ".join(names).replace("_", " ")], "title": [paper.title], "summary": [paper.summary], "note": [paper.note]}
        for column in _SHOWN:
            fields[column] = list(getattr(paper, column))
        return [_SEPARATOR.join(normal(text) for text in fields[column]) for column in _WEIGHTS]

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
        wanted = " OR ".join(f'"{phrase}"' for phrase in phrases if phrase)
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
            wanted = " OR ".join(f'"{phrase}"' for phrase in said)
            if self.db.execute("SELECT 1 FROM asked WHERE asked MATCH ?", (wanted,)).fetchone():
                found.append(name)
        return found

    def rank(self, text: str, limit: int) -> list[Match]:
        every = text.split()
        words = [word for word in dict.fromkeys(every) if word not in self.stopwords] or list(dict.fromkeys(every))
        pairs = [f"{a} {b}" for a, b in zip(every, every[1:], strict=False) if not {a, b} <= self.stopwords]
        ideas = self.ideas(text)
        weighed = [
            *((_WORD_WEIGHT if word in self.said_words else _PLAIN_WORD_WEIGHT, [word], None) for word in words),
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
                total[row] = total.get(row, 0.0) + weight * rarity**_RARITY * share
                if idea and share > 0.3:
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
        wanted = " OR ".join(f'"{phrase}"' for phrase in dict.fromkeys(wordings))
        marked = ", ".join(f"highlight(records, {list(_WEIGHTS).index(column)}, '<', '>')" for column in _SHOWN)
        sql = f"SELECT {marked} FROM records WHERE records MATCH ? AND rowid = ?"
        for texts in self.db.execute(sql, (wanted, row)):
            found = []
            for column, text in zip(_SHOWN, texts, strict=True):
                for own, part in zip(getattr(self.papers[row], column), text.split(_SEPARATOR), strict=True):
                    if "<" in part:
                        found.append((part.count("<"), own))
            return tuple(own for _, own in sorted(found, key=lambda each: -each[0]))[:4]
        return ()
