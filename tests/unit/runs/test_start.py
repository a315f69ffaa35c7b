"""What start() builds, without and with a checkpoint, and what of it a checkpoint holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import mt_dnn
from data_utils.errors import UserError
from data_utils.task_def import load_task_defs
from mt_dnn.runs.build import check_precision
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.folder import write_inputs
from mt_dnn.runs.run import Run
from mt_dnn.runs.saving import TensorState, parts_with_state, save
from mt_dnn.runs.start import Parts, start
from mt_dnn.training.loop import train
from tests.parts import parts

STATEFUL = ["adversary.mode=vat", "adversary.bregman.mu=1", "adversary.tasks.negated={mode: tat}"]
STATEFUL += ["train.loss_balance=uncertainty", "train.epochs=1"]


def saved(workspace: Path, *options: str) -> Parts:
    """Parts after four updates, saved as a run saves them."""
    config = load_config(workspace / "run.yml", options)
    run = parts(workspace, *options)
    events = train(run.stepper, run.train_splits, run.plan, device=run.device, start=run.progress.position)
    for _, event in zip(range(4), events, strict=False):
        run.progress.count(event)
    config.output.mkdir()
    write_inputs(config.output, config, run.tasks.evaluated)
    save(config.output, run.tokenizer, run.stepper, run.progress)
    return run


def state_of(run: Parts) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts_with_state(run.stepper, run.progress).items()}


def same(one: Any, other: Any) -> bool:
    """Equal as a checkpoint sees it: tensors bit for bit, everything else as JSON."""
    if isinstance(one, dict) and any(isinstance(value, Tensor) for value in one.values()):
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return json.dumps(one) == json.dumps(other)


def test_nothing_is_written_before_the_run_is_called(workspace: Path) -> None:
    run = Run(load_config(workspace / "run.yml"))
    assert run.parts.progress.position.step == 0 and run.parts.plan.total_steps == 36
    assert not (workspace / "run").exists()


def test_parts_with_state_are_what_a_checkpoint_holds(workspace: Path) -> None:
    run = saved(workspace, *STATEFUL)
    trainer = workspace / "run" / "checkpoints" / "step-00000004" / "trainer"
    found = parts_with_state(run.stepper, run.progress)
    tensors = [name for name, part in found.items() if isinstance(part, TensorState)]
    assert {path.name for path in trainer.iterdir()} == {"state.json", *(f"{name}.safetensors" for name in tensors)}
    others = [name for name in found if name not in tensors]
    assert list(json.loads((trainer / "state.json").read_text())) == [
        "format",
        "streams",
        "resumable",
        *others,
        "files",
    ]
    # the names on disk, which older runs have too
    assert tensors == ["optimizer", "average"]
    assert found.keys() - {*tensors} == {"progress", "schedule", "scaler", "balance", "adversaries"}


def test_an_old_loss_with_another_meaning_is_told(workspace: Path) -> None:
    tasks = workspace / "tasks.yml"
    tasks.write_text(tasks.read_text().replace("same:", "same:\n  adv_loss: NsSymKlCriterion", 1))
    (notice,) = (notice for notice in parts(workspace).notices if "adv_loss" in notice)
    assert notice.startswith(f"{tasks}: same: adv_loss: NsSymKlCriterion is read as sym_kl.")


def test_a_setting_that_is_newer_than_the_run_has_its_default_there(workspace: Path) -> None:
    saved(workspace, "adversary.mode=vat")
    file = workspace / "run" / "config.yml"
    written = file.read_text()
    assert "  level: words\n" in written
    file.write_text(written.replace("  level: words\n", ""))
    assert parts(workspace, "adversary.mode=vat").notices[-1].startswith("resuming")
    with pytest.raises(
        UserError, match=r"another configuration \(adversary\.level: 'words' there, 'embeddings' here\)"
    ):
        parts(workspace, "adversary.mode=vat", "adversary.level=embeddings")


def test_every_part_with_state_is_restored(workspace: Path) -> None:
    first = saved(workspace, *STATEFUL)
    resumed = parts(workspace, *STATEFUL)
    assert resumed.notices[-1] == f"resuming {workspace / 'run'} after update 4 of 18"
    fresh = parts(workspace, *STATEFUL, f"output={workspace / 'other'}")
    before, after, new = state_of(first), state_of(resumed), state_of(fresh)
    assert [name for name in before if not same(before[name], after[name])] == []
    assert [name for name in before if same(before[name], new[name])] == ["scaler"]  # of fp32, which has no state


def test_a_run_of_other_rows_is_not_resumed(workspace: Path) -> None:
    saved(workspace, "tasks=[same]", "train.epochs=1")
    rows = workspace / "data" / "same_train.tsv"
    rows.write_text("\n".join(rows.read_text().split("\n")[:-2]) + "\n")
    with pytest.raises(UserError, match=r"was trained on other data \(same/train: .* choose another output="):
        parts(workspace, "tasks=[same]", "train.epochs=1")


def test_a_run_goes_on_with_rows_in_a_file_of_another_name(workspace: Path) -> None:
    options = ("tasks=[same]", "train.epochs=1")
    saved(workspace, *options)
    rows, tasks = workspace / "data" / "same_train.tsv", workspace / "tasks.yml"
    rows.rename(rows.with_name("my rows.tsv"))
    definitions = yaml.safe_load(tasks.read_text())
    definitions["same"]["files"] = {"train": "my rows.tsv"}
    tasks.write_text(yaml.safe_dump(definitions))
    resumed = parts(workspace, *options)
    config = load_config(workspace / "run.yml", list(options))
    write_inputs(config.output, config, resumed.tasks.evaluated)
    assert load_task_defs(config.output / "task_defs.yml")["same"].files == {"train": "my rows.tsv"}
    definitions["same"]["loss_weight"] = 2.0
    tasks.write_text(yaml.safe_dump(definitions))
    with pytest.raises(UserError, match="holds a run with another definition of same; choose another output="):
        parts(workspace, *options)


def test_a_run_whose_rows_are_gone_or_new_says_so(workspace: Path) -> None:
    rows, aside = workspace / "data" / "same_train.tsv", workspace / "aside.tsv"
    saved(workspace, "train.epochs=1")
    rows.rename(aside)
    with pytest.raises(UserError, match="that has the task same, whose training rows or definition are gone; put"):
        parts(workspace, "train.epochs=1")
    other = ("train.epochs=1", f"output={workspace / 'other'}")
    saved(workspace, *other)
    aside.rename(rows)
    with pytest.raises(UserError, match="holds a run without the task same; take away its training rows or"):
        parts(workspace, *other)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_encoder_of_a_checkpoint_says_what_to_do(workspace: Path, name: str) -> None:
    options = ("tasks=[same]", "train.epochs=1")
    saved(workspace, *options)
    (file,) = workspace.glob(f"run/checkpoints/*/encoder/{name}")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(
        UserError, match=r"encoder: damaged or missing \(.*; delete this checkpoint folder to"
    ) as raised:
        parts(workspace, *options)
    assert "give a hub name" not in str(raised.value)
    with pytest.raises(UserError, match=r"encoder: damaged or missing \("):
        mt_dnn.load(workspace / "run")


def test_a_folder_that_has_lost_its_task_file_gets_it_again(workspace: Path) -> None:
    config = load_config(workspace / "run.yml")
    tasks = parts(workspace).tasks.evaluated
    config.output.mkdir()
    write_inputs(config.output, config, tasks)
    written = {path.name: path.read_bytes() for path in config.output.iterdir()}
    assert written.keys() == {"config.yml", "task_defs.yml"}
    (config.output / "task_defs.yml").unlink()
    write_inputs(config.output, config, tasks)
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == written


def test_a_run_that_has_lost_its_files_is_that_of_its_last_checkpoint(workspace: Path) -> None:
    options = ("tasks=[same]", "train.max_steps=6", "checkpoint.every_steps=2")
    run, tasks = workspace / "run", workspace / "tasks.yml"
    saved(workspace, *options)
    content = tasks.read_text()
    files = {name: (run / name).read_bytes() for name in ("config.yml", "task_defs.yml")}
    for name in files:
        (run / name).unlink()
    with pytest.raises(UserError, match=r"holds a run of another configuration .optimizer.lr: "):
        parts(workspace, *options, "optimizer.lr=0.5")
    definitions = yaml.safe_load(content)
    definitions["same"]["metrics"] = ["accuracy"]
    tasks.write_text(yaml.safe_dump(definitions))
    with pytest.raises(UserError, match="holds a run with another definition of same;"):
        parts(workspace, *options)
    assert not any((run / name).exists() for name in files)
    tasks.write_text(content)
    Run(load_config(workspace / "run.yml", options))()
    assert files == {name: (run / name).read_bytes() for name in files}


@pytest.mark.parametrize("name", ["config.yml", "task_defs.yml"])
def test_a_checkpoint_without_its_copies_is_damaged(name: str, workspace: Path) -> None:
    saved(workspace, "tasks=[same]")
    checkpoint = workspace / "run" / "checkpoints" / "step-00000004"
    for folder in (workspace / "run", checkpoint):
        (folder / name).unlink()
    with pytest.raises(UserError, match=rf"step-00000004/{name}: damaged or missing .no such file"):
        parts(workspace, "tasks=[same]")


def test_the_link_to_the_best_checkpoint_is_set_right_at_the_next_start(workspace: Path) -> None:
    options = {"train.max_steps": 6, "evaluation.every_steps": 2, "tasks": ["same"]}
    mt_dnn.train(workspace / "run.yml", options)
    best = (workspace / "run" / "best").resolve()
    (workspace / "run" / "best").unlink()
    (workspace / "run" / "best").symlink_to("checkpoints/step-00000001")  # as a kill before the move of the link does
    mt_dnn.train(workspace / "run.yml", options)
    assert (workspace / "run" / "best").resolve() == best


def test_a_missing_best_checkpoint_is_said_when_the_run_goes_on(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"train.max_steps": 6, "evaluation.every_steps": 2, "tasks": ["same"]}
    mt_dnn.train(workspace / "run.yml", options)
    last = workspace / "run" / "checkpoints" / "step-00000006" / "trainer" / "state.json"
    state = json.loads(last.read_text())
    state["progress"]["best_step"] = 4
    last.write_text(json.dumps(state))
    shutil.rmtree(workspace / "run" / "checkpoints" / "step-00000004", ignore_errors=True)
    capsys.readouterr()
    summary = mt_dnn.train(workspace / "run.yml", options).summary
    said = "the best checkpoint, of update 4, is missing; from here on the best model is chosen among the last one"
    assert said in capsys.readouterr().out
    assert summary["selected_step"] == 6 and summary["selection"]["score"] is None


def test_rows_are_carved_from_where_they_are_now(workspace: Path) -> None:
    """Prepared rows name the file that they were made of, which may be elsewhere since then."""
    options = ["data.carve=0.25", f"data.cache={workspace / 'cache'}", f"output={workspace / 'run'}"]
    before = start(load_config(workspace / "run.yml", options)).splits
    (workspace / "data").rename(workspace / "moved")
    after = start(load_config(workspace / "run.yml", [*options, f"data.dir={workspace / 'moved'}"])).splits
    assert ("same", "carved") in before
    assert {key: split.uids for key, split in after.items()} == {key: split.uids for key, split in before.items()}


@pytest.mark.parametrize(("unit", "says"), [("avx2", True), ("avx512_bf16", False)])
def test_a_number_type_that_the_processor_has_no_units_for_gets_a_notice(
    unit: str, says: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True}, raising=False)
    check_precision("bf16", torch.device("cpu"), "--precision")
    printed = capsys.readouterr()
    line = "mt-dnn: --precision: bf16 is slower than fp32 here, as this processor has no units for it; use fp32\n"
    assert printed.err == (line if says else "") and not printed.out  # where predictions go
