"""Trackers hold the numbers of metrics.jsonl, each once, and none of them can stop a run."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml

from data_utils.errors import UserError
from mt_dnn.runs import run as run_module
from mt_dnn.runs import trackers
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.log import logged_records
from mt_dnn.runs.run import Run
from mt_dnn.runs.trackers import TRACKERS, Ending, Numbers, TrackedRun, Tracker
from mt_dnn.runs.tracking import STATE, Tracking, numbers_of, settings_of

Entry = tuple[int, str, float]  # the update, the name of a number, and the number


class Recorder(Tracker):
    """Keeps what it gets in a file, and fails where it is told to."""

    package = extra = "pytest"
    fails: str = ""
    endings: ClassVar[list[Ending]] = []

    def __init__(self, run: TrackedRun) -> None:
        self._check("open")
        self.id = run.id or f"run {len(list(run.folder.glob('recorded-*')))}"
        self.file = run.folder / f"recorded-{self.id}"
        assert (run.id is not None) == self.file.exists()

    def add(self, numbers: Sequence[Numbers]) -> None:
        self._check("add")
        with self.file.open("a") as stream:
            for step, values in numbers:
                stream.write("".join(f"{json.dumps([step, *item])}\n" for item in values.items()))

    def close(self, ending: Ending) -> None:
        self.endings.append(ending)
        self._check("close")

    def _check(self, what: str) -> None:
        if self.fails == what:
            raise RuntimeError(f"cannot {what}\nat all")


def recorded(folder: Path) -> Iterator[Entry]:
    for file in sorted(folder.glob("recorded-*")):
        yield from (tuple(json.loads(line)) for line in file.read_text().splitlines())


def in_tensorboard(folder: Path) -> Iterator[Entry]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for name in events.Tags()["scalars"]:
        yield from ((event.step, name, event.value) for event in events.Scalars(name))


def in_wandb(folder: Path) -> Iterator[Entry]:
    from wandb.proto import wandb_internal_pb2

    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for content in contents(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            yield from ((items["_step"], key, value) for key, value in items.items() if not key.startswith("_"))


def contents(file: Path) -> Iterator[bytes]:
    """The records of a file of W&B, which has the format of LevelDB's logs after a header of 7 bytes.

    Blocks have 32768 bytes. A part of a record has a checksum (4 bytes), its length (2) and its kind (1): complete (1),
    first (2), middle (3) or last (4).
    """
    data, position, record = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def in_mlflow(folder: Path) -> Iterator[Entry]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("mt-dnn")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["optimizer.lr"] == "0.001"
    for name in run.data.metrics:
        yield from ((metric.step, name, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


READERS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "recorder": recorded,
    "tensorboard": in_tensorboard,
    "wandb": in_wandb,
    "mlflow": in_mlflow,
}


def logged(folder: Path) -> list[Entry]:
    numbers = map(numbers_of, logged_records(folder / "metrics.jsonl"))
    return [(step, name, value) for step, values in numbers for name, value in values.items()]


def config_of(workspace: Path, *options: str) -> Any:
    settings = ["tasks=[same]", "log.every_steps=1", "evaluation.every_steps=4", "train.max_steps=10"]
    return load_config(workspace / "run.yml", [*settings, *options])


def cut_off(config: Any, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends in the midst of its updates, as at a crash."""
    train = run_module.train
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train", lambda *args, **kwargs: islice(train(*args, **kwargs), after))
        with pytest.raises(RuntimeError, match="the plan ended"):
            Run(config, shown=False)()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """A tracker in the place of W&B."""
    kind = type("Here", (Recorder,), {"endings": []})
    monkeypatch.setattr(trackers, "TRACKERS", {**TRACKERS, "wandb": kind})
    monkeypatch.setattr("mt_dnn.runs.tracking.TRACKERS", {**TRACKERS, "wandb": kind})
    return kind


