"""Benchmarks from the Hugging Face hub, or from a local copy of its repositories → canonical rows.

Only the Parquet files of the splits are read, `<config>/<split>-*.parquet`. The code of a repository is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.benchmarks.convert import Report
from data_utils.benchmarks.sources import RowSource, Source, each, question_row
from data_utils.benchmarks.squad import squad_row
from data_utils.benchmarks.superglue import copa_row, flat_multirc_row, flat_record_row, flat_wsc_row, wic_row
from data_utils.benchmarks.written import NO_GOLD, Counted, Row, Written, by_answer, by_label, by_word, write_split
from data_utils.errors import UserError, unknown_key
from data_utils.files import as_text
from data_utils.task_types import DATA_FORMATS

CONVERTED = "@refs/convert/parquet"  # in this branch the hub keeps the output of a loading script as Parquet


CONVERTED_FILES = "{config}/{split}/*.parquet"


NO_LABEL = -1  # the hub's label of test rows, and of rows without gold label in SNLI


@dataclass(frozen=True)
class HubTask:
    """A task on the hub.

    `source.files` maps our splits to the splits of the hub. The `labels` of a Source map the hub's integers, as text,
    to names. `files`: the pattern of the files of a split. It differs if the hub has converted the output of a loading
    script.
    """

    repository: str
    config: str
    source: Source | RowSource
    files: str = "{config}/{split}-*.parquet"


def named(*labels: str) -> dict[str, str]:
    """Names the integer labels of the hub: label 0, label 1 and so on."""
    return {str(index): label for index, label in enumerate(labels)}


def splits(**ours_to_theirs: str) -> dict[str, list[str]]:
    """The names of train, dev and test on the hub, as most repositories have them. Arguments replace or add splits."""
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


def rows(
    repository: str,
    config: str,
    function: Callable[[int, Any, str], Iterable[Row | None]],
    counted: Counted = by_label,
    **files: list[str],
) -> HubTask:
    return HubTask(repository, config, RowSource(files or splits(), function, counted))


def superglue(config: str, function: Callable[[int, Any, str], Iterable[Row | None]]) -> HubTask:
    return rows("aps/super_glue", config, function)


def superglue_pair(config: str, premise: str, hypothesis: str, *labels: str, **files: list[str]) -> HubTask:
    source = Source(files or splits(), premise=premise, hypothesis=hypothesis, uid="idx", labels=named(*labels))
    return HubTask("aps/super_glue", config, source)


def squad(repository: str, config: str, **files: list[str]) -> HubTask:
    return rows(repository, config, each(hub_squad_row), by_answer, **files)


def hub_squad_row(number: int, values: Any) -> Row | None:
    """The canonical row of a question of SQuAD on the hub, where the answers are two lists."""
    pairs = zip(values["answers"]["answer_start"], values["answers"]["text"], strict=True)
    answers = [{"answer_start": start, "text": text} for start, text in pairs]
    return squad_row({**values, "answers": answers}, values["context"])


def words(repository: str, config: str, tags: str, **files: list[str]) -> HubTask:
    """Labelled words. The file names the labels. Rows without words are skipped: CoNLL-2000 ends with some."""

    def found(number: int, values: Any, split: str) -> Iterator[Row]:
        spelled = ["".join(word.split()) for word in values["tokens"]]
        if "" in spelled:
            raise ValueError("an empty word")
        if spelled:
            yield {"uid": str(number), "label": " ".join(values[tags]), "words": " ".join(spelled)}

    source = RowSource(files or splits(), found, by_word)
    return HubTask(f"{repository}{CONVERTED}", config, source, CONVERTED_FILES)


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
        "hans": HubTask(
            f"jhu-cogsci/hans{CONVERTED}",
            "plain_text",
            Source(
                {"train": ["train"], "test": ["validation"]},
                premise="premise",
                hypothesis="hypothesis",
                extra=("heuristic", "subcase", "template"),
                labels=named("entailment", "non-entailment"),
            ),
            CONVERTED_FILES,
        ),
    },
    "superglue": {
        "cb": superglue_pair("cb", "premise", "hypothesis", "entailment", "contradiction", "neutral"),
        "boolq": superglue_pair("boolq", "passage", "question", "false", "true"),
        "copa": superglue("copa", each(copa_row)),
        "multirc": superglue("multirc", each(flat_multirc_row)),
        "record": superglue("record", lambda number, values, split: [flat_record_row(number, values, split)]),
        "rte_superglue": superglue_pair("rte", "premise", "hypothesis", "entailment", "not_entailment"),
        "wic": superglue("wic", each(wic_row)),
        "wsc": superglue("wsc.fixed", each(flat_wsc_row)),
        "axb": superglue_pair("axb", "sentence1", "sentence2", "entailment", "not_entailment", test=["test"]),
        "axg": superglue_pair("axg", "premise", "hypothesis", "entailment", "not_entailment", test=["test"]),
    },
    "arc": {
        "arc_easy": rows("allenai/ai2_arc", "ARC-Easy", each(question_row)),
        "arc_challenge": rows("allenai/ai2_arc", "ARC-Challenge", each(question_row)),
    },
    "commonsense_qa": {"commonsense_qa": rows("tau/commonsense_qa", "data", each(question_row))},
    "squad": {
        "squad": squad("rajpurkar/squad", "plain_text", train=["train"], dev=["validation"]),
        "squad_v2": squad("rajpurkar/squad_v2", "squad_v2", train=["train"], dev=["validation"]),
        **{
            f"xquad_{language}": squad("google/xquad", f"xquad.{language}", test=["validation"])
            for language in ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
        },
    },
    "ner": {
        "conll2003": words("eriktks/conll2003", "conll2003", "ner_tags"),
        "wnut17": words("leondz/wnut_17", "wnut_17", "ner_tags"),
    },
    "chunking": {
        "conll2000_chunk": words("eriktks/conll2000", "conll2000", "chunk_tags", train=["train"], test=["test"]),
        "conll2000_pos": words("eriktks/conll2000", "conll2000", "pos_tags", train=["train"], test=["test"]),
    },
    "xnli": {
        f"xnli_{language}": pair("facebook/xnli", language, {"dev": ["validation"], "test": ["test"]}, labels=THREE_WAY)
        for language in LANGUAGES
    },
}


def download(benchmark: str, output: Path, *, tasks: Iterable[str] | None = None, source: str | None = None) -> Report:
    """Writes `<output>/<task>_<split>.tsv` for `tasks` (default: all), from the hub or the directory `source`.

    Raises UserError for an unknown benchmark or task, and when the hub or a file cannot be read.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_key("data", benchmark, [*BENCHMARKS, "quickstart"])
    known = BENCHMARKS[benchmark]
    chosen = list(tasks or known)
    for name in chosen:
        if name not in known:
            raise unknown_key(f"data {benchmark}", name, known)
    report = Report()
    for name in chosen:
        for split in known[name].source.files:
            report.written.append(download_split(name, known[name], split, output, source))
    return report


