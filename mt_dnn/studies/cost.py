"""What runs cost: how much text they read, and the time that this was measured to take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from data_utils.encoder_names import resolve_name
from data_utils.errors import MissingRows, UserError, os_errors
from data_utils.files import read_json, read_text
from data_utils.rows import find_rows, read_records
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.distributed.ranks import say
from mt_dnn.runs.build import build_model, build_plan, build_splits, build_tasks, build_tokenizer, choose_device
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.environment import processor
from mt_dnn.runs.folder import CONFIG
from mt_dnn.runs.hashes import encoder_hashes
from mt_dnn.runs.start import build_stepper
from mt_dnn.studies.identity import run_tasks
from mt_dnn.studies.records import Record
from mt_dnn.training.loop import Position, train

PROBE_UPDATES, WARM_UP = 8, 3  # updates of a probe, and how many of them do not count
FORWARD = 1 / 3  # of the cost of a plain update, because a backward pass costs two forward passes
CHARACTERS = 4  # of a token, roughly; it matters for rows that are longer than data.max_length
NO_TEXT = ("uid", "label", "soft_label")  # columns of rows
USUAL_BLOCKS = 12


class Texts(NamedTuple):
    """Rows of a split: how many, their characters, and whether they have labels."""

    rows: int
    characters: int
    labelled: bool


class Rate(NamedTuple):
    """Processor seconds for a character in plain training, and where the figure is from."""

    seconds: float
    source: str


def work(config: RunConfig) -> float:
    """The characters that a run reads, counted as often as it reads them, in passes of plain training.

    A pass of an adversarial mode counts as often as its arithmetic costs at least (``Adversary.cost_floor``), a forward
    pass of an evaluation as a third.

    Raises:
        MissingRows: training rows are not there.
    """
    tasks, data = run_tasks(config), config.data
    adversaries, kept = build_adversaries(config.adversary, tasks.trained), 1 - (data.carve or 0)
    trained = {name: texts(config, task, "train", stop=data.max_rows) for name, task in tasks.trained.items()}
    plan = build_plan(config, {name: max(round(read.rows * kept), 1) for name, read in trained.items()})
    epochs = min(plan.epochs, plan.total_steps / plan.updates_in(0))
    every = config.evaluation.every_steps
    evaluations = epochs if every is None else plan.total_steps / every
    result = 0.0
    for name, read in trained.items():
        result += read.characters * kept * epochs * adversaries[name].cost_floor(blocks(config))
        result += read.characters * (1 - kept) * evaluations * FORWARD
        if data.held_out is not None and data.max_rows is not None:
            behind = texts(config, tasks.trained[name], "train", data.max_rows, data.max_rows + data.held_out)
            result += behind.characters * FORWARD
    for task, split in tasks.splits:
        predicted = _predicted(config, task, split) if split != "train" else None
        if predicted is not None:
            scored = split in task.dev_splits and (data.carve is None or task.name not in trained)
            result += predicted.characters * FORWARD * (evaluations if scored else 1)
    return result


def _predicted(config: RunConfig, task: TaskDef, split: str) -> Texts | None:
    """The rows of a split that the run predicts, or None."""
    try:
        read = texts(config, task, split)
    except MissingRows:
        return None
    predicted, most = config.evaluation.predicted, config.data.max_eval_rows
    if most is not None and read.rows > most:
        read = _sampled(read, most)
    return read if read.labelled or (predicted is not None and predicted.splits == "all") else None


def texts(config: RunConfig, task: TaskDef, split: str, start: int = 0, stop: int | None = None) -> Texts:
    """The rows of a split from ``start`` to ``stop``. Raises MissingRows if they are not there."""
    if config.data.sample and split == "train" and (start, stop) != (0, None):
        every = texts(config, task, split)
        return _sampled(every, len(range(every.rows)[start:stop]))
    file, longest = find_rows(config.data.dir, task, split), config.data.max_length * CHARACTERS
    key = (file, file.stat().st_mtime_ns, tuple(task.columns.items()), longest, start, stop)
    if key not in _READ:
        rows = characters = 0
        labelled = False
        for _, row in islice(read_records(file, task), start, stop):
            rows += 1
            written = sum(len(text) for column, text in row.items() if column not in NO_TEXT)
            characters += min(max(written, 1), longest)  # an empty row has special tokens
            labelled = labelled or bool(row.get("label"))
        _READ[key] = Texts(rows, characters, labelled)
    return _READ[key]


def _sampled(read: Texts, rows: int) -> Texts:
    """What so many rows that are drawn from these have on average."""
    return read._replace(rows=rows, characters=read.characters * rows // max(read.rows, 1))


_READ: dict[tuple[Any, ...], Texts] = {}


def blocks(config: RunConfig) -> int:
    """The number of blocks of the encoder, as its ``config.json`` says; 12 where it is not known."""
    if config.encoder.blocks is not None:
        return len(config.encoder.blocks)
    values = shape_of(config) or {}
    return int(values.get("num_hidden_layers") or values.get("n_layers") or USUAL_BLOCKS)


def shape_of(config: RunConfig) -> dict[str, Any] | None:
    """The transformers configuration of the encoder, or None if it is not on this machine.

    Raises:
        UserError: its file is damaged.
    """
    if config.encoder.name is None:
        return config.encoder.config
    try:
        file = Path(resolve_name(config.encoder.name)) / "config.json"
    except UserError:  # of a package that is not installed, or a folder that is not there
        return None
    if not file.exists():
        return None
    with os_errors(file, "cannot be read"):
        return read_json(read_text(file), str(file))


@dataclass
class Rates:
    """Measured rates, from finished runs on a processor of this kind, else from a few updates of plain training.

    ``records``: of finished runs, each with the configuration in its run folder.
    """

    records: Iterable[tuple[Record, RunConfig]]
    _probes: dict[str, Rate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known: dict[tuple[Any, ...], list[float]] = {}
        for record, config in self.records:
            try:
                read = work(config)
            except UserError:  # its rows are not there any more
                continue
            if "error" not in record and record["machine"]["processor"] == processor() and record["encoder"]:
                encoder = tuple(sorted((k, v) for k, v in record["encoder"].items() if not k.startswith("init_from")))
                for key in ((record["mode"], *record["tasks"]), (record["mode"],), ()):
                    self._known.setdefault((encoder, *key), []).append(record["cpu_seconds"] / read)

    def __call__(self, config: RunConfig) -> Rate:
        """The rate of a run: of the runs that are most like it, with the same encoder.

        Raises:
            UserError: a probe cannot begin, because settings or rows are wrong.
        """
        encoder = tuple(sorted((name, value[:12]) for name, value in encoder_hashes(config).items()))
        mode, tasks = config.adversary.mode, run_tasks(config).trained
        for key, kind in (
            ((mode, *tasks), f"with {mode} on {'+'.join(tasks)}"),
            ((mode,), f"with {mode}"),
            ((), "with its encoder"),
        ):
            if found := self._known.get((encoder, *key)):
                return Rate(statistics.median(found), f"{len(found)} finished runs {kind}")
        name = str(config.encoder.name or config.encoder.config)
        if name not in self._probes:
            self._probes[name] = Rate(probe(config), f"{PROBE_UPDATES} updates of plain training with {name}")
        return self._probes[name]


def configured(records: Iterable[Record], runs: Path) -> Iterable[tuple[Record, RunConfig]]:
    """Yields each record with the configuration in its run folder, if that is there.

    A folder that another version has written, whose record or configuration lacks what is needed, is said and left out.
    """
    for record in records:
        missing = [key for key in ("run", "mode", "tasks", "machine", "encoder", "cpu_seconds") if key not in record]
        if not missing and "processor" not in record["machine"]:
            missing = ["machine.processor"]
        if "error" in record:
            continue
        if missing:
            say(f"{record.get('run', runs)}: is left out, because its record has no '{missing[0]}'")
            continue
        file = runs / record["run"] / CONFIG
        try:
            if file.exists():
                yield record, load_config(file)
        except UserError as error:
            say(f"{record['run']}: is left out ({error})")


def probe(config: RunConfig) -> float:
    """Measures some updates of plain training on the first task. Returns processor seconds for a character.

    Raises:
        UserError: settings or rows are wrong.
    """
    (name, task), *_ = build_tasks(config).trained.items()
    size = config.train.batch_sizes.get(name, config.train.batch_size)
    rows = size * PROBE_UPDATES * config.train.accumulate
    rows = min(rows, config.data.max_rows or rows)
    with TemporaryDirectory() as folder:
        updates = {"max_steps": PROBE_UPDATES, "epochs": PROBE_UPDATES, "init_from": None, "init_heads": False}
        changes = {"max_rows": rows, "carve": None, "held_out": None, "cache": Path(folder)}
        plain = config.model_copy(
            update={
                "tasks": (name,),
                "adversary": NoneOptions(),
                "data": config.data.model_copy(update=changes),
                "train": config.train.model_copy(update=updates),
            }
        )
        device, tasks, tokenizer = choose_device(plain.device), build_tasks(plain), build_tokenizer(plain)
        splits, problems = build_splits(plain, [(task, "train")], tokenizer)
        if problems:
            raise UserError(problems[0])
        split = splits[name, "train"]
        plan, model = build_plan(plain, {name: len(split)}), build_model(plain, tasks, tokenizer)
        model.fit_units(tasks.trained, {name: split})
        options: Any = {"total_steps": plan.total_steps, "device": device}
        stepper = build_stepper(plain, model, tasks.trained, {name: split}, **options)
        started, examples = 0.0, 0
        for event in train(stepper, {name: split}, plan, device=device, start=Position()):
            if event.position.step > WARM_UP:
                examples += event.examples
            else:
                started = time.process_time()
        seconds = time.process_time() - started
    read = texts(plain, task, "train", stop=rows)
    return seconds / examples / (read.characters / read.rows)
