"""What a run computes names its folder: nothing else, and all of it."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from mt_dnn.runs.config_file import load_config
from mt_dnn.studies.identity import run_id, run_name, settings_id
from tests.workspace import make_workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    make_workspace(folder)
    return folder


def ids(folder: Path, *overrides: str) -> tuple[str, str]:
    config = load_config(folder / "run.yml", ["tasks=[negated]", *overrides])
    return settings_id(config), run_id(config)


def test_where_things_are_and_how_a_run_is_named_changes_nothing(folder: Path) -> None:
    shutil.copytree(folder / "data", folder / "elsewhere")
    shutil.copy(folder / "tasks.yml", folder / "same_tasks.yml")
    assert ids(folder) == ids(
        folder,
        "name=other",
        f"output={folder / 'x'}",
        f"data.dir={folder / 'elsewhere'}",
        f"data.cache={folder / 'cache'}",
        f"task_defs={folder / 'same_tasks.yml'}",
        "device=auto",
        "log.every_steps=1",
        "checkpoint.every_steps=7",
        "train.activation_checkpointing=true",
        "evaluation.batch_size=3",
    )


def test_a_setting_at_its_default_is_no_setting(folder: Path) -> None:
    assert ids(folder) == ids(folder, "train.clip_norm=1.0", "schedule.name=linear", "adversary.mode=none")


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "optimizer.lr=0.002",
        "train.epochs=3",
        "data.max_rows=10",
        "data.carve=0.2",
        "adversary.mode=rdrop",
        "encoder.name=other",
        "tasks=[negated,same]",
        "evaluation.metric=null",
    ],
)
def test_settings_that_change_results_change_both_hashes(folder: Path, override: str) -> None:
    assert ids(folder)[0] != ids(folder, override)[0]
    assert ids(folder)[1] != ids(folder, override)[1]


def test_a_task_that_is_defined_otherwise_changes_both(folder: Path) -> None:
    text = (folder / "tasks.yml").read_text()
    (folder / "changed.yml").write_text(text.replace("- mcc", "- accuracy"))
    changed = ids(folder, f"task_defs={folder / 'changed.yml'}")
    assert ids(folder)[0] != changed[0] and ids(folder)[1] != changed[1]


def test_other_rows_or_weights_change_the_run_but_not_its_settings(folder: Path) -> None:
    copy = folder / "copy"
    shutil.copytree(folder / "data", copy)
    before = ids(folder, f"data.dir={copy}")
    (copy / "same_train.tsv").write_text("another task's rows")
    assert ids(folder, f"data.dir={copy}") == before
    rows = (copy / "negated_dev.tsv").read_text()
    (copy / "negated_dev.tsv").write_text(rows.replace("cat", "dog"))
    changed = ids(folder, f"data.dir={copy}")
    assert changed[0] == before[0] and changed[1] != before[1]
    encoder = folder / "encoder" / "model.safetensors"
    weights = encoder.read_bytes()
    encoder.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert ids(folder)[0] == before[0] and ids(folder)[1] not in (before[1], changed[1])
    encoder.write_bytes(weights)


def test_packed_rows_count_too(folder: Path) -> None:
    copy = folder / "packed"
    shutil.copytree(folder / "data", copy)
    file = copy / "negated_train.tsv"
    packed = file.with_name("negated_train.tsv.gz")
    packed.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    other = file.read_text().replace("cat", "dog")
    file.unlink()
    before = ids(folder, f"data.dir={copy}")
    packed.write_bytes(gzip.compress(other.encode(), mtime=0))
    assert ids(folder, f"data.dir={copy}")[1] != before[1]


def test_the_name_is_for_people_and_ends_with_the_hash(folder: Path) -> None:
    config = load_config(folder / "run.yml", ["tasks=[negated,same]", "adversary.mode=tat", "seed=3"])
    assert run_name(config) == f"negated-same-tat-seed3-{run_id(config)}"


def test_hashes_stay_as_they_are() -> None:
    """Records that were made before name their runs by these hashes."""
    run = Path("experiments/glue/run.yml")
    plain = load_config(run, ["tasks=[rte]", "seed=1"])
    tat = load_config(run, ["tasks=[rte,cola]", "seed=2", "adversary=preset:tat/paper", "data.max_rows=200"])
    assert (settings_id(plain), settings_id(tat)) == ("f1ab8f4977fc", "3d39482dff41")