def download_split(name: str, task: HubTask, split: str, output: Path, source: str | None) -> Written:
    pattern = task.files.format(config=task.config, split=task.source.files[split][0])
    if source is not None and not list(Path(source).glob(pattern)):
        raise UserError(f"{source}: no file {pattern}; it has to be laid out like the hub's {task.repository}")
    location = f"{source or f'hf://datasets/{task.repository}'}/{pattern}"
    dataset = load_parquet(location)
    if isinstance(task.source, RowSource):
        found = ((f"{location}: row {number}", values) for number, values in enumerate(spelled(dataset), 1))
        return task.source.write_found(found, task=name, split=split, output=output, location=location)
    missing = {*task.source.texts, task.source.label} - set(dataset.column_names)
    if missing:
        raise UserError(f"{location}: no column '{min(missing)}' among {', '.join(dataset.column_names)}")
    rows = task.source.rows(rows_as_text(dataset, task.source.label), task.source.extra)
    columns = [*DATA_FORMATS["single" if task.source.hypothesis is None else "pair"], *task.source.extra]
    return write_split(rows, columns, task=name, split=split, output=output, location=location)


def load_parquet(location: str) -> Any:
    """Loads the files that match the pattern `location` as a `datasets.Dataset`."""
    from datasets import load_dataset

    try:
        return load_dataset("parquet", data_files={"train": location}, split="train")
    except Exception as error:  # no network, no permission, a broken file: every library below raises its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{location}: {reason}; check the network, or give a local copy of the repository with --source"
        ) from error


def spelled(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yields rows. Word labels become names if the file has the names. A `label` of -1 is removed."""
    names = {
        column: feature.feature.names
        for column, feature in dataset.features.items()
        if hasattr(getattr(feature, "feature", None), "names")
    }
    for row in dataset:
        kept = {column: value for column, value in row.items() if column != "label" or value != NO_LABEL}
        yield kept | {column: [labels[number] for number in row[column]] for column, labels in names.items()}


def rows_as_text(dataset: Any, label: str) -> Iterator[dict[str, str]]:
    """Yields rows as text. If every label is -1, the split is unlabelled. Else -1 means a row without gold label."""
    labelled = any(value != NO_LABEL for value in dataset[label])
    for row in dataset:
        if row[label] == NO_LABEL:
            row = {**row, label: NO_GOLD if labelled else ""}
        yield as_text(row)
