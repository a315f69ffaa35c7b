"""Several processes, one experiment: rank and size, what ranks tell each other, and how to launch them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import distributed
from tqdm import tqdm

from data_utils.errors import UserError

T = TypeVar("T")


def rank() -> int:
    """This process, from 0; known from the launcher's environment before there is a group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


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


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, in place; on all of them the values have to be on the same kind of device."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def max_over_ranks(flag: int) -> int:
    """The largest value of all ranks, so that all agree."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(flag)
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return int(flags)


def all_gather(value: T) -> list[T]:
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
