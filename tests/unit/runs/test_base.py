"""The encoder below an adapter is in the run folder completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from data_utils.errors import UserError
from mt_dnn.runs.base import base_of, write_base
from mt_dnn.runs.checkpoints import forget_checkpoints
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from tests.cuts import NOT_SAVED, cut
from tests.parts import parts

pytest.importorskip("peft", reason="the extra adapters is not installed")


def test_a_full_disk_leaves_no_half_of_it(workspace: Path) -> None:
    encoder = parts(workspace, "adapter.kind=lora", "tasks=[same]").model.encoder
    run = workspace / "run"
    run.mkdir()
    for limit in (1, 300, 50_000):
        assert cut(lambda: write_base(run, encoder), limit, killed=False) == NOT_SAVED
        assert not list(run.iterdir())
    write_base(run, encoder)
    assert [path.name for path in run.iterdir()] == ["base"]
    assert len(load_file(run / "base" / "model.safetensors")) == 39
    assert base_of(run / "checkpoints" / "step-00000001") == base_of(run / "best") == run / "base"
    with pytest.raises(UserError, match="put the folder base back into"):
        base_of(workspace / "checkpoints" / "step-00000001")


def test_it_is_that_of_the_run_whatever_stands_beside_the_run(tmp_path: Path) -> None:
    """A folder ``base`` beside the run folders may be another run."""
    run, step = tmp_path / "runs" / "lora", Path("checkpoints", "step-00000001")
    for folder in (run.parent / "base", run / "base", run / step, tmp_path / "disk" / "step-00000001"):
        folder.mkdir(parents=True)
    (run / "best").symlink_to(step)
    (tmp_path / "mine").symlink_to(run / "best")
    assert {base_of(path) for path in (run / step, run / "best", tmp_path / "mine")} == {run / "base"}
    copy = run.parent / "copy"
    for folder in (copy / "best", copy / "base"):
        folder.mkdir(parents=True)
    (copy / "checkpoints").symlink_to(tmp_path / "disk")
    assert {base_of(copy / "best"), base_of(copy / step)} == {copy / "base"}
    (copy / "base").rmdir()
    with pytest.raises(UserError, match=rf"put the folder base back into {copy}$"):
        base_of(copy / "best")


def test_it_goes_with_the_checkpoints_but_files_of_the_user_stay(workspace: Path) -> None:
    """A sweep that keeps no weights removes the checkpoints of finished runs."""
    settings = ["adapter.kind=lora", "tasks=[same]", "train.max_steps=2"]
    Run(load_config(workspace / "run.yml", settings), shown=False)()
    run = workspace / "run"
    note = run / "base" / "note.txt"
    note.write_text("mine")
    forget_checkpoints(run)
    assert list((run / "base").iterdir()) == [note] and not list((run / "checkpoints").iterdir())
    note.unlink()
    forget_checkpoints(run)
    assert not (run / "base").exists()


def test_a_run_without_adapter_has_none(workspace: Path) -> None:
    write_base(workspace, parts(workspace, "tasks=[same]").model.encoder)
    assert not (workspace / "base").exists()
