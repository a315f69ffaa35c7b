"""What a terminal shows of an analysis: a small table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_utils.text_table import table

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows


def summary(record: Mapping[str, Any]) -> str:
    """The table of a record, as text."""
    return table(*TABLES[record["kind"]](record))


def percent(value: float | None) -> str:
    return "missing" if value is None else f"{100 * value:.1f}"


def number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"


def _confusion(record: Mapping[str, Any]) -> Table:
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


def _agreement(record: Mapping[str, Any]) -> Table:
    header = ["accuracy %", *record["rows"]]
    rows = [[run["name"], *map(percent, run["accuracy"].values())] for run in record["runs"]]
    return header, [*rows, ["rows", *map(str, record["rows"].values())]]


def _calibration(record: Mapping[str, Any]) -> Table:
    rows = [[run["name"], percent(run["accuracy"]), percent(run["ece"]), str(run["rows"])] for run in record["runs"]]
    return ["run", "accuracy %", "ECE %", "rows"], rows


def _challenge(record: Mapping[str, Any]) -> Table:
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


def _loss_surface(record: Mapping[str, Any]) -> Table:
    rows = []
    for surface in record["surfaces"]:
        losses = [loss for row in surface["losses"] for loss in row if loss is not None]
        rows.append([surface["name"], number(surface["loss"]), number(max(losses)), str(record["rows"])])
    return ["run", "loss", "largest around", "rows"], rows


def _robustness(record: Mapping[str, Any]) -> Table:
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


def _neighbours(record: Mapping[str, Any]) -> Table:
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


def _tally(record: Mapping[str, Any]) -> Table:
    header = ["gold", *(f"{label} %" for label in record["labels"])]
    last = record["epochs"][-1]["probabilities"]
    return header, [[label, *map(percent, row)] for label, row in zip(record["labels"], last, strict=True)]


TABLES: Mapping[str, Callable[[Mapping[str, Any]], Table]] = {
    "confusion": _confusion,
    "agreement": _agreement,
    "calibration": _calibration,
    "challenge": _challenge,
    "loss_surface": _loss_surface,
    "robustness": _robustness,
    "neighbours": _neighbours,
    "tally": _tally,
}
