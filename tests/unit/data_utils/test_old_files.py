"""Task files and rows of the released MT-DNN repository: the same keys, values and columns, with made-up rows.

What cannot be read is in ``REFUSED``, with a reason that docs/from_mtdnn.md gives too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.old_mtdnn import OLD_KEYS, OLD_VALUES
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef, load_task_defs
from tests import ROOT
from tests.tiny import tiny_tokenizer

NLI = "enable_san: false, labels: [contradiction, neutral, entailment], metric_meta: [ACC], n_class: 3"
RTE = "enable_san: false, labels: [not_entailment, entailment], metric_meta: [ACC], n_class: 2"
TWO = "enable_san: false, metric_meta: [ACC, F1], n_class: 2"
PAIR = "data_format: PremiseAndOneHypothesis, task_type: Classification"
SINGLE = "data_format: PremiseOnly, task_type: Classification"
LOSSES = "loss: CeCriterion, kd_loss: MseCriterion, adv_loss: SymKlCriterion"
SPLITS = "split_names: [train, matched_dev, mismatched_dev, matched_test, mismatched_test]"
SEQUENCE = "data_format: Seqence, enable_san: False, task_type: SeqenceLabeling, split_names: [train, dev, test]"

FILES = {
    "glue": f"""
cola: {{{SINGLE}, dropout_p: 0.05, enable_san: false, metric_meta: [ACC, MCC], n_class: 2, {LOSSES}}}
mnli: {{{PAIR}, dropout_p: 0.1, {NLI}, {SPLITS}, {LOSSES}}}
mrpc: {{{PAIR}, {TWO}, {LOSSES}}}
qnli: {{{PAIR}, {RTE}, {LOSSES}}}
qqp: {{{PAIR}, {TWO}, {LOSSES}}}
rte: {{{PAIR}, {RTE}, {LOSSES}}}
scitail: {{{PAIR}, enable_san: false, labels: [neutral, entails], metric_meta: [ACC], n_class: 2, {LOSSES}}}
snli: {{{PAIR}, {NLI}, {LOSSES}}}
sst: {{{SINGLE}, enable_san: false, metric_meta: [ACC], n_class: 2, {LOSSES}}}
stsb: {{data_format: PremiseAndOneHypothesis, enable_san: false, metric_meta: [Pearson, Spearman], n_class: 1,
  loss: MseCriterion, kd_loss: MseCriterion, adv_loss: MseCriterion, task_type: Regression}}
wnli: {{{PAIR}, enable_san: false, metric_meta: [ACC], n_class: 2, {LOSSES}}}
""",
    "glue of 2019": f"""
mnli: {{{PAIR}, encoder_type: ROBERTA, dropout_p: 0.3, {NLI.replace("false", "true")}, {SPLITS}}}
mrpc: {{{PAIR}, encoder_type: BERT, {TWO.replace("false", "true")}}}
stsb: {{data_format: PremiseAndOneHypothesis, encoder_type: BERT, metric_meta: [Pearson, Spearman], n_class: 1,
  enable_san: false, task_type: Regression}}
""",
    "glue without metrics": f"""
cola: {{{SINGLE}}}
mnli: {{{PAIR}, labels: [contradiction, neutral, entailment], {SPLITS}}}
stsb: {{data_format: PremiseAndOneHypothesis, task_type: Regression}}
""",
    "adaptation": f"""
scitail: {{{PAIR}, enable_san: false, labels: [neutral, entails], metric_meta: [ACC], n_class: 2, {LOSSES}}}
snli: {{{PAIR}, {NLI}, {LOSSES}}}
""",
    "anli": f"""
anli: {{{PAIR}, dropout_p: 0.1, enable_san: false, labels: [c, n, e], metric_meta: [ACC], n_class: 3, {LOSSES},
  split_names: [r1_train, r1_dev, r1_test, r2_train, r2_dev, r2_test, r3_train, r3_dev, r3_test]}}
""",
    "ads": f"adsqk: {{{PAIR}, {TWO.replace('false', 'true')}, loss: CeCriterion, kd_loss: MseCriterion}}",
    "tutorial": f"snlisample: {{{PAIR}, {NLI.replace('false', 'true')}, {LOSSES}}}",
    "xnli": f"xnli: {{{PAIR}, dropout_p: 0.2, {NLI}, split_names: [train, dev, test], {LOSSES}}}",
    "mlm": """
mlm: {data_format: MLM, enable_san: false, metric_meta: [ACC], n_class: 30522, task_type: MaskLM, loss: MlmCriterion,
  kd_loss: MseCriterion, adv_loss: SymKlCriterion}
""",
    "ner": f"""
