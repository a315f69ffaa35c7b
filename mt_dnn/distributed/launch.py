"""Starting and ending the processes of a run."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from data_utils.errors import RankError, UserError
from mt_dnn.distributed.ranks import barrier, rank, world_size

COMMUNICATION = ("gloo", "Gloo", "NCCL", "nccl", "imed out", "onnection", "peer")  # in messages of lost ranks


@contextmanager
def process_group(*, timeout_s: float) -> Iterator[None]:
    """The group of all ranks, when a launcher such as torchrun has started several.

    Tensors on a CPU travel through gloo, tensors on GPUs through nccl.

    Raises:
        UserError: there are GPUs, but this torch has no NCCL.
    """
    if world_size() == 1:
        yield
        return
    if torch.cuda.is_available() and not distributed.is_nccl_available():
        raise UserError("this torch has no NCCL, which several GPUs need; install a CUDA build of torch")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield
        barrier()  # no rank takes the store away from one that still needs it
    finally:
        gc.collect()  # what holds on to the group goes first
        distributed.destroy_process_group()


def leave(code: int) -> None:
    """Ends one of several processes at once: threads of gloo have been seen to abort the interpreter's way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def explained(place: Callable[[], str]) -> Iterator[None]:
    """What goes wrong in one of several processes, in one line that names the rank and, by ``place``, the update.

    Raises:
        RankError: no memory is left, or another rank has died or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        text, who = " ".join(str(error).split()), f"rank {rank()}: {place()}"
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            remedy = "lower train.batch_size (train.accumulate makes up for it) or data.max_length"
            raise RankError(f"{who}: out of memory; {remedy}") from None
        if world_size() > 1 and any(word in text for word in COMMUNICATION):
            reason = "does not answer (distributed.timeout_s)" if "imed out" in text else "has died"
            raise RankError(f"{who}: another rank {reason}; see what it printed. {text[:160]}") from None
        raise


def launch(processes: int, arguments: Sequence[str], *, restarts: int = 0) -> int:
    """Runs ``mt-dnn`` with these arguments in several processes on this machine; returns the exit code.

    It is what ``torchrun --standalone`` does; a worker that dies is started again ``restarts`` times, with all others.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # One store for all attempts would still hold the addresses of dead workers.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"mt-dnn-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=1,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "mt_dnn.cli", *arguments)
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        return 2 if 2 in codes else 1  # the others were told to stop
    except SignalException:
        return 0  # the workers have saved; the same command continues
    return 0
