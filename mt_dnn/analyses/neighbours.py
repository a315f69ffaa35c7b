"""The words nearest to a word in a sentence (Pereira, Taya and Kobayashi 2021, tables 4 to 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import punctuation

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError
from data_utils.features import is_fast
from data_utils.prepared import Prepared
from data_utils.rows import Rows, find_rows, read_rows
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.adversarial.view import View
from mt_dnn.analyses.answers import NamedRun, Record
from mt_dnn.analyses.noise import noisy_states
from mt_dnn.batches.batch import Share
from mt_dnn.batches.collate import collate
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.build import build_passes
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class Request:
    """What is asked: the neighbours of a ``word`` in a row of ``split``, by the states at ``level``.

    ``uid``: the row; None: the first one that has the word. ``rows``: how many training rows the other words come
    from. ``top``: how many neighbours. ``seed``: of the noise.
    """

    word: str
    level: int
    split: str = "dev"
    uid: str | None = None
    rows: int = 1000
    top: int = 10
    seed: int = 0


def neighbours(
    runs: Sequence[tuple[NamedRun, TrainedModel]], task: str, request: Request, *, data: Path | None = None
) -> Record:
    """For each run the nearest words, and again after its mode has added its noise to the sentence.

    The word is compared with every other word of the first training rows, by the cosine of their states. The state of a
    word is the mean over its tokens. That of a word of the training rows is the mean over all of its occurrences (the
    paper does not say which occurrence it takes). Level 0 is the table of word embeddings, where all occurrences are
    the same. Words are compared in lower case, without punctuation at their ends.

    ``shared``: how many of the neighbours the first run has too.

    Raises:
        UserError: no row has the word, no block has this number, or the tokenizer does not say which tokens are a word.
    """
    found = [_neighbours(run, model, task, request, data) for run, model in runs]
    first = {near["word"] for near in found[0]["before"]}
    for entry in found:
        entry["shared"] = sum(near["word"] in first for near in entry["before"])
    return {
        "kind": "neighbours",
        "task": task,
        "word": request.word,
        "level": request.level,
        "rows": request.rows,
        "uid": found[0]["uid"],
        "runs": [{key: value for key, value in entry.items() if key != "uid"} for entry in found],
    }


def _neighbours(run: NamedRun, model: TrainedModel, task: str, request: Request, data: Path | None) -> Record:
    definition = model.task(task)
    if task not in model.trained or definition.data_format not in ("single", "pair"):
        raise UserError(f"{run.folder}: {task}: choose a task with one or two texts that the run was trained on")
    folder = data or model.config.data.dir
    row = _row(read_rows(find_rows(folder, definition, request.split), definition), request)
    others = read_rows(find_rows(folder, definition, "train"), definition, max_rows=request.rows)
    adversary = build_adversaries(model.config.adversary, model.trained)[task]
    split = encode_rows(row, definition, model.tokenizer, max_length=model.config.data.max_length)
    batch = collate(split, [0], task=task, share=Share.undivided(1, request.seed)).to(_device(model))
    words = word_tokens(model.tokenizer, row, 0, split)
    tokens = next((tokens for text, tokens in words if text == request.word.lower()), None)
    if tokens is None:
        raise UserError(
            f"{row.locations[0]}: '{request.word}' was cut off; raise data.max_length or choose another row"
        )
    view = View(model.model, batch, definition, Telemetry(), reports=False)
    with torch.no_grad():
        before = view.upto(request.level)[tokens].mean(0)
    noisy = noisy_states(adversary, view, request.level)
    table = word_states(model, task, others, request.level)
    return {
        "name": run.name,
        "run": str(run.folder),
        "mode": adversary.options.mode,
        "uid": row.uid[0],
        "before": nearest(before, table, request),
        "after": None if noisy is None else nearest(noisy[tokens].mean(0), table, request),
    }


def _row(rows: Rows, request: Request) -> Rows:
    """The row that was asked for, alone."""
    word = request.word.lower()
    for number, uid in enumerate(rows.uid):
        texts = f"{rows.first[number]} {'' if rows.second is None else rows.second[number]}".lower()
        there = any(part.strip(punctuation) == word for part in texts.split())
        if there and request.uid in (None, uid):
            return part_of(rows, number)
    where = f"the row '{request.uid}'" if request.uid is not None else "any row"
    raise UserError(f"{rows.path}: no word '{request.word}' in {where}; choose another word, row or split")


def part_of(rows: Rows, number: int) -> Rows:
    """One row of some rows."""
    here = slice(number, number + 1)
    return replace(
        rows,
        uid=rows.uid[here],
        first=rows.first[here],
        second=None if rows.second is None else rows.second[here],
        label=None if rows.label is None else rows.label[here],
        extra={name: values[here] for name, values in rows.extra.items()},
        soft=None,
        locations=rows.locations[here],
    )


def word_tokens(
    tokenizer: PreTrainedTokenizerBase, rows: Rows, number: int, split: Prepared
) -> Iterator[tuple[str, list[int]]]:
    """Yields each word of a row in lower case, and the positions of its tokens in the row.

    Raises:
        UserError: the tokenizer does not say which tokens are a word.
    """
    if not is_fast(tokenizer):
        raise UserError(f"{type(tokenizer).__name__}: does not say which tokens are a word; use a fast tokenizer")
    texts = [rows.first[number], *([] if rows.second is None else [rows.second[number]])]
    encoded = tokenizer(*texts, truncation=True, max_length=int(split.lengths[number]), return_offsets_mapping=True)
    words: dict[tuple[int, int], list[int]] = {}
    for position, (text, word) in enumerate(zip(encoded.sequence_ids(0), encoded.word_ids(0), strict=True)):
        if text is not None and word is not None:
            words.setdefault((text, word), []).append(position)
    for (text, _), positions in words.items():
        bounds = [encoded["offset_mapping"][position] for position in (positions[0], positions[-1])]
        name = texts[text][bounds[0][0] : bounds[1][1]].strip().strip(punctuation).lower()
        if name:
            yield name, positions


@torch.no_grad()
def word_states(model: TrainedModel, task: str, rows: Rows, level: int) -> dict[str, Tensor]:
    """The mean state of each word of some rows at a level: word → (H,)."""
    split = encode_rows(rows, model.task(task), model.tokenizer, max_length=model.config.data.max_length)
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for numbers in build_passes(model.config, _device(model)).batches(split.lengths):
        batch = collate(split, numbers, task=task).to(_device(model))
        states = model.model.upto(level, batch)
        for number, begin in zip(numbers.tolist(), batch.offsets.tolist(), strict=False):
            for word, positions in word_tokens(model.tokenizer, rows, number, split):
                state = states[[begin + position for position in positions]].mean(0)
                sums[word] = sums[word] + state if word in sums else state
                counts[word] = counts.get(word, 0) + 1
    return {word: total_state / counts[word] for word, total_state in sums.items()}


def nearest(state: Tensor, table: dict[str, Tensor], request: Request) -> list[Record]:
    """The words of a table with the largest cosine to a state, (H,), without the word itself."""
    words = sorted(word for word in table if word != request.word.lower() and not word.isdigit())
    states = torch.stack([table[word] for word in words])
    cosines = torch.nn.functional.cosine_similarity(states.double(), state.double(), dim=1).cpu().numpy()
    order = np.argsort(-cosines, kind="stable")[: request.top]
    return [{"word": words[number], "similarity": float(cosines[number])} for number in order]


def _device(model: TrainedModel) -> torch.device:
    return next(model.model.parameters()).device
