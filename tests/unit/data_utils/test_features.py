"""Rows to token ids: chunks, truncation, tokenizers of other families, and no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import data_utils.features
from data_utils.errors import UserError
from data_utils.features import encode, load_tokenizer
from data_utils.rows import Rows
from tests import ROOT
from tests.tiny import tiny_tokenizer

PREMISES = ["the cat", "", "a small red bird sees the old man .", "dog"]
HYPOTHESES = ["a dog sees", "the", "not", "the woman , the man , the cat and a blue bird"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return load_tokenizer(str(folder))


def rows(*, pair: bool = True) -> Rows:
    uid = [str(i) for i in range(len(PREMISES))]
    return Rows(Path("x.tsv"), uid, PREMISES, HYPOTHESES if pair else None, label=None, extra={})


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("max_length", [4, 7, 12, 64])
def test_encoded_rows_are_the_tokenizers_own(
    tokenizer: Any, pair: bool, max_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_utils.features, "CHUNK", 3)
    encoded = encode(rows(pair=pair), tokenizer, max_length)
    columns = (PREMISES, HYPOTHESES) if pair else (PREMISES,)
    texts = list(zip(*columns, strict=True))
    options = {"truncation": "longest_first", "max_length": max_length, "return_token_type_ids": True}
    each = [tokenizer(*row, **options) for row in texts]
    whole = [tokenizer(*row)["input_ids"] for row in texts]
    assert encoded.tokens.tolist() == [token for row in each for token in row["input_ids"]]
    assert encoded.token_types.tolist() == [kind for row in each for kind in row["token_type_ids"]]
    assert encoded.lengths.tolist() == [min(len(ids), max_length) for ids in whole]
    assert encoded.truncated == sum(len(ids) > max_length for ids in whole)


def test_two_very_long_texts_are_cut_before_the_library_sees_them(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it needs memory for each part of one text with each part of the other."""
    texts = [["the cat and the dog " * 5, "the cat"], ["a small red bird " * 6, "the old man " * 9]]
    monkeypatch.setattr(data_utils.features, "VERY_LONG", 50)
    longest: list[int] = []
    call = data_utils.features._call

    def watched(tokenizer: Any, columns: list[list[str]], max_length: int | None = None, **options: bool) -> Any:
        longest.extend(len(text) for column in columns for text in column if max_length)
        return call(tokenizer, columns, max_length, **options)

    monkeypatch.setattr(data_utils.features, "_call", watched)
    encoded = encode(Rows(Path("x.tsv"), ["0", "1"], texts[0], texts[1], label=None, extra={}), tokenizer, 5)
    options = {"truncation": "longest_first", "max_length": 5}
    expected = [tokenizer(*row, **options)["input_ids"] for row in zip(*texts, strict=True)]
    assert encoded.tokens.tolist() == [token for ids in expected for token in ids] and encoded.truncated == 2
    (first, short), (second, long) = ([len(text) for text in column] for column in texts)
    assert longest[0] < first and longest[2] < second  # the row whose texts are both long
    assert [longest[1], longest[3]] == [short, long]


@pytest.mark.parametrize(("pair", "special"), [(True, 3), (False, 2)])
def test_a_max_length_without_room_for_text_is_refused(tokenizer: Any, pair: bool, special: int) -> None:
    for max_length in (special, 1):
        with pytest.raises(UserError, match=f"max_length: {max_length} leaves no room .* {special} special tokens"):
            encode(rows(pair=pair), tokenizer, max_length)
    assert encode(rows(pair=pair), tokenizer, special + 1).lengths.max() == special + 1


def test_a_tokenizer_without_segments_gives_zeros(tmp_path: Path) -> None:
    """As those of RoBERTa and XLM-R do; its special tokens and their number are its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "the", "cat", "dog"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(tmp_path)
    encoded = encode(rows(), load_tokenizer(str(tmp_path)), 64)
    assert encoded.tokens[: encoded.lengths[0]].tolist() == [0, 4, 5, 2, 2, 3, 6, 3, 2]
    assert not encoded.token_types.any() and len(encoded.token_types) == len(encoded.tokens)


NO_TORCH = """
import sys
from importlib.machinery import PathFinder
class WithoutTorch(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "torch" else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch
from pathlib import Path
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs
folder = Path(sys.argv[1])
task = load_task_defs(folder / "tasks.yml")["mine"]
options = {"data_dir": folder, "cache_dir": folder / "cache", "max_length": 16}
split = prepare(task, "train", tokenizer=load_tokenizer(str(folder / "tokenizer")), **options)
assert split.labels.tolist() == [1, 0] and len(split.tokens) == 8
assert not any(name.partition(".")[0] == "torch" for name in sys.modules)
"""


def test_rows_are_prepared_where_torch_is_not_installed(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "tasks.yml").write_text("mine:\n  task_type: classification\n  data_format: single\n")
    (tmp_path / "mine_train.tsv").write_text("1\t1\tthe cat\n2\t0\ta dog\n")
    subprocess.run([sys.executable, "-c", NO_TORCH, str(tmp_path)], check=True, cwd=ROOT)
