"""mt-dnn train: trains a run, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from data_utils.shipped import notices
from mt_dnn.cli.arguments import ConfigFile, Overrides, end
from mt_dnn.threads import divide_threads


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, max=256, help="Processes on this machine, one per GPU.")] = 1,
    restarts: Annotated[int, typer.Option(min=0, help="How often all are started again after one has died.")] = 0,
) -> None:
    """Train a run. The same command resumes a run that was cut off."""
    if gpus > 1 or restarts:
        raise typer.Exit(launch_here(config, overrides or [], processes=gpus, restarts=restarts))
    end(train_here(config, overrides or []))


def train_here(path: Path, overrides: Sequence[str]) -> int:
    """Trains in this process and prints the table of scores. Returns the exit code."""
    from mt_dnn.distributed.launch import process_group
    from mt_dnn.distributed.output import lasting_output
    from mt_dnn.distributed.ranks import is_main, say
    from mt_dnn.distributed.signals import exit_code
    from mt_dnn.inference.next_commands import next_commands
    from mt_dnn.runs.config_file import load_config
    from mt_dnn.runs.run import Run
    from mt_dnn.runs.score_table import score_text

    config = load_config(path, overrides)
    with lasting_output():
        with process_group(timeout_s=config.distributed.timeout_s):
            for notice in notices(path, config.task_defs):
                say(notice)
            run = Run(config)
            summary = run(ends_process=True)
        if isinstance(summary, int):
            return exit_code(summary)
        if is_main():
            print(score_text(summary["results"]))
            for note in summary["notes"]:
                print(f"note: {note}")
            print(f"\nrun folder: {config.output} (step {summary['selected_step']} of {summary['steps']} selected)")
            print("next:")
            for command, use in next_commands(config, run.parts):
                print(f"  mt-dnn {command}   {use}")
    return 0


def launch_here(path: Path, overrides: Sequence[str], *, processes: int, restarts: int) -> int:
    """Trains in several processes on this machine. Returns the exit code."""
    import torch

    from mt_dnn.distributed.launcher import launch
    from mt_dnn.distributed.ranks import world_size
    from mt_dnn.runs.config_file import load_config

    divide_threads(processes)
    config = load_config(path, overrides)  # so that an error in it is printed once, not by every process
    if world_size() > 1:
        raise UserError("--gpus: torchrun has started several processes already; leave --gpus out")
    if config.device != "cpu" and torch.cuda.is_available() and processes > torch.cuda.device_count():
        available = torch.cuda.device_count()
        raise UserError(f"--gpus {processes}: this machine has {available}; give at most {available}")
    stop_timeout_s = config.distributed.stop_timeout_s
    return launch(processes, ["train", str(path), *overrides], restarts=restarts, stop_timeout_s=stop_timeout_s)
