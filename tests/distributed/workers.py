"""Several processes on this machine as a launcher would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import multiprocessing
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

from mt_dnn.distributed import launcher
from mt_dnn.distributed.launch import process_group
from tests.forks import Forked, check_forked, end_with, server


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def run_ranks(world_size: int, work: Callable[..., None], *arguments: Any, timeout_s: float = 120) -> None:
    """Runs ``work(*arguments)`` in so many forked processes; an error in one of them is raised here."""
    server()
    options = (world_size, free_port(), timeout_s, work, arguments)
    multiprocessing.start_processes(_enter, args=options, nprocs=world_size, start_method="forkserver")


def _enter(
    rank: int, world_size: int, port: int, timeout_s: float, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    check_forked()
    with process_group(timeout_s=timeout_s):
        work(*arguments)


class ForkedByTorchrun(Forked):
    """A worker of torchrun, forked instead of started. It has a session of its own, as a started one."""

    begin = staticmethod(os.setsid)

    def __init__(self, args: Sequence[str], env: Mapping[str, str], **_: object) -> None:
        super().__init__([*launcher.COMMAND, *args[args.index("mt_dnn.cli") + 1 :]], env=env)


def run_torchrun(arguments: Sequence[str]) -> None:
    """Runs ``torchrun`` with these arguments in a process that was just forked, and ends it with the exit code."""
    subprocess_handler.Popen = ForkedByTorchrun  # type: ignore[misc, assignment]
    end_with(lambda: run.main(list(arguments)))
