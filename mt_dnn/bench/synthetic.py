"""A task that needs no data: made-up words in rows as long as those of a known data set, and an encoder of any shape.

Everything is written to a folder as a user would write it. So all that reads a run file can be measured with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from data_utils.errors import UserError, did_you_mean
from mt_dnn.bench.lengths import PERCENTILES, draw_lengths
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config

BERT = {"model_type": "bert", "vocab_size": 30522}
XLMR = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def _size(hidden: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "minilm": {**BERT, **_size(384, 6, 12)},
    "base": {**BERT, **_size(768, 12, 12)},
    "large": {**BERT, **_size(1024, 24, 16)},
    "xlmr-large": {**XLMR, **_size(1024, 24, 16)},
}
WORDS_TASKS = ("conll2000_chunk", "wnut17")  # a label for every word; rows of all other data sets have one label
ROWS, LONGEST = 1024, 512


@contextmanager
def run_config(
    path: Path | None, overrides: Sequence[str], *, shape: str | None = None, lengths: str | None = None
) -> Iterator[RunConfig]:
    """The configuration of a run file, or without one of a made-up task, which exists as long as the context is open.

    Args:
        shape: a name among ``SHAPES``. Default: minilm.
        lengths: a name among ``PERCENTILES``. Default: rte.

    Raises:
        UserError: an unknown name, or a shape or lengths beside a run file, which says both itself.
    """
    if path is None:
        with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
            made = write_run(Path(folder), shape=shape or "minilm", lengths=lengths or "rte")
            yield load_config(made, overrides)
        return
    for option, value in (("--shape", shape), ("--lengths", lengths)):
        if value is not None:
            raise UserError(f"{option} {value}: {path} already says what to measure; give one of them")
    yield load_config(path, overrides)


def write_run(folder: Path, *, shape: str, lengths: str, rows: int | None = None, seed: int = 0) -> Path:
    """Writes a tokenizer, training rows, a task file and a run file into the folder. Returns the run file.

    The encoder of the run has random weights. Its shape stands in the run file. The same ``seed`` makes the same rows.

    Raises:
        UserError: an unknown shape, or lengths of no known data set.
    """
    for option, name, known in (("--shape", shape, SHAPES), ("--lengths", lengths, PERCENTILES)):
        if name not in known:
            raise UserError(f"{option}: '{name}' is unknown{did_you_mean(name, known)} (known: {', '.join(known)})")
    config = SHAPES[shape]
    words = write_tokenizer(folder / "tokenizer", config["vocab_size"], config.get("pad_token_id", 0))
    rng, by_word = np.random.default_rng(seed), lengths in WORDS_TASKS
    counts = draw_lengths(lengths, rows or ROWS, longest=LONGEST, rng=rng) - 2  # without the two special tokens
    numbers = np.split(draw_words(int(counts.sum()), words, rng), np.cumsum(counts)[:-1])
    (folder / "data").mkdir()
    with (folder / "data" / f"{lengths}_train.tsv").open("w", encoding="utf-8") as stream:
        stream.write(f"uid\tlabel\t{'words' if by_word else 'premise'}\n")
        for uid, row in enumerate(numbers):
            label = " ".join(("O", "B-X")[number % 2] for number in row) if by_word else "ab"[uid % 2]
            stream.write(f"{uid}\t{label}\t{' '.join(f'w{number}' for number in row)}\n")
    task = {"task_type": "classification", "data_format": "single", "labels": ["a", "b"], "splits": ["train"]}
    if by_word:
        task |= {"task_type": "sequence_labelling", "data_format": "words", "labels": ["O", "B-X"]}
    run = {
        "task_defs": str(folder / "tasks.yml"),
        "data": {"dir": str(folder / "data"), "max_length": LONGEST},
        "encoder": {"config": config, "tokenizer": str(folder / "tokenizer")},
        "output": str(folder / "run"),
    }
    (folder / "tasks.yml").write_text(yaml.safe_dump({lengths: task}), encoding="utf-8")
    (folder / "run.yml").write_text(yaml.safe_dump(run), encoding="utf-8")
    return folder / "run.yml"


def write_tokenizer(folder: Path, vocabulary: int, padding: int) -> int:
    """Writes a tokenizer of the words w0, w1, …, each one token. Returns how many words it has.

    Args:
        vocabulary: the number of tokens, with special ones.
        padding: the id of the padding token, 0 or 1.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    if padding == 1:
        special[:2] = ["[CLS]", "[PAD]"]
    tokens = {token: number for number, token in enumerate(special)}
    words = vocabulary - len(special)
    tokens |= {f"w{number}": number + len(special) for number in range(words)}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokens[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = {f"{token[1:-1].lower()}_token": token for token in special}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return words


def draw_words(count: int, words: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the numbers of ``count`` words, (count,). Word i has a share in proportion to 1/(i + 3), as in real texts.

    How many different words a batch has decides what the gradient of the word embeddings costs.
    """
    shares = np.cumsum(1 / (np.arange(words) + 3.0))
    return np.searchsorted(shares / shares[-1], rng.random(count))
