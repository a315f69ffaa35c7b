"""What a terminal and a page show of an analysis: a small table. One function for each kind of record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_utils.text_table import table
from mt_dnn.studies.sheets import Sheet, SheetRow

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows


def percent(value: float | None) -> str:
    return "missing" if value is None else f"{100 * value:.1f}"


def number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"


def confusion(record: Mapping[str, Any]) -> Table:
    header = ["gold", *(f"{label} %" for label in record["labels"])]
    blocks = [(f"{run['name']}: ", run["rates"]) for run in record["runs"]]
    if record["difference"] is not None:
        blocks.append(("difference: ", record["difference"]))
    rows = [
        [f"{prefix}{label}", *map(percent, rates)]
        for prefix, matrix in blocks
        for label, rates in zip(record["labels"], matrix, strict=True)
    ]
    return header, rows


def agreement(record: Mapping[str, Any]) -> Table:
    header = ["accuracy %", *record["rows"]]
    rows = [[run["name"], *map(percent, run["accuracy"].values())] for run in record["runs"]]
    return header, [*rows, ["rows", *map(str, record["rows"].values())]]


def calibration(record: Mapping[str, Any]) -> Table:
    rows = [[run["name"], percent(run["accuracy"]), percent(run["ece"]), str(run["rows"])] for run in record["runs"]]
    return ["run", "accuracy %", "ECE %", "rows"], rows


def challenge(record: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{part['name']}: {part['set']} {' / '.join(part['part'].values())}".rstrip(),
            percent(part["accuracy"]),
            percent(part["constant"]) if "constant" in part else "",
            str(part["rows"]),
        ]
        for part in record["parts"]
    ]
    return ["set", "accuracy %", "constant %", "rows"], rows


def loss_surface(record: Mapping[str, Any]) -> Table:
    rows = []
    for surface in record["surfaces"]:
        losses = [loss for row in surface["losses"] for loss in row if loss is not None]
        rows.append([surface["name"], number(surface["loss"]), number(max(losses)), str(record["rows"])])
    return ["run", "loss", "largest around", "rows"], rows


def robustness(record: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{model['name']} in the balls of {table['name']}",
            number(model["median"]),
            number(model["sd"]),
            number(model["clean_loss_median"]),
            str(len(table["radii"])),
        ]
        for table in record["references"]
        for model in table["models"]
    ]
    return ["loss increment", "median", "sd", "clean loss", "examples"], rows


def neighbours(record: Mapping[str, Any]) -> Table:
    columns: list[tuple[str, list[str]]] = []
    for run in record["runs"]:
        for title, found in ((run["name"], run["before"]), (f"{run['name']} + noise", run["after"])):
            if found is not None:
                columns.append((title, [f"{near['word']} {near['similarity']:.4f}" for near in found]))
    deepest = max(len(words) for _, words in columns)
    rows = [
        [str(rank + 1), *(words[rank] if rank < len(words) else "" for _, words in columns)] for rank in range(deepest)
    ]
    return ["rank", *(title for title, _ in columns)], rows


def tally(record: Mapping[str, Any]) -> Table:
    header = ["gold", *(f"{label} %" for label in record["labels"])]
    last = record["epochs"][-1]["probabilities"]
    return header, [[label, *map(percent, row)] for label, row in zip(record["labels"], last, strict=True)]


# By the key ``kind`` of what an analysis has written.
TABLES: Mapping[str, Callable[[Mapping[str, Any]], Table]] = {
    "confusion": confusion,
    "agreement": agreement,
    "calibration": calibration,
    "challenge": challenge,
    "loss_surface": loss_surface,
    "robustness": robustness,
    "neighbours": neighbours,
    "tally": tally,
}


def as_text(record: Mapping[str, Any]) -> str:
    """The table of a record, for a terminal."""
    return table(*TABLES[record["kind"]](record))


def as_sheet(title: str, record: Mapping[str, Any]) -> Sheet:
    """The table of a record, for a page."""
    (corner, *header), rows = TABLES[record["kind"]](record)
    return Sheet(title, header, [SheetRow(name, cells) for name, *cells in rows], corner)
