"""Foreign tables: damage that a reader meets in one line. Files that are complete or absent."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import NotSaved, UserError
from data_utils.files import read_json, read_lines, replacing, write_json_lines


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
    (tmp_path / "folder").mkdir()
    for name, reason in (("folder", "Is a directory"), ("none/a.txt", "No such file"), ("summary.json/a", "Not a dir")):
        with (
            pytest.raises(UserError, match=rf"{name}: cannot be written \({reason}") as raised,
            replacing(tmp_path / name) as temporary,
        ):
            temporary.write_text("text")
        assert raised.value.exit_code == 2
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"folder", "summary.json"}


def test_an_error_of_another_file_is_not_one_of_the_output(tmp_path: Path) -> None:
    for error in (FileNotFoundError(errno.ENOENT, "No such file", "input.txt"), ConnectionRefusedError(111, "refused")):
        with pytest.raises(type(error)) as raised, replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error
        assert raised.value is error and list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_bad_input(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "an internal name")
    message = r"a.txt: cannot be written \(No space left on device\)"
    with pytest.raises(NotSaved, match=message) as raised, replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise full
    assert raised.value.exit_code == 1 and list(tmp_path.iterdir()) == []


def test_a_link_and_what_is_no_file_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    (tmp_path / "folder" / "file").chmod(0o640)
    write_json_lines(tmp_path / "link", [{"a": "ä"}, 2])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "file").read_text() == '{"a": "ä"}\n2\n'
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o640
    write_json_lines(Path("/dev/null"), [1])
    assert not Path("/dev/null").is_file()
