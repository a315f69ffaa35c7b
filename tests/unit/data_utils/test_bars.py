"""Progress bars on a terminal and in a file."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from data_utils import bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **options: Any) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(bars.bar(range(5), "count", "item", delay=0, **options)) == [0, 1, 2, 3, 4]
    return stream.getvalue()


def test_a_terminal_gets_a_bar_that_is_drawn_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), mininterval=0)
    assert text.count("\r") > 5 and "5/5" in text


def test_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "LINE_EVERY_S", 0.0)
    lines = shown(monkeypatch, io.StringIO()).splitlines()
    assert [line.partition("|")[0] for line in lines[:2]] == ["count:   0%", "count:  20%"]
    assert all(line.startswith("count:") for line in lines)


def test_a_file_gets_a_line_only_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 9.0, 10.0, 12.0, 20.5, 21.0, 21.0, 21.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    lines = bars.Lines(stream)
    for state in ("\rfirst", "\rsecond", "\rthird", "\rfourth", "\rfifth", "\rsixth", "\r100 %", "\n", "\n"):
        assert lines.write(state) == len(state)
    assert stream.getvalue() == "first\nfourth\nsixth\n100 %\n"


def test_short_work_and_hidden_work_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"hidden": True}):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        list(bars.bar(range(5), "count", "item", **options))
        assert stream.getvalue() == ""


def test_a_bar_inside_another_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with bars.inside_bar():
        assert shown(monkeypatch, Terminal(), mininterval=0) == ""
    assert "5/5" in shown(monkeypatch, Terminal(), mininterval=0)
