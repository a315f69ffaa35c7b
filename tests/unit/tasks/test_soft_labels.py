"""Soft labels: read and checked, laid over tokens, averaged over teachers, and the loss on them against torch's."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.rows import read_rows
from data_utils.soft_labels import FORMS, read_soft_labels
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.view import View
from mt_dnn.batches.collate import collate
from mt_dnn.runs.build import build_splits, build_tasks, build_tokenizer
from mt_dnn.runs.config_file import load_config
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.losses import DIVERGENCES, LOSSES, MISSING, Reduction
from mt_dnn.tasks.soft_labels import DistillationConfig, soft_loss
from mt_dnn.tasks.units import NoUnits
from mt_dnn.telemetry import Telemetry
from tests.tiny import tiny_tokenizer
from tests.workspace import TEACHABLE, make_workspace

FORMATS = {name: entry.formats[0] for name, entry in TASK_TYPES.items() if entry.answer in FORMS}


def test_only_masked_language_models_have_no_soft_labels() -> None:
    assert {name for name, entry in TASK_TYPES.items() if entry.answer not in FORMS} == {"masked_lm"}


def task_of(kind: str, **changes: Any) -> TaskDef:
    known = {0: (), 2: ("no", "yes"), 3: ("no", "some", "yes")}[TASK_TYPES[kind].least_labels]
    labels = {"labels": known} if known else {}
    return TaskDef.model_validate(
        {"name": "t", "task_type": kind, "data_format": FORMATS[kind], **labels, **TASK_TYPES[kind].defaults, **changes}
    )


PARTS: dict[str, Any] = {
    "multiple_choice": ["a", "b", "c"],
    "cloze": ["a", "b", "c"],
    "sequence_labelling": "old cat sees",
    "span": "the cat",
}
GOOD = {
    "classification": ('{"yes": 0.75, "no": 0.25}', [[0.25, 0.75]]),
    "ordinal": ('{"yes": 0.5, "no": 0.25, "some": 0.25}', [[0.25, 0.25, 0.5]]),
    "regression": ("-2.5", [[-2.5]]),
    "multiple_choice": ("[0, 0.5, 0.5]", [[0, 0.5, 0.5]]),
    "cloze": ("[0, 0.5, 0.5]", [[0, 0.5, 0.5]]),
    "sequence_labelling": ('{"no": [1, 0.5, 0.25], "yes": [0, 0.5, 0.75]}', [[1, 0], [0.5, 0.5], [0.25, 0.75]]),
    "multi_label": ('{"no": 0.25, "yes": 1}', [[0.75, 0.25], [0, 1]]),
    "span": ("[[4, 7, 0.5], [0, 0, 0.5]]", [(4, 7, 0.5), (0, 0, 0.5)]),
}


def read(kind: str, text: str) -> Any:
    found = read_soft_labels(["f.tsv:7"], [text], task_of(kind), [PARTS.get(kind, "cat")])
    return None if found is None else found[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_task_type_has_its_form(kind: str) -> None:
    text, expected = GOOD[kind]
    found = read(kind, text)
    assert np.asarray(found).tolist() == np.asarray(expected).tolist()
    assert kind == "span" or found.dtype == (np.float64 if kind == "regression" else np.float32)
    assert read(kind, "") is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[(kind, text) for kind in FORMATS for text in ("x", "[" * 100_000, "null", '"0.5"', "{}", "[[0.5], 1]", "[]")],
        ("classification", '{"no": 0.5, "yes": 0.4}'),
        ("classification", '{"no": 1.5, "yes": -0.5}'),
        ("classification", '{"no": NaN, "yes": 1}'),
        ("classification", '{"no": 0.5, "maybe": 0.5}'),
        ("classification", '{"no": 1}'),
        ("classification", '{"no": [0.5], "yes": [0.5]}'),
        ("regression", "1e39"),
        ("regression", "Infinity"),
        ("regression", "true"),
        ("regression", "1" + 400 * "0"),
        ("multiple_choice", "[0.5, 0.5]"),
        ("sequence_labelling", '{"no": [1, 1], "yes": [0, 0]}'),
        ("sequence_labelling", '{"no": [1, 1, 1], "yes": [0, 0]}'),
        ("sequence_labelling", '{"no": [1, 1, 1], "yes": [0, 0, 0.1]}'),
        ("multi_label", '{"no": 0.5, "yes": 1.5}'),
        ("multi_label", '{"no": 0.5, "yes": 0.5, "no": 0.1}'),
        ("span", "[[4, 8, 1]]"),
        ("span", "[[4, 4, 1]]"),
        ("span", "[[-1, 4, 1]]"),
        ("span", "[[0.0, 4, 1]]"),
        ("span", '[[0, 4, "1"]]'),
        ("span", "[[0, 4, 0.5]]"),
        ("span", "[[0, 4]]"),
    ],
)
def test_refusals_are_one_line_with_the_form(kind: str, text: str) -> None:
    with pytest.raises(UserError) as error:
        read(kind, text)
    assert str(error.value).startswith(
        f"f.tsv:7: soft_label: write {FORMS[task_of(kind).type.answer][0]} as JSON (got "
    )
    assert "\n" not in str(error.value) and len(str(error.value)) < 240


def test_all_rows_of_a_file_have_one_or_none(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('uid\tlabel\tpremise\tsoft_label\n1\tno\tx\t{"no": 1, "yes": 0}\n2\tno\ty\t\n')
    with pytest.raises(UserError, match=r"t\.tsv:3: no soft_label, but other rows have one"):
        read_rows(path, task_of("classification"))
    rows = read_rows(path, task_of("classification"), max_rows=1)
    assert rows.soft is not None and rows.soft[0].tolist() == [[1, 0]] and rows.extra == {}


def test_answers_lie_over_the_tokens_of_each_window(tmp_path: Path) -> None:
    """A window that does not hold an answer has its probability at the first token, where gold labels go as well."""
    tiny_tokenizer(tmp_path / "tokenizer")
    words = list("abcdefghijklmnopqrstuvwxyz0123")
    answers = [("cd", 0.6), ("z", 0.2), ("", 0.2)]
    context = " ".join(words)
    soft = [[2 * words.index(text[0]), 2 * words.index(text[-1]) + 1, p] if text else [0, 0, p] for text, p in answers]
    row = ["u", '[[4, "c d"]]', "the", context, json.dumps(soft)]
    (tmp_path / "t_dev.tsv").write_text("uid\tlabel\tquestion\tcontext\tsoft_label\n" + "\t".join(row) + "\n")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    options: dict[str, Any] = {"cache_dir": tmp_path / "cache", "tokenizer": tokenizer, "max_length": 14, "stride": 4}
    split = prepare(task_of("span", no_answer=True), "dev", data_dir=tmp_path, **options)
    batch = collate(split, range(len(split)), task="t")
    assert batch.soft is not None and batch.labels is not None and len(split) > 2
    expected = torch.zeros_like(batch.soft)
    for window, (start, stop) in enumerate(pairwise(split.offsets)):
        tokens = tokenizer.convert_ids_to_tokens(split.tokens[start:stop].tolist())
        for text, p in answers:
            held = bool(text) and text[0] in tokens[3:] and text[-1] in tokens[3:]
            for row_number, letter in enumerate((text[:1], text[-1:])):
                expected[2 * window + row_number, tokens.index(letter) if held else 0] += p
    torch.testing.assert_close(batch.soft, expected)
    assert (batch.soft[:, 0] > 0.99).any()  # a window of neither
    assert batch.labels[:2].tolist() == batch.soft[:2].argmax(1).tolist() == [5, 6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soft")
    make_workspace(folder, train_rows=12, more=TEACHABLE, soft=True)
    return folder


def splits_of(folder: Path, max_length: int = 32) -> Any:
    config = load_config(folder / "run.yml", [f"data.max_length={max_length}", "data.stride=2"])
    tasks = build_tasks(config)
    return build_splits(config, [(task, "train") for task in tasks.trained.values()], build_tokenizer(config))[0]


@pytest.mark.parametrize("max_length", [10, 32])
def test_prepared_soft_labels_are_those_of_the_file(folder: Path, max_length: int) -> None:
    """One form goes through all types: as many figures as there are logits; words keep theirs, whatever the window."""
    splits, defs = splits_of(folder, max_length), load_task_defs(folder / "tasks.yml")
    assert len(splits["tagged", "train"]) > 12 or max_length > 10
    for (name, _), split in splits.items():
        rows = read_rows(folder / "data" / f"{name}_train.tsv", defs[name])
        batch = collate(split, range(len(split)), task=name)
        assert rows.soft is not None and batch.soft is not None and batch.labels is not None
        assert len(batch.soft) == len(batch.labels)
        if defs[name].task_type != "regression":
            torch.testing.assert_close(batch.soft.sum(1), torch.ones(len(batch.soft)))
        if defs[name].task_type not in ("span", "multiple_choice", "cloze"):
            assert batch.soft.tolist() == np.concatenate(rows.soft).tolist()


def taught(kind: str, *teachers: Any, details: Any = (), **split: Any) -> list[Any]:
    """Soft labels of teachers with these scores, or with these details."""
    decoded = [Decoded(np.zeros(0), np.asarray(scores)) for scores in teachers]
    decoded += [Decoded(np.zeros(0), np.zeros(0), own) for own in details]
    return list(KINDS[kind].decoding.soft_labels(task_of(kind), cast(Any, SimpleNamespace(**split)), decoded))


def test_an_ensemble_is_the_mean_of_its_teachers() -> None:
    one, other = [[0.2, 0.8], [1.0, 0.0]], [[0.6, 0.4], [0.5, 0.5]]
    assert taught("classification", one, other) == [{"no": 0.4, "yes": 0.6}, {"no": 0.75, "yes": 0.25}]
    assert taught("multi_label", one, other) == taught("classification", one, other)
    assert taught("regression", [1.0, 2.0], [2.0, 4.0]) == [1.5, 3.0]
    choices = [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], [[1.0, 0.0, 0.0], [0.4, 0.3, 0.3]]
    assert taught("multiple_choice", *choices, groups=np.array([0, 2, 5])) == [[0.75, 0.25], [0.3, 0.3, 0.4]]
    details = [[[("cat", 4, 0.5), ("", 0, 0.5)]], [[("cat", 4, 0.2), ("the", 0, 0.8)]]]
    assert taught("span", details=details) == [[[4, 7, 0.35], [0, 0, 0.25], [0, 3, 0.4]]]


def test_numbers_keep_every_figure() -> None:
    """With six significant figures, or in float32, both numbers would be the same."""
    assert taught("regression", [1e9 + 0.25, 1e9 + 0.75]) == [1e9 + 0.25, 1e9 + 0.75]
    assert read("regression", "1000000000.25").tolist() == [[1e9 + 0.25]]


def test_words_are_those_of_a_row_whatever_its_windows(folder: Path) -> None:
    split = splits_of(folder, 10)["tagged", "train"]
    scores = np.random.default_rng(1).dirichlet([1, 1, 1], len(split.labels))
    task = load_task_defs(folder / "tasks.yml")["tagged"]
    found = list(KINDS["sequence_labelling"].decoding.soft_labels(task, split, [Decoded(np.zeros(0), scores)]))
    rows = read_rows(folder / "data" / "tagged_train.tsv", task)
    assert len(split) > len(found) == len(rows)
    for label, words in zip(found, rows.first, strict=True):
        assert {len(own) for own in label.values()} == {len(words.split())}
    joined = np.concatenate([np.transpose([label[name] for name in task.labels]) for label in found])
    np.testing.assert_allclose(joined, scores, rtol=1e-5)


@pytest.mark.parametrize("kind", ["classification", "multi_label", "regression"])
def test_what_is_written_is_read_again(kind: str) -> None:
    scores = np.array([3e-9, 1 - 3e-9]) if kind != "regression" else np.array(-0.1234567)
    (label,) = taught(kind, scores[None])
    (found,) = read_soft_labels(["p"], [json.dumps(label)], task_of(kind), [""]) or []
    expected = np.stack([1 - scores, scores], 1) if kind == "multi_label" else scores
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-8)


def some_logits(seed: int, classes: int = 4) -> Tensor:
    return 2 * torch.randn(6, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_kl_is_torchs_on_tempered_logits(temperature: float) -> None:
    """As DistilBERT's training script has it: logits of both over T, the batch's mean times T²."""
    student, teacher = some_logits(1).requires_grad_(), some_logits(2)
    ours, each = (
        soft_loss(student, teacher.softmax(1), DIVERGENCES["kl"], temperature=temperature, reduction=reduction)
        for reduction in get_args(Reduction)
    )
    log_p, q = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    torch.testing.assert_close(ours, F.kl_div(log_p, q, reduction="batchmean") * temperature**2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(each, F.kl_div(log_p, q, reduction="none").sum(1) * temperature**2, atol=1e-5, rtol=1e-5)


def test_kl_has_the_gradient_of_cross_entropy_with_soft_targets() -> None:
    student, soft = some_logits(1).requires_grad_(), some_logits(2).softmax(1)
    (ours,) = torch.autograd.grad(soft_loss(student, soft, DIVERGENCES["kl"]), student)
    (theirs,) = torch.autograd.grad(F.cross_entropy(student, soft), student)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_every_divergence_on_paper(name: str, temperature: float) -> None:
    student, soft = some_logits(3).requires_grad_(), some_logits(4).softmax(1)
    q = soft ** (1 / temperature) / (soft ** (1 / temperature)).sum(1, keepdim=True)
    p = (student / temperature).softmax(1)
    middle = (p + q) / 2
    expected = {
        "kl": (q * (q / p).log()).sum(1),
        "sym_kl": ((q - p) * (q / p).log()).sum(1),
        "js": (q * (q / middle).log() + p * (p / middle).log()).sum(1) / 2,
        "hellinger": (q.sqrt() - p.sqrt()).square().sum(1) / 2,
        "mse": (q.log() - p.log()).square().mean(1),
    }[name].mean() * temperature**2
    ours = soft_loss(student, soft, DIVERGENCES[name], temperature=temperature)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 1e4])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_options_that_are_not_there_do_not_count(name: str, temperature: float) -> None:
    narrow, soft = some_logits(1, 3).requires_grad_(), some_logits(2, 3).softmax(1)
    wide = torch.cat([narrow.detach(), torch.full((6, 2), MISSING)], 1).requires_grad_()
    padded = torch.cat([soft, torch.zeros(6, 2)], 1)
    values = [
        soft_loss(logits, target, DIVERGENCES[name], temperature=temperature)
        for logits, target in ((narrow, soft), (wide, padded))
    ]
    torch.testing.assert_close(*values)
    own, all_of_them = torch.autograd.grad(values[0], narrow)[0], torch.autograd.grad(values[1], wide)[0]
    torch.testing.assert_close(all_of_them[:, :3], own)
    assert not all_of_them[:, 3:].any()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_sure_teachers_give_finite_losses(name: str) -> None:
    student = torch.tensor([[300.0, -300.0], [0.0, 0.0]], requires_grad=True)
    soft = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    value = soft_loss(student, soft, DIVERGENCES[name])
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite() and gradient.isfinite().all() and gradient[1].any()


def test_values_have_no_temperature() -> None:
    student, soft = torch.tensor([[1.0], [-2e4]]), torch.tensor([[3.0], [-2e4 + 2]])
    assert soft_loss(student, soft, DIVERGENCES["mse"], temperature=5).item() == 4


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_of_a_batch_mixes_both_labels(folder: Path, weight: float) -> None:
    """Mean and per example, of every task type; other labels, such as TAT's targets, stay hard."""
    defs = load_task_defs(folder / "tasks.yml")
    for (name, _), split in splits_of(folder).items():
        batch = collate(split, [4, 0, 7], task=name)
        assert batch.labels is not None and batch.soft is not None
        logits = torch.randn(batch.soft.shape, generator=torch.Generator().manual_seed(1))
        spare = (batch.soft == 0) & (defs[name].task_type in ("multiple_choice", "cloze", "span"))
        logits = logits.masked_fill(spare, MISSING)
        distillation = DistillationConfig(weight=weight, temperature=2 if weight else 1)
        view = View(
            cast(Any, SimpleNamespace(units=lambda task: NoUnits())),
            batch,
            defs[name],
            Telemetry(),
            distillation=distillation,
        )
        hard = LOSSES[defs[name].loss](logits, batch.labels, reduction="none")
        if defs[name].task_type == "regression":
            soft = F.mse_loss(logits[:, 0], batch.soft[:, 0].float(), reduction="none")
        else:
            q = batch.soft.sqrt() / batch.soft.sqrt().sum(1, keepdim=True)
            soft = 4 * F.kl_div((logits / 2).log_softmax(1), q, reduction="none").sum(1)
        each = (1 - weight) * hard + weight * soft
        torch.testing.assert_close(view.loss(logits), each.mean(), atol=1e-5, rtol=1e-5)
        examples = torch.arange(3).repeat_interleave(batch.decisions_each)
        for example, value in enumerate(view.loss(logits, reduction="none")):
            torch.testing.assert_close(value, each[examples == example].mean(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(view.loss(logits, batch.labels), hard.mean())