ner:
  data_format: Seqence
  dropout_p: 0.3
  enable_san: False
  labels: [O, B-MISC, I-MISC, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC, X, CLS, SEP]
  metric_meta: [SeqEval]
  n_class: 12
  loss: SeqCeCriterion
  split_names: [train, dev, test]
  task_type: SeqenceLabeling
  loss: SeqCeCriterion
pos: {{{SEQUENCE}, labels: [',', '\\', ':', $, NN, NN|SYM, PRP$, X, CLS, SEP], metric_meta: [SeqEval], n_class: 10,
  loss: SeqCeCriterion}}
chunk: {{{SEQUENCE}, encoder_type: ROBERTA, labels: [B-NP, B-VP, I-NP, I-VP, O, X, CLS, SEP], metric_meta: [SeqEval],
  n_class: 8, loss: SeqCeCriterion}}
""",
    "squad": """
squad: {data_format: MRC, dropout_p: 0.1, enable_san: false, metric_meta: [EmF1], n_class: 2, task_type: Span,
  loss: SpanCeCriterion, kd_loss: MseCriterion, adv_loss: SymKlCriterion, split_names: [train, dev]}
squad-v2: {data_format: CLUE_SPAN, dropout_p: 0.1, enable_san: false, metric_meta: [EmF12], task_type: SpanYN,
  n_class: 2, loss: SpanCeCriterion, kd_loss: MseCriterion, adv_loss: SymKlCriterion, split_names: [train, dev]}
squad1: {data_format: MRC, dropout_p: 0.1, enable_san: false, metric_meta: [EmF1], n_class: 2,
  task_type: SpanClassification, loss: SpanCeCriterion, split_names: [train, dev]}
squad2: {data_format: MRC, dropout_p: 0.1, enable_san: false, metric_meta: [EmF12], n_class: 2,
  task_type: SpanClassificationYN, loss: SpanCeCriterion, split_names: [train, dev]}
""",
    "superglue": f"""
boolq: {{{PAIR}, dropout_p: 0.1, enable_san: false, metric_meta: [ACC], n_class: 2, {LOSSES}}}
copa: {{data_format: PremiseAndMultiHypothesis, enable_san: false, metric_meta: [ACC], loss: RankCeCriterion,
  kd_loss: MseCriterion, adv_loss: SymKlCriterion, n_class: 1, task_type: Ranking}}
cb: {{{PAIR}, dropout_p: 0.1, {NLI}, {LOSSES}}}
record: {{data_format: ClozeChoice, enable_san: false, metric_meta: [EmF1], loss: RankCeCriterion, n_class: 1,
  kd_loss: MseCriterion, adv_loss: SymKlCriterion, task_type: ClozeChoice}}
