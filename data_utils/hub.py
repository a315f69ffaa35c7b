"""Benchmarks from the Hugging Face hub, or from a local copy of its repositories → canonical rows.

Only the Parquet files that are needed are read, `<config>/<split>-*.parquet`; a repository's code never runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.convert import Report
from data_utils.errors import UserError, unknown_key
from data_utils.rows import TEXTS
from data_utils.sources import NO_GOLD, Source, Written, write_split

NO_LABEL = -1  # the hub's label of test rows, and in SNLI of rows without gold label


@dataclass(frozen=True)
class HubTask:
    """`source.files` maps our splits to the hub's, `source.labels` its integers, as text, to label names."""

    repository: str
    config: str
    source: Source


def named(*labels: str) -> dict[str, str]:
    """The hub's integer labels: label 0, label 1, …"""
    return {str(index): label for index, label in enumerate(labels)}


def splits(**ours_to_theirs: str) -> dict[str, list[str]]:
    return {"train": ["train"], "dev": ["validation"], "test": ["test"]} | {
        ours: [theirs] for ours, theirs in ours_to_theirs.items()
    }


TWO_WAY = named("entailment", "not_entailment")
THREE_WAY = named("entailment", "neutral", "contradiction")


def glue(config: str, *texts: str, files: Mapping[str, list[str]] | None = None, **options: Any) -> HubTask:
    premise, hypothesis = (*texts, None)[:2]
    source = Source(files or splits(), premise=str(premise), hypothesis=hypothesis, uid="idx", **options)
    return HubTask("nyu-mll/glue", config, source)


def pair(repository: str, config: str, files: Mapping[str, list[str]], **options: Any) -> HubTask:
    return HubTask(repository, config, Source(files, premise="premise", hypothesis="hypothesis", **options))


MNLI_SPLITS = {
    "train": ["train"],
    "dev_matched": ["validation_matched"],
    "dev_mismatched": ["validation_mismatched"],
    "test_matched": ["test_matched"],
    "test_mismatched": ["test_mismatched"],
}
LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
BENCHMARKS: dict[str, dict[str, HubTask]] = {
    "glue": {
        "cola": glue("cola", "sentence"),
        "sst2": glue("sst2", "sentence"),
        "mrpc": glue("mrpc", "sentence1", "sentence2"),
        "stsb": glue("stsb", "sentence1", "sentence2"),
        "qqp": glue("qqp", "question1", "question2"),
        "mnli": glue("mnli", "premise", "hypothesis", files=MNLI_SPLITS, labels=THREE_WAY),
        "qnli": glue("qnli", "question", "sentence", labels=TWO_WAY),
        "rte": glue("rte", "sentence1", "sentence2", labels=TWO_WAY),
        "wnli": glue("wnli", "sentence1", "sentence2"),
        "ax": glue("ax", "premise", "hypothesis", files={"test": ["test"]}, labels=THREE_WAY),
    },
    "nli": {
        "snli": pair("stanfordnlp/snli", "plain_text", splits(), labels=THREE_WAY),
        "scitail": pair("allenai/scitail", "tsv_format", splits()),
        **{
            f"anli_{part}": pair(
                "facebook/anli",
                "plain_text",
                {"train": [f"train_{part}"], "dev": [f"dev_{part}"], "test": [f"test_{part}"]},
                uid="uid",
                labels=THREE_WAY,
            )
            for part in ("r1", "r2", "r3")
        },
    },
    "xnli": {
        f"xnli_{language}": pair("facebook/xnli", language, {"dev": ["validation"], "test": ["test"]}, labels=THREE_WAY)
        for language in LANGUAGES
    },
}


def download(benchmark: str, output: Path, *, tasks: Iterable[str] | None = None, source: str | None = None) -> Report:
    """Writes `<output>/<task>_<split>.tsv` of `tasks` (all), from the hub or the directory `source`.

    Raises UserError for an unknown benchmark or task, and when the hub or a file cannot be read.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_key("data", benchmark, BENCHMARKS)
    known = BENCHMARKS[benchmark]
    report = Report()
    for name in tasks or known:
        if name not in known:
            raise unknown_key(f"data {benchmark}", name, known)
        for split in known[name].source.files:
            report.written.append(download_split(name, known[name], split, output, source))
    return report


def download_split(name: str, task: HubTask, split: str, output: Path, source: str | None) -> Written:
    pattern = f"{task.config}/{task.source.files[split][0]}-*.parquet"
    if source is not None and not list(Path(source).glob(pattern)):
        raise UserError(f"{source}: no file {pattern}; it has to be laid out like the hub's {task.repository}")
    place = f"{source or f'hf://datasets/{task.repository}'}/{pattern}"
    dataset = load_parquet(place)
    missing = {*task.source.texts, task.source.label} - set(dataset.column_names)
    if missing:
        raise UserError(f"{place}: no column '{min(missing)}' among {', '.join(dataset.column_names)}")
    rows = task.source.rows(as_text(dataset, task.source.label), ())
    columns = TEXTS["single" if task.source.hypothesis is None else "pair"]
    return write_split(rows, columns, task=name, split=split, output=output)


def load_parquet(place: str) -> Any:
    """The `datasets.Dataset` of the files that fit the pattern `place`."""
    from datasets import load_dataset

    try:
        return load_dataset("parquet", data_files={"train": place}, split="train")
    except Exception as error:  # no network, no permission, a broken file: every library below raises its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{place}: {reason}; check the network, or give a local copy of the repository with --source"
        ) from error


def as_text(dataset: Any, label: str) -> Iterator[dict[str, str]]:
    """Rows as text. A split where every label is -1 is unlabelled; elsewhere -1 is a row without gold."""
    labelled = any(value != NO_LABEL for value in dataset[label])
    for row in dataset:
        if row[label] == NO_LABEL:
            row = {**row, label: NO_GOLD if labelled else ""}
        yield {column: str(value) for column, value in row.items()}
