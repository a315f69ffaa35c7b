"""Sheets in Markdown, LaTeX and on a terminal, and a table as CSV with a line for each cell."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence

from data_utils.text_table import markdown
from mt_dnn.studies.sheets import Sheet, SheetRow, positions
from mt_dnn.studies.tables import Table, TableCell

FORMATS = ("terminal", "markdown", "latex", "csv")
INDENT = {"ours": "", "published": "  ", "difference": "  ", "smallest": "  ", "examples": "  "}


def as_markdown(title: str, sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    """A page in Markdown: the title, the sheets and the notes."""
    parts = [f"# {title}"]
    for number, sheet in enumerate(sheets):
        parts += [] if number == 0 else [f"## {sheet.title}"]
        rows = [[_escaped(text) for text in [_name(row, "&nbsp;"), *_strong(row, "**{}**")]] for row in sheet.rows]
        parts.append(markdown(["", *map(_escaped, sheet.header)], rows))
    return "\n\n".join([*parts, *(_escaped(note) for note in notes)]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _name(row: SheetRow, space: str) -> str:
    return INDENT[row.kind].replace(" ", space) + row.name


def _strong(row: SheetRow, mark: str) -> list[str]:
    """The texts of a row, the best ones in bold type."""
    return [mark.format(text) if number in row.strong else text for number, text in enumerate(row.cells)]


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "→": r"$\to$",
    "≤": r"$\le$",
    "δ": r"$\delta$",
    "η": r"$\eta$",
    "ε": r"$\varepsilon$",
    "×": r"$\times$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "ς": r"$\varsigma$",
}
GREEK = re.compile(r"GREEK (?P<case>SMALL|CAPITAL) LETTER (?P<symbol>\w+)")
CAPITALS = ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")
LOOKS_LIKE = {  # capitals without a command of their own
    **{"alpha": "A", "beta": "B", "epsilon": "E", "zeta": "Z", "eta": "H", "iota": "I", "kappa": "K"},
    **{"mu": "M", "nu": "N", "omicron": "O", "rho": "P", "tau": "T", "chi": "X"},
}


def latex_text(text: str) -> str:
    """A text as LaTeX prints it. Accents are kept, Greek becomes maths; what else LaTeX does not know becomes ``?``."""
    return "".join(LATEX.get(letter) or _letter(letter) for letter in unicodedata.normalize("NFC", text))


def _letter(letter: str) -> str:
    name = unicodedata.name(letter, "")
    if letter.isascii() or name.startswith("LATIN "):
        return letter
    greek = GREEK.fullmatch(name)
    if greek is None:
        return "?"
    case, symbol = greek["case"], greek["symbol"].lower().replace("lamda", "lambda")
    if case == "SMALL":
        return "o" if symbol == "omicron" else rf"$\{symbol}$"
    return rf"$\{symbol.title()}$" if symbol in CAPITALS else rf"$\mathrm{{{LOOKS_LIKE[symbol]}}}$"


def as_latex(title: str, sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    r"""Tables with the rules of booktabs, to be read by ``\input``. They need \usepackage{booktabs,graphicx}."""
    parts = [f"% {' '.join(title.split())}", "% \\usepackage{booktabs,graphicx}"]
    for number, sheet in enumerate(sheets):
        caption = latex_text(title if number == 0 else f"{title}: {sheet.title}")
        rows = []
        for index, row in enumerate(sheet.rows):
            rule = [r"\addlinespace"] if index and row.kind == "ours" and sheet.rows[index - 1].kind != "ours" else []
            texts = [latex_text(text) for text in row.cells]
            texts = [rf"\textbf{{{text}}}" if i in row.strong else text for i, text in enumerate(texts)]
            name = latex_text(row.name) if row.kind == "ours" else rf"\quad\textit{{{latex_text(row.name)}}}"
            rows += [*rule, " & ".join([name, *texts]) + r" \\"]
        parts += [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(sheet.header)}}}",
            r"\toprule",
            " & ".join(["", *map(latex_text, sheet.header)]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join([*parts, *(f"% {note}" for note in notes)]) + "\n"


def as_terminal(title: str, sheets: Sequence[Sheet], notes: Sequence[str], *, width: int | None = None) -> str:
    """Tables for a terminal. ``width``: of the terminal in characters; None: as wide as the tables are.

    A table that is wider than the terminal goes on below itself.
    """
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    stream = io.StringIO()
    console = Console(file=stream, width=width or 10_000, force_terminal=width is not None, highlight=False)
    for sheet in sheets:
        for columns in _fitting(sheet, width or 10_000):
            drawn = RichTable(title=Text(sheet.title), title_justify="left", title_style="bold")
            drawn.add_column("")
            for number in columns:
                drawn.add_column(Text(sheet.header[number]), justify="right")
            for row in sheet.rows:
                texts = [Text(row.cells[i], "bold" if i in row.strong else "") for i in columns]
                drawn.add_row(Text(_name(row, " ")), *texts, style="" if row.kind == "ours" else "dim")
            console.print(drawn)
    for note in notes:
        console.print(Text(note), soft_wrap=width is None)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _fitting(sheet: Sheet, width: int) -> Iterator[list[int]]:
    """Groups of columns that fit the width, beside the names of the rows. A group has at least one column."""
    borders = 3  # of a column: two spaces and a line
    names = max([len(_name(row, " ")) for row in sheet.rows], default=0) + borders + 1
    group, used = list[int](), names
    for number, name in enumerate(sheet.header):
        needed = max(len(name), *(len(row.cells[number]) for row in sheet.rows), 0) + borders
        if group and used + needed > width:
            yield group
            group, used = [], names
        group, used = [*group, number], used + needed
    yield group


CSV_COLUMNS = (
    *("row", "column", "n", "mean", "sd", "median", "best", "missing", "failed", "baseline", "shows_effect"),
    *("published", "difference_to_published", "printed_average", "chosen"),
    *("seeds_difference", "seeds_low", "seeds_high", "seeds_p", "seeds_p_holm", "seeds_detectable"),
    *("examples_difference", "examples_low", "examples_high", "examples_p", "examples_p_holm"),
)


def as_csv(table: Table) -> str:
    """One line for each cell, with everything that is known of it. Numbers are not rounded."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for position in positions(table):
        row, column = table.entries(position)
        writer.writerow({"row": row.name, "column": column.name, **_values(table, table.cells[position])})
    return stream.getvalue()


def _values(table: Table, cell: TableCell) -> dict[str, object]:
    found, select = cell.summary, table.grid.study.select
    chosen = cell.cell is not None and len(cell.group) > 1 and select is not None
    values: dict[str, object] = {
        "n": len(cell.values),
        "missing": max(1, len(cell.runs)) - len(cell.records) if cell.group else 0,
        "failed": len(cell.failed),
        "baseline": cell.baseline,
        "shows_effect": cell.shows_effect,
        "published": cell.published,
        "difference_to_published": cell.difference,
        "printed_average": cell.printed,
        "chosen": "; ".join(f"{axis}={cell.cell.labels[axis]}" for axis in select.over)
        if chosen and cell.cell and select
        else "",
    }
    if found is not None:
        values |= {"mean": found.mean, "sd": found.sd, "median": found.median, "best": found.best}
    for kind, test, corrected in (
        ("seeds", cell.seeds, cell.holm_seeds),
        ("examples", cell.examples, cell.holm_examples),
    ):
        if test is not None:
            bounds = {
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "p_holm": corrected,
            }
            values |= {f"{kind}_{name}": value for name, value in bounds.items()}
    if cell.seeds is not None:
        values["seeds_detectable"] = cell.seeds.detectable
    return values
