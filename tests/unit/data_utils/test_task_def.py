"""Task definition files: strict, located errors, old spellings, and a README that names every field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from data_utils.errors import UserError
from data_utils.old_mtdnn import loss_notices
from data_utils.task_def import TaskDef, dump_task_defs, load_task_defs
from data_utils.task_yaml import _FastLoader, _Loader
from tests import ROOT

SHIPPED = sorted((ROOT / "task_defs").glob("*.yml"))


def test_the_fast_loader_reads_what_the_other_one_reads() -> None:
    for text in (*(path.read_text(encoding="utf-8") for path in SHIPPED), "a: {labels: [no, 1_0], 2: 3}"):
        assert yaml.load(text, _FastLoader) == yaml.load(text, _Loader)


OLD_FILE = """
cola:
  data_format: PremiseOnly
  task_type: Classification
  encoder_type: BERT
  dropout_p: 0.05
  enable_san: false
  metric_meta: [ACC, MCC]
  loss: CeCriterion
  kd_loss: MseCriterion
  adv_loss: SymKlCriterion
  n_class: 2
mnli:
  data_format: PremiseAndOneHypothesis
  enable_san: true
  labels: [contradiction, neutral, entailment]
  split_names: [train, matched_dev, mismatched_dev, matched_test, mismatched_test]
  task_type: Classification
sts_b:
  data_format: PremiseAndOneHypothesis
  metric_meta: [Pearson, Spearman]
  loss: MseCriterion
  adv_loss: MseCriterion
  n_class: 1
  task_type: Regression
"""


# Entries as in the old toolkit's files for SQuAD, masked language models, CoNLL-2003, SuperGLUE and ranking.
OLD_ENTRIES = """
squad: {data_format: MRC, enable_san: false, metric_meta: [EmF1], n_class: 2, task_type: Span, loss: SpanCeCriterion,
  kd_loss: MseCriterion, adv_loss: SymKlCriterion, split_names: [train, dev]}
squad-v2: {data_format: CLUE_SPAN, enable_san: false, metric_meta: [EmF12], n_class: 2, task_type: SpanYN,
  loss: SpanCeCriterion, kd_loss: MseCriterion, adv_loss: SymKlCriterion, split_names: [train, dev]}
mlm: {data_format: MLM, enable_san: false, metric_meta: [ACC], n_class: 30522, task_type: MaskLM, loss: MlmCriterion}
ner: {data_format: Seqence, enable_san: False, labels: [O, B-PER, I-PER, X, CLS, SEP], metric_meta: [SeqEval],
  n_class: 6, loss: SeqCeCriterion, task_type: SeqenceLabeling}
pos: {data_format: Seqence, labels: [',', NN, SYM, X, CLS, SEP], metric_meta: [ACC, SeqEval], n_class: 6,
  task_type: SeqenceLabeling}
cb: {data_format: PremiseAndOneHypothesis, labels: [contradiction, neutral, entailment], metric_meta: [F1, ACC],
  n_class: 3, task_type: Classification}
five: {data_format: PremiseOnly, metric_meta: [F1], n_class: 5, task_type: Classification}
mrpc: {data_format: PremiseAndOneHypothesis, metric_meta: [ACC, F1], n_class: 2, task_type: Classification}
copa: {data_format: PremiseAndMultiHypothesis, metric_meta: [ACC], loss: RankCeCriterion, n_class: 1,
  task_type: Ranking}
qnnli: {data_format: PremiseAndMultiHypothesis, labels: [not_entailment, entailment], metric_meta: [ACC], n_class: 2,
  task_type: Ranking}
