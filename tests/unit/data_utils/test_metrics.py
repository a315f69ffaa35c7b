"""Metrics against scikit-learn and scipy, and at the edges where those give NaN or warn."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sk

from data_utils.errors import UserError
from data_utils.metrics import METRICS
from data_utils.task_def import check_metrics
from data_utils.task_types import TASK_TYPES
from tests.answers import computed

CLASSIFICATION = TASK_TYPES["classification"].metrics
REGRESSION = TASK_TYPES["regression"].metrics


def one(name, predictions, labels, scores=None, n_class=2) -> Any:
    return computed([name], predictions=predictions, labels=labels, scores=scores, n_class=n_class)[name]


@pytest.mark.parametrize("n_class", [2, 3, 5])
def test_classification_agrees_with_scikit_learn(n_class):
    random = np.random.default_rng(n_class)
    labels, predictions = random.integers(0, n_class, (2, 200))
    expected = {
        "accuracy": sk.accuracy_score(labels, predictions),
        "f1_macro": sk.f1_score(labels, predictions, average="macro"),
        "f1_micro": sk.f1_score(labels, predictions, average="micro"),
        "mcc": sk.matthews_corrcoef(labels, predictions),
    }
    found = computed(list(expected), predictions=predictions, labels=labels, n_class=n_class)
    assert found == pytest.approx(expected)
    matrix = one("confusion_matrix", predictions, labels, n_class=n_class)
    assert matrix == sk.confusion_matrix(labels, predictions).tolist()


def test_binary_metrics_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    logits = random.normal(size=(300, 2)) + np.eye(2)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predictions = logits.argmax(1)
    assert one("f1", predictions, labels) == pytest.approx(sk.f1_score(labels, predictions))
    assert one("f1", predictions, labels) != pytest.approx(sk.f1_score(labels, predictions, pos_label=0))
    expected = sk.roc_auc_score(labels, probabilities[:, 1])
    assert one("auc", predictions, labels, probabilities) == pytest.approx(expected)
    assert one("auc", predictions, labels, logits) == pytest.approx(expected)


def test_auc_ranks_logits_by_their_difference():
    logits = [[0.0, 1.0], [5.0, 2.0]]  # the second logit alone would rank these two the wrong way round
    assert one("auc", [1, 0], [1, 0], logits) == 1.0


def test_regression_agrees_with_scipy():
    random = np.random.default_rng(1)
    labels = random.integers(0, 6, 150).astype(np.float32)
    predictions = (labels + random.normal(size=150)).astype(np.float32)
    found = computed(["pearson", "spearman"], predictions=predictions, labels=labels, n_class=1)
    assert found["pearson"] == pytest.approx(stats.pearsonr(predictions, labels)[0], abs=1e-6)
    assert found["spearman"] == pytest.approx(stats.spearmanr(predictions, labels)[0], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4), st.data())
def test_classification_values_are_fractions(n_class, data):
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, n_class - 1), st.integers(0, n_class - 1)), min_size=1, max_size=12)
    )
    predictions, labels = zip(*pairs, strict=True)
    scores = np.eye(n_class)[list(predictions)]
    names = [name for name in CLASSIFICATION if METRICS[name].scalar and (n_class == 2 or not METRICS[name].binary)]
    further: dict[str, Any] = {"n_class": n_class, "questions": np.arange(len(labels)) // 2}
    values: dict[str, Any] = computed(names, predictions=predictions, labels=labels, scores=scores, **further)
    for value in values.values():
        assert -1 <= value <= 1
    assert sum(map(sum, one("confusion_matrix", predictions, labels, n_class=n_class))) == len(labels)
    assert values["accuracy"] == pytest.approx(values["f1_micro"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 5)), min_size=1, max_size=12))
def test_regression_values_are_fractions(pairs):
    predictions, labels = zip(*pairs, strict=True)
    values: dict[str, Any] = computed(REGRESSION, predictions=predictions, labels=labels, n_class=1)
    for value in values.values():
        assert -1 - 1e-9 <= value <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(0, 2))
def test_constant_predictions_correlate_with_nothing(labels, constant):
    predictions = [constant] * len(labels)
    assert one("mcc", predictions, labels, n_class=3) == 0.0
    assert one("pearson", predictions, labels) == 0.0
    assert one("spearman", predictions, labels) == 0.0


def test_nearly_constant_predictions_give_a_number_and_no_warning():
    predictions = [1e30, np.nextafter(1e30, 2e30), 1e30]
    assert math.isfinite(one("pearson", predictions, [0.0, 1.0, 2.0]))


def test_one_labelled_class():
    assert one("auc", [1, 0], [1, 1], [[0.1, 0.9], [0.8, 0.2]]) == 0.5
    assert one("f1", [0, 0], [0, 0]) == 0.0
    assert one("confusion_matrix", [0, 0], [0, 0], n_class=3) == [[2, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_perfect_predictions():
    labels = [0, 1, 1, 0]
    found = computed(["accuracy", "f1", "f1_macro", "mcc"], predictions=labels, labels=labels, n_class=2)
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [([], [], "no rows"), ([1], [1, 0], "differ"), ([math.nan, 1.0], [0.5, 1.0], "diverged")],
)
def test_predictions_that_cannot_be_scored(predictions, labels, message):
    with pytest.raises(UserError, match=message):
        one("accuracy", predictions, labels)


def test_unknown_metric():
    with pytest.raises(UserError, match="unknown metric 'accurcy', did you mean 'accuracy'"):
        one("accurcy", [1], [1])


def test_auc_without_scores():
    with pytest.raises(UserError, match="auc"):
        one("auc", [1, 0], [1, 0])


@pytest.mark.parametrize(
    ("task_type", "n_class", "metric", "message"),
    [
        ("regression", 1, "accuracy", "rte: metric 'accuracy' does not fit a regression task"),
        ("classification", 2, "pearson", "does not fit a classification task"),
        ("classification", 3, "f1", "needs 2 classes, the task has 3"),
        ("classification", 2, "acurracy", "rte: unknown metric 'acurracy', did you mean 'accuracy'"),
    ],
)
def test_a_metric_that_does_not_fit(task_type, n_class, metric, message):
    task: Any = SimpleNamespace(name="rte", task_type=task_type, n_class=n_class, metrics=(metric,))
    with pytest.raises(UserError, match=message):
        check_metrics(task)


@pytest.mark.parametrize(
    ("task_type", "n_class", "names"),
    [
        ("classification", 2, CLASSIFICATION),
        ("regression", 1, REGRESSION),
        ("classification", 3, ["f1_macro"]),
    ],
)
def test_metrics_that_fit(task_type, n_class, names):
    task: Any = SimpleNamespace(name="t", task_type=task_type, n_class=n_class, metrics=names)
    check_metrics(task)


def test_importing_the_names_imports_no_heavy_library():
    code = "import sys, data_utils.metrics; sys.exit(bool({'sklearn', 'scipy', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("gold", "predicted", "scores"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", (1, 1, 1)),
        ("B-PER I-PER O B-LOC", "B-PER O O B-LOC", (1 / 2, 1 / 2, 1 / 2)),  # half an entity is none
        ("B-PER I-PER O B-LOC", "O O O O", (0, 0, 0)),
        ("I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC", (1, 1, 1)),  # IOB1 beside IOB2
        ("B-PER E-PER O S-LOC", "B-PER E-PER O S-LOC", (1, 1, 1)),  # IOBES
        ("U-PER U-PER O O", "U-PER O O O", (1, 1 / 2, 2 / 3)),  # BILOU
        ("B-PER L-PER L-PER U-LOC", "B-PER L-PER O O", (1, 1 / 3, 1 / 2)),
        ("B-PER I-PER O B-LOC", "B-PER I-PER B-LOC B-LOC", (2 / 3, 1, 4 / 5)),
        ("B I O B", "B I O B", (1, 1, 1)),  # without a type
        ("B I O B", "B O O B", (1 / 2, 1 / 2, 1 / 2)),
        ("B L L U", "B L O O", (1, 1 / 3, 1 / 2)),
        ("B I O I", "B I B I", (1 / 2, 1 / 2, 1 / 2)),
    ],
)
def test_entities(gold, predicted, scores):
    """Two sentences: what is at the end of one does not go on in the next."""
    names = tuple(sorted({*gold.split(), *predicted.split()}))
    labels, predictions = ([names.index(label) for label in text.split()] * 2 for text in (gold, predicted))
    found = computed(
        ["entity_precision", "entity_recall", "entity_f1"],
        predictions=predictions,
        labels=labels,
        names=names,
        bounds=np.array([0, 4, 8]),
    )
    assert tuple(found.values()) == pytest.approx(scores)


@pytest.mark.parametrize("seed", range(4))
def test_entities_without_a_type_are_those_of_seqeval_and_of_one_type(seed: int) -> None:
    """Against seqeval itself, on random labels, and against the same labels with a type."""
    rng = np.random.default_rng(seed)
    bounds, names = np.array([0, 7, 30, 31, 60]), ("O", "B", "I")
    labels, predictions = rng.integers(0, 3, (2, 60))
    wanted = ["entity_precision", "entity_recall", "entity_f1"]
    found, typed = (
        computed(wanted, predictions=predictions, labels=labels, names=named, bounds=bounds)
        for named in (names, ("O", "B-X", "I-X"))
    )
    gold, predicted = (
        [[names[word] for word in part] for part in np.split(v, bounds[1:-1])] for v in (labels, predictions)
    )
    scores = (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)
    assert [*found.values()] == [*typed.values()] == pytest.approx([score(gold, predicted) for score in scores])


def test_a_task_of_labels_without_a_type_takes_entity_metrics() -> None:
    for labels in (("O", "B", "I"), ("O", "B", "I", "L", "U"), ("O", "B-X", "I-X")):
        task: Any = SimpleNamespace(
            name="t", task_type="sequence_labelling", labels=labels, n_class=len(labels), metrics=["entity_f1"]
        )
        check_metrics(task)


@pytest.mark.parametrize(
    ("text", "right", "exact", "shared"),
    [
        ("The  Eiffel tower!", ["eiffel tower"], 1, 1),
        ("tower", ["Eiffel Tower", "the tower"], 1, 1),
        ("Eiffel", ["Eiffel Tower"], 0, 2 / 3),
        ("a b b", ["b b c d"], 0, 2 * 2 / (2 + 4)),
        ("", [""], 1, 1),
        ("", ["x"], 0, 0),
        ("the", ["an"], 1, 1),  # nothing is left of either
        ("the", ["An", "cat"], 0, 0),  # an answer of which nothing is left is none where there are others
        ("", ["An", "cat"], 0, 0),
        ("cat", ["An", "cat"], 1, 1),
        ("x", [""], 0, 0),
        ("Denver's", ["denvers"], 1, 1),
    ],
)
def test_answers_as_squad_scores_them(text, right, exact, shared):
    """Values worked out by hand from the rules of SQuAD's evaluation, version 2.0."""
    labels = np.empty(1, object)
    labels[0] = right
    found = computed(["exact_match", "answer_f1"], predictions=np.array([text], object), labels=labels)
    assert tuple(found.values()) == pytest.approx((exact, shared))


