"""Names as people type them: the spellings that mean the same, and suggestions for those that mean nothing."""

import difflib
from collections.abc import Iterable, Mapping

_OTHERWISE = ("BCELoss",)  # spelled like one of ours, but torch's, which takes probabilities


def squashed(name: str) -> str:
    """A name without case, separators and a trailing "loss": ``FocalLoss``, ``focal_loss`` and ``focal`` are one."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return plain.removesuffix("loss") or plain


def resolved(name: str, known: Mapping[str, Iterable[str]]) -> str:
    """The known name that is meant, given each name with its other spellings; any other name is given back."""
    if name in known or name in _OTHERWISE:
        return name
    wanted = squashed(name)
    return next((each for each, others in known.items() if wanted in map(squashed, (each, *others))), name)


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Up to three known names that look alike: those with the name as a part, then misspellings."""
    names, plain = list(known), name.lower()
    parts = [each for each in names if plain in each.lower()] if len(plain) > 3 else []
    return list(dict.fromkeys([*difflib.get_close_matches(plain, names, n=3, cutoff=cutoff), *parts]))[:3]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that does not exist: the nearest ones, or nothing."""
    found = near(name, known)
    return f"; did you mean {' or '.join(repr(each) for each in found)}?" if found else ""