@pytest.mark.filterwarnings("default")  # of the packages
@pytest.mark.parametrize("name", READERS)
def test_after_a_crash_each_number_is_there_once(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for variable in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    if name == "recorder":
        request.getfixturevalue("recorder")
    elif find_spec(name) is None:
        pytest.skip(f"the extra {name} is not installed")
    config = config_of(workspace, f"log.trackers={'wandb' if name == 'recorder' else name}")
    cut_off(config, 6, monkeypatch)  # the last checkpoint is that of update 4
    assert {step for step, _, _ in logged(workspace / "run")} == {1, 2, 3, 4, 5, 6}
    assert isinstance(Run(config, shown=False)(), dict)
    Run(config, shown=False)()  # finds a finished run
    expected, found = logged(workspace / "run"), list(READERS[name](workspace / "run"))
    assert {step for step, _, _ in expected} == set(range(1, 11))
    assert Counter((step, key) for step, key, _ in found) == Counter((step, key) for step, key, _ in expected)
    tolerance = 1e-6 if name == "tensorboard" else 0  # which keeps float32
    values = {(step, key): value for step, key, value in found}
    assert all(math.isclose(values[step, key], value, rel_tol=tolerance) for step, key, value in expected)


@pytest.mark.parametrize("when", ["open", "add", "close"])
def test_a_tracker_that_fails_is_said_once_and_the_run_goes_on(
    when: str, workspace: Path, recorder: type[Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.fails = when
    assert isinstance(Run(config_of(workspace, "log.trackers=[wandb]"))(), dict)
    printed = capsys.readouterr()
    said = [line for line in (printed.out + printed.err).splitlines() if "log.trackers" in line]
    assert said == [
        f"log.trackers: wandb has failed (cannot {when}); the run goes on without it, and metrics.jsonl has all numbers"
    ]
    assert len({step for step, _, _ in logged(workspace / "run")}) == 10


def test_what_was_not_handed_over_comes_later_and_a_new_beginning_is_a_new_run(
    tmp_path: Path, recorder: type[Recorder]
) -> None:
    run = TrackedRun(tmp_path, "run", {})
    records = [{"event": "train", "step": step, "loss": float(step)} for step in range(1, 7)]
    first = Tracking(["wandb"], run, [])
    for record in records[:3]:
        first.add(record)
    first.commit()
    first.add(records[3])
    first.close("failed")  # killed after the checkpoint of update 4, before its record was handed over
    second = Tracking(["wandb"], run, records[:4])
    second.add(records[4])
    second.commit()
    second.close("finished")
    assert [step for step, _, _ in recorded(tmp_path)] == [1, 2, 3, 4, 5]
    # The checkpoints are gone, and the run begins again: its updates belong to a new run of the tracker.
    third = Tracking(["wandb"], run, [])
    third.add(records[0])
    third.commit()
    assert [step for step, _, _ in recorded(tmp_path)] == [1, 2, 3, 4, 5, 1]
    assert json.loads((tmp_path / STATE).read_text()) == {"wandb": {"id": "run 1", "records": 1}}


def test_a_run_that_begins_again_without_trackers_is_a_new_run_for_them(
    workspace: Path, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they had of the first attempt is not taken for numbers of the second."""
    cut_off(config_of(workspace, "log.trackers=wandb"), 6, monkeypatch)
    shutil.rmtree(workspace / "run" / "checkpoints")
    cut_off(config_of(workspace), 6, monkeypatch)
    Run(config_of(workspace, "log.trackers=wandb"), shown=False)()
    first, second = sorted((workspace / "run").glob("recorded-*"))
    steps = [json.loads(line)[0] for line in second.read_text().splitlines()]
    assert first.name == "recorded-run 0" and sorted(set(steps)) == list(range(1, 11))


def test_trackers_show_how_a_run_has_ended(
    workspace: Path, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(workspace, "log.trackers=wandb")
    cut_off(config, 6, monkeypatch)
    Run(config, shown=False, hopeless=lambda *_: True)()
    Run(config, shown=False)()
    assert recorder.endings == ["failed", "stopped", "finished"]


@pytest.mark.filterwarnings("default")  # of the package
@pytest.mark.parametrize(("ending", "status"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")])
def test_mlflow_shows_how_a_run_has_ended(ending: Ending, status: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    tracker = TRACKERS["mlflow"](TrackedRun(tmp_path, "run", {}))
    tracker.close(ending)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert client.get_run(tracker.id).info.status == status


@pytest.mark.parametrize(("variable", "mode"), [(None, "offline"), ("online", "online")])
def test_wandb_is_offline_unless_it_is_told_otherwise(
    variable: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    wandb = SimpleNamespace(init=lambda **options: given.append(options), Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    TRACKERS["wandb"](TrackedRun(tmp_path, "run", {}))
    assert [options["mode"] for options in given] == [mode]


@pytest.mark.parametrize(("ending", "code"), [("finished", 0), ("stopped", 1), ("failed", 1)])
def test_wandb_shows_how_a_run_has_ended(ending: Ending, code: int, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    TRACKERS["wandb"](TrackedRun(tmp_path, "run", {})).close(ending)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    found: list[int] = []
    for _ in range(200):  # another process of W&B writes the file
        records = [wandb_internal_pb2.Record.FromString(content) for content in contents(file)]
        found = [record.exit.exit_code for record in records if record.HasField("exit")]
        if found:
            break
        time.sleep(0.1)
    assert found == [code]


def test_a_package_that_is_missing_is_said_before_training(workspace: Path, recorder: type[Recorder]) -> None:
    recorder.package, recorder.extra = "no_such_package", "wandb"
    with pytest.raises(UserError, match=r"log.trackers: wandb is not installed; pip install 'mt-dnn\[wandb\]'"):
        Run(config_of(workspace, "log.trackers=[wandb]"))
    assert not (workspace / "run").exists()


def test_the_old_spelling_of_tensorboard(workspace: Path) -> None:
    assert config_of(workspace, "log.tensorboard=true").log.trackers == ("tensorboard",)
    assert config_of(workspace, "log.tensorboard=false").log.trackers == ()
    # A run file from before says false, and one that extends it cannot take the key out.
    (workspace / "child.yml").write_text("extends: run.yml\nlog: {trackers: [mlflow]}\n")
    for old, expected in (("false", ("mlflow",)), ("true", ("mlflow", "tensorboard"))):
        for name in ("log.trackers=mlflow", "log.trackers=[mlflow]"):
            assert config_of(workspace, f"log.tensorboard={old}", name).log.trackers == expected
        run_file = yaml.safe_load((workspace / "run.yml").read_text())
        run_file["log"] = {**run_file.get("log", {}), "tensorboard": old == "true"}
        (workspace / "run.yml").write_text(yaml.safe_dump(run_file))
        assert load_config(workspace / "child.yml").log.trackers == expected
    assert config_of(workspace, "log.tensorboard=true", "log.trackers=[tensorboard]").log.trackers == ("tensorboard",)
    with pytest.raises(UserError, match=r"log.trackers.0: Input should be 'tensorboard', 'wandb' or 'mlflow'"):
        config_of(workspace, "log.tensorboard=true", "log.trackers=[wandbb]")


def test_settings_have_no_secrets_at_any_depth() -> None:
    values = {"a": {"b": "token=s3cret", "c": 1}, "d": ["x", "token=s3cret", ["token=s3cret"], {"e": "token=s3cret"}]}
    hidden = ["x", "token=***", ["token=***"], {"e": "token=***"}]
    assert settings_of(values) == {"a.b": "token=***", "a.c": 1, "d": hidden}
