"""mt-dnn bench: measures speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mt_dnn.cli.arguments import AsJson, Overrides, Precision, end, separated
from mt_dnn.threads import ignore_neighbours

bench = typer.Typer(no_args_is_help=True, help="Measure speed on this machine. Without a run file no data is needed.")

RunFile = Annotated[
    Path | None, typer.Argument(help="Run file (YAML). Default: made-up rows and random weights, which need no data.")
]
Shape = Annotated[
    str | None, typer.Option(help="Without a run file, the encoder: minilm (default), base, large or xlmr-large.")
]
Lengths = Annotated[
    str | None, typer.Option(help="Without a run file, rows as long as those of: rte (default), cola, mnli, squad …")
]
Picture = Annotated[Path | None, typer.Option(help="Also draw the figures into this SVG file.")]
Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")]


def settings(config: Path | None, overrides: list[str] | None) -> tuple[Path | None, list[str]]:
    """The run file and the overrides. If there is no run file, the first override stands where it would be."""
    if config is not None and "=" in str(config) and not config.exists():
        return None, [str(config), *(overrides or [])]
    return config, overrides or []


@bench.command()
def throughput(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    peer: Annotated[str, typer.Option(help="What to compare with: hf-trainer.")] = "hf-trainer",
    updates: Annotated[int, typer.Option(min=1, help="Updates in each round, the same in all rounds.")] = 8,
    rounds: Rounds = 5,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too, in two more processes.")] = True,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Training examples per second beside plain Hugging Face Trainer, same batches, in one process."""
    from mt_dnn.bench.throughput import throughput_command

    path, changes = settings(config, overrides)
    options: dict[str, Any] = {
        "updates": updates,
        "rounds": rounds,
        "memory": memory,
        "picture": picture,
        "as_json": as_json,
    }
    throughput_command(path, changes, shape=shape, lengths=lengths, peer=peer, **options)


