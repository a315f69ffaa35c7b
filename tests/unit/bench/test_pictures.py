"""Pictures are SVG files: bars are as long as the figures, curves stand where their values are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_utils.errors import UserError
from mt_dnn.bench.pictures import BAR, LABEL, Bar, Panel, check_picture, drawing, write_bars


def test_bars_are_as_long_as_the_figures(tmp_path: Path) -> None:
    write_bars(tmp_path / "b.svg", "a < b", [Bar("first", 1), Bar("second", 4, mark=2)], "notes & versions")
    picture = ElementTree.parse(tmp_path / "b.svg").getroot()
    kinds = [part.tag.split("}")[1] for part in picture]
    assert kinds == ["text", "text", "rect", "text", "text", "rect", "path", "text", "text"]
    widths = [float(part.get("width", 0)) for part in picture if part.tag.endswith("rect")]
    assert widths == [BAR / 4, BAR] and picture[6].get("d", "").startswith(f"M{LABEL + BAR / 2:.1f} ")
    assert [picture[0].text, picture[-1].text] == ["a < b", "notes & versions"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("b.png", "the picture is an SVG file; give a name such as b.svg"), ("no/b.svg", "no folder no; make it first")],
)
def test_a_picture_that_cannot_be_written_is_refused_first(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_picture(Path(name))
    assert str(error.value) == f"--picture {name}: {message}"


def test_curves_stand_where_their_values_are() -> None:
    panel = Panel("rows", "s < 1", (10, 100, 1000), {"linear": (1, 10, 100), "flat": (10, 10, 10)})
    tree = ElementTree.fromstring(drawing([panel, panel]))
    lines = [part.attrib["points"] for part in tree.iter("{http://www.w3.org/2000/svg}polyline")]
    linear, flat = ([tuple(map(float, point.split(","))) for point in line.split()] for line in lines[:2])
    assert len(lines) == 4 and lines[:2] == lines[2:]
    assert len({y for _, y in flat}) == 1 and linear[1][1] == flat[1][1]
    (x0, y0), (x1, y1), (x2, y2) = linear
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and x1 > x0
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y1 < y0  # up is less in SVG


def test_a_picture_may_have_no_bars(tmp_path: Path) -> None:
    write_bars(tmp_path / "b.svg", "nothing was measured", [], "notes")
    words = [part.text for part in ElementTree.parse(tmp_path / "b.svg").getroot()]
    assert words == ["nothing was measured", "notes"]
