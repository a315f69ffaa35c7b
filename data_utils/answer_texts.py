"""Scores of an answer that is a text, as SQuAD's official evaluation 2.0 computes them (Rajpurkar et al. 2016, 2018).

The right answers of a row are several texts. A right answer that is empty after normalisation (only articles or
punctuation) counts only if all of them are. Then the question has no answer, and an empty prediction is right.
(Evaluation 1.1 keeps each text.)
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence


def is_right(text: str, right: Sequence[str]) -> bool:
    """Whether a text is one of the right ones after normalisation."""
    return normalized(text) in _wanted(right)


def best_f1(text: str, right: Sequence[str]) -> float:
    """F1 of the words that a text shares with a right text. If there are several right texts, the highest F1 counts."""
    return max(_word_f1(normalized(text).split(), wanted.split()) for wanted in _wanted(right))


def normalized(text: str) -> str:
    """Returns the text in lower case, without punctuation, articles and extra spaces."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _wanted(right: Sequence[str]) -> list[str]:
    """The right texts, normalised, without those that are empty then. One empty text if all are empty."""
    return [bare for text in right if (bare := normalized(text))] or [""]


def _word_f1(words: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(words) & Counter(wanted)).values())
    if not words or not wanted:
        return float(words == wanted)
    return 2 * shared / (len(words) + len(wanted))