@bench.command()
def adversary(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    modes: Annotated[str | None, typer.Option(help="Comma-separated modes; default: all.")] = None,
    before: Annotated[
        Path | None, typer.Option(help="Folder with another commit (git worktree add): measure its steps in turn.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates in each round.")] = 2,
    rounds: Rounds = 7,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """What each adversarial mode costs, as a multiple of a plain training step."""
    if before is not None:
        ignore_neighbours()
    from mt_dnn.bench.adversary import adversary_command

    path, changes = settings(config, overrides)
    options: dict[str, Any] = {"updates": updates, "rounds": rounds, "picture": picture, "as_json": as_json}
    adversary_command(path, changes, shape=shape, lengths=lengths, modes=separated(modes), before=before, **options)


@bench.command()
def fast_paths(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates in each round.")] = 2,
    rounds: Rounds = 7,
    as_json: AsJson = False,
) -> None:
    """What each fast path (train.fast_paths) saves of a training step."""
    from mt_dnn.bench.fast_paths import fast_paths_command

    path, changes = settings(config, overrides)
    options: dict[str, Any] = {"updates": updates, "rounds": rounds, "as_json": as_json}
    fast_paths_command(path, changes, shape=shape, lengths=lengths, **options)


@bench.command()
def scaling(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    processes: Annotated[int, typer.Option(help="Processes, one per GPU or core.")] = 2,
    updates: Annotated[int, typer.Option(min=1, help="Updates in each round.")] = 4,
    rounds: Rounds = 5,
    as_json: AsJson = False,
) -> None:
    """Training examples per second of several processes beside one, the same batches, one thread each on CPUs."""
    from mt_dnn.bench.scaling import scaling_command

    path, changes = settings(config, overrides)
    options: dict[str, Any] = {"processes": processes, "updates": updates, "rounds": rounds, "as_json": as_json}
    end(scaling_command(path, changes, shape=shape, lengths=lengths, **options))


@bench.command()
def gpu(
    overrides: Overrides = None,
    shapes: Annotated[str | None, typer.Option(help="Comma-separated; default: base,xlmr-large.")] = None,
    batches: Annotated[str | None, typer.Option(help="Comma-separated batch sizes; default: 32,128,512.")] = None,
    precisions: Annotated[str, typer.Option(help="Comma-separated values of train.precision.")] = "bf16",
    modes: Annotated[str | None, typer.Option(help="Comma-separated modes; default: all.")] = None,
    lengths: Annotated[str, typer.Option(help="Rows as long as those of: rte, cola, mnli, squad …")] = "mnli",
    device: Annotated[str | None, typer.Option(help="Default: the GPU; cpu tries the command without one.")] = None,
    peer: Annotated[bool, typer.Option(help="Compare the plain step with Hugging Face Trainer.")] = True,
    quick: Annotated[bool, typer.Option(help="A trial: a small encoder, few rows, two modes, one round.")] = False,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Speed on a GPU: encoders, batch sizes, number types and modes, ours and Trainer's. Needs no data."""
    from mt_dnn.bench.gpu import gpu_command

    chosen = {"shapes": shapes, "batches": batches, "precisions": precisions, "modes": modes}
    lists: dict[str, Any] = {name: separated(value) for name, value in chosen.items()}
    flags: dict[str, Any] = {"peer": peer, "quick": quick, "picture": picture, "as_json": as_json}
    gpu_command(overrides or [], **lists, lengths=lengths, device=device, **flags)


@bench.command()
def start(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    rounds: Rounds = 5,
    as_json: AsJson = False,
) -> None:
    """Seconds from mt-dnn train on prepared rows to its first update, beside a bare script that makes one."""
    from mt_dnn.bench.start import start_command

    path, changes = settings(config, overrides)
    start_command(path, changes, shape=shape, lengths=lengths, rounds=rounds, as_json=as_json)


@bench.command()
def growth(
    output: Annotated[
        Path | None, typer.Option(help="Folder for scaling.json, scaling.svg and scaling.md; default: only print.")
    ] = None,
    most_rows: Annotated[int, typer.Option(help="The most rows, at least 2000.")] = 32_000,
    most_tasks: Annotated[int, typer.Option(help="The most tasks, at least 3.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    as_json: AsJson = False,
) -> None:
    """How processor time grows with rows, tasks and epochs. Needs no data."""
    from mt_dnn.bench.growth import growth_command

    growth_command(output, most_rows=most_rows, most_tasks=most_tasks, rounds=rounds, as_json=as_json)


@bench.command()
def memory(
    output: Annotated[
        Path | None, typer.Option(help="Folder for memory.json, memory.svg and memory.md; default: only print.")
    ] = None,
    rows: Annotated[str, typer.Option(help="Comma-separated numbers of rows, in order.")] = "2000,20000,200000",
    commands: Annotated[str | None, typer.Option(help="Comma-separated commands; default: all that read rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """How the peak memory of commands grows with rows, on Linux. Needs no data."""
    from mt_dnn.bench.memory_growth import COMMANDS, memory_command

    memory_command(output, rows=separated(rows) or [], commands=separated(commands) or COMMANDS, as_json=as_json)


@bench.command()
def neighbours(
    config: RunFile = None,
    overrides: Overrides = None,
    shape: Shape = None,
    lengths: Lengths = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates in each case.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 3,
    as_json: AsJson = False,
) -> None:
    """What a busy process or a second run on the same cores costs; needs a machine without other work."""
    from mt_dnn.bench.neighbours import neighbours_command

    path, changes = settings(config, overrides)
    options: dict[str, Any] = {"updates": updates, "rounds": rounds, "as_json": as_json}
    neighbours_command(path, changes, shape=shape, lengths=lengths, **options)


def _inference(what: str) -> None:
    """Adds the subcommand ``what``, a key of ``COMPARISONS`` in bench/inference.py."""

    def measured(
        run: Annotated[Path | None, typer.Argument(help="Run folder; default: made-up rows and weights.")] = None,
        task: Annotated[str | None, typer.Option(help="With a run: the task; default: the first.")] = None,
        shape: Annotated[
            str | None, typer.Option(help="Without a run, the encoder: minilm (default), base, large …")
        ] = None,
        lengths: Annotated[
            str | None, typer.Option(help="Without a run, rows as long as those of: sst2 (default), rte …")
        ] = None,
        rows: Annotated[int, typer.Option(min=1, help="The most rows.")] = 512,
        rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 5,
        precision: Precision = None,
        as_json: AsJson = False,
    ) -> None:
        from mt_dnn.bench.inference import inference_command

        options: dict[str, Any] = {
            "shape": shape,
            "lengths": lengths,
            "rows": rows,
            "rounds": rounds,
            "precision": precision,
        }
        inference_command(what, run, task=task, as_json=as_json, **options)

    bench.command(what, help=INFERENCE[what])(measured)


INFERENCE = {
    "predict": "On the CPU, predictions per second beside transformers' pipeline, in batches of 32 and at its best.",
    "evaluate": "On the CPU, evaluated rows per second, beside transformers on padded batches with as many tokens.",
    "prepare": "Prepared rows per second, from file to file, beside the tokenizer alone.",
}
for name in INFERENCE:
    _inference(name)
