"""The kinds of input: for each a strategy that makes cases, on a small workspace with a trained run."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

from tests.study_files import content as study_content
from tests.wild_input.check import Case
from tests.wild_input.mutations import (
    CHARACTERS,
    HEAVY,
    NUMBERS,
    TEXTS,
    VALUES,
    garbled,
    json_files,
    yaml_files,
)
from tests.workspace import COLUMNS, MORE_TASKS, TASK_DEFS, rows_of

Cases = st.SearchStrategy[Case]
TASKS = ("same", "negated", "overlap", "tagged", "odd", "marks", "found")  # of the workspace
FORMATS = ("tsv", "csv", "jsonl", "parquet", "conll")
DEFS = {**TASK_DEFS, **MORE_TASKS}
STATES = ("trainer/state.json", "encoder/config.json", "encoder/tokenizer_config.json", "config.yml", "task_defs.yml")
# Keys of a run file that a run of one update may have, and further values for them.
KEYS = {
    "train": (
        "epochs",
        "batch_size",
        "accumulate",
        "clip_norm",
        "precision",
        "loss_balance",
        "mix_tasks",
        "batch_sizes",
    ),
    "optimizer": (
        "name",
        "lr",
        "betas",
        "eps",
        "weight_decay",
        "momentum",
        "layer_decay",
        "freeze",
        "no_decay",
        "head_lr",
    ),
    "schedule": ("name", "warmup_fraction", "power"),
    "sampling": ("strategy", "temperature", "size_cap", "weights", "ratio", "mix_opt"),
    "data": ("max_length", "stride", "max_rows", "sample", "carve", "held_out", "max_eval_rows", "max_unknown_share"),
    "evaluation": ("metric", "batch_size", "batch_tokens", "every_steps", "patience", "predictions"),
    "encoder": ("pooler", "attention", "dropout", "blocks", "scalar_mix"),
    "heads": ("dropout", "san_steps"),
    "log": ("every_steps", "dropout_floor_every_steps"),
    "adversary": ("mode", "preset", "steps", "radius", "step_size", "level", "weight", "noise_std", "warm_start_steps"),
}
ALL_KEYS = [
    *(f"{section}.{key}" for section, keys in KEYS.items() for key in keys),
    "seed",
    "device",
    "tasks",
    "adversary",
]
CHOSEN = [
    *(
        "vat",
        "tat",
        "freelb",
        "rapt",
        "pgd",
        "r3f",
        "rdrop",
        "adamw",
        "sgd",
        "radam",
        "cosine",
        "polynomial",
        "temperature",
    ),
    *(
        "annealed",
        "weights",
        "mtdnn",
        "uniform",
        "uncertainty",
        "log_classes",
        "mean",
        "cls",
        "attention",
        "bf16",
        "fp16",
    ),
    *(
        "[same]",
        "[same,negated]",
        "[0]",
        "{same: 1}",
        "[layers:0-0]",
        "embeddings",
        "[1.5, 2]",
        "[0, 0]",
        "same.accuracy",
    ),
    *("0", "1", "-1", "0.5", "1e-3", "1e30", "1e400", ".inf", ".nan", "1" + "0" * 20, "1" + "0" * 30, "null", "true"),
]


def run_files(ground: Path) -> Cases:
    base = yaml.safe_load((ground / "run.yml").read_text())
    base |= {"seed": 3, "tasks": ["same"], "adversary": {"mode": "vat", "steps": 2}, "schedule": {"name": "cosine"}}
    return yaml_files(base).map(lambda content: Case(["config", "run.yml"], {"run.yml": content}))


def overrides(ground: Path) -> Cases:
    values = st.one_of(
        VALUES.map(lambda value: json.dumps(value)),
        st.sampled_from([*CHOSEN, *HEAVY, *TEXTS]),
        st.text(CHARACTERS, max_size=9),
    )
    keys = st.one_of(st.sampled_from(ALL_KEYS), st.sampled_from(TEXTS), st.just("a" + ".a" * 500), st.text(max_size=9))
    texts = st.tuples(keys, st.sampled_from(["=", "=", "=", "=", "", "=="]), values).map("".join)
    given = st.lists(texts, min_size=1, max_size=3)
    return given.map(lambda texts: Case(["config", str(ground / "run.yml"), "--", *texts]))


def task_files(ground: Path) -> Cases:
    arguments = ["prepare", "tasks.yml", "--data", str(ground / "data"), "--encoder", str(ground / "encoder")]
    arguments += ["--max-length", "32", "--cache", "cache"]
    bases = [{name: DEFS[name]} for name in TASKS]
    old = {
        "task_type": "Classification",
        "data_format": "PremiseAndOneHypothesis",
        "n_class": 2,
        "metric_meta": ["ACC"],
    }
    bases += [{"same": {**old, "labels": ["different", "same"], "loss": "CeCriterion", "adv_loss": "SymKlCriterion"}}]
    bases += [{"same": TASK_DEFS["same"], "same_hard": TASK_DEFS["same_hard"]}]
    bases += [{"same": {**TASK_DEFS["same"], "columns": {"uid": "uid"}, "files": {"dev": "same_dev.tsv"}}}]
    made = st.sampled_from(bases).flatmap(yaml_files)
    return made.map(lambda content: Case(arguments, {"tasks.yml": content}))


def study_files(ground: Path) -> Cases:
    base = study_content(ground, seeds=2, keep="model", profiles={"small": {"seeds": 1}})
    base |= {
        "select": {"over": ["method"], "metric": "negated"},
        "show": {"rows": "method"},
        "cells": [],
        "leave_out": [],
    }
    plain = study_content(
        ground, axes={"task": ["same", "negated"], "optimizer.lr": [1e-3, 1e-4]}, show={"rows": "task"}
    )
    profile = st.sampled_from([[], [], ["--profile", "small"]])
    made = st.tuples(st.sampled_from([base, plain]).flatmap(yaml_files), profile)
    return made.map(lambda pair: Case(["report", "study.yml", "--runs", "runs", *pair[1]], {"study.yml": pair[0]}))


def file_of(kind: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A file of rows in a format. Values that are no text stay what they are where the format has such values."""
    if kind == "jsonl":
        return "".join(json.dumps(dict(zip(columns, row, strict=False))) + "\n" for row in rows).encode()
    texts = [[value if isinstance(value, str) else json.dumps(value) for value in row] for row in rows]
    if kind == "parquet":
        stream = io.BytesIO()
        plain = [[text.encode("utf-8", "replace").decode() for text in row] for row in texts]
        values = list(zip(*plain, strict=True)) or [()] * len(columns)
        pq.write_table(
            pa.Table.from_arrays([pa.array(column, pa.string()) for column in values], list(columns)), stream
        )
        return stream.getvalue()
    if kind == "conll":
        words, labels = columns.index("words"), columns.index("label")
        parts = [zip(row[words].split(" "), row[labels].split(" "), strict=False) for row in texts]
        return "\n".join("".join(f"{word}\t{label}\n" for word, label in part) for part in parts).encode(
            "utf-8", "replace"
        )
    if kind == "csv":
        lines = io.StringIO()
        csv.writer(lines).writerows([columns, *texts])
        return lines.getvalue().encode("utf-8", "replace")
    return "".join("\t".join(row) + "\n" for row in [columns, *texts]).encode("utf-8", "replace")


