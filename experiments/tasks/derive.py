"""Rows of task_defs/derived.yml from canonical rows of GLUE, CoNLL-2000 and SQuAD, and all rows of two other runs.

BoolQ's training rows are not in every collection. Without them the first rows of its dev split are trained on, and the
last 1,000 scored. The run that mixes task types finds the rows of all its tasks in one folder.

python experiments/tasks/derive.py data OUTPUT
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from data_utils.errors import MissingRows
from data_utils.rows import PLACEHOLDER, Rows, find_rows, read_rows, write_rows
from data_utils.task_def import TaskDef, load_task_defs

DEFS = Path(__file__).parents[2] / "task_defs"
KINDS = load_task_defs(DEFS / "derived.yml")["conll2000_kinds"].labels
CHOICES = 4
SCORED = 1000  # of BoolQ's dev rows, where there are no training rows
MIXED = {"glue": ("mrpc", "stsb"), "arc": ("arc_easy",), "ner": ("wnut17",), "squad": ("squad", "xquad_en")}
SENTENCE = re.compile(r"\S.*?[.!?](?=\s+[A-Z\"“]|\s*$)|\S.+$", re.DOTALL)

Row = dict[str, str]


def words(rows: Rows) -> Iterator[Row]:
    for uid, sentence in zip(rows.uid, rows.first, strict=True):
        yield {"uid": uid, "label": "", "premise": sentence}


def grades(rows: Rows) -> Iterator[Row]:
    assert rows.label is not None and rows.second is not None
    for uid, label, premise, hypothesis in zip(rows.uid, rows.label, rows.first, rows.second, strict=True):
        yield {"uid": uid, "label": str(int(label + 0.5)), "premise": premise, "hypothesis": hypothesis}


def kinds(task: TaskDef) -> Callable[[Rows], Iterator[Row]]:
    def made(rows: Rows) -> Iterator[Row]:
        assert rows.label is not None
        for uid, label, sentence in zip(rows.uid, rows.label, rows.first, strict=True):
            there = {task.labels[number].rpartition("-")[2] for number in label}
            yield {"uid": uid, "label": json.dumps([kind for kind in KINDS if kind in there]), "premise": sentence}

    return made


def clozes(rows: Rows) -> Iterator[Row]:
    """Cloze rows from rows of SQuAD: a sentence whose answer is replaced, and answers to choose from.

    The premise is the sentences before and after it. The other choices are answers of other questions to the same
    paragraph. A question whose paragraph has fewer than two of them gives no row. Of several questions with the same
    sentence and answer only the first one gives a row.
    """
    assert rows.label is not None and rows.second is not None
    answers: dict[str, dict[str, str]] = defaultdict(dict)  # of each paragraph: answers by their lower case
    for ((_, text), *_), context in zip(rows.label, rows.second, strict=True):
        answers[context].setdefault(text.lower(), text)
    seen = set()
    for uid, ((start, text), *_), context in zip(rows.uid, rows.label, rows.second, strict=True):
        sentences = list(SENTENCE.finditer(context))
        holder = max(number for number, sentence in enumerate(sentences) if sentence.start() <= start)
        first, last = sentences[holder].span()
        query = context[first:start] + PLACEHOLDER + context[start + len(text) : last]
        low, rest = text.lower(), query.lower()
        others = [other for key, other in answers[context].items() if not (key in low or low in key or key in rest)]
        if start + len(text) > last or low in rest or len(others) < 2 or query in seen:
            continue
        seen.add(query)
        choices = sorted([text, *others[: CHOICES - 1]])
        around = [sentences[number].group() for number in (holder - 1, holder + 1) if 0 <= number < len(sentences)]
        yield {
            "uid": uid,
            "label": str(choices.index(text) + 1),
            "premise": " ".join(around) or query,
            "query": query,
            **{f"choice{number + 1}": (choices[number : number + 1] or [""])[0] for number in range(CHOICES)},
        }


def split_boolq(rows: Path, output: Path) -> None:
    """Copies BoolQ's files. Without a training file its dev rows are divided."""
    task = load_task_defs(DEFS / "superglue.yml")["boolq"]
    try:
        shutil.copy(find_rows(rows, task, "train"), output)
        shutil.copy(find_rows(rows, task, "dev"), output)
    except MissingRows:
        header, *texts = (rows / "boolq_dev.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        for split, kept in (("train", texts[:-SCORED]), ("dev", texts[-SCORED:])):
            (output / f"boolq_{split}.tsv").write_text("".join([header, *kept]), encoding="utf-8")


def main(data: Path, output: Path) -> None:
    glue, tagging, squad = (load_task_defs(DEFS / f"{name}.yml") for name in ("glue", "tagging", "squad"))
    chunks = tagging["conll2000_chunk"]
    sources = (
        ("sst2_words_train", glue["sst2"], data / "glue", "train", words),
        ("sst2_words_dev", glue["sst2"], data / "glue", "dev", words),
        ("stsb_grade_train", glue["stsb"], data / "glue", "train", grades),
        ("stsb_grade_dev", glue["stsb"], data / "glue", "dev", grades),
        ("conll2000_kinds_train", chunks, data / "chunking", "train", kinds(chunks)),
        ("conll2000_kinds_test", chunks, data / "chunking", "test", kinds(chunks)),
        ("squad_cloze_train", squad["squad"], data / "squad", "train", clozes),
        ("squad_cloze_test", squad["xquad_en"], data / "squad", "test", clozes),
    )
    output.mkdir(parents=True, exist_ok=True)
    for name, task, folder, split, derived in sources:
        made = list(derived(read_rows(find_rows(folder, task, split), task)))
        write_rows(output / f"{name}.tsv", made, list(made[0]))
    split_boolq(data / "superglue", output)
    for benchmark, names in MIXED.items():
        for file in (file for name in names for file in sorted((data / benchmark).glob(f"{name}_*.tsv"))):
            shutil.copy(file, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
