"""A workload without data: its rows are as long as the known data set's, its encoder has the shape asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_utils.errors import UserError
from experiments.baseline.lengths import entry
from mt_dnn.bench import lengths
from mt_dnn.bench.lengths import PERCENTILES, draw_lengths
from mt_dnn.bench.synthetic import SHAPES, draw_words, run_config, write_tokenizer
from mt_dnn.bench.workload import build_workload

# The means of the training rows, which experiments/baseline/lengths.py prints beside the percentiles.
MEANS = {"rte": 70.20, "cola": 11.33, "mnli": 38.03, "sst2": 13.32, "mrpc": 53.24, "squad": 154.41}
MEANS |= {"conll2000_chunk": 29.87, "wnut17": 31.32}
TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=1", "hidden_size=12", "intermediate_size=24")]


@pytest.mark.parametrize("name", PERCENTILES)
def test_drawn_lengths_have_the_mean_of_the_data_set(name: str) -> None:
    drawn = draw_lengths(name, 1024, longest=512, rng=np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(MEANS[name], rel=0.02)
    assert PERCENTILES[name][0] <= drawn.min() and drawn.max() <= PERCENTILES[name][-1]
    assert len(PERCENTILES[name]) == 101 and list(PERCENTILES[name]) == sorted(PERCENTILES[name])


def test_rows_above_the_longest_are_cut() -> None:
    assert draw_lengths("squad", 200, longest=100, rng=np.random.default_rng(0)).max() == 100


def test_words_are_drawn_in_proportion_to_their_rank() -> None:
    counts = np.bincount(draw_words(100_000, 1000, np.random.default_rng(0)), minlength=1000)
    shares = 1 / (np.arange(1000) + 3.0)
    assert counts[:20] / 100_000 == pytest.approx(shares[:20] / shares.sum(), rel=0.1)


@pytest.mark.parametrize(("lengths", "by_word"), [("rte", False), ("wnut17", True)])
def test_rows_have_the_lengths_and_known_words(lengths: str, by_word: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 64)
    with run_config(None, [*TINY, "encoder.config.vocab_size=30522", "device=cpu"], lengths=lengths) as config:
        work = build_workload(config, "bench")
        folder = config.data.dir
        assert np.array_equal(np.sort(work.split.lengths), np.sort(draw(lengths, len(work.split))))
        assert work.split.manifest["unknown_share"] == 0 and (work.split.decisions is not None) == by_word
        assert work.seconds(work.stepper(config.adversary), work.chunk(1)) > 0
    assert not folder.exists()


def draw(lengths: str, count: int) -> np.ndarray:
    return draw_lengths(lengths, count, longest=512, rng=np.random.default_rng(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_tokenizer_and_encoder_belong_together(shape: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    settings = {**SHAPES[shape], "vocab_size": 100}
    words = write_tokenizer(tmp_path, 100, settings.get("pad_token_id", 0))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    assert tokenizer.pad_token_id == config.pad_token_id and len(tokenizer) == config.vocab_size == words + 5
    assert tokenizer("w0 w94")["input_ids"] == [tokenizer.cls_token_id, 5, 99, tokenizer.sep_token_id]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (None, {"shape": "bse"}, "--shape: 'bse' is unknown, did you mean 'base'?"),
        (None, {"lengths": "snli"}, "--lengths: 'snli' is unknown"),
        ("run.yml", {"shape": "base"}, "--shape base: run.yml already says what to measure"),
    ],
)
def test_what_is_unknown_is_refused(
    path: str | None, options: dict[str, str], message: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    with (
        pytest.raises(UserError) as error,
        run_config(
            None if path is None else Path(path), [], shape=options.get("shape"), lengths=options.get("lengths")
        ),
    ):
        pass
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", PERCENTILES)
def test_the_table_of_lengths_is_what_its_script_prints(name: str) -> None:
    assert entry(name, PERCENTILES[name]) in Path(lengths.__file__).read_text(encoding="utf-8")
