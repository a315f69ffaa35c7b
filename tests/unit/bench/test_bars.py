"""The picture is an SVG file whose bars are as long as the figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_utils.errors import UserError
from mt_dnn.bench.bars import LABEL, WIDTH, Bar, check_picture, write_bars


def test_bars_are_as_long_as_the_figures(tmp_path: Path) -> None:
    write_bars(tmp_path / "b.svg", "a < b", [Bar("first", 1), Bar("second", 4, mark=2)], "notes & versions")
    picture = ElementTree.parse(tmp_path / "b.svg").getroot()
    kinds = [part.tag.split("}")[1] for part in picture]
    assert kinds == ["text", "text", "rect", "text", "text", "rect", "path", "text", "text"]
    widths = [float(part.get("width", 0)) for part in picture if part.tag.endswith("rect")]
    assert widths == [WIDTH / 4, WIDTH] and picture[6].get("d", "").startswith(f"M{LABEL + WIDTH / 2:.1f} ")
    assert [picture[0].text, picture[-1].text] == ["a < b", "notes & versions"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("b.png", "the picture is an SVG file; give a name such as b.svg"), ("no/b.svg", "no folder no; make it first")],
)
def test_a_picture_that_cannot_be_written_is_refused_first(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_picture(Path(name))
    assert str(error.value) == f"--picture {name}: {message}"