record: {data_format: ClozeChoice, metric_meta: [EmF1], loss: RankCeCriterion, n_class: 1, task_type: ClozeChoice}
"""


def load(tmp_path: Path, text: str) -> dict[str, TaskDef]:
    path = tmp_path / "tasks.yml"
    path.write_text(text, encoding="utf-8")
    return load_task_defs(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    line = str(error.value)
    assert "\n" not in line and line.startswith(str(tmp_path / "tasks.yml"))
    return line


def task(**fields: object) -> str:
    base: dict[str, object] = {"task_type": "classification", "data_format": "single", "labels": ["a", "b"]}
    return yaml.safe_dump({"mine": {**base, **fields}}, sort_keys=False)


def test_the_old_file_loads_unchanged(tmp_path: Path) -> None:
    defs = load(tmp_path, OLD_FILE)
    assert list(defs) == ["cola", "mnli", "sts_b"]
    cola, mnli, sts = defs.values()
    assert (cola.labels, cola.metrics, cola.dropout) == (("0", "1"), ("accuracy", "mcc"), 0.05)
    assert (cola.loss, cola.kd_loss, cola.adv_loss) == ("cross_entropy", "mse", "sym_kl")
    assert mnli.dev_splits == ("matched_dev", "mismatched_dev") and mnli.trainable and mnli.enable_san
    assert (sts.n_class, sts.metrics, sts.data_format) == (1, ("pearson", "spearman"), "pair")


def test_old_entries_load_as_what_they_meant(tmp_path: Path) -> None:
    defs = load(tmp_path, OLD_ENTRIES)
    both = ("exact_match", "answer_f1")
    assert {name: (each.task_type, each.labels, each.metrics) for name, each in defs.items()} == {
        "squad": ("span", (), both),
        "squad-v2": ("span", (), both),
        "mlm": ("masked_lm", (), ("accuracy",)),
        "ner": ("sequence_labelling", ("O", "B-PER", "I-PER"), ("entity_f1",)),
        "pos": ("sequence_labelling", (",", "NN", "SYM"), ("accuracy",)),
        "cb": ("classification", ("contradiction", "neutral", "entailment"), ("f1_macro", "accuracy")),
        "five": ("classification", ("0", "1", "2", "3", "4"), ("f1_macro",)),
        "mrpc": ("classification", ("0", "1"), ("accuracy", "f1")),
        "copa": ("multiple_choice", (), ("accuracy",)),
        "qnnli": ("multiple_choice", (), ("accuracy",)),
        "record": ("cloze", (), both),
    }
    assert [name for name, each in defs.items() if each.no_answer] == ["squad-v2"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_load_and_round_trip(path: Path, tmp_path: Path) -> None:
    defs = load_task_defs(path)
    dump_task_defs(defs, tmp_path / "copy.yml")
    assert load_task_defs(tmp_path / "copy.yml") == defs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (task(droput=0.1), ["mine", "unknown key 'droput'", "did you mean 'dropout'"]),
        (
            task(task_type="SeqenceGeneration"),
            ["mine", "'SeqenceGeneration' is not supported", "regression, multiple_choice, seq"],
        ),
        (task(task_type="Span"), ["mine", "labels: a span task has none"]),
        (task(task_type="SeqenceLabeling"), ["mine", "a sequence_labelling task takes words"]),
        (
            task(task_type="SeqenceLabeling", data_format="Seqence"),
            ["'entity_f1' needs labels as O, B-PER, I-PER or O, B, I, not 'a'"],
        ),
        (task(enable_san=True), ["enable_san", "pairs of sentences"]),
        (task(crf=True), ["crf", "sequence_labelling"]),
        (task(no_answer=True), ["no_answer: only a span task has it; leave it out"]),
        (task(task_type="multi_label", enable_san=True), ["only a classification or regression task has it"]),
        (task(task_type="ordinal"), ["labels: an ordinal task needs at least 3; for two, use", "classification"]),
        (task(task_type="ordinal", data_format="words", labels=["a", "b", "c"]), ["an ordinal task takes single or"]),
        (
            task(task_type="multi_label", head="other", label_map={"a": "b"}),
            ["label_map: only a classification or sequence_labelling task has it"],
        ),
        (
            task(task_type="regression", labels=None, kd_loss="kl"),
            ["kd_loss: kl does not fit a regression task, use mse"],
        ),
        (task(task_type="regression", labels=None, adv_loss="js"), ["adv_loss: js does not fit a regression task"]),
        (task(loss="pairwise"), ["loss: pairwise does not fit a classification task, use cross_entropy"]),
        (task(task_type="multiple_choice"), ["mine", "labels: a multiple_choice task has none"]),
        (task(data_format="Cloze"), ["'Cloze' is not supported"]),
        (task(data_format="PremiseAndMultiHypothesis"), ["a classification task takes single or pair"]),
        (task(labels=["only"]), ["labels", "at least 2"]),
        (task(labels=["a", "a"]), ["labels", "twice"]),
        (task(n_class=3), ["n_class", "2 labels"]),
        (task(task_type="Classification", labels=["a", "b", "c"], n_class=2), ["n_class: 2", "3 labels"]),
        (task(task_type="SeqenceLabeling", data_format="Seqence", labels=["O", "X", "CLS", "SEP"]), ["at least 2"]),
        (task(labels=3, metric_meta=["F1", "SeqEval"]), ["labels", "got 3"]),
        (task(metrics=[["ACC"]]), ["metrics", "got ['ACC']"]),
        (task(metrics=["acuracy"]), ["unknown metric 'acuracy'", "did you mean 'accuracy'"]),
        (task(metrics=["pearson"]), ["pearson", "classification"]),
        (task(labels=["a", "b", "c"], metrics=["f1"]), ["f1", "2 classes"]),
        (task(dropout=1.5), ["dropout", "1.5"]),
        (task(loss="mse"), ["loss", "mse"]),
        (task(value_range=[0, 5]), ["value_range", "regression"]),
        (task(head="other", splits=["test"]), ["head", "other"]),
        (task(head="mine"), ["head: no trained task 'mine' that owns its head"]),
        (task(head="mine", dropout=0.2), ["dropout: belongs to the task whose head this one reads"]),
        ("mine:\n  task_type: regression\n  data_format: pair\n  labels: [a, b]\n", ["mine", "labels"]),
        ("mine:\n  task_type: classification\n  data_format: single\n  labels: [yes, no]\n", ["labels", "quote it"]),
        (task() + task(), ["'mine' occurs twice; keep one"]),
        (
            task(splits=["train", "dev_x"]) + task(splits=["x"]).replace("mine:", "mine_dev:"),
            ["mine_dev: split x has the same file name, mine_dev_x, as a split of task mine; rename one"],
        ),
        ("mine: classification\n", ["mine", "mapping"]),
        ("yes:\n  task_type: classification\n  data_format: single\n", ["task name", "quote it"]),
        ("", ["mapping"]),
        ("mine:\n  labels: [a\n", ["tasks.yml:"]),
        ("my task:\n  task_type: classification\n  data_format: single\n", ["my task", "name"]),
        ("mine:\n  data_format: single\n", ["mine", "missing key 'task_type'"]),
        (task(n_class="two"), ["mine", "n_class", "'two'"]),
        (task(n_class=0), ["mine", "n_class", "got 0"]),
        (task(metrics=["mcc"], metric_meta=["ACC"]), ["mine", "metrics", "given twice", "'metric_meta'"]),
        (task(splits=["train", "../dev"]), ["mine", "splits", "../dev"]),
        (task(loss_weight=float("inf")), ["mine", "loss_weight", "finite"]),
        (task(label_map={True: "a"}), ["mine", "label_map", "quote it"]),
        ("? [mine]\n: {}\n", ["tasks.yml:1", "not readable as YAML"]),
        ("mine:\n\tloss: mse\n", ["tasks.yml:2: not readable as YAML: found character '\\t' that cannot start"]),
        ("1: {}\n" + '"1": {}\n', ["'1' occurs twice; keep one"]),
    ],
)
def test_refusals_name_file_task_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    line = refused(tmp_path, text)
    for word in words:
        assert word in line


BASE = "mine: {task_type: classification, data_format: single, "


@pytest.mark.parametrize(
    ("label", "read"),
    [
        *(("1_000", "1000"), ("12:30", "750"), ("0123", "83"), ("0x1F", "31"), (".5", "0.5"), ("1e+3", None)),
        *(("false", "a truth value"), ("yes", "a truth value"), ("~", "nothing"), ("+1", "1"), ("1.50", "1.5")),
    ],
)
def test_a_label_that_yaml_rewrites_is_named_as_it_is_written(tmp_path: Path, label: str, read: str | None) -> None:
    lines = (
        ("labels", BASE + f"labels: [a, {label}]}}"),
        ("labels", f"all: &labels {{data_format: single, task_type: ordinal, labels: [a, {label}]}}\nmine: *labels"),
        ("labels", BASE + f"<<: {{labels: [a, {label}]}}}}"),
        ("label_map", BASE + f"labels: [a, b], head: x, label_map: {{a: {label}}}}}"),
        ("label_map", BASE + f"labels: [a, b], head: x, label_map: {{{label}: a}}}}"),
        ("task name", f"{label}: {{task_type: classification, data_format: single}}"),
    )
    for key, text in lines:
        if read is None:
            assert load(tmp_path, lines[0][1])["mine"].labels == ("a", label)
        else:
            assert f'{key}: YAML reads {label} as {read}; quote it: "{label}"' in refused(tmp_path, text)
        quoted = load(tmp_path, BASE + f'labels: [a, "{label}"]}}')
        assert quoted["mine"].labels == ("a", label)
        dump_task_defs(quoted, tmp_path / "dumped.yml")
        assert load_task_defs(tmp_path / "dumped.yml") == quoted


def test_labels_that_yaml_keeps_need_no_quotes(tmp_path: Path) -> None:
    for text in ("[0, 1, 2]", "[-1, 0, 1]", "[0.5, 1.0]", "[2001-01-01, 2001-01-02]", "\n    - 10\n    - 20"):
        found = load(tmp_path, f"mine:\n  task_type: classification\n  data_format: single\n  labels: {text}\n")
        assert list(found["mine"].labels) == re.findall(r"[-.\d]*\d", text)
    assert "labels: write a text, not a list" in refused(tmp_path, BASE + "labels: [[a], b]}")


def test_label_map_must_cover_the_head_and_land_in_own_labels(tmp_path: Path) -> None:
    owner = task(labels=["x", "y", "z"]).replace("mine", "owner")
    reader = {"head": "owner", "splits": ["test"]}
    good = load(tmp_path, owner + task(**reader, label_map={"x": "a", "y": "b", "z": "b"}))
    assert good["mine"].label_map == {"x": "a", "y": "b", "z": "b"}
    assert "label_map: add z, which" in refused(tmp_path, owner + task(**reader, label_map={"x": "a", "y": "b"}))
    assert "does not exist" in refused(tmp_path, owner + task(**reader, label_map={"x": "a", "y": "b", "z": "q"}))
    assert "add label_map" in refused(tmp_path, owner + task(**reader))


def test_a_task_that_trains_the_head_of_another_fits_it(tmp_path: Path) -> None:
    owner = task(labels=["x", "y"], data_format="pair").replace("mine", "owner")
    good = load(tmp_path, owner + task(head="owner", label_map={"y": "b", "x": "a"}))
    assert good["mine"].trainable and good["mine"].head == "owner"
    third = task(head="mine", labels=["x", "y"]).replace("mine:", "third:")
    assert "no trained task 'mine' that owns its head" in refused(
        tmp_path, owner + task(head="owner", label_map={"x": "a", "y": "b"}) + third
    )
    for changes, words in (
        ({"label_map": {"x": "b", "y": "a"}}, "one label for each label of 'owner', in the same order"),
        ({"label_map": {"x": "a", "y": "a"}}, "one label for each label of 'owner', in the same order"),
        ({}, "add label_map"),
        ({"labels": ["x", "y"], "enable_san": True, "data_format": "pair"}, "enable_san: differs from 'owner'"),
        (
            {"task_type": "regression", "data_format": "pair", "labels": None},
            "'owner' is a classification task, this one is a regression task; both must be the same",
        ),
    ):
        assert words in refused(tmp_path, owner + task(**{"head": "owner", **changes}))
    span = {"task_type": "span", "data_format": "question_context", "labels": None}
    both = task(**span).replace("mine", "owner") + task(**span, head="owner", no_answer=True)
    assert "no_answer: differs from 'owner'" in refused(tmp_path, both)


def test_numbers_as_labels_are_texts_also_in_label_map(tmp_path: Path) -> None:
    owner = task(labels=[0, 1, 2]).replace("mine", "owner")
    reader = task(labels=[0, 1], head="owner", splits=["test"], label_map={0: 0, 1: 1, 2: 1})
    assert load(tmp_path, owner + reader)["mine"].label_map == {"0": "0", "1": "1", "2": "1"}


def test_yaml_anchors_merge(tmp_path: Path) -> None:
    text = "one: &one {task_type: classification, data_format: pair}\ntwo:\n  <<: *one\n  data_format: single\n"
    assert [each.data_format for each in load(tmp_path, text).values()] == ["pair", "single"]


@pytest.mark.parametrize(
    ("key", "old", "now"),
    [
        ("adv_loss", "KlCriterion", "kl"),
        ("adv_loss", "NsKlCriterion", "kl"),
        ("adv_loss", "NsSymKlCriterion", "sym_kl"),
        ("adv_loss", "JSCriterion", "js"),
        ("adv_loss", "HLCriterion", "hellinger"),
        ("kd_loss", "NsKlCriterion", "kl"),
        ("kd_loss", "HLCriterion", "hellinger"),
    ],
)
def test_old_losses_with_another_meaning_load_with_a_notice(key: str, old: str, now: str, tmp_path: Path) -> None:
    path = tmp_path / "old.yml"
    path.write_text(OLD_FILE.replace("mnli:", f"mnli:\n  {key}: {old}"))
    assert getattr(load_task_defs(path)["mnli"], key) == now
    (notice,) = loss_notices(path, ["cola", "mnli", "sts_b"])
    assert notice.startswith(f"{path}: mnli: {key}: {old} is read as {now}. The old MT-DNN computed ")
    assert f"write {now} if that is meant" in notice and "\n" not in notice
    assert loss_notices(path, ["cola", "sts_b"]) == []  # the run does not use the task
    path.write_text(OLD_FILE.replace("mnli:", f"mnli:\n  {key}: {now}"))
    assert loss_notices(path, ["cola", "mnli", "sts_b"]) == []


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such task definition file"):
        load_task_defs(tmp_path / "none.yml")
    (tmp_path / "bytes.yml").write_bytes(b"mine: caf\xe9")
    with pytest.raises(UserError, match=r"bytes\.yml: not UTF-8"):
        load_task_defs(tmp_path / "bytes.yml")


def test_readme_lists_every_shipped_file() -> None:
    text = (ROOT / "task_defs" / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{path.name}` |" in text for path in SHIPPED)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("n_class: 2\n  metric_meta: [[1]]", r"metrics.0: Input should be a valid string \(got \[1\]\)"),
        ("n_class: 2\n  metrics: [{a: 1}]", "metrics.0: Input should be a valid string"),
        ("n_class: 1" + "0" * 30, "n_class: write a whole number from 1 to 100000"),
        (f"n_class: 2\n  splits: [train, {'d' * 300}]", "splits.1: String should have at most 80 characters"),
        ("labels: !!set {a, b}", "a.yml:4: the tag 'tag:yaml.org,2002:set' is not read here"),
        ("labels: [2020-13-45, b]", "a.yml: not readable as YAML: month must be"),
        (
            f"labels: [{', '.join(f'l{n}' for n in range(900))}, l0]",
            r"listed twice; keep it once: l0, .*\(901 in all\)",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_values_that_no_task_has_are_one_short_line(lines: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text(f"a:\n  task_type: classification\n  data_format: pair\n  {lines}\n")
    with pytest.raises(UserError, match=said) as found:
        load_task_defs(path)
    assert len(str(found.value)) < 900


def test_a_name_of_a_task_that_is_too_long_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(f"{'a' * 300}:\n  task_type: classification\n  data_format: pair\n")
    with pytest.raises(UserError, match="name: String should have at most 80 characters"):
        load_task_defs(tmp_path / "a.yml")
