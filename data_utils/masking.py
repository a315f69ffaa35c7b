"""Which tokens a masked language model has to guess: all tokens of some words (Devlin et al. 2019).

15 % of a row's words are drawn, at least one. Of their tokens 80 % become the mask token, 10 % become a random token of
the vocabulary, and 10 % stay. This is the authors' whole-word masking. The words are drawn anew for each step, as by
Liu et al. 2019 (section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WORDS, MASK, RANDOM = 0.15, 0.8, 0.1
STREAM = 0x3A5C  # keeps these random numbers apart from those of the noise


def masked(
    tokens: np.ndarray, words: np.ndarray, *, seed: int, position: int, mask_id: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the tokens to guess. Returns their positions in the row and the tokens shown there instead, both (n,).

    ``tokens``: (L,), the token ids of a row. ``words``: (L,), the number of each token's word from 0, −1 for special
    tokens. The same ``seed`` and ``position`` (of the row in its batch) draw the same tokens.
    """
    rng = np.random.default_rng((seed, position, STREAM))
    candidates = np.unique(words[words >= 0])
    chosen = rng.choice(candidates, max(1, round(WORDS * len(candidates))), replace=False)
    positions = np.flatnonzero(np.isin(words, chosen))
    drawn = rng.random(len(positions))
    random = rng.integers(0, vocabulary, len(positions))
    shown = np.where(drawn < MASK, mask_id, np.where(drawn < MASK + RANDOM, random, tokens[positions]))
    return positions, shown


def numbered(sequence_ids: Iterable[int | None], word_ids: Iterable[int | None]) -> np.ndarray:
    """Numbers the words of a row from 0, through both of its texts. Returns each token's word, (L,) int32, −1 for
    special tokens.

    ``sequence_ids`` and ``word_ids`` are those of a tokenizer: the text and the word in it, None for special tokens.
    """
    numbers: dict[tuple[int | None, int], int] = {}
    pairs = zip(sequence_ids, word_ids, strict=True)
    found = [-1 if word is None else numbers.setdefault((text, word), len(numbers)) for text, word in pairs]
    return np.array(found, np.int32)
