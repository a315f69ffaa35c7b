"""Foreign tables: damage that a reader meets in one line. Files that are complete or absent."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from data_utils.files import read_json, read_lines, replacing


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
    with pytest.raises(UserError, match=r"f.jsonl:3: unpaired surrogate"):
        read_json(r'{"premise": "a \ud83d b"}', "f.jsonl:3")
    with pytest.raises(UserError, match=r"f.jsonl:3: unpaired surrogate"):
        read_json(r'{"a": [{"b": "\uD800"}]}', "f.jsonl:3")
    assert read_json(r'{"premise": "\ud83d\ude00"}', "f.jsonl:3") == {"premise": "\N{GRINNING FACE}"}


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    steps: list[str] = []

    def watched(step: str, call: Any) -> Any:
        return lambda *arguments: [steps.append(step), call(*arguments)]  # type: ignore[func-returns-value]

    monkeypatch.setattr(os, "fsync", watched("flush", os.fsync))
    monkeypatch.setattr(Path, "replace", watched("rename", Path.replace))
    for content in (b"old", b"new"):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            assert temporary.parent == tmp_path and temporary.name.startswith(".")
            assert content == b"old" or path.read_bytes() == b"old"
        assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]
    assert steps == ["flush", "rename", "flush"] * 2


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "folder") as temporary:
        temporary.write_text("text")
    assert {entry.name for entry in tmp_path.iterdir()} == {"folder", "summary.json"}