wic: {{{PAIR}, enable_san: false, metric_meta: [ACC], n_class: 2, {LOSSES}}}
multirc: {{{PAIR}, enable_san: false, metric_meta: [ACC], n_class: 2, {LOSSES}}}
""",
}

# Entries of task files that are refused: the entry, what the error says, and what docs/from_mtdnn.md says.
REFUSED = {
    "glue_task_gen_def": (
        f"rte: {{data_format: PremiseAndOneHypothesis, {TWO}, {LOSSES}, task_type: SeqenceGeneration}}",
        "task type 'SeqenceGeneration' is not supported",
        "text generation",
    ),
    "anli_task_def": (
        f"fever: {{{PAIR}, {NLI.replace('3', '2')}, split_names: [train], {LOSSES}}}",
        "n_class: 2, but there are 3 labels",
        "`n_class` that contradicts `labels`, as that of `fever` in its `anli_task_def.yml`",
    ),
    "ner_task_def of 2019": (
        f"ner: {{{SEQUENCE}, labels: [O, B-PER, X, CLS, SEP], metric_meta: [NERACC], n_class: 5}}",
        "NERACC",
        "`NERACC`",
    ),
    "a key with two values": (
        f"rte: {{{PAIR}, {RTE}, n_class: 3}}",
        "'n_class' occurs twice",
        "a key with two values",
    ),
}

# Rows by task: the fields of a line. There is no line of column names.
ROWS: dict[str, Sequence[tuple[str, ...]]] = {
    "rte": [("0", "entailment", "the cat sees", "a cat"), ("1", "not_entailment", "the dog", "a bird")],
    "cola": [("0", "1", "the cat sees a bird"), ("1", "0", "cat the")],
    "stsb": [("0", "3.8", "the cat", "a cat"), ("1", "0.25", "the cat", "a dog")],
    "mnli": [("0", "neutral", "the cat", "a cat"), ("1", "contradiction", "the cat", "no cat")],
    "copa": [("7", "7,7", "0,1", "the cat sees", "so a", "so the"), ("8", "8,8", "1,0", "the dog", "so b", "so c")],
    "cb": [("0", "neutral", "the cat", "a cat"), ("1", "entailment", "the cat", "a dog")],
    "ner": [("0", "['B-PER', 'O']", "['cat', 'sees']"), ("1", "['O']", "['dog']")],
    "pos": [("0", "['NN', '$']", "['cat', 'sees']")],
    "mlm": [("0", "0", "the cat sees a bird")],
    "boolq": [("0", "1", "the cat sees a bird", "is it a cat"), ("1", "0", "the dog", "is it red")],
}
PAGE = ROOT / "docs" / "from_mtdnn.md"
UNREAD = {"squad": "MRC", "record": "ClozeChoice"}  # rows in formats that docs/from_mtdnn.md calls not read
HOME = {"rte": "glue", "cola": "glue", "stsb": "glue", "mnli": "glue", "ner": "ner", "pos": "ner", "mlm": "mlm"}


def load(folder: Path, text: str) -> dict[str, TaskDef]:
    (folder / "tasks.yml").write_text(text, encoding="utf-8")
    return load_task_defs(folder / "tasks.yml")


def prepared(folder: Path, task: str, split: str, rows: Sequence[tuple[str, ...]]) -> Prepared:
    (folder / f"{task}_{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    definition = load(folder, FILES[HOME.get(task, "superglue")])[task]
    tiny_tokenizer(folder / "tokenizer")
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    return prepare(definition, split, data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, max_length=32)


@pytest.mark.parametrize("name", FILES)
def test_task_files_load(name: str, tmp_path: Path) -> None:
    defs = load(tmp_path, FILES[name])
    assert [*defs] == [line.partition(":")[0] for line in FILES[name].splitlines() if line[:1].isalpha()]
    assert not any({"X", "CLS", "SEP"} & {*task.labels} for task in defs.values())


def test_spans_of_both_kinds(tmp_path: Path) -> None:
    defs = load(tmp_path, FILES["squad"])
    assert {name: task.no_answer for name, task in defs.items()} == {
        "squad": False,
        "squad-v2": True,
        "squad1": False,
        "squad2": True,
    }


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_loaded_is_said_there_and_in_the_documentation(name: str, tmp_path: Path) -> None:
    entry, message, documented = REFUSED[name]
    with pytest.raises(UserError) as error:
        load(tmp_path, entry)
    assert message in str(error.value)
    assert documented in PAGE.read_text(encoding="utf-8").replace("\n", " ")


@pytest.mark.parametrize("task", ROWS)
def test_rows_are_prepared(task: str, tmp_path: Path) -> None:
    split = prepared(tmp_path, task, "train", ROWS[task])
    assert len(split.firsts) == len(ROWS[task]) and split.labels is not None


@pytest.mark.parametrize("task", UNREAD)
def test_formats_of_rows_that_are_not_read(task: str) -> None:
    documented = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    assert f"`{UNREAD[task]}`" in documented.partition("Rows of other formats")[2]


@pytest.mark.parametrize("rows", [3, 30])
def test_a_test_split_whose_labels_are_all_0_is_unlabelled(rows: int, tmp_path: Path) -> None:
    """cb_test.tsv has the label 0 in every row, though the labels of the task are names."""
    lines = [(f"{number}", "0", "the cat", "a cat") for number in range(rows)]
    for _ in range(2):  # the second time from the cache
        split = prepared(tmp_path, "cb", "test", lines)
        assert split.labels is None and "the label of all rows is 0" in split.manifest["notice"]
    with pytest.raises(UserError, match="label '0' is not one of contradiction"):
        prepared(tmp_path, "cb", "dev", lines)
    with pytest.raises(UserError, match="label '0' is not one of contradiction"):
        prepared(tmp_path, "cb", "test", [*lines, ("x", "neutral", "the cat", "a cat")])


def test_the_page_says_how_each_old_key_and_value_is_read() -> None:
    named = {"divergence": "`kd_loss`, `adv_loss`", "metrics": "`metric_meta`"}
    rows = {f"| `{old}` | the key | `{new}` |" for old, new in OLD_KEYS.items()}
    for key, values in OLD_VALUES.items():
        read: dict[str, list[str]] = {}
        for old, new in values.items():
            now = ", ".join(f"`{name}`" for name in ((new,) if isinstance(new, str) else new))
            read.setdefault(now, []).append(f"`{old}`")
        rows |= {f"| {named.get(key, f'`{key}`')} | {', '.join(old)} | {now} |" for now, old in read.items()}
    assert rows <= {*PAGE.read_text(encoding="utf-8").splitlines()}
