"""mt-dnn bench: measures speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mt_dnn.cli.arguments import AsJson, ConfigFile, Overrides, end, separated

bench = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")


@bench.command()
def throughput(
    config: ConfigFile = Path("experiments/baseline/throughput.yml"),
    overrides: Overrides = None,
    peer: Annotated[str, typer.Option(help="What to compare with: hf-trainer.")] = "hf-trainer",
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 8,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Training examples per second beside plain Hugging Face Trainer, same batches, in one process."""
    from mt_dnn.bench.throughput import throughput_command

    throughput_command(config, overrides or [], peer=peer, updates=updates, rounds=rounds, as_json=as_json)


@bench.command()
def adversary(
    config: ConfigFile = Path("experiments/adversarial/cost.yml"),
    overrides: Overrides = None,
    modes: Annotated[str | None, typer.Option(help="Comma-separated modes; default: all.")] = None,
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 2,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 7,
    as_json: AsJson = False,
) -> None:
    """What each adversarial mode costs, as a multiple of a plain training step."""
    from mt_dnn.bench.adversary import adversary_command

    options: dict[str, Any] = {"updates": updates, "rounds": rounds, "as_json": as_json}
    adversary_command(config, overrides or [], modes=separated(modes), **options)


@bench.command()
def fast_paths(
    config: ConfigFile = Path("experiments/adversarial/cost.yml"),
    overrides: Overrides = None,
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 2,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 7,
    as_json: AsJson = False,
) -> None:
    """What each fast path (train.fast_paths) saves of a training step."""
    from mt_dnn.bench.fast_paths import fast_paths_command

    fast_paths_command(config, overrides or [], updates=updates, rounds=rounds, as_json=as_json)


@bench.command()
def scaling(
    config: ConfigFile = Path("experiments/baseline/throughput.yml"),
    overrides: Overrides = None,
    processes: Annotated[int, typer.Option(help="Processes, one per GPU or core.")] = 2,
    updates: Annotated[int, typer.Option(help="Updates in each round.")] = 4,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Training examples per second of several processes beside one, the same batches, one thread each on CPUs."""
    from mt_dnn.bench.scaling import scaling_command

    options: dict[str, Any] = {"processes": processes, "updates": updates, "rounds": rounds, "as_json": as_json}
    end(scaling_command(config, overrides or [], **options))


@bench.command()
def neighbours(
    config: ConfigFile = Path("experiments/adversarial/cost.yml"),
    overrides: Overrides = None,
    updates: Annotated[int, typer.Option(help="Updates in each case.")] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds; medians are reported.")] = 3,
    as_json: AsJson = False,
) -> None:
    """What a busy process or a second run on the same cores costs; needs a machine without other work."""
    from mt_dnn.bench.neighbours import neighbours_command

    neighbours_command(config, overrides or [], updates=updates, rounds=rounds, as_json=as_json)
