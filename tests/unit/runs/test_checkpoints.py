"""Which checkpoint of a run folder is the last and the best, and what is removed: only what the toolkit wrote."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.runs.checkpoint import FORMAT, files_of, flush_tree, read_state, read_tensors
from mt_dnn.runs.checkpoints import find_checkpoint, last_checkpoint, mark_best, prune, read_checkpoint
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.saving import same_form


def make(run: Path, step: int, best: int | None = None, *, listed: bool = True, name: str | None = None) -> Path:
    """A checkpoint as ``save_checkpoint`` writes it, without tensors."""
    folder = run / "checkpoints" / (name or f"step-{step:08d}")
    (folder / "trainer").mkdir(parents=True)
    (folder / "encoder").mkdir()
    for file in ("heads.safetensors", "config.yml", "task_defs.yml", "encoder/model.safetensors"):
        (folder / file).write_text("")
    progress = {**Progress().state_dict(), "best_step": best}
    state = {"progress": progress, **({"files": files_of(folder), "format": 1} if listed else {})}
    (folder / "trainer" / "state.json").write_text(json.dumps(state))
    return folder


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


@pytest.mark.parametrize("listed", [True, False])
def test_only_checkpoints_of_the_toolkit_are_removed(tmp_path: Path, listed: bool) -> None:
    for step in (10, 20, 30):
        make(tmp_path, step, listed=listed)
    make(tmp_path, 40, name="step-00000040.bak")
    make(tmp_path, 40, name="my-thesis")
    folder = tmp_path / "checkpoints"
    (folder / "step-00000005").mkdir()  # the name alone is not enough
    (folder / "step-00000005" / "results.csv").write_text("")
    (make(tmp_path, 15, listed=listed) / "notes.txt").write_text("")  # a file of the user in a checkpoint
    (folder / "step-7").mkdir()
    (folder / "step-00000050").write_text("")
    for leftover in (".step-00000030.tmp", ".step-00000020.old"):
        (folder / leftover).mkdir()
    foreign = {"step-00000040.bak", "my-thesis", "step-00000005", "step-00000015", "step-7", "step-00000050"}
    prune(tmp_path, [30])
    assert names(tmp_path) == {"step-00000030", *foreign}
    assert last_checkpoint(tmp_path) == folder / "step-00000030"


def test_a_file_of_the_user_in_the_encoder_keeps_its_checkpoint(tmp_path: Path) -> None:
    (make(tmp_path, 10) / "encoder" / "model.onnx").write_text("")
    make(tmp_path, 20)
    prune(tmp_path, [20])
    assert names(tmp_path) == {"step-00000010", "step-00000020"}


def test_the_last_checkpoint_is_the_one_with_most_updates(tmp_path: Path) -> None:
    make(tmp_path, 99_999_999)
    make(tmp_path, 100_000_000)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-100000000"


def test_links_and_busy_folders_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for step in (10, 30):
        make(run, step)
    make(run, 20).rename(elsewhere)
    (run / "checkpoints" / "step-00000020").symlink_to(elsewhere)
    (run / "checkpoints" / ".step-00000025.tmp").symlink_to(elsewhere)

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", busy)
        prune(run, [30])
    assert ".step-00000010.old: cannot be removed (Device or resource busy)" in capsys.readouterr().out
    assert names(run) == {".step-00000010.old", "step-00000020", ".step-00000025.tmp", "step-00000030"}
    assert len(files_of(elsewhere)) == 5
    prune(run, [30])
    assert names(run) == {"step-00000020", ".step-00000025.tmp", "step-00000030"}


def test_a_link_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    make(tmp_path, 10)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        mark_best(tmp_path, 10)
    assert "best: cannot be written (No space left on device)" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_the_best_checkpoint_is_the_one_that_the_last_one_names(tmp_path: Path) -> None:
    make(tmp_path, 10, best=10)
    mark_best(tmp_path, 10)
    best = make(tmp_path, 20, best=20)  # the run was killed before the link moved
    assert find_checkpoint(tmp_path) == best
    make(tmp_path, 30, best=20)
    assert find_checkpoint(tmp_path) == best
    (tmp_path / "best").unlink()
    assert find_checkpoint(tmp_path) == best
    assert find_checkpoint(best) == best


def test_without_a_best_one_the_last_checkpoint_is_taken(tmp_path: Path) -> None:
    make(tmp_path, 10)
    last = make(tmp_path, 20)
    assert find_checkpoint(tmp_path) == last


def test_a_missing_best_checkpoint_is_said(tmp_path: Path) -> None:
    shutil.rmtree(make(tmp_path, 10, best=10))
    last = make(tmp_path, 20, best=10)
    with pytest.raises(UserError, match=r"its best checkpoint step-00000010 is missing; .* give another one, such as"):
        find_checkpoint(tmp_path)
    shutil.rmtree(last / "trainer")
    assert find_checkpoint(tmp_path) == last  # the only one
    make(tmp_path, 30, best=20).joinpath("trainer").rename(tmp_path / "trainer")
    with pytest.raises(UserError, match="nothing says which checkpoint is the best one"):
        find_checkpoint(tmp_path)
    mark_best(tmp_path, 20)
    assert find_checkpoint(tmp_path) == last


def test_the_link_replaces_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    link = tmp_path / "best"
    for make_it in (link.mkdir, lambda: link.write_text("mine"), lambda: link.symlink_to(mine)):
        make_it()
        before = os.lstat(link)
        mark_best(tmp_path, 10)
        assert os.lstat(link) == before
        assert "was not written by this run" in capsys.readouterr().out
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        else:
            link.unlink()
    mark_best(tmp_path, 10)
    mark_best(tmp_path, 20)
    assert os.readlink(link) == "checkpoints/step-00000020"


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    state = make(tmp_path, 10) / "trainer" / "state.json"
    state.write_text(json.dumps({"progress": Progress().state_dict(), "format": FORMAT + 1}))
    with pytest.raises(
        UserError, match=rf"format {FORMAT + 1} is unknown, this version reads up to {FORMAT}; update mt-dnn"
    ):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        *(((key,), None, f"progress.{key}: ") for key in ("position", "stale", "window", "finished", "data")),
        *((("position", key), -1, f"progress.position.{key}: ") for key in ("step", "epoch", "update")),
        (("best_step",), "x", "progress.best_step: "),
        (("finished",), 1, "progress.finished: Input should be a valid boolean"),
        (("window",), {"sums": {"loss": "x"}, "weights": {}}, "progress.window.sums.loss: "),
    ],
    ids=str,
)
def test_a_state_with_another_value_or_without_a_key_is_damaged(
    keys: tuple[str, ...], value: object, said: str, tmp_path: Path
) -> None:
    checkpoint = make(tmp_path, 10)
    file = checkpoint / "trainer" / "state.json"
    state = json.loads(file.read_text())
    holder = state["progress"] if len(keys) == 1 else state["progress"][keys[0]]
    holder[keys[-1]] = value
    file.write_text(json.dumps(state))
    with pytest.raises(UserError, match=rf"state\.json: damaged or missing \({said}"):
        read_state(checkpoint)
    del holder[keys[-1]]
    file.write_text(json.dumps(state))
    with pytest.raises(
        UserError, match=rf"state\.json: damaged or missing \(.*{keys[-1]}: Field required\); delete this"
    ):
        read_state(checkpoint)


def test_saved_states_have_the_form_of_those_of_new_parts() -> None:
    fresh = {"base_lrs": [0.1, 0.2], "last_epoch": 0, "seen": False, "none": None, "last": [[0.0]]}
    good = {"base_lrs": [1, 2.5], "last_epoch": 7, "seen": True, "none": {}, "last": [[3]], "newer": "x"}
    assert same_form(good, fresh) and same_form({}, fresh)
    for key, value in (
        ("base_lrs", [1]),
        ("base_lrs", 1),
        ("last_epoch", "7"),
        ("last_epoch", True),
        ("seen", 1),
        ("last", [3]),
    ):
        assert not same_form({**good, key: value}, fresh)
    assert not same_form([], fresh)


def test_weights_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    """safetensors writes files for their owner only. Files that the user made private stay so."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o750)
    for name in ("model.safetensors", "task_defs.yml"):
        (folder / name).write_text("")
        (folder / name).chmod(0o600)
    flush_tree(tmp_path)
    rights = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert rights == {"model.safetensors": 0o640, "task_defs.yml": 0o600}


def test_a_checkpoint_that_goes_while_it_is_read_gives_way_to_a_newer_one(tmp_path: Path) -> None:
    """As a run that trains removes it."""
    tried = []

    def read(checkpoint: Path) -> str:
        tried.append(checkpoint.name)
        if len(tried) < 4:
            make(tmp_path, 10 * len(tried) + 10)
            shutil.rmtree(checkpoint)
        return (checkpoint / "config.yml").read_text()

    make(tmp_path, 10)
    assert read_checkpoint(tmp_path, read) == ""
    assert tried == ["step-00000010", "step-00000020", "step-00000030", "step-00000040"]


def test_a_checkpoint_that_is_damaged_is_read_once(tmp_path: Path) -> None:
    tried = []

    def read(checkpoint: Path) -> str:
        tried.append(checkpoint)
        raise UserError("damaged")

    make(tmp_path, 10)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path, read)
    assert len(tried) == 1


def test_a_pipe_in_place_of_tensors_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "heads.safetensors")
    with pytest.raises(UserError, match="is a pipe, not a file"):
        read_tensors(tmp_path / "heads.safetensors")