@st.composite
def row_files(draw: st.DrawFn, task: str) -> tuple[str, bytes]:
    """The ending and the content of a file of rows of a task: some changed values, or changed bytes."""
    kind = draw(st.sampled_from(FORMATS if task == "tagged" else FORMATS[:4]))
    columns = ("uid", "label", *COLUMNS.get(task, ("premise", "hypothesis")))
    rows: list[list[Any]] = [list(row) for row in rows_of(task, 6, 1)]
    columns = columns[: len(rows[0])]
    long = st.sampled_from(["word " * 40_000, "x" * 200_000, "[" * 5000, "@placeholder", '[[0, "a"]]', '{"same": 1}'])
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(st.one_of(VALUES, VALUES, long))
    content = file_of(kind, columns, rows)
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        content = draw(garbled(content))
    if draw(st.sampled_from([False, False, False, True])):
        content = gzip.compress(content, mtime=0)
        content = draw(garbled(content)) if draw(st.booleans()) else content
        kind += ".gz"
    return kind, content


def rows(ground: Path) -> Cases:
    def case(task: str, kind: str, content: bytes) -> Case:
        arguments = ["prepare", str(ground / f"{task}.yml"), "--data", ".", "--encoder", str(ground / "encoder")]
        return Case([*arguments, "--max-length", "32"], {f"{task}_train.{kind}": content})

    return st.sampled_from(TASKS).flatmap(lambda task: row_files(task).map(lambda file: case(task, *file)))


