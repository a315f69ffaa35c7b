"""YAML that no file of settings needs is refused in one line, before it is made into values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from data_utils.errors import UserError
from data_utils.files import LONGEST_TEXT
from data_utils.yaml_files import parse_yaml, read_yaml_file

BOMB = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


def read(text: str) -> object:
    return parse_yaml(text, "a.yml", yaml.safe_load)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 3000 + "]" * 3000, "a.yml:1: is nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "a.yml:1: is nested too deeply"),
        ("".join(" " * depth + "a:\n" for depth in range(400)), "nested too deeply"),
        ("".join(f"- &a{n} [{'*a' + str(n - 1) if n else ''}]\n" for n in range(60)), "a.yml:51: is nested too deeply"),
        ("a: &a {b: *a}", "a.yml:1: a value holds itself"),
        (f"a: &a [{', '.join('x' * 9)}]\n{BOMB}", "a.yml:6: has more than 200,000 values"),
        ("a: 1\nb: " + "9" * 5000, "a.yml:2: a number of 5,000 digits"),
        ("a: 0x" + "f" * 5000, "a.yml:1: a number of 5,002 digits"),
        ('a: "x\\0y"', "a.yml:1: 'x\\x00y' holds a character that is no text"),
        ('a: "\\ud800"', "holds a character that is no text"),
        ("a: !!set {x, y}", "a.yml:1: the tag 'tag:yaml.org,2002:set' is not read here"),
        ("a: !!python/object:os.system x", "python/object:os.system' is not read here"),
        ("a: !!int x", "a.yml: not readable as YAML: invalid literal"),
        ("a: !!bool x", "a.yml: not readable as YAML: 'x'"),
        ("a: !!timestamp x", "a.yml: not readable as YAML: "),
        ("a: 2020-13-45", "a.yml: not readable as YAML: month must be in 1..12"),
        ("a: [1", "a.yml:1: not readable as YAML: "),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_no_content_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        read(text)
    assert said in str(found.value) and len(str(found.value)) < 400


def test_usual_content_is_what_the_parser_makes_of_it() -> None:
    text = "a: &a {b: [1, 2.5, null, yes, 2020-01-01]}\nc: {<<: *a, d: *a}\ne: '1'\n"
    assert read(text) == yaml.safe_load(text)
    assert read("") is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"

    def refused() -> str:
        with pytest.raises(UserError) as found:
            read_yaml_file(path, yaml.safe_load, "run file")
        return str(found.value).removeprefix(str(path))

    assert refused() == ": no such run file"
    path.mkdir()
    assert refused() == ": cannot be read (Is a directory)"
    path.rmdir()
    os.mkfifo(path)
    assert refused() == ": is a pipe, not a file; write what it gives into a file"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refused().startswith(": is a device or a socket, not a file")
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read" in refused()
    path.unlink()
    path.write_bytes(b"a: caf\xe9")
    assert refused() == ": not UTF-8 (unexpected end of data)"
    path.write_bytes("a: 1".encode("utf-16"))
    assert refused() == ": not UTF-8 (it is UTF-16; save it as UTF-8)"
    with path.open("wb") as stream:
        stream.truncate(LONGEST_TEXT + 1)
    assert refused() == f": has more than {LONGEST_TEXT:,} bytes, too many for a file of this kind"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml_file(path, yaml.safe_load) == {"a": 1}
