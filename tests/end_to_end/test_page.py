"""The page of a study: all of it is in the file, it reads without scripts and on a phone, and it sorts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.studies.figures import draw_file
from mt_dnn.studies.page import check_ours, write_page
from mt_dnn.studies.records import save_records
from mt_dnn.studies.report import Report
from mt_dnn.studies.study import load_study
from tests.studies import all_records, made_up_grid

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="red"/></svg>'
)
MEANS = {"plain": 0.71, "freelb": 0.75, "vat": 0.73}
NEAR = [{"word": "<could>", "similarity": 0.73467}, {"word": "may", "similarity": 0.5}]
NEIGHBOURS = {"kind": "neighbours", "runs": [{"name": "plain", "before": NEAR, "after": NEAR[1:]}]}
PAPER = "t: {columns: {rte: [accuracy]}, rows: {plain: {rte: [63.5]}, vat: {rte: [71.2]}}}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "paper.yml").write_text(PAPER)
    published = {"file": str(folder / "paper.yml"), "table": "t"}
    figures = {
        "words_near": {"kind": "neighbours", "runs": {"plain": {"method": "plain"}}, "options": {"task": "rte"}},
        "later": {"kind": "robustness", "runs": {"plain": {"method": "plain"}}},
    }
    grid = made_up_grid(folder, title="A < B & C", published=published, figures=figures)
    assert load_study(folder / "study.yml").title == "A < B & C"
    records = all_records(grid, lambda run, *_: MEANS[run.cell.labels["method"]] + 0.001 * run.seed)
    save_records(folder / "records.jsonl", records.values())
    first = sorted(record["run"] for record in records.values())[0]
    (folder / "runs" / first).mkdir(parents=True)
    (folder / "html").mkdir()
    (folder / "html" / "learning_curves.svg").write_text(PICTURE)
    (folder / "html" / "learning_curves.png").write_bytes(b"the same as pixels")
    (folder / "html" / "words_near.json").write_text(json.dumps(NEIGHBOURS))
    commands = {"sweep": "mt-dnn sweep s.yml", "report": "mt-dnn report s.yml"}
    report = Report(grid, commands, folder / "runs", records=folder / "records.jsonl")
    return write_page(report, folder / "html")


def test_a_page_of_somebody_else_stays(page: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UserError, match="was not written by mt-dnn report; choose another folder with --html"):
        check_ours(tmp_path / "index.html")
    check_ours(page)
    check_ours(tmp_path / "missing.html")


class Cells(HTMLParser):
    """The texts of the rows of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_the_file_has_everything_and_asks_for_nothing(page: Path) -> None:
    text = page.read_text()
    assert "<h1>A &lt; B &amp; C</h1>" in text
    assert not re.search(r"(src|href)=\"?(https?:)?//", text) and "@import" not in text
    assert re.findall(r'<img alt="([^"]+)" src="(data:image/svg\+xml;base64,)', text) == [
        ("learning curves", "data:image/svg+xml;base64,")
    ]
    rows = Cells(text).rows
    assert rows[0] == ["", "rte accuracy", "mrpc accuracy", "mrpc f1", "average"]
    assert rows[1][:2] == ["plain", "71.2 ± 0.1"] and rows[2][:2] == ["published", "63.5"]
    assert ["", "adversary.mode"] in rows and ["freelb", "freelb"] in rows  # settings that differ
    assert "<h2>words near</h2>" in text and "later" not in text  # an analysis that is not made yet
    at = rows.index(["rank", "plain", "plain + noise"])
    assert rows[at + 1 : at + 3] == [["1", "<could> 0.7347", "may 0.5000"], ["2", "may 0.5000", ""]]
    assert "mt-dnn sweep s.yml\nmt-dnn report s.yml" in text
    (link,) = re.findall(r'<a href="([^"]+)"', text)
    assert (page.parent / link).is_dir() and text.count("<li>") > 18


def chromium(*options: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


LOOK = """<script>
const names = group => [...group.rows].map(row => row.cells[0].textContent).join("+");
const rows = () => [...document.querySelector("table").tBodies].map(names);
const head = document.querySelectorAll("thead th")[1];
const found = {before: rows(), width: document.documentElement.scrollWidth, window: window.innerWidth};
head.querySelector("button").click();
found.down = rows(); found.sorted = head.getAttribute("aria-sort");
head.querySelector("button").click();
found.up = rows();
document.body.innerHTML = "<pre id=found>" + JSON.stringify(found) + "</pre>";
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_the_page_sorts_and_fits_a_phone(page: Path, tmp_path: Path) -> None:
    looked = tmp_path / "looked.html"
    looked.write_text(page.read_text().replace("</body>", LOOK + "</body>"))
    made = chromium("--window-size=390,844", "--dump-dom", looked.as_uri())
    assert "CONSOLE" not in made.stderr, made.stderr
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', made.stdout, re.S)
    found = json.loads(text)
    groups = ["plain+published+difference", "freelb", "vat+published+difference"]
    assert found["before"] == groups
    assert found["down"] == [groups[1], groups[2], groups[0]] and found["sorted"] == "descending"
    assert found["up"] == [groups[0], groups[2], groups[1]]
    assert found["width"] <= found["window"]  # wide tables scroll in themselves


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_without_scripts_everything_is_there(page: Path, tmp_path: Path) -> None:
    """The browser refuses all scripts of the page, as its first line asks."""
    refusing = '<head>\n<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    still = tmp_path / "still.html"
    still.write_text(page.read_text().replace("<head>", refusing))
    made = chromium("--dump-dom", still.as_uri())
    assert "<button" not in made.stdout
    assert Cells(made.stdout).rows == Cells(page.read_text()).rows
    chromium(f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,900", page.as_uri())
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_numbers_that_no_analysis_has_written_are_named(tmp_path: Path) -> None:
    figures = {"words": {"kind": "neighbours", "runs": {"plain": {"method": "plain"}}}}
    report = Report(made_up_grid(tmp_path, figures=figures), {"sweep": "", "report": ""}, tmp_path / "runs")
    (tmp_path / "words.json").write_text('{"kind": "x"}')
    with pytest.raises(UserError, match=r"words\.json: not written by mt-dnn analyze: no analysis has the kind 'x'"):
        write_page(report, tmp_path)
    broken: tuple[object, ...] = ([{"name": "plain"}], [1], {})
    for runs in broken:
        (tmp_path / "words.json").write_text(json.dumps({"kind": "neighbours", "runs": runs}))
        with pytest.raises(UserError, match=r"words\.json: a number or name is missing or wrong; delete the file"):
            write_page(report, tmp_path)


def test_a_number_that_only_a_figure_needs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bins.json"
    file.write_text(json.dumps({"kind": "calibration", "runs": [{"name": "a", "accuracy": 1, "ece": 0, "rows": 3}]}))
    with pytest.raises(UserError, match=r"bins\.json: a number or name is missing or wrong; delete the file"):
        draw_file(file, tmp_path, "bins")