def inputs(ground: Path) -> Cases:
    def case(task: str, kind: str, content: bytes) -> Case:
        arguments = ["predict", str(ground / "run"), "--task", task, "--input", f"rows.{kind}"]
        return Case(arguments, {f"rows.{kind}": content})

    found = st.sampled_from(TASKS[:4]).flatmap(lambda task: row_files(task).map(lambda file: (task, *file)))
    return st.tuples(found, st.booleans()).map(
        lambda drawn: case(drawn[0][0], "txt" if drawn[1] and drawn[0][1] == "tsv" else drawn[0][1], drawn[0][2])
    )


def checkpoints(ground: Path) -> Cases:
    """Changed files of a checkpoint, from which a run resumes, or which is scored."""
    last = next((ground / "run" / "checkpoints").iterdir())
    train = ["train", str(ground / "run.yml"), "output=run", "train.max_steps=2", "train.epochs=2"]
    commands = [
        train,
        [*train, "train.max_steps=3"],
        ["evaluate", "run", "--split", "dev"],
        ["runs", "."],
        ["export", "run", "--output", "o"],
    ]

    def case(drawn: tuple[str, bytes, list[str]]) -> Case:
        name, content, arguments = drawn
        where = f"run/checkpoints/{last.name}/{name}"
        return Case(arguments, {where: content}, {"run": ground / "run"})

    def of_file(name: str) -> st.SearchStrategy[tuple[str, bytes, list[str]]]:
        text = (last / name).read_text()
        made = json_files(json.loads(text)) if name.endswith(".json") else yaml_files(yaml.safe_load(text))
        return st.tuples(st.just(name), made, st.sampled_from(commands))

    return st.sampled_from([STATES[0], *STATES]).flatmap(of_file).map(case)


def caches(ground: Path) -> Cases:
    """Changed manifests of prepared rows."""
    (folder,) = (ground / "data" / "prepared").glob("same_train-*")
    name = f"cache/{folder.name}/manifest.json"
    arguments = ["evaluate", str(ground / "run"), "--task", "same", "--split", "train"]
    made = json_files(json.loads((folder / "manifest.json").read_text()))
    return made.map(
        lambda content: Case(
            [*arguments, "--data", "data"], {name.replace("cache", "data/prepared"): content}, {"data": ground / "data"}
        )
    )


def training(ground: Path) -> Cases:
    """Runs of one update with any values of the settings that matter for it."""
    values = st.one_of(
        st.sampled_from(CHOSEN), st.sampled_from(NUMBERS).map(str), VALUES.map(lambda value: json.dumps(value))
    )
    given = st.lists(st.tuples(st.sampled_from(ALL_KEYS), values).map("=".join), min_size=1, max_size=3)
    first = [
        "train",
        str(ground / "run.yml"),
        "output=run",
        f"data.cache={ground / 'data' / 'prepared'}",
        "tasks=[same]",
    ]
    return given.map(lambda texts: Case([*first, *texts, "train.max_steps=1"]))


# By name: what makes the cases, and the share of all examples.
KINDS: Mapping[str, tuple[Callable[[Path], Cases], float]] = {
    "run files": (run_files, 0.25),
    "overrides": (overrides, 0.25),
    "task files": (task_files, 0.15),
    "study files": (study_files, 0.1),
    "rows": (rows, 0.15),
    "rows to predict": (inputs, 0.07),
    "checkpoints": (checkpoints, 0.01),
    "prepared rows": (caches, 0.01),
    "training": (training, 0.01),
}
