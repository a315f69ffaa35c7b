"""mt-dnn analyze: what trained models do beyond their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.analysis_files import finish, study_analyses
from mt_dnn.cli.arguments import Device, Overrides
from mt_dnn.cli.sweep import RUNS, Profile, Runs, StudyFile

analyze = typer.Typer(
    no_args_is_help=True, help="Analyse trained models: errors, calibration, robustness, loss surface."
)

RunFolders = Annotated[
    list[str],
    typer.Argument(metavar="[NAME=]RUN...", help="Run folders. Runs with the same name are seeds of a method."),
]
FirstRun = Annotated[str, typer.Argument(metavar="[NAME=]RUN", help="Run folder, perhaps with a name for the figure.")]
SecondRun = Annotated[str | None, typer.Argument(metavar="[NAME=]RUN_B", help="Another run, to compare with.")]
Task = Annotated[str, typer.Option(help="The task.")]
Split = Annotated[str, typer.Option(help="A labelled split.")]
Data = Annotated[Path | None, typer.Option(help="Folder of canonical rows; default: the run's.")]
TaskDefs = Annotated[Path | None, typer.Option(help="Task file with more tasks that use a head of the runs.")]
Output = Annotated[Path, typer.Option(help="Folder for the numbers (JSON) and the figure (png, svg).")]
Name = Annotated[str | None, typer.Option(help="Name of the files; default: analysis, task and split.")]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figure; needs the extra studies.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn at random.")]
OUTPUT = Path("runs/analyses")


@analyze.command()
def confusion(
    context: typer.Context,
    run: FirstRun,
    task: Task,
    run_b: SecondRun = None,
    split: Split = "dev",
    data: Data = None,
    task_defs: TaskDefs = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """Confusion matrix of a run, row by row in percent, and the difference between two runs."""
    finish(context)


@analyze.command()
def agreement(
    context: typer.Context,
    runs: RunFolders,
    task: Task = "mnli",
    split: Split = "dev_matched",
    annotations: Annotated[
        Path | None, typer.Option(help="File with five votes a row: MultiNLI, SNLI or ChaosNLI; default: the rows'.")
    ] = None,
    data: Data = None,
    task_defs: TaskDefs = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """Accuracy by how far the annotators of a row agreed: 5-0-0, 4-1-0, 3-2-0, 3-1-1."""
    finish(context)


@analyze.command()
def calibration(
    context: typer.Context,
    runs: RunFolders,
    task: Task,
    split: Split = "dev",
    bins: Annotated[int, typer.Option(min=1, max=10_000, help="Bins of equal width.")] = 15,
    data: Data = None,
    task_defs: TaskDefs = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """Whether models are right as often as they are sure: reliability diagram and ECE."""
    finish(context)


@analyze.command()
def challenge(
    context: typer.Context,
    runs: RunFolders,
    task: Task,
    split: Annotated[list[str] | None, typer.Option(help="A labelled split; may be repeated. Default: test.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Column whose values are parts; may be repeated.")] = None,
    data: Data = None,
    task_defs: TaskDefs = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """Accuracy on challenge sets and their parts, such as the heuristics and sub-cases of HANS."""
    finish(context, f"challenge-{task}")


@analyze.command()
def loss_surface(
    context: typer.Context,
    run: FirstRun,
    task: Task,
    run_b: SecondRun = None,
    points: Annotated[
        int, typer.Option(min=3, max=1001, help="Values of each coordinate; odd, so that the run is among them.")
    ] = 21,
    extent: Annotated[float, typer.Option(min=0, max=1000, help="How far; 1 moves each filter by its length.")] = 1.0,
    rows: Annotated[int, typer.Option(min=1, help="Training rows in the sample.")] = 256,
    seed: Seed = 0,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """Training loss around a run in two random directions, and on the line between two runs."""
    finish(context)


@analyze.command()
def robustness(
    context: typer.Context,
    runs: RunFolders,
    task: Task,
    split: Split = "dev",
    radius: Annotated[
        float, typer.Option(min=0, help="The largest ball, slightly above the radius in training.")
    ] = 0.5,
    levels: Annotated[int, typer.Option(min=1, help="Balls that are tried, from the largest down.")] = 10,
    reference: Annotated[
        list[str] | None, typer.Option(help="Name of a run that decides the balls; may be repeated. Default: each run.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="The most examples.")] = 100,
    steps: Annotated[int, typer.Option(min=1, help="Ascent steps; 2000 in the paper.")] = 200,
    restarts: Annotated[int, typer.Option(min=1, help="Random starts of each attack.")] = 1,
    step_size: Annotated[float, typer.Option(min=0, help="Length of a step, as a share of the radius.")] = 0.1,
    seed: Seed = 0,
    data: Data = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
    device: Device = None,
) -> None:
    """FreeLB's maximum loss increment around examples. The same command goes on with one that was stopped."""
    finish(context)


@analyze.command()
def neighbours(
    context: typer.Context,
    runs: RunFolders,
    word: Annotated[str, typer.Option(help="The word.")],
    task: Task,
    level: Annotated[int, typer.Option(min=0, help="0: word embeddings; r: output of block r.")] = 0,
    split: Annotated[str, typer.Option(help="Split with the sentence.")] = "dev",
    uid: Annotated[
        str | None, typer.Option(help="Row with the sentence; default: the first one with the word.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Training rows whose words are compared.")] = 1000,
    top: Annotated[int, typer.Option(min=1, help="How many neighbours.")] = 10,
    seed: Seed = 0,
    data: Data = None,
    output: Output = OUTPUT,
    name: Name = None,
    device: Device = None,
) -> None:
    """The words nearest to a word in a sentence, before and after the noise of the run's mode."""
    finish(context, f"neighbours-{task}-{word}-level{level}")


@analyze.command()
def tally(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder of a run with adversary.mode=tat.")],
    task: Annotated[str | None, typer.Option(help="The task; default: the only one.")] = None,
    output: Output = OUTPUT,
    name: Name = None,
    figures: Figures = True,
) -> None:
    """TAT's tallies of wrong answers, epoch by epoch."""
    finish(context)


@analyze.command()
def study(
    study: StudyFile,
    overrides: Overrides = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    output: Annotated[Path, typer.Option(help="Folder of the figures of the study.")] = OUTPUT,
    figures: Figures = True,
) -> None:
    """Make the analyses that the figures of a study ask for, from its finished runs. Those that are there stay."""
    study_analyses(study, overrides or [], profile, runs, output, figures)
