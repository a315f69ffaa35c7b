"""Which rows and columns the table of a study has, and which cell of the grid stands where they meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_utils.errors import UserError, did_you_mean
from data_utils.metrics import METRICS
from data_utils.set_aside import CARVED, HELD_OUT
from data_utils.task_def import TaskDef
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.identity import run_tasks
from mt_dnn.studies.show import Score, Show
from mt_dnn.studies.study import TASK, Study, axis_items
from mt_dnn.tasks.run_tasks import Tasks


@dataclass(frozen=True)
class Entry:
    """A row or a column of a table.

    ``labels``: axis → label of the grid's cells in it. ``score``: the score in it; None: its cells have other values.
    ``value``: these other values, as in ``Show.values``, or ``average``. ``name``: what people read.
    """

    labels: Mapping[str, str]
    score: Score | None = None
    value: str = ""
    name: str = ""

    @property
    def task(self) -> str:
        """What the entry is called in a paper's table: the label of its task, its task, or its labels."""
        return self.labels.get(TASK) or (self.score.task if self.score else "") or ", ".join(self.labels.values())


@dataclass(frozen=True)
class Layout:
    """The rows and columns of a table. ``reference``: axis and label that others are compared with, or None."""

    rows: list[Entry]
    columns: list[Entry]
    reference: tuple[str, str] | None


def layout(grid: Grid) -> Layout:
    """The rows and columns that ``show`` asks for. No run has to exist.

    Raises:
        UserError: ``show`` names something that the study does not have.
    """
    show = grid.study.show
    _check_metrics(grid)
    row_axes, column_axes = _axes(grid)
    rows, columns = _combinations(grid, row_axes), _combinations(grid, column_axes)
    if isinstance(show.columns, tuple):
        columns = [Entry({}, score) for text in show.columns for score in _expanded(grid, Score.parse(text))]
    elif show.values == "scores" and TASK in row_axes:
        rows = list(_with_scores(grid, rows))
    elif show.values == "scores":
        columns = list(_with_scores(grid, columns))
    further = [Entry({}, None, value, value) for value in show.further]
    average = [Entry({}, None, "average", "average")] if show.average != "none" else []
    if show.values == "scores" and not any(entry.score for entry in (*rows, *columns)):
        raise _no_scores(grid)
    if show.tested is not None and not any(e.score and e.score.split == show.tested for e in (*rows, *columns)):
        raise UserError(f"{grid.study.location}: show.tested: no score of the split '{show.tested}' is shown")
    if average and any(row.score for row in rows):
        raise UserError(f"{grid.study.location}: show.average: needs scores in columns; leave it out, or change rows")
    return Layout(_named(rows, show), [*_named(columns, show), *average, *further], _reference(grid))


def _axes(grid: Grid) -> tuple[list[str], list[str]]:
    """The axes of the rows and those of the columns."""
    study, show = grid.study, grid.study.show
    chosen = study.select.over if study.select else ()
    for axis in show.axes():
        if axis in chosen:
            raise UserError(f"{study.location}: show: the labels of '{axis}' compete (select.over); name another axis")
    default = TASK if TASK in study.axes and TASK not in (*chosen, *show.row_axes) else None
    column = show.columns if isinstance(show.columns, str) else default if show.columns is None else None
    rows = show.row_axes or [
        axis
        for axis, values in study.axes.items()
        if axis not in (*chosen, column) and (len(values) > 1 or axis == "method")
    ]
    if isinstance(show.columns, tuple) and not show.rows:
        rows = [axis for axis in rows if axis != TASK] or list(rows)
    return list(rows), [column] if column is not None else []


def _combinations(grid: Grid, axes: Sequence[str]) -> list[Entry]:
    """An entry for each combination of labels that cells have, in the order of the study."""
    labels = [[label for label, _ in axis_items(grid.study.axes[axis])] for axis in axes]
    entries = [Entry(dict(zip(axes, combination, strict=True))) for combination in itertools.product(*labels)]
    return [entry for entry in entries if any(cell.fits(entry.labels) for cell in grid.cells)]


def _check_metrics(grid: Grid) -> None:
    """Raises UserError if ``show.metrics`` names a task or a metric that no run has."""
    location = f"{grid.study.location}: show.metrics"
    known = _known_tasks(grid)
    for name, metrics in grid.study.show.metrics.items():
        if name not in known:
            raise UserError(f"{location}: no run scores the task '{name}'{did_you_mean(name, known)}")
        for metric in metrics:
            if metric not in known[name].metrics:
                raise UserError(f"{location}: {name} has no '{metric}'{did_you_mean(metric, known[name].metrics)}")