WORDS = st.lists(st.sampled_from(["a", "An", "the", "cat", "Dog", "!", "dog."]), max_size=3).map(" ".join)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_answers_against_the_rules_of_squad(text, right):
    """Version 2.0: answers that normalise to nothing are left out, and where all do, the right one is no answer."""

    def words(answer):
        kept = "".join(letter for letter in answer.lower() if letter.isalnum() or letter == " ")
        return [word for word in kept.split() if word not in ("a", "an", "the")]

    def shared(found, wanted):
        if not found or not wanted:
            return float(found == wanted)
        common = sum(min(found.count(word), wanted.count(word)) for word in set(found))
        precision, recall = common / len(found), common / len(wanted)
        return 2 * precision * recall / (precision + recall) if common else 0.0

    wanted = [words(answer) for answer in right if words(answer)] or [[]]
    labels = np.empty(1, object)
    labels[0] = right
    found = computed(["exact_match", "answer_f1"], predictions=np.array([text], object), labels=labels)
    expected = (float(words(text) in wanted), max(shared(words(text), answer) for answer in wanted))
    assert tuple(found.values()) == pytest.approx(expected)


def test_kappa_counts_grades_that_nothing_has():
    """1, 2 and 4 are neither predicted nor labelled, and still lie between the others."""
    predictions, labels = np.array([0, 5, 0, 5, 3]), np.array([0, 5, 3, 3, 5])
    by_chance = np.square(predictions[:, None] - labels[None]).mean()
    expected = 1 - np.square(predictions - labels).mean() / by_chance
    assert expected == pytest.approx(0.612, abs=5e-4)
    assert one("quadratic_kappa", predictions, labels, n_class=6) == pytest.approx(expected)
