"""Encoders that experiments/encoders/make.py writes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from data_utils.errors import UserError

FOLDER = Path(__file__).parents[3] / "experiments/encoders"
MADE = os.environ.get("MT_DNN_ENCODERS")  # a folder with the encoders that make.py has written, by name

needs_encoders = pytest.mark.skipif(MADE is None, reason="MT_DNN_ENCODERS names no folder of made encoders")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # as when make.py is started


PIECES: list[list[Any]] = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
PIECES += [["▁", -3.0], ["a", -4.0], ["b", -4.0], ["▁ab", -2.0], ["c", -4.0], ["▁c", -2.5], ["<mask>", 0.0]]


def unigram() -> dict[str, Any]:
    """The tokenizer.json of a tiny XLM-R."""
    special = {token: i for i, (token, _) in enumerate(PIECES) if token.startswith("<")}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for token, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*template, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [*template, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                token: {"id": token, "ids": [special[token]], "tokens": [token]} for token in ("<s>", "</s>")
            },
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": PIECES, "byte_fallback": False},
    }


def test_removed_pieces_leave_the_texts_as_they_were() -> None:
    from parts import WORDS, Parts, bert_config, keep_pieces

    words = np.random.default_rng(0).normal(size=(len(PIECES), 4)).astype(np.float32)
    config = bert_config(vocab_size=len(PIECES), pad_token_id=1)
    texts = ["ab ab", "c ab"]
    kept = keep_pieces(Parts(config, {WORDS: words}, unigram(), {}), texts)
    before, after = (Tokenizer.from_str(json.dumps(tokenizer)) for tokenizer in (unigram(), kept.tokenizer))
    assert after.get_vocab_size() == 7 == kept.config["vocab_size"]  # five special ones, ▁ab and ▁c
    assert kept.config["pad_token_id"] == after.token_to_id("<pad>")
    for text in texts:
        old, new = before.encode(text), after.encode(text)
        assert old.tokens == new.tokens
        np.testing.assert_array_equal(words[old.ids], kept.weights[WORDS][new.ids])
    assert after.encode("b").ids[1] == after.token_to_id("<unk>")


def test_pieces_of_another_kind_of_tokenizer_stay() -> None:
    from parts import Parts, bert_config, keep_pieces

    from data_utils.errors import UserError

    with pytest.raises(UserError, match="Unigram tokenizer only, not from WordPiece"):
        keep_pieces(Parts(bert_config(), {}, {"model": {"type": "WordPiece"}}, {}), ["text"])


def test_four_bit_matrix() -> None:
    """A block has a float16 scale and 16 bytes. The low half of byte j is weight j, the high half weight j + 16."""
    from e5_multilingual import BLOCK, _File

    rng = np.random.default_rng(1)
    values, scales = rng.integers(0, 16, size=(4, BLOCK)), rng.random(4).astype("<f2")
    blocks = b"".join(
        scale.tobytes() + bytes(int(low) | int(high) << 4 for low, high in zip(row[:16], row[16:], strict=True))
        for scale, row in zip(scales, values, strict=True)
    )
    name = b"w"
    head = b"E5S1" + bytes(4) + struct.pack("<7i", 64, 1, 1, 1, 2, 1, 1) + struct.pack("<fi", 1e-12, BLOCK)
    head += struct.pack("<5iQ", 0, 0, 2, 1, 3, 0) + struct.pack("<i", 0) + struct.pack("<iI", 0, 0)
    entry = struct.pack("<H", len(name)) + name + struct.pack("<BI", 1, values.size)
    start = len(head) + 4 + len(entry) + 16
    file = _File(head + struct.pack("<i", 1) + entry + struct.pack("<QQ", start, len(blocks)) + blocks)
    expected = (values - 8) * scales.astype(np.float32)[:, None]
    np.testing.assert_array_equal(file.matrix("w", 2, 64), expected.reshape(2, 64).astype(np.float32))


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, str(FOLDER / "make.py"), "e5-multilingual", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@needs_encoders
@pytest.mark.parametrize(
    ("name", "pieces", "values"),
    [
        ("distilbert-cased", ["[CLS]", "Hello", "world", "[SEP]"], [0.0888, 0.0227, -0.0293, -0.6363]),
        ("e5-multilingual", ["<s>", "▁Hello", "▁world", "</s>"], [0.1859, 0.0632, -0.1895, -0.3441]),
    ],
)
def test_outputs_of_the_encoders(name: str, pieces: list[str], values: list[float]) -> None:
    folder = Path(str(MADE)) / name
    model, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert set(loading["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert not loading["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("Hello world", return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(inputs.input_ids[0]) == pieces
    with torch.no_grad():
        states = model.eval()(**inputs).last_hidden_state
    np.testing.assert_allclose(states[0, 0, :4], values, atol=2e-4)


@pytest.mark.parametrize("name", ["e5_multilingual", "distilbert_cased", "make"])
def test_encoders_are_known_without_onnx(name: str) -> None:
    program = f"import sys; sys.modules['onnx'] = None; import {name}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_an_encoder_without_onnx_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import distilbert_cased

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"^distilbert-cased: needs onnx; pip install -e '\.\[encoders\]'$"):
        distilbert_cased.read(tmp_path)


def test_an_output_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, str(FOLDER / "make.py"), "e5-multilingual", "--output", str(tmp_path / "file")]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"make.py: --output {tmp_path / 'file'}: is a file; name a new folder\n"