def _known_tasks(grid: Grid) -> dict[str, TaskDef]:
    """The tasks that runs of the study score, by name."""
    return {name: task for group in grid.groups for name, task in tasks_of(grid, group[0]).evaluated.items()}


def tasks_of(grid: Grid, cell: Cell) -> Tasks:
    """The tasks that the runs of a cell train and evaluate."""
    return run_tasks(grid.run(cell, grid.study.seed_list[0]).given)


def _with_scores(grid: Grid, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Each entry once for each score of the tasks that its cells train."""
    for entry in entries:
        found = dict.fromkeys(score for _, scores in _by_task(grid, entry) for score in scores)
        yield from (Entry(entry.labels, score) for score in found)


def _by_task(grid: Grid, entry: Entry) -> Iterator[tuple[TaskDef, list[Score]]]:
    """The tasks that the cells of an entry train, with their scores that are shown. A task may come several times."""
    for group in grid.groups:
        if group[0].fits(entry.labels):
            carves = _carves(grid, group[0])
            for task in tasks_of(grid, group[0]).trained.values():
                yield task, list(_scores(task, Score(task.name), grid.study, carves=carves))


def unshown(grid: Grid) -> list[str]:
    """For each task or score that has no column and no row, although ``show`` means it, a sentence that says why."""
    show = grid.study.show
    if isinstance(show.columns, tuple):
        wanted = {text: Score.parse(text) for text in show.columns}
        empty = {text: score for text, score in wanted.items() if not list(_expanded(grid, score))}
        return [_unshown(grid, text, _known_tasks(grid)[score.task], score) for text, score in empty.items()]
    if show.values != "scores":
        return []
    rows, columns = _axes(grid)
    sentences: dict[str, None] = {}
    for entry in _combinations(grid, rows if TASK in rows else columns):
        found = list(_by_task(grid, entry))
        has_scores = {task.name for task, scores in found if scores}
        for task, _ in found:
            if task.name not in has_scores and show.metrics.get(task.name) != ():  # nobody wants it
                name = ", ".join(dict.fromkeys([*entry.labels.values(), task.name]))
                sentences[_unshown(grid, name, task, Score(task.name))] = None
    return list(sentences)


def _unshown(grid: Grid, name: str, task: TaskDef, wanted: Score) -> str:
    """Why a table has no score of a task. ``name``: what people read. ``wanted``: what was to be shown of the task."""
    show = grid.study.show
    metrics = [wanted.metric] if wanted.metric else show.metrics.get(task.name, task.metrics)
    if not any(METRICS[metric].scalar for metric in metrics):
        return f"{name} cannot be shown, because no metric of it ({', '.join(metrics)}) is a single number."
    if show.split is not None and show.split != CARVED:
        return f"{name} cannot be shown, because it has no split {show.split} (show.split)."
    why = "it has training rows only" if show.split is None else "none of its rows are carved"
    return f"{name} cannot be shown, because {why}. Write settings: {{data.carve: 0.1}}, or give it dev rows."


def _carves(grid: Grid, cell: Cell) -> bool:
    """Whether the runs of a cell carve rows from the training rows of the tasks that they train."""
    return grid.run(cell, grid.study.seed_list[0]).given.data.carve is not None


def _scores(task: TaskDef, wanted: Score, study: Study, *, carves: bool) -> Iterator[Score]:
    """The scores of a task that are wanted, with split and metric. ``carves``: whether rows of it are carved."""
    splits = [wanted.split] if wanted.split is not None else _splits(task, study, carves=carves)
    metrics = [wanted.metric] if wanted.metric else study.show.metrics.get(task.name, task.metrics)
    yield from (Score(task.name, name, metric) for name in splits for metric in metrics if METRICS[metric].scalar)


def _splits(task: TaskDef, study: Study, *, carves: bool) -> Sequence[str]:
    """The splits of a task that ``show.split`` means."""
    split = study.show.split
    if split == HELD_OUT or (split == CARVED and carves):
        return [split]
    if split is not None:
        return [name for name in task.splits if name == split or name.startswith(f"{split}_")]
    others = [name for name in task.splits if name != "train"]
    if study.select is not None and study.select.split == CARVED and others:
        carves = False  # carved rows have chosen the settings, and other rows are there
    return task.dev_splits or ([CARVED] if carves else others)


def _no_scores(grid: Grid) -> UserError:
    """The error for a table of scores that has none, before any run is made."""
    split, where = grid.study.show.split, f"{grid.study.location}: show"
    tasks: dict[str, TaskDef] = {}
    known: dict[str, None] = {}
    for group in grid.groups:
        trained = tasks_of(grid, group[0]).trained
        tasks |= trained
        known |= dict.fromkeys(name for task in trained.values() for name in task.splits if name != "train")
        known |= {CARVED: None} if _carves(grid, group[0]) else {}
    shown = [metric for task in tasks.values() for metric in grid.study.show.metrics.get(task.name, task.metrics)]
    if not any(METRICS[metric].scalar for metric in shown):
        return UserError(f"{where}.metrics: no metric that is shown is a single number; name another one")
    what = f"a split '{split}'{did_you_mean(split, known)}" if split else "rows besides train"
    if known:
        return UserError(f"{where}.split: no task that is trained has {what}; splits: {', '.join(known)}")
    return UserError(
        f"{where}.split: no task that is trained has {what}; to show carved rows, write settings: {{data.carve: 0.1}} "
        "and show: {split: carved}"
    )


def _expanded(grid: Grid, wanted: Score) -> Iterator[Score]:
    """The scores that a text in ``show.columns`` stands for.

    Raises:
        UserError: no run of the study gives it.
    """
    known = _known_tasks(grid)
    location = f"{grid.study.location}: show.columns"
    if wanted.task not in known:
        raise UserError(f"{location}: no run scores the task '{wanted.task}'{did_you_mean(wanted.task, known)}")
    task = known[wanted.task]
    splits = [*task.splits, CARVED, HELD_OUT]
    for word, options in ((wanted.split, splits), (wanted.metric, task.metrics)):
        if word is not None and word not in options:
            raise UserError(f"{location}: {task.name} has no '{word}'{did_you_mean(word, options)}")
    training = [group[0] for group in grid.groups if wanted.task in tasks_of(grid, group[0]).trained]
    yield from _scores(task, wanted, grid.study, carves=any(_carves(grid, cell) for cell in training))


def _named(entries: Sequence[Entry], show: Show) -> list[Entry]:
    """The entries with names: labels, and what else tells their scores apart."""
    tasks = {entry.score.task for entry in entries if entry.score}
    named = []
    for entry in entries:
        parts = list(entry.labels.values())
        if entry.score is not None:
            of_task = [
                other.score
                for other in entries
                if other.score and other.labels == entry.labels and other.score.task == entry.score.task
            ]
            if TASK not in entry.labels and (len(tasks) > 1 or not parts):
                parts.append(entry.score.task)
            if len({score.split for score in of_task}) > 1 or show.split or entry.score.split == CARVED:
                parts.append(str(entry.score.split))
            if len({score.metric for score in of_task}) > 1 or TASK in entry.labels or len(tasks) > 1 or not parts[1:]:
                parts.append(str(entry.score.metric))
        named.append(Entry(entry.labels, entry.score, entry.value, " ".join(parts) or "all"))
    return named


def _reference(grid: Grid) -> tuple[str, str] | None:
    """The axis and the label of the reference.

    Raises:
        UserError: no axis of the table has this label.
    """
    show = grid.study.show
    if show.reference is None:
        return None
    rows, columns = _axes(grid)
    known = {label: axis for axis in [*columns, *rows] for label, _ in axis_items(grid.study.axes[axis])}
    if show.reference not in known:
        hint = did_you_mean(show.reference, known)
        raise UserError(f"{grid.study.location}: show.reference: no row or column '{show.reference}'{hint}")
    return known[show.reference], show.reference


def group_at(grid: Grid, labels: Mapping[str, str], score: Score | None) -> list[Cell] | None:
    """The cells of the grid that belong where a row and a column meet. They compete if there are several. None: none.

    Raises:
        UserError: cells belong there that do not compete.
    """
    found = [group for group in grid.groups if group[0].fits(labels)]
    if score is not None:
        found = [group for group in found if score.task in tasks_of(grid, group[0]).evaluated]
        if len(found) > 1:
            found = [group for group in found if score.task in tasks_of(grid, group[0]).trained] or found
    if len(found) > 1:
        raise UserError(
            f"{grid.study.location}: show: one cell of the table would stand for '{found[0][0]}' and for "
            f"'{found[1][0]}'; name the axis in which they differ in show.rows"
        )
    return found[0] if found else None
