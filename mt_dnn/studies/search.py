"""Searches for good settings with Optuna. Each trial is a run, made as those of a sweep are."""

from __future__ import annotations

import hashlib
import itertools
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.errors import UserError
from data_utils.text_table import table
from mt_dnn.distributed.signals import stop_signals
from mt_dnn.runs.checkpoints import prune
from mt_dnn.runs.folder import FolderInUse, locked
from mt_dnn.studies.attempts import note_death
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.choice import deciding_score
from mt_dnn.studies.decision import Range, Search
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.make import Busy, make_run
from mt_dnn.studies.records import Record, read_record
from mt_dnn.studies.sweep import POLL_S

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError:
    raise UserError("search: Optuna is not installed; pip install 'mt-dnn[studies]'") from None

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # constant_liar, before Optuna 5
STARTUP_TRIALS = 5  # trials that are never stopped early, and that are drawn at random
FAILED = "failed"  # says of a trial why its run has failed
LOCKS, TURN_S = ".search", 0.1  # folder of locks, and seconds between two tries to get one


@dataclass
class Searching:
    """The search of a study: one Optuna study for each cell.

    Args:
        runs: folder of run folders.
        storage: URL of a database that SQLAlchemy knows; None: a journal file in ``runs``.
        alone: False for one of several workers.
        shown: whether the user sees the bars of each run.
    """

    grid: Grid
    runs: Path
    storage: str | None = None
    alone: bool = True
    shown: bool = False

    def __post_init__(self) -> None:
        if self.grid.study.search is None:
            raise UserError(f"{self.grid.study.title}: the study has no key 'search'; say there what to try")
        self.search: Search = self.grid.study.search
        with turn(self.runs):  # two processes cannot create the tables of a database at once
            self.studies = {
                str(cell): open_study(self._name(cell), self.storage, self.runs, pruning=self.search.pruning)
                for cell in self.grid.cells
            }

    def prepare(self) -> None:
        """Queues what has to be tried, before workers start: all combinations of lists, and trials that were cut off.

        Workers do not draw from lists themselves, because two of them would try the same combination.
        """
        with turn(self.runs):
            for study in self.studies.values():
                if not study.get_trials(deepcopy=False):
                    for settings in combinations(self.search):
                        study.enqueue_trial(settings)
                for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                    if not _is_made(self.runs, study, trial):
                        study.tell(trial.number, state=TrialState.FAIL)
                        study.enqueue_trial(trial.params or trial.system_attrs.get("fixed_params", {}))

    def __call__(self, say: Callable[[str], None]) -> int:
        """Makes all trials that are left. Returns the number of the signal that stopped it, or 0.

        Raises:
            UserError: a run cannot begin, because its settings or rows are wrong.
        """
        with stop_signals() as received:
            for cell in self.grid.cells:
                while not received and self._left(cell):
                    self._try(cell, received, say)
        return received[0] if received else 0

    def note_death(self, say: Callable[[str], None], process: str, error: str) -> bool:
        """Counts a failed attempt of the run that a dead worker was making, and queues its trial again."""
        trials = [
            (cell, trial)
            for cell in self.grid.cells
            for trial in self.studies[str(cell)].get_trials(deepcopy=False, states=[TrialState.RUNNING])
        ]
        runs = (self.grid.trial(cell, trial.params) for cell, trial in trials)
        found = any(note_death(run.located(self.runs), process, error, say) for run in runs)
        self.prepare()
        return found

    def _name(self, cell: Cell) -> str:
        """The name of a cell's Optuna study: another one if what is tried, or what a run computes, is changed.

        More trials go on with the same study, unless there are lists alone, which are queued once.
        """
        free = set() if combinations(self.search) else {"trials"}
        content = (self.search.model_dump_json(exclude=free), self.grid.trial(cell, {}).settings_id)
        return f"{self.grid.study.title}: {cell}: {hashlib.sha256(repr(content).encode()).hexdigest()[:12]}"

    @property
    def _trials(self) -> int:
        return len(combinations(self.search)) or self.search.trials

    def _left(self, cell: Cell) -> bool:
        """Whether a trial of a cell can be begun."""
        trials = self.studies[str(cell)].get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        return waiting or sum(map(_counts, trials)) < self._trials

    def _try(self, cell: Cell, received: list[int], say: Callable[[str], None]) -> None:
        """Makes a trial."""
        study = self.studies[str(cell)]
        with ExitStack() as stack:
            with turn(self.runs):
                if not self._left(cell):  # another worker has begun the last one
                    return
                seed = len(study.get_trials(deepcopy=False)) if self.alone else None
                study.sampler = optuna.samplers.TPESampler(
                    n_startup_trials=STARTUP_TRIALS, constant_liar=True, seed=seed
                )
                trial = study.ask()
                run = self.grid.trial(cell, dict(drawn(self.search, trial)))
                stack.enter_context(locked(self.runs / LOCKS, _lock_name(study, trial.number)))
            outcome, hopeless = self._make(run, trial, received, say)
            if hopeless:
                study.tell(trial, state=TrialState.PRUNED)
                prune(run.config(self.runs).output, [])
            elif isinstance(outcome, int):  # the same trial goes on with the next call
                received.append(outcome)
                study.tell(trial, state=TrialState.FAIL)
                study.enqueue_trial(trial.params)
            elif (score := deciding_score(outcome, self.search.split, self.search.metric)) is None:
                trial.set_user_attr(FAILED, str(outcome.get("error", "the run has no such score")))
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, score)

    def _make(
        self, run: PlannedRun, trial: Trial, received: list[int], say: Callable[[str], None]
    ) -> tuple[Record | int, bool]:
        """Makes the run of a trial. Returns what ``make_run`` returns, and whether it was stopped as hopeless."""
        stopped = []

        def hopeless(epoch: int, value: float) -> bool:
            trial.report(value, epoch)
            if trial.should_prune():
                stopped.append(epoch)
            return bool(stopped)

        located, label = run.located(self.runs), f"{run}, {trial.params}"
        while True:
            outcome = make_run(
                located, "nothing", say, label=label, received=received, shown=self.shown, hopeless=hopeless
            )
            if isinstance(outcome, int):
                return outcome, bool(stopped) and outcome == signal.SIGUSR1
            if isinstance(outcome, dict) and (record := read_record(located.config.output)) is not None:
                return record, False  # else it is tried again
            if outcome is Busy:  # a run with the same settings
                time.sleep(POLL_S)


