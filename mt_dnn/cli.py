"""The ``mt-dnn`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_utils.errors import RankError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-task fine-tuning of BERT and XLM-R encoders with adversarial training.",
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
app.add_typer(bench_app, name="bench")

ConfigFile = Annotated[Path, typer.Argument(help="Run configuration (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example optimizer.lr=1e-4")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder, or one of its checkpoints.")]


@app.command()
def prepare(
    task_defs: Annotated[Path, typer.Argument(help="Task definition file (YAML).")],
    data: Annotated[Path, typer.Option(help="Folder of canonical rows.")],
    encoder: Annotated[str, typer.Option(help="Encoder whose tokenizer is used: hub name, folder or package:…")],
    max_length: Annotated[int, typer.Option(help="Longest sequence in tokens.")] = 512,
    stride: Annotated[int, typer.Option(min=0, help="Tokens that two windows of a long text share.")] = 128,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared files; default: <data>/prepared.")] = None,
) -> None:
    """Turn canonical rows into token ids. Training does this by itself; here you see what it finds."""
    from mt_dnn.commands import prepare_command

    prepare_command(task_defs, data=data, encoder=encoder, max_length=max_length, stride=stride, cache=cache)


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, help="Processes on this machine, one per GPU.")] = 1,
    restarts: Annotated[int, typer.Option(min=0, help="How often workers are started again after one has died.")] = 0,
) -> None:
    """Train a run; the same command resumes one that was cut off."""
    from mt_dnn.commands import launch_command, train_command

    if gpus > 1 or restarts:
        raise typer.Exit(launch_command(config, overrides or [], processes=gpus, restarts=restarts))
    end(train_command(config, overrides or []))


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="Only this split; default: all labelled ones but train.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of canonical rows; default: the run's.")] = None,
    task_defs: Annotated[
        Path | None, typer.Option(help="More tasks, or other metrics and splits of the run's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score a trained model on labelled splits, also of tasks that it was not trained on but whose head it has."""
    from mt_dnn.commands import evaluate_command

    evaluate_command(run, split=split, task=task, data=data, task_defs=task_defs, as_json=as_json)


@app.command()
def predict(
    run: RunFolder,
    task: Annotated[str, typer.Option(help="The task whose head predicts.")],
    input: Annotated[
        str, typer.Option(help="Text file, one row a line, sentences of a pair split by a tab; - reads stdin.")
    ],
    output: Annotated[Path | None, typer.Option(help="JSON lines file; default: standard output.")] = None,
) -> None:
    """Predict on raw text."""
    from mt_dnn.commands import predict_command

    predict_command(run, task=task, source=input, output=output)


@app.command()
def distill(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of the teachers, or checkpoints of theirs.")],
    data: Annotated[Path, typer.Option(help="Folder of canonical rows.")],
    output: Annotated[Path, typer.Option(help="Where rows with soft labels go, and the other splits beside them.")],
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all that were trained.")] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each training split.")] = None,
) -> None:
    """Write what teachers think of training rows as soft labels, of several teachers the mean."""
    from mt_dnn.distill import distill_command

    distill_command(runs, data=data, output=output, tasks=separated(tasks), max_rows=max_rows)


@app.command()
def config(
    config: Annotated[Path | None, typer.Argument(help="Run configuration to print with every default.")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of run and task files.")] = False,
) -> None:
    """Show a run configuration with all defaults, or the JSON Schema of run and task files for editors."""
    from mt_dnn.commands import config_command

    config_command(config, overrides or [], schema=schema)


@app.command()
def data(
    benchmark: Annotated[
        str, typer.Argument(help="glue, nli, superglue, arc, commonsense_qa, squad, ner, chunking or xnli.")
    ],
    output: Annotated[Path | None, typer.Option(help="Where the canonical rows go; default: data/<benchmark>.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all.")] = None,
    source: Annotated[str | None, typer.Option(help="Local folder laid out like the hub's repository.")] = None,
) -> None:
    """Download a benchmark from the Hugging Face hub into canonical rows."""
    from data_utils.hub import download

    report = download(benchmark, output or Path("data") / benchmark, tasks=separated(tasks), source=source)
    raise typer.Exit(report.finish())


@bench_app.command()
def throughput(
    config: ConfigFile = Path("experiments/baseline/throughput.yml"),
    overrides: Overrides = None,
    peer: Annotated[str, typer.Option(help="What to compare with: hf-trainer.")] = "hf-trainer",
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 8,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Training examples per second beside plain Hugging Face Trainer, same batches, in one process."""
    from mt_dnn.bench import throughput_command

    throughput_command(config, overrides or [], peer=peer, updates=updates, rounds=rounds, as_json=as_json)


@bench_app.command()
def adversary(
    config: ConfigFile = Path("experiments/adversarial/cost.yml"),
    overrides: Overrides = None,
    modes: Annotated[str | None, typer.Option(help="Comma-separated modes; default: all.")] = None,
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 2,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """What each adversarial mode costs, as a multiple of a plain training step."""
    from mt_dnn.bench_adversary import adversary_command

    options: dict[str, Any] = {"updates": updates, "rounds": rounds, "as_json": as_json}
    adversary_command(config, overrides or [], modes=separated(modes), **options)


@bench_app.command()
def scaling(
    config: ConfigFile = Path("experiments/baseline/throughput.yml"),
    overrides: Overrides = None,
    processes: Annotated[int, typer.Option(help="Processes, one per GPU or core.")] = 2,
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 4,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Training examples per second of several processes beside one, the same batches, one thread each on CPUs."""
    from mt_dnn.bench_scaling import scaling_command

    options: dict[str, Any] = {"processes": processes, "updates": updates, "rounds": rounds, "as_json": as_json}
    end(scaling_command(config, overrides or [], **options))


def separated(names: str | None) -> list[str] | None:
    """The names between commas; None: all of them."""
    return [name.strip() for name in names.split(",")] if names else None


def end(code: int) -> None:
    """Leaves with an exit code, as one of several processes if a launcher has started them."""
    if "WORLD_SIZE" in os.environ:
        from mt_dnn.distributed import leave

        leave(code)
    raise typer.Exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: bad input is one line on stderr and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        return app(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0" or isinstance(error, RankError):
            print(f"mt-dnn: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
