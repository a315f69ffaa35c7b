"""The throughput benchmark runs both sides on the same batches and prints what it promises."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.bench import gpu
from mt_dnn.bench.memory import OURS, PEER, peak_megabytes
from mt_dnn.bench.workload import Workload
from mt_dnn.cli.main import main
from mt_dnn.runs.config import FAST_PATHS
from mt_dnn.runs.config_file import load_config
from mt_dnn.training.step import Stepper
from tests import ROOT
from tests.forks import server
from tests.layouts import lay_out
from tests.workspace import make_workspace

TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=2", "hidden_size=24", "intermediate_size=40")]


@pytest.mark.filterwarnings("ignore")  # what Trainer and accelerate warn about is theirs
def test_throughput_beside_hf_trainer(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="the extra peer is not installed")
    options = ["tasks=[same]", "--updates", "2", "--rounds", "2", "--no-memory", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", str(workspace / "run.yml"), *options])
    assert exit_.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ours_examples_per_s"] > 0 and result["peer_examples_per_s"] > 0
    assert result["ratio_min"] <= result["ratio"] <= result["ratio_max"]
    assert 0 < result["padding_share"] < 1 and result["batch_size"] == 8


@pytest.mark.filterwarnings("ignore")  # what Trainer and accelerate warn about is theirs
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_throughput_needs_no_file(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate", reason="the extra peer is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 32)
    options = ["--lengths", "cola", "--updates", "1", "--rounds", "3", "--json", "--no-memory"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", *TINY, "train.batch_size=4", f"train.precision={precision}", *options])
    assert exit_.value.code == 0 and not list(tmp_path.iterdir())
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ratio_min"] <= result["ratio"] <= result["ratio_max"] and result["precision"] == precision
    assert result["floor_ms_per_step"] == pytest.approx(
        1000 * result["gflop_per_step"] / result["matrix_gflop_per_s"], rel=0.01
    )
    assert result["share_of_floor"] * result["times_floor"] == pytest.approx(1, rel=0.01)
    assert result["cpu_times_floor"] > 1 and result["ours_cpu_ms_per_step"] > 0
    assert result["ours_operations"] > result["peer_operations"] / 10 > 0 and result["peer_waits"] >= 1


def test_throughput_measures_the_memory_of_each_side_alone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="the extra peer is not installed")
    contexts = {"spawn": server()}  # its processes are fresh as well, and skip the imports
    monkeypatch.setattr(multiprocessing, "get_context", contexts.__getitem__)
    config = load_config(workspace / "run.yml", ["tasks=[same]", "device=cpu"])
    for side in (OURS, PEER):
        megabytes = peak_megabytes(side, config, 1)
        assert megabytes is not None and 100 < megabytes < 3000  # Python and torch alone are some hundred


def test_throughput_asks_for_one_task(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", str(workspace / "run.yml")])
    assert exit_.value.code == 2 and "choose one task, for example 'tasks=[same]'" in capsys.readouterr().err


def test_throughput_compares_no_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(tmp_path, more=["odd"])
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", str(tmp_path / "run.yml"), "tasks=[odd]"])
    assert exit_.value.code == 2 and "choose a classification or regression task" in capsys.readouterr().err


def test_cost_of_every_mode(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options = ["tasks=[same]", "--updates", "1", "--rounds", "2", "--json"]
        options += ["--picture", str(workspace / "modes.svg")]
        main(["bench", "adversary", str(workspace / "run.yml"), *options])
    assert exit_.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    labels = [
        text.text for text in ElementTree.parse(workspace / "modes.svg").getroot() if text.get("text-anchor") == "end"
    ]
    assert labels == list(result["modes"])
    assert result["machine"]["threads"] >= 1 and result["limit"] == 0.08
    modes = result["modes"]
    assert modes["none"]["multiple"] == 1.0 and {*ADVERSARIES} - {"r4f"} < {*modes}
    for figures in modes.values():
        assert 0 < figures["lowest"] <= figures["multiple"] <= figures["highest"] and figures["cpu_multiple"] > 0
        assert figures["excess"] == pytest.approx(figures["multiple"] / figures["floor"] - 1, abs=0.01)


def test_cost_beside_another_commit(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["tasks=[same]", "--modes", "vat", "--before", str(ROOT), "--updates", "1", "--rounds", "2", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "adversary", str(workspace / "run.yml"), *options])
    assert exit_.value.code == 0
    modes = json.loads(capsys.readouterr().out.splitlines()[-1])["modes"]
    assert set(modes) == {"none", "vat"}
    for figures in modes.values():
        assert 0 < figures["before_lowest"] <= figures["step_over_before"] <= figures["before_highest"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no checkout of this project; make one with git worktree add"),
        ({"mt_dnn/__init__.py": ""}, "its code cannot run this (ImportError: no load_config in "),
    ],
)
def test_another_commit_that_cannot_run_is_one_line(
    files: dict[str, str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(workspace / "other", files)
    options = ["tasks=[same]", "--before", str(workspace / "other")]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "adversary", str(workspace / "run.yml"), *options])
    error = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 2 and error.startswith(f"mt-dnn: --before {workspace / 'other'}: {message}")


def test_gain_of_every_fast_path(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        options = ["tasks=[same]", "--updates", "1", "--rounds", "2", "--json"]
        main(["bench", "fast-paths", str(workspace / "run.yml"), *options])
    assert exit_.value.code == 0
    cases = json.loads(capsys.readouterr().out.splitlines()[-1])["cases"]
    assert len(cases) == 2 + 2 * len(FAST_PATHS) and cases["none"]["share"] == 1.0
    assert all(figures["ms_per_step"] > 0 and figures["lowest"] <= figures["share"] for figures in cases.values())


def test_an_unknown_mode_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "adversary", str(workspace / "run.yml"), "tasks=[same]", "--modes", "vta"])
    assert exit_.value.code == 2 and "--modes: no mode 'vta', did you mean 'vat'?" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # what Trainer and accelerate warn about is theirs
def test_every_setting_of_a_gpu_can_be_tried_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate", reason="the extra peer is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 32)
    monkeypatch.setattr("mt_dnn.bench.throughput.peak_megabytes", lambda side, config, updates: 7)
    options = ["--device", "cpu", "--quick", "--batches", "2,3", "--precisions", "fp32", "--modes", "rdrop", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "gpu", *TINY, *options])
    assert exit_.value.code == 0 and not list(tmp_path.iterdir())
    *records, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(record["batch_size"], record["mode"]) for record in records] == [
        (batch, mode) for batch in (2, 3) for mode in ("none, ours", "none, peer", "none", "rdrop")
    ]
    assert all(record["ms_per_step"] > 0 and record["operations"] > 100 for record in records)
    assert records[3]["floor"] == 2 and records[2]["multiple"] == 1 and records[1]["peak_mb"] == 7
    assert last["machine"]["quick"] and last["machine"]["device"].startswith("cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "bench gpu: this machine has no GPU; --device cpu tries the command without one"),
        (
            ["--device", "cpu", "--batches", "32,x"],
            "--batches: 'x' is no number of examples from 1 to 1024; write for example 32,128",
        ),
        (["--device", "cpu", "--batches", "4,2048"], "--batches: '2048' is no number of examples from 1 to 1024"),
        (["--device", "cpu", "--precisions", ""], "--precisions: '' is unknown (known: fp32, tf32, bf16, fp16)"),
        (["--device", "cpu", "--shapes", "base,basis"], "--shapes: 'basis' is unknown, did you mean 'base'?"),
        (["--device", "cpu", "--modes", "none,vta"], "--modes: no mode 'vta', did you mean 'vat'?"),
        (["--device", "cpu", "--lengths", "mnly"], "--lengths: 'mnly' is unknown, did you mean 'mnli'?"),
    ],
)
def test_gpu_refuses_with_one_line(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("mt_dnn.bench.gpu.measure_setting", lambda *_, **__: pytest.fail("it measures"))
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "gpu", *options])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.startswith(f"mt-dnn: {message}") and error.count("\n") == 1


def test_a_setting_that_needs_too_much_memory_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 16)
    overrides, extent = [*TINY, "device=cpu", "train.batch_size=2"], gpu.TRIAL._replace(modes=["vat", "rdrop"])
    spent = Workload.spent

    def small(work: Workload, stepper: Stepper, chunk: Any, **options: Any) -> Any:
        mode = stepper.adversaries[work.task.name].options.mode
        count[mode] += 1
        if mode == "vat" and count[mode] > gpu.WARM_UP:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return spent(work, stepper, chunk, **options)

    count: Counter[str] = Counter()
    monkeypatch.setattr(Workload, "spent", small)
    records = list(gpu.measure_setting("minilm", "cola", overrides, extent, peer=False))
    assert [(record["mode"], "error" in record) for record in records] == [
        ("vat", True),
        ("none", False),
        ("rdrop", False),
    ]

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "build_workload", full)
    (record,) = gpu.measure_setting("minilm", "cola", overrides, extent, peer=False)
    assert record["error"] == gpu.NO_MEMORY


def test_a_mode_that_needs_too_much_memory_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 16)
    warm_up = gpu.warmed_up

    def small(work: Workload, stepper: Stepper, chunk: Any) -> dict[str, Any]:
        if stepper.adversaries[work.task.name].options.mode == "vat":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return warm_up(work, stepper, chunk)

    monkeypatch.setattr(gpu, "warmed_up", small)
    overrides = [*TINY, "device=cpu", "train.batch_size=2"]
    extent = gpu.TRIAL._replace(modes=["vat", "rdrop"])
    records = list(gpu.measure_setting("minilm", "cola", overrides, extent, peer=False))
    assert [(record["mode"], "error" in record) for record in records] == [
        ("vat", True),
        ("none", False),
        ("rdrop", False),
    ]


@pytest.mark.parametrize(
    ("mode", "options", "floor"),
    [
        ("none", {}, 1),
        ("vat", {}, 8 / 3),
        ("tat", {"reuse_clean_pass": True}, 7 / 3),
        ("freelb", {"passes": 2, "include_clean": True}, 3),
        ("rapt", {}, 22 / 12),
        ("rapt", {"max_layer": 0}, 2),
        ("pgd", {"passes": 3}, 3),
        ("yopo", {"passes": 3, "inner_steps": 2}, 3 + 4 / 36),
    ],
)
def test_floors_with_twelve_blocks(mode: str, options: dict[str, Any], floor: float) -> None:
    task = TaskDef.model_validate(
        {**TASK_TYPES["classification"].defaults, "name": "t", "task_type": "classification", "data_format": "single"}
        | {"labels": ["a", "b"]}
    )
    adversary = ADVERSARIES[mode](ADVERSARIES[mode].options_type.model_validate({"mode": mode, **options}), task)
    assert adversary.cost_floor(12) == pytest.approx(floor)
