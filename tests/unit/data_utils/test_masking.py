"""Which tokens are masked, and how: whole words, anew at every step, the same whoever does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.masking import masked, numbered
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches import collate as collating
from mt_dnn.batches.collate import collate, local_batch, share_of_rank
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.tasks.masked_lm import MaskedTokens
from tests.answers import computed
from tests.tiny import tiny_encoder

TASK = TaskDef(name="m", task_type="masked_lm", data_format="pair", **TASK_TYPES["masked_lm"].defaults)
OPTIONS: dict[str, Any] = {"mask_id": 4, "vocabulary": 1000}


@pytest.fixture(scope="module", params=["bert", "roberta"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(str(tiny_encoder(tmp_path_factory.mktemp(request.param), request.param)))


def read(folder: Path, tokenizer: Any, rows: list[str], **options: Any) -> Prepared:
    (folder / "m_dev.tsv").write_text("\n".join(["uid\tlabel\tpremise\thypothesis", *rows]) + "\n")
    chosen = {"data_dir": folder, "cache_dir": folder / "cache", "tokenizer": tokenizer, "max_length": 64, **options}
    return prepare(TASK, "dev", **chosen)


def test_words_are_counted_through_both_texts() -> None:
    texts, words = [None, 0, 0, 0, None, 1, 1, None], [None, 0, 0, 1, None, 0, 1, None]
    assert numbered(texts, words).tolist() == [-1, 0, 0, 1, -1, 2, 3, -1]


def test_all_tokens_of_a_word_are_masked_and_special_ones_never() -> None:
    words = np.array([-1, *np.repeat(np.arange(20), 3), -1], np.int32)
    tokens = np.arange(100, 162, dtype=np.int32)
    for place in range(50):
        positions, shown = masked(tokens, words, seed=1, position=place, **OPTIONS)
        assert len(positions) == len(shown) == 9 and len(set(words[positions])) == 3 and words[positions].min() >= 0
        again = masked(tokens, words, seed=1, position=place, **OPTIONS)
        assert np.array_equal(positions, again[0]) and np.array_equal(shown, again[1])
    drawn = {tuple(masked(tokens, words, seed=seed, position=0, **OPTIONS)[0]) for seed in range(50)}
    assert len(drawn) > 40


def test_shares_of_mask_random_and_kept_tokens() -> None:
    """80, 10 and 10 % of many; every word is as likely as another."""
    words, tokens = np.arange(100, dtype=np.int32), np.full(100, 77, np.int32)
    counts, kinds = np.zeros(100), np.zeros(3)
    for place in range(2000):
        positions, shown = masked(tokens, words, seed=5, position=place, **OPTIONS)
        counts[positions] += 1
        kinds += [(shown == 4).sum(), ((shown != 4) & (shown != 77)).sum(), (shown == 77).sum()]
    assert kinds.sum() == 2000 * 15
    assert kinds / kinds.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert abs(counts - 300).max() < 5 * np.sqrt(300)


def test_one_word_is_masked_at_least() -> None:
    assert masked(np.array([2, 9, 3]), np.array([-1, 0, -1]), seed=0, position=0, **OPTIONS)[0].tolist() == [1]


def test_ranks_share_the_masks_of_a_batch(tokenizer: Any, tmp_path: Path) -> None:
    split = read(tmp_path, tokenizer, [f"{i}\t\tthe cat unsees {'dog ' * i}bird\tnot 2b" for i in range(7)])
    rows = np.array([5, 0, 3, 2, 6])
    one = collate(split, rows, task="m", share=share_of_rank(split.lengths[rows], 0, 1, 9))
    shares = [share_of_rank(split.lengths[rows], rank, 2, 9) for rank in range(2)]
    found: dict[int, list[int]] = {}
    for share in shares:
        batch = collate(split, rows, task="m", share=share)
        for place, ids in zip(share.positions, batch.input_ids.split(batch.lengths.tolist()), strict=True):
            found[place] = ids.tolist()
    assert [found[place] for place in range(5)] == [i.tolist() for i in one.input_ids.split(one.lengths.tolist())]


def test_a_mask_is_drawn_once(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All masks of a batch give its number of decisions; a rank's batch has those of its rows."""
    split = read(tmp_path, tokenizer, [f"{i}\t\tthe cat unsees {'dog ' * i}bird\tnot 2b" for i in range(7)])
    rows = np.array([5, 0, 3, 2, 6])
    expected = collate(split, rows, task="m", share=share_of_rank(split.lengths[rows], 0, 1, 9))
    drawn: list[int] = []
    draw = Prepared.masked

    def watched(self: Prepared, row: int, *, seed: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(int(row))
        return draw(self, row, seed=seed, position=position)

    monkeypatch.setattr(Prepared, "masked", watched)
    batches = []
    for number in range(2):
        monkeypatch.setattr(collating, "rank", lambda number=number: number)
        monkeypatch.setattr(collating, "world_size", lambda: 2)
        batches.append(local_batch(split, MicroBatch("m", rows), 9))
        assert drawn == rows.tolist()
        drawn.clear()
    assert expected.labels is not None
    assert {sum(batch.share.decisions) for batch in batches} == {len(expected.labels)}
    texts = expected.input_ids.split(expected.lengths.tolist())
    for batch in batches:
        found = batch.input_ids.split(batch.lengths.tolist())
        assert all(ids.equal(texts[position]) for ids, position in zip(found, batch.share.positions, strict=True))


def test_a_batch_asks_for_the_tokens_that_stood_there(tokenizer: Any, tmp_path: Path) -> None:
    split = read(tmp_path, tokenizer, ["a\tx\tthe cat unsees a dog\tnot 2b", "b\ty\tbird\tthe old man"])
    assert split.labels is not None
    alone, batch = collate(split, [1], task="m"), collate(split, [0, 1], task="m")
    assert batch.labels is not None and batch.marked is not None and alone.marked is not None
    plain = np.concatenate([split.tokens[: split.offsets[1]], split.tokens[split.offsets[1] :]])
    assert batch.labels.tolist() == plain[batch.marked.numpy()].tolist()
    changed = np.flatnonzero(batch.input_ids.numpy() != plain)
    assert set(changed) <= set(batch.marked.tolist())
    assert (alone.marked + split.offsets[1]).tolist() == batch.marked[-len(alone.marked) :].tolist()  # fixed masks
    assert collate(split, [0, 1], task="m").input_ids.equal(batch.input_ids)


def test_the_constant_is_the_distribution_of_what_is_guessed(tokenizer: Any, tmp_path: Path) -> None:
    split = read(tmp_path, tokenizer, [f"{i}\t\tcat\tdog" for i in range(40)])
    (constant,) = MaskedTokens().constants(TASK, split)
    answers = MaskedTokens().answers(TASK, split, constant)
    _, counts = np.unique(answers.labels, return_counts=True)
    shares = counts / counts.sum()
    found = computed(TASK.metrics, predictions=answers.predictions, labels=answers.labels, scores=answers.scores)
    assert found["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["accuracy"] == pytest.approx(shares.max())
    lines, gold = list(MaskedTokens().records(TASK, split, constant)), list(MaskedTokens().gold(TASK, split))
    assert len(lines) == len(gold) == 40
    assert all(len(line["prediction"]) == len(right) for line, right in zip(lines, gold, strict=True))


def test_a_text_of_which_nothing_is_left_is_one_line(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_encoder(tmp_path / "bert", "bert")))
    with pytest.raises(UserError, match=r"m_dev\.tsv:2: the tokenizer makes no token of this text"):
        read(tmp_path, tokenizer, ["a\t\t \t\u200b"])
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="has no mask token"):
        read(tmp_path, tokenizer, ["a\t\tcat\tdog"])
