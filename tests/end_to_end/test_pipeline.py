"""Train, evaluate, predict: what a user types, on small tasks that can be learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from mt_dnn.cli.main import main
from mt_dnn.runs.checkpoints import last_checkpoint
from tests.workspace import TASK_DEFS, make_workspace, rows_of

Capture = pytest.CaptureFixture[str]


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert exit_.value.code == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run long enough to learn; its folder is read by all tests here and changed by none."""
    folder = tmp_path_factory.mktemp("pipeline")
    make_workspace(folder, train_rows=200)
    run("train", str(folder / "run.yml"), "train.epochs=6", "optimizer.lr=5e-3", "log.trackers=[tensorboard]")
    return folder


def summary(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "run" / "summary.json").read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_learns(trained: Path) -> None:
    results = {result["task"]: result for result in summary(trained)["results"]}
    assert results["negated"]["scores"]["mcc"] > 0.7
    assert results["same"]["scores"]["accuracy"] > results["same"]["baseline"]["accuracy"] + 0.2
    assert results["overlap"]["scores"]["pearson"] > 0.5
    assert results["same_hard"]["split"] == "test"  # another data set, read by the head of "same"


def test_every_number_is_logged(trained: Path) -> None:
    records = lines(trained / "run" / "metrics.jsonl")
    train = [record for record in records if record["event"] == "train"]
    evaluations = [record for record in records if record["event"] == "evaluation"]
    assert train[-1]["step"] == summary(trained)["steps"] == 6 * 75
    assert {"loss", "lr", "grad_norm", "examples_per_s", "tokens_per_s", "epoch"} <= train[0].keys()
    assert len(evaluations) == 6 and sum(record["best"] for record in evaluations) >= 1
    best = max(record["selection"] for record in evaluations)
    assert summary(trained)["selection"] == {"metric": "mean", "score": best}
    assert list((trained / "run" / "tensorboard").iterdir())


def test_only_last_and_best_are_kept(trained: Path) -> None:
    kept = {path.name for path in (trained / "run" / "checkpoints").iterdir()}
    steps = {summary(trained)["steps"], summary(trained)["selected_step"]}
    assert kept == {f"step-{step:08d}" for step in steps}
    assert (trained / "run" / "best").resolve().name == f"step-{summary(trained)['selected_step']:08d}"


def test_the_encoder_loads_with_plain_transformers(trained: Path) -> None:
    folder = trained / "run" / "best" / "encoder"
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = AutoTokenizer.from_pretrained(folder)("the cat sees", return_tensors="pt")
    assert torch.isfinite(model(**ids).last_hidden_state).all()


def test_predictions_are_for_the_right_rows_and_never_constant(trained: Path) -> None:
    folder = trained / "run" / "predictions"
    labels = {"same": {"different", "same"}, "negated": {"no", "yes"}, "same_hard": {"other", "same"}}
    for file in sorted(folder.glob("*.jsonl")):
        task, split = file.stem.rsplit("_", 1)
        predictions = lines(file)
        seed = {"dev": 2, "test": 4 if task == "same_hard" else 3}[split]
        assert [p["uid"] for p in predictions] == [row[0] for row in rows_of(task, len(predictions), seed)]
        values = {p["prediction"] for p in predictions}
        assert len(values) > 1
        if task in labels:
            assert values <= labels[task]
            assert all(p["scores"][p["prediction"]] == max(p["scores"].values()) for p in predictions)
    assert len(list(folder.iterdir())) == 6


def test_evaluate_gives_the_numbers_of_the_summary(trained: Path, capsys: Capture) -> None:
    run("evaluate", str(trained / "run"), "--json")
    assert json.loads(capsys.readouterr().out) == summary(trained)["results"]
    run("evaluate", str(trained / "run"), "--task", "same", "--split", "dev")
    table = capsys.readouterr().out
    assert "same (dev)" in table and "negated" not in table


def test_evaluate_with_other_metrics_and_a_further_task(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    one, *_ = summary(trained)["results"]
    task, data = TASK_DEFS["same"], tmp_path / "data"
    shutil.copytree(trained / "data", data)
    shutil.copy(data / "same_dev.tsv", data / "again_dev.tsv")
    tasks = {"same": {**task, "metrics": ["auc", "accuracy"]}, "again": {**task, "head": "same", "splits": ["dev"]}}
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump(tasks))
    run("evaluate", str(trained / "run"), "--json", "--data", str(data), "--task-defs", str(tmp_path / "tasks.yml"))
    results = {(line["task"], line["split"]): line["scores"] for line in json.loads(capsys.readouterr().out)}
    assert list(results["same", "dev"]) == ["auc", "accuracy"]
    assert results["same", "dev"]["accuracy"] == results["again", "dev"]["accuracy"] == one["scores"]["accuracy"]
    assert ("negated", "dev") in results and ("same_hard", "test") in results
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump({"again": tasks["again"]}))  # the run has the task of its head
    run("evaluate", str(trained / "run"), "--json", "--data", str(data), "--task-defs", str(tmp_path / "tasks.yml"))
    again = [line["scores"] for line in json.loads(capsys.readouterr().out) if line["task"] == "again"]
    assert [scores["accuracy"] for scores in again] == [one["scores"]["accuracy"]]


