"""The report of a study as one HTML page: no network, and readable on a phone and without scripts."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, os_errors
from data_utils.files import open_file, replacing
from mt_dnn.studies.figures import analysis_sheets
from mt_dnn.studies.records import Record
from mt_dnn.studies.report import Report
from mt_dnn.studies.sheets import Sheet, SheetRow
from mt_dnn.studies.tables import Table

PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
GENERATOR = '<meta name="generator" content="mt-dnn report">'  # a page without it is of somebody else
HIDDEN = ("seed", "tasks", "name")  # settings that rows need not be told apart by
NUMBER = re.compile(r"[+−-]?\d+(\.\d+)?(e[+-]?\d+)?")


def write_page(report: Report, folder: Path) -> Path:
    """Writes ``index.html`` into a folder. Returns its path.

    The page shows the pictures (SVG, PNG) that lie there, and the tables of the analyses whose numbers lie there.

    Raises:
        UserError: the folder cannot be written, or the numbers of an analysis cannot be read.
    """
    file = folder / "index.html"
    with os_errors(folder, "cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
    # A figure that is there as PNG and as SVG is shown once, as SVG, whose name comes last.
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in PICTURES}
    pictures = list(found.values())
    with replacing(file) as temporary:
        temporary.write_text("\n".join(_page(report, folder, pictures)) + "\n", encoding="utf-8")
    return file


def check_ours(page: Path) -> None:
    """Raises UserError for a page that ``mt-dnn report`` has not written, and would replace."""
    with os_errors(page, "cannot be read"):
        if page.exists():
            with open_file(page) as stream:
                if GENERATOR.encode() not in stream.read(1000):
                    raise UserError(f"{page}: was not written by mt-dnn report; choose another folder with --html")


def _page(report: Report, folder: Path, pictures: Sequence[Path]) -> Iterator[str]:
    title = escape(report.grid.study.title)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield GENERATOR
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>"
    for number, sheet in enumerate(report.sheets):
        yield from _sheet(sheet, titled=number > 0)
        if number == 0:
            yield "<ul class=notes>"
            yield from (f"<li>{escape(note)}</li>" for note in report.notes)
            yield "</ul>"
    if pictures:
        yield "<h2>Figures</h2>"
        yield from map(_figure, pictures)
    for sheet in analysis_sheets(report.grid, folder):
        yield from _sheet(sheet, titled=True)
    yield from _settings(report.table)
    yield "<h2>Commands</h2>"
    yield f"<pre>{escape(report.commands['sweep'])}\n{escape(report.commands['report'])}</pre>"
    yield from _runs(report.records, report.runs, folder)
    yield f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>"


def _sheet(sheet: Sheet, *, titled: bool) -> Iterator[str]:
    """A table, with its title or without. Each row of ours begins a group, which sorting keeps together."""
    yield f"<h2>{escape(sheet.title)}</h2>" if titled else ""
    yield '<div class=scroll tabindex=0 role=region aria-label="table"><table>\n<thead><tr>'
    yield "".join(f'<th scope=col aria-sort="none">{escape(name)}</th>' for name in [sheet.corner, *sheet.header])
    yield "</tr></thead>"
    for number, row in enumerate(sheet.rows):
        if row.kind == "ours":
            yield ("</tbody>" if number else "") + "<tbody>"
        yield _row(row)
    yield "</tbody>" if sheet.rows else ""
    yield "</table></div>"


def _row(row: SheetRow) -> str:
    cells = [
        f"<td{_sort_key(text)}{' class=best' if number in row.strong else ''}>{escape(text)}</td>"
        for number, text in enumerate(row.cells)
    ]
    return f"<tr class={row.kind}><th scope=row{_sort_key(row.name)}>{escape(row.name)}</th>{''.join(cells)}</tr>"


def _sort_key(text: str) -> str:
    """The attribute that a cell is sorted by, if it begins with a number."""
    found = NUMBER.match(text)
    return f' data-value="{found.group().replace("−", "-")}"' if found else ""


def _figure(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem.replace("_", " ").replace("-", " "))
    source = f"data:{PICTURES[path.suffix]};base64,{content}"
    return f'<figure><img alt="{name}" src="{source}"><figcaption>{name}</figcaption></figure>'


def _settings(table: Table) -> Iterator[str]:
    """The settings in which rows differ."""
    rows: dict[str, dict[str, dict[str, None]]] = {}
    for position, cell in table.cells.items():
        row = table.rows[position[0]].name
        for run in list(cell.runs.values())[:1]:
            for key, value in _flat(run.identity.computed["settings"]):
                rows.setdefault(row, {}).setdefault(key, {})[str(value)] = None
    keys = sorted({key for settings in rows.values() for key in settings if key.split(".")[0] not in HIDDEN})
    texts = {row: {key: ", ".join(settings.get(key, {"": None})) for key in keys} for row, settings in rows.items()}
    differing = [key for key in keys if len({of_row[key] for of_row in texts.values()}) > 1]
    if differing:
        yield "<h2>Settings that differ between rows</h2>"
        shown = [SheetRow(row, [of_row[key] or "default" for key in differing]) for row, of_row in texts.items()]
        yield from list(_sheet(Sheet("", differing, shown), titled=False))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _runs(records: Mapping[str, Record], runs: Path, folder: Path) -> Iterator[str]:
    """All runs of the study, with links to the run folders that are there."""
    if not records:
        return
    yield f"<details><summary>{len(records)} runs</summary><ul>"
    for record in sorted(records.values(), key=lambda record: record["run"]):
        name = escape(record["run"])
        if (runs / record["run"]).is_dir():
            name = f'<a href="{escape(os.path.relpath(runs / record["run"], folder))}/">{name}</a>'
        failed = f" failed: {escape(record['error'])}" if "error" in record else ""
        yield f"<li>{name}{failed}</li>"
    yield "</ul></details>"


STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #666; --rule: #ccc; --stripe: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a0a4aa; --rule: #43474d; --stripe: #1f2226; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 90rem; margin: 0 auto; padding: 1rem; }
h1, .notes, pre { max-width: 60rem; } figure { max-width: 60rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } .scroll table { min-width: 20rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; font-weight: normal; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
tr > th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody tr.ours > * { border-top: 1px solid var(--rule); } tbody:nth-child(2) tr.ours > * { border-top: 0; }
tr.published, tr.difference, tr.smallest, tr.examples { color: var(--soft); font-size: .85em; }
tr.published th, tr.difference th, tr.smallest th, tr.examples th { padding-left: 1.4rem; }
td.best { font-weight: 700; }
thead th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
thead th button:hover, thead th button:focus-visible { text-decoration: underline; }
thead th[aria-sort=ascending] button::after { content: " ▲"; }
thead th[aria-sort=descending] button::after { content: " ▼"; }
.notes { padding-left: 1.1rem; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; background: #fff; padding: .5rem; border: 1px solid var(--rule); }
figure img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: #444; font-size: .85rem; text-align: center; }
pre { background: var(--stripe); padding: .75rem; overflow-x: auto; font-size: .85rem; }
details li { font-size: .85rem; overflow-wrap: anywhere; } a { color: inherit; }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach(other => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = group => parseFloat(group.rows[0].cells[column].dataset.value);
      const groups = [...table.tBodies].sort((a, b) => {
        const x = key(a), y = key(b);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return down ? y - x : x - y;
      });
      table.append(...groups);
    };
  });
}
"""