@contextmanager
def turn(runs: Path) -> Iterator[None]:
    """Waits for its turn. During the block no other process begins or queues a trial."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(runs / LOCKS))
                break
            except FolderInUse:
                time.sleep(TURN_S)
        yield


def summary(studies: Mapping[str, optuna.Study]) -> str:
    """The best trial of each cell, as a table. ``studies``: by cell."""
    rows = []
    for cell, study in studies.items():
        trials = study.get_trials(deepcopy=False)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        counts = [len(done), sum(trial.state == TrialState.PRUNED for trial in trials)]
        counts.append(sum(FAILED in trial.user_attrs for trial in trials))
        best = max(done, key=lambda trial: trial.value or 0.0, default=None)
        settings = "" if best is None else " ".join(f"{key}={value}" for key, value in best.params.items())
        score = "" if best is None or best.value is None else f"{100 * best.value:.2f}"
        rows.append((cell, *map(str, counts), score, settings))
    return table(("cell", "finished", "stopped early", "failed", "best", "settings"), rows)


def open_study(name: str, location: str | None, runs: Path, *, pruning: bool) -> optuna.Study:
    """Opens the Optuna study of this name, or begins it. Arguments: as in ``Searching`` and ``Search``."""
    storage: Any = location
    if storage is None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(runs / "search.journal")))
    try:
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS) if pruning else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except Exception as error:  # of the database's driver
        raise UserError(f"--storage {location}: cannot be opened ({str(error).splitlines()[0]})") from None


def combinations(search: Search) -> list[dict[str, Any]]:
    """All combinations of values, in random order; none where a key has a range."""
    values = [values for values in search.keys.values() if not isinstance(values, Range)]
    if len(values) < len(search.keys):
        return []
    found = [dict(zip(search.keys, chosen, strict=True)) for chosen in itertools.product(*values)]
    random.Random(0).shuffle(found)
    return found[: search.trials]


def drawn(search: Search, trial: Trial) -> Iterator[tuple[str, Any]]:
    """Yields each key with the value that it has in a trial."""
    for key, values in search.keys.items():
        if not isinstance(values, Range):
            yield key, trial.suggest_categorical(key, values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            yield key, trial.suggest_int(key, values.low, values.high, log=values.log)
        else:
            yield key, trial.suggest_float(key, values.low, values.high, log=values.log)


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that the study asks for. One that was cut off is tried again as another trial."""
    return trial.state != TrialState.FAIL or FAILED in trial.user_attrs


def _is_made(runs: Path, study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a process makes a trial."""
    try:
        with locked(runs / LOCKS, _lock_name(study, trial.number)):
            return False
    except FolderInUse:
        return True


def _lock_name(study: optuna.Study, number: int) -> str:
    """The name of the file that the process which makes a trial has locked."""
    return f"{hashlib.sha256(study.study_name.encode()).hexdigest()[:12]}-{number}"
