"""Speed of prediction, evaluation and preparation beside transformers: same rows, same weights, honest ratios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.bench.inference import COMPARISONS, build_subject, compare, peer_model
from mt_dnn.cli.main import main
from tests.workspace import make_workspace

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers' pipeline warns about is its own
TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=1", "hidden_size=12", "intermediate_size=24")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    make_workspace(folder, train_rows=16, more=["odd"])
    mt_dnn.train(folder / "run.yml", {"tasks": ["same", "overlap", "odd"], "train.epochs": 1})
    return folder


@pytest.mark.parametrize("what", COMPARISONS)
def test_both_sides_do_the_same_rows(what: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", what, str(folder / "run"), "--task", "same", "--rows", "12", "--rounds", "3", "--json"])
    assert exit_.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rows"] == 12 and result["tokens"] > 36
    assert result["ratio_min"] <= result["ratio"] <= result["ratio_max"]
    assert result["ratio_to_best_min"] <= result["ratio_to_best"] <= result["ratio_to_best_max"]
    assert result["best_peer_rows_per_s"] >= result["peer_rows_per_s"]
    assert result["best_peer"].startswith("batches of ") and result["cpu_ratio"] > 0
    assert result.get("precision") == (None if what == "prepare" else "fp32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "a-run", "--shape", "base"], "--shape base: a-run has an encoder and rows of its own"),
        (["evaluate", "a-run", "--lengths", "rte"], "--lengths rte: a-run has an encoder and rows of its own"),
        (["predict", "--task", "rte"], "--task rte: the made-up rows have one task"),
        (["prepare", "--precision", "bf16"], "--precision bf16: preparation computes nothing in it"),
    ],
)
def test_options_that_do_nothing_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", *arguments])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.startswith(f"mt-dnn: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("task", ["same", "overlap"])
@pytest.mark.parametrize("what", ["predict", "evaluate"])
def test_the_peer_gives_our_answers_if_it_has_our_head(
    what: str, task: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class, or one value, and the same for a batch of any size."""
    subject = build_subject(tmp_path, folder / "run", task=task, lengths="sst2", rows=10)

    def with_our_head(subject: Any) -> Any:
        model, head = peer_model(subject), subject.model.model.heads[task]
        model.classifier.load_state_dict(head.linear.state_dict())
        model.config.problem_type = "regression" if task == "overlap" else None
        return model

    monkeypatch.setattr("mt_dnn.bench.inference.peer_model", with_our_head)
    ours, peers = COMPARISONS[what](subject)
    answers = ours() if what == "predict" else subject.model.predict(task, subject.texts)
    assert len(peers) == 8
    for name, peer in peers.items():
        if "sorted" in name or (what == "evaluate" and task == "overlap"):
            assert len(peer()) == 10  # in another order, or softmax over one value
        elif what == "evaluate":
            expected = [list(answer["scores"].values()) for answer in answers]
            np.testing.assert_allclose(np.array(peer()), expected, atol=1e-5)
        elif task == "same":
            labels = list(answers[0]["scores"])
            assert [labels[int(found["label"].removeprefix("LABEL_"))] for found in peer()] == [
                answer["prediction"] for answer in answers
            ]


def test_slower_ways_give_smaller_ratios(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only our way and the peer's move."""
    subject = build_subject(tmp_path, folder / "run", task="same", lengths="sst2", rows=4)
    wall, cpu = [0.0], [0.0]
    monkeypatch.setattr("mt_dnn.bench.inference.time.perf_counter", lambda: wall[0])
    monkeypatch.setattr("mt_dnn.bench.inference.time.process_time", lambda: cpu[0])

    def work(seconds: float) -> None:
        wall[0] += 2 * seconds
        cpu[0] += seconds

    peers = {"batches of 32": lambda: work(8), "batches of 8": lambda: work(2)}
    result = compare(lambda: work(1), peers, subject, rounds=3)
    assert result["best_peer"] == "batches of 8"
    assert result["ratio"] == result["cpu_ratio"] == 8 and result["ratio_to_best"] == result["cpu_ratio_to_best"] == 2
    assert [result[f"{side}_rows_per_s"] for side in ("ours", "best_peer", "peer")] == [2.0, 1.0, 0.2]


def test_made_up_rows_need_no_run(tmp_path: Path) -> None:
    subject = build_subject(tmp_path, None, lengths="cola", rows=20, overrides=TINY)
    assert len(subject.records) == len(subject.split) == 20
    assert all(answer["prediction"] in ("a", "b") for answer in subject.model.predict("cola", subject.texts))
    rounded = build_subject(tmp_path / "int8", None, lengths="cola", rows=20, overrides=TINY, precision="int8")
    linear = [part for part in rounded.model.model.encoder.blocks.modules() if isinstance(part, torch.nn.Linear)]
    assert not linear
    exact = peer_model(rounded).base_model.state_dict()  # the peer is not rounded
    for name, weight in peer_model(subject).base_model.state_dict().items():
        assert torch.equal(exact[name], weight)


def test_tasks_that_no_pipeline_answers_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bench: odd: transformers' pipeline only classifies texts; choose another"):
        build_subject(tmp_path, folder / "run", task="odd", lengths="sst2", rows=4)
