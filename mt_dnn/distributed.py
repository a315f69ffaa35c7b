"""Several processes, one experiment: rank and size, what ranks tell each other, and how to launch them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed
from tqdm import tqdm

from data_utils.errors import RankError, UserError

T = TypeVar("T")
COMMUNICATION = ("gloo", "Gloo", "NCCL", "nccl", "imed out", "onnection", "peer")  # in messages of lost ranks


def rank() -> int:
    """This process, from 0; known from the launcher's environment before there is a group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


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


def local_device(name: str) -> str:
    """The device of this rank: with several processes on one machine each takes a GPU of its own.

    Raises:
        UserError: there are fewer GPUs, or ``name`` is a single one that all processes would take.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name in ("auto", "cuda") and world_size() > 1 and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(f"rank {rank()}: asks for GPU {local}, this machine has {torch.cuda.device_count()}")
        return f"cuda:{local}"
    if name.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise UserError(f"device: {name} is one GPU for several processes; device=cuda gives each of them its own")
    return name


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, in place; on all of them the values have to be on the same kind of device."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def any_rank(flag: int) -> int:
    """The largest value of all ranks, so that all agree."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(flag)
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return int(flags)


def gathered(value: T) -> list[T]:
    """Every rank's value, in the order of ranks, on all ranks."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def say(text: str) -> None:
    """Tells the user, once, without tearing a progress bar."""
    if is_main():
        tqdm.write(text)


def barrier() -> None:
    """Waits for all ranks."""
    if world_size() > 1:
        distributed.barrier()


def main_first(work: Callable[[], T]) -> T:
    """What ``work`` returns; the main rank does it before the others, so that files are made once.

    Raises:
        UserError: it raised one on the main rank; then all ranks raise it.
    """
    problem: list[str | None] = [None]
    result: T | None = None
    if is_main():
        try:
            result = work()
        except UserError as error:
            problem = [str(error)]
            if world_size() == 1:
                raise
    if world_size() > 1:
        distributed.broadcast_object_list(problem)
    if problem[0] is not None:
        raise UserError(problem[0])
    return result if is_main() else work()  # type: ignore[return-value]


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
