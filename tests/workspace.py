"""A folder with everything a run needs: tiny encoder, tokenizer, three small tasks that can be learnt, a run YAML."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import WORDS as ALL_WORDS
from tests.tiny import tiny_encoder

WORDS = [word for word in ALL_WORDS if word.isalpha()]

TASK_DEFS: dict[str, dict[str, Any]] = {
    "same": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["different", "same"],
        "metrics": ["accuracy", "f1"],
    },
    "negated": {"task_type": "classification", "data_format": "single", "labels": ["no", "yes"], "metrics": ["mcc"]},
    "overlap": {"task_type": "regression", "data_format": "pair", "value_range": [0, 5], "splits": ["train", "dev"]},
    "same_hard": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["other", "same"],
        "head": "same",
        "label_map": {"different": "other", "same": "same"},
        "splits": ["test"],
    },
}


MORE_TASKS: dict[str, dict[str, Any]] = {  # of other types, for those who ask
    "odd": {
        "task_type": "multiple_choice",
        "data_format": "choices",
        "metrics": ["accuracy", "mrr"],
        "splits": ["train", "dev"],
    },
    "linked": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["different", "same"],
        "enable_san": True,
        "splits": ["train", "dev"],
    },
    "tagged": {
        "task_type": "sequence_labelling",
        "data_format": "words",
        "labels": ["O", "B-X", "I-X"],
        "metrics": ["entity_f1", "accuracy"],
        "splits": ["train", "dev"],
    },
    "chained": {
        "task_type": "sequence_labelling",
        "data_format": "words",
        "labels": ["O", "B-X", "I-X"],
        "crf": True,
        "splits": ["train", "dev"],
    },
    "marks": {
        "task_type": "multi_label",
        "data_format": "single",
        "labels": ["not", "the", "cat"],
        "metrics": ["f1_micro", "f1_macro", "accuracy"],
        "splits": ["train", "dev"],
    },
    "graded": {
        "task_type": "ordinal",
        "data_format": "pair",
        "labels": ["none", "some", "most", "all"],
        "metrics": ["quadratic_kappa", "mae", "accuracy"],
        "splits": ["train", "dev"],
    },
    "guessed": {"task_type": "masked_lm", "data_format": "single", "splits": ["train", "dev"]},
    "gap": {"task_type": "cloze", "data_format": "cloze", "splits": ["train", "dev"]},
    "found": {"task_type": "span", "data_format": "question_context", "splits": ["train", "dev"]},
}

SHARING_TASKS: dict[str, dict[str, Any]] = {  # they train the head of another, for those who ask
    "renamed": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["other", "same"],
        "head": "same",
        "label_map": {"different": "other", "same": "same"},
        "splits": ["train", "dev"],
    },
}


TEACHABLE = [name for name, definition in MORE_TASKS.items() if definition["task_type"] != "masked_lm"]

COLUMNS = {
    "odd": ("premise", "choice1", "choice2", "choice3", "choice4"),
    "gap": ("premise", "query", "choice1", "choice2", "choice3"),
    "tagged": ("words",),
    "chained": ("words",),
    "found": ("question", "context"),
}


def sentence(rng: random.Random, words: list[str] = WORDS) -> list[str]:
    return [rng.choice(words) for _ in range(rng.randint(3, 12))]


def rows_of(task: str, count: int, seed: int) -> list[tuple[str, ...]]:
    """Rows that a tiny encoder learns from words alone: what differs is said with words of its own."""
    rng, rows = random.Random(f"{task}{seed}"), list[tuple[str, ...]]()
    for i in range(count):
        words = sentence(rng)
        if task == "negated":
            label = ["no", "yes"][i % 2]
            words = [word for word in words if word != "not"] + ["not"] * (label == "yes")
            rows.append((str(i), label, " ".join(words)))
        elif task == "odd":  # the right choice is the one that has a word of the premise's kind
            right, count = rng.randint(1, 2 + i % 3), 2 + i % 3
            right = min(right, count)
            texts = [sentence(rng, WORDS[:8] if number == right else WORDS[8:]) for number in range(1, count + 1)]
            choices = [" ".join(text) for text in texts] + [""] * (4 - count)
            rows.append((str(i), str(right), " ".join(sentence(rng, WORDS[:8])), *choices))
        elif task == "gap":  # the one word of the query's kind
            right, count = rng.randint(1, 2 + i % 2), 2 + i % 2
            choices = [rng.choice(WORDS[:8] if number == right else WORDS[8:]) for number in range(1, count + 1)]
            query = " ".join([*sentence(rng, WORDS[:8])[:3], "@placeholder"])
            rows.append((str(i), str(right), " ".join(words), query, *choices, *[""] * (3 - count)))
        elif task in ("tagged", "chained"):  # runs of one kind of words are entities
            kinds = [word in WORDS[:8] for word in words]
            tags = ["O" if not own else "I-X" if before else "B-X" for before, own in pairwise([False, *kinds])]
            rows.append((str(i), " ".join(tags), " ".join(words)))
        elif task == "marks":  # which of three words are there
            there = [word for word in ("not", "the", "cat") if rng.random() < 0.5]
            words = [word for word in words[:2] if word not in ("not", "the", "cat")] + 2 * there
            rng.shuffle(words)
            rows.append((str(i), json.dumps(there), " ".join(words or ["."])))
        elif task == "found":  # the one word of the question's kind
            words, place = sentence(rng, WORDS[8:]), rng.randint(0, 2)
            words[place] = rng.choice(WORDS[:8])
            label = json.dumps([[len(" ".join(["", *words[:place]])) if place else 0, words[place]]])
            rows.append((str(i), label, " ".join(WORDS[:3]), " ".join(words)))
        elif task == "graded":  # how many of the first sentence's words are in the second
            words, kept = sentence(rng, WORDS[:8])[:6], i % 4
            other = [
                word if place < len(words) * kept / 3 else rng.choice(WORDS[8:]) for place, word in enumerate(words)
            ]
            rows.append((str(i), ["none", "some", "most", "all"][kept], " ".join(words), " ".join(other)))
        elif task == "guessed":  # four words in turn
            rows.append((str(i), "", " ".join(WORDS[place % 4] for place in range(rng.randint(6, 10)))))
        elif task == "overlap":
            words = sentence(rng, WORDS[:8])
            kept = rng.randint(0, len(words))
            other = words[:kept] + [rng.choice(WORDS[8:]) for _ in words[kept:]]
            rows.append((str(i), f"{5 * kept / len(words):.2f}", " ".join(words), " ".join(other)))
        else:
            label = ["other" if task in ("same_hard", "renamed") else "different", "same"][i % 2]
            words = sentence(rng, WORDS[:8])
            other = words if label == "same" else sentence(rng, WORDS[8:])
            rows.append((str(i), label, " ".join(words), " ".join(other)))
    return rows


def soft_label(task: str, row: tuple[str, ...], rng: random.Random) -> str:
    """What a teacher might say of a row; it knows nothing but the form."""
    definition = {**TASK_DEFS, **MORE_TASKS, **SHARING_TASKS}[task]
    kind, labels = definition["task_type"], definition.get("labels", [])
    if kind == "regression":
        return json.dumps(rng.uniform(0, 5))
    if kind in ("multiple_choice", "cloze"):
        return json.dumps(shares(rng, sum(map(bool, row[3 + (kind == "cloze") :]))))
    if kind == "sequence_labelling":
        words = [shares(rng, len(labels)) for _ in row[2].split()]
        return json.dumps(dict(zip(labels, zip(*words, strict=True), strict=True)))
    if kind == "span":
        (start, text), right = json.loads(row[1])[0], rng.random()
        return json.dumps([[start, start + len(text), right], [0, len(row[3]), 1 - right]])
    if kind == "multi_label":
        return json.dumps({label: rng.random() for label in labels})
    return json.dumps(dict(zip(labels, shares(rng, len(labels)), strict=True)))


def shares(rng: random.Random, count: int) -> list[float]:
    """Random numbers that add up to 1."""
    drawn = [rng.random() for _ in range(count)]
    return [value / sum(drawn) for value in drawn]


def write_task(folder: Path, task: str, split: str, rows: list[tuple[str, ...]], *, soft: bool = False) -> Path:
    header = ("uid", "label", *COLUMNS.get(task, ("premise", "hypothesis")))[: len(rows[0])]
    if soft:
        rng = random.Random(task)
        header, rows = (*header, "soft_label"), [(*row, soft_label(task, row, rng)) for row in rows]
    path = folder / f"{task}_{split}.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")
    return path


def make_workspace(folder: Path, *, train_rows: int = 48, more: Sequence[str] = (), soft: bool = False) -> Path:
    """Writes encoder/, data/, tasks.yml and run.yml; returns run.yml. ``more`` names some of the tasks above.

    ``soft``: training rows have soft labels, which count where ``distillation.weight`` says so.
    """
    tiny_encoder(folder / "encoder")
    data = folder / "data"
    data.mkdir()
    for task in ("same", "negated", "overlap", *more):
        write_task(data, task, "train", rows_of(task, train_rows, 1), soft=soft and task != "guessed")
        write_task(data, task, "dev", rows_of(task, 40, 2))
    unlabelled = [(uid, "", *text) for uid, _, *text in rows_of("same", 9, 3)]
    write_task(data, "same", "test", unlabelled)
    write_task(data, "negated", "test", [(uid, "", *text) for uid, _, *text in rows_of("negated", 5, 3)])
    write_task(data, "same_hard", "test", rows_of("same_hard", 10, 4))
    defs = {**TASK_DEFS, **{name: {**MORE_TASKS, **SHARING_TASKS}[name] for name in more}}
    (folder / "tasks.yml").write_text(yaml.safe_dump(defs, sort_keys=False), encoding="utf-8")
    config = {
        "task_defs": str(folder / "tasks.yml"),
        "output": str(folder / "run"),
        "device": "cpu",
        "data": {"dir": str(data), "max_length": 32},
        "encoder": {"name": str(folder / "encoder")},
        "train": {"epochs": 2, "batch_size": 8},
        "optimizer": {"lr": 1e-3},
        "log": {"every_steps": 5},
    }
    (folder / "run.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "run.yml"
