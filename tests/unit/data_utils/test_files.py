"""Foreign tables: damage that a reader meets in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_utils.errors import UserError
from data_utils.files import read_json, read_lines, read_object


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_gz_is_one_line(damage: str, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\ta line\n" % i for i in range(5000)))
    path = tmp_path / "rows.tsv.gz"
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no gzip at all")
    with pytest.raises(UserError, match=r"rows.tsv.gz: the compressed file is damaged or cut off"):
        list(read_lines(path))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").mkdir()
    for name, reason in (("train.tsv", "Is a directory"), ("dev.tsv", "No such file or directory")):
        with pytest.raises(UserError, match=rf"{name}: cannot be read \({reason}\)"):
            list(read_lines(tmp_path / name))


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UserError, match=r"f.jsonl:3: half of a character"):
        read_object(r'{"premise": "a \ud83d b"}', "f.jsonl:3")
    with pytest.raises(UserError, match=r"f.jsonl:3: half of a character"):
        read_json(r'{"a": [{"b": "\uD800"}]}', "f.jsonl:3")
    assert read_object(r'{"premise": "\ud83d\ude00"}', "f.jsonl:3") == {"premise": "\N{GRINNING FACE}"}