@pytest.mark.parametrize("task", ["same", "negated", "overlap"])
def test_predict_on_raw_text_uses_the_right_head(trained: Path, tmp_path: Path, task: str) -> None:
    rows = rows_of(task, 40, 2)
    (tmp_path / "input.txt").write_text("".join("\t".join(texts) + "\n" for _, _, *texts in rows))
    options = ["--task", task, "--input", str(tmp_path / "input.txt"), "--output", str(tmp_path / "out.jsonl")]
    run("predict", str(trained / "run"), *options)
    expected = lines(trained / "run" / "predictions" / f"{task}_dev.jsonl")
    assert [p["prediction"] for p in lines(tmp_path / "out.jsonl")] == [p["prediction"] for p in expected]


def test_init_from_takes_the_encoder_and_says_that_heads_are_dropped(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "second"
    options = ["tasks=[negated]", f"train.init_from={trained / 'run'}", "optimizer.freeze=[embeddings,layers:0-1]"]
    run("train", str(trained / "run.yml"), f"output={output}", "train.max_steps=2", *options)
    assert "heads are dropped" in "".join(capsys.readouterr())
    before = load_file(trained / "run" / "best" / "encoder" / "model.safetensors")
    after = load_file(output / "best" / "encoder" / "model.safetensors")
    frozen = [name for name in before if not name.startswith("pooler")]
    assert frozen and all(before[name].equal(after[name]) for name in frozen)
    assert set(load_file(output / "best" / "heads.safetensors")) == {
        "heads.negated.linear.weight",
        "heads.negated.linear.bias",
    }


def test_early_stopping_and_evaluation_by_steps(workspace: Path) -> None:
    options = ["optimizer.lr=1e-9", "evaluation.every_steps=4", "evaluation.patience=2", "evaluation.metric=same"]
    run("train", str(workspace / "run.yml"), "train.epochs=9", *options)
    records = lines(workspace / "run" / "metrics.jsonl")
    evaluations = [record["step"] for record in records if record["event"] == "evaluation"]
    assert evaluations == [4, 8, 12] and summary(workspace)["selected_step"] == 4


def test_tasks_without_files_are_named_and_leave_the_others_unharmed(workspace: Path, capsys: Capture) -> None:
    for file in (workspace / "data").glob("negated_*"):
        file.unlink()
    run("train", str(workspace / "run.yml"), "train.max_steps=2")
    printed = "".join(capsys.readouterr()).splitlines()
    assert [line for line in printed if "negated" in line and "no rows" in line] == [
        f"no rows in {workspace / 'data'} for: negated; skipped"
    ]
    assert {result["task"] for result in summary(workspace)["results"]} == {"same", "overlap", "same_hard"}
    run("evaluate", str(workspace / "run"))


def test_bf16_follows_fp32(workspace: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        output = workspace / precision
        options = [f"train.precision={precision}", f"output={output}", "encoder.dropout=0", "heads.dropout=0"]
        run("train", str(workspace / "run.yml"), "encoder.attention_dropout=0", *options)
        records = lines(output / "metrics.jsonl")
        losses[precision] = [record["loss"] for record in records if record["event"] == "train"]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05, abs=0.05)


def test_prepare_prints_counts_and_names_what_is_missing(workspace: Path, capsys: Capture) -> None:
    shutil.move(workspace / "data" / "same_dev.tsv", workspace / "elsewhere.tsv")
    run(
        "prepare",
        str(workspace / "tasks.yml"),
        *("--data", str(workspace / "data"), "--encoder", str(workspace / "encoder"), "--max-length", "8"),
    )
    captured = capsys.readouterr()
    assert f"mt-dnn: no rows in {workspace / 'data'} for: same dev" in captured.err
    row = next(line for line in captured.out.splitlines() if line.startswith("same ") and "train" in line)
    assert row.split()[:3] == ["same", "train", "48"] and int(row.split()[-2]) > 0  # truncated rows


def test_config_prints_defaults_and_schemas(workspace: Path, capsys: Capture) -> None:
    run("config", str(workspace / "run.yml"), "seed=7")
    assert "seed: 7" in capsys.readouterr().out
    run("config", "--schema")
    parts = json.loads(capsys.readouterr().out)["$defs"]
    assert "encoder" in parts["run"]["properties"] and "labels" in parts["tasks"]["additionalProperties"]["properties"]


def test_a_resumed_run_of_a_fresh_pooler_keeps_it(workspace: Path) -> None:
    options = ["encoder.pooler=fresh", "train.max_steps=2"]
    run("train", str(workspace / "run.yml"), *options)
    checkpoint = last_checkpoint(workspace / "run")
    assert checkpoint is not None
    saved = load_file(checkpoint / "encoder" / "model.safetensors")["pooler.dense.weight"]
    first = summary(workspace)
    run("train", str(workspace / "run.yml"), *options)
    assert summary(workspace) == first
    original = load_file(workspace / "encoder" / "model.safetensors")["pooler.dense.weight"]
    assert not saved.equal(original)


def test_learned_pooling_belongs_to_the_checkpoint(workspace: Path, capsys: Capture) -> None:
    options = ["encoder.pooler=attention", "encoder.scalar_mix=true", "optimizer.lr=0.01", "train.max_steps=3"]
    run("train", str(workspace / "run.yml"), *options)
    weights = load_file(workspace / "run" / "best" / "heads.safetensors")
    assert weights["encoder.pooler.weight"].shape == (1, 32)
    assert weights["encoder.mix.weights"].unique().numel() > 1 and weights["encoder.mix.scale"].item() != 1
    capsys.readouterr()
    run("evaluate", str(workspace / "run"), "--json")
    assert json.loads(capsys.readouterr().out) == summary(workspace)["results"]
