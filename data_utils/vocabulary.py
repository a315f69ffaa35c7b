"""Checks that a tokenizer has a vocabulary, and that it knows the texts of the rows.

Without its vocabulary files, transformers makes a tokenizer that knows only special tokens and raises no error.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.scratch import chunks

FEWEST = 3  # tokens beside the special ones; without vocabulary files there are up to two
NOTABLE_SHARE = 0.05  # from this share of unknown tokens on, the user is told


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises UserError if the tokenizer knows almost nothing but special tokens, because its files are missing."""
    if len(tokenizer) > 1000:  # surely no stub; some vocabularies are costly to list
        return
    known = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(known) < FEWEST:
        raise UserError(
            f"tokenizer '{name}': knows only {len(tokenizer)} tokens, so its vocabulary file is missing; "
            "put tokenizer.json (or vocab.txt and the like) into the folder, or set encoder.tokenizer"
        )


def unknown_share(tokens: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> float:
    """The share of unknown tokens among the tokens that come from texts. 1 if no token comes from a text."""
    unknown = tokenizer.unk_token_id
    special = [number for number in tokenizer.all_special_ids if number != unknown]
    of_texts = len(tokens) - sum(int(np.isin(tokens[part], special).sum()) for part in chunks(len(tokens)))
    if of_texts == 0:
        return 1.0
    if unknown is None:
        return 0.0
    count = sum(int((tokens[part] == unknown).sum()) for part in chunks(len(tokens)))
    return round(count / of_texts, 6)


def check_unknown(splits: Mapping[tuple[str, str], Prepared], most: float) -> list[str]:
    """Returns one line for each split with a notable share of unknown tokens.

    Raises:
        UserError: a split has a larger share of unknown tokens than ``most``.
    """
    notices = []
    for split in splits.values():
        share, source = split.manifest["unknown_share"], split.manifest["source"]
        problem = f"{source}: the tokenizer does not know {share:.0%} of the tokens"
        if share > most:
            raise UserError(
                f"{problem}; use an encoder of this language and alphabet, or raise data.max_unknown_share ({most:g})"
            )
        if share > NOTABLE_SHARE:
            notices.append(f"{problem}; all of them are one token to the encoder")
    return notices
