"""Ranks: which of several processes this one is, and the values that they exchange."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import distributed
from tqdm import tqdm

from data_utils.errors import RankInputError, UserError, printable, shown
from data_utils.secret_texts import without_secrets

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0. The launcher sets it before the processes are connected."""
    return _number("RANK", 0)


def world_size() -> int:
    """The number of processes that train together."""
    return _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    """A number that a launcher has put into the environment.

    Raises:
        RankInputError: it is none.
    """
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RankInputError(
            f"{name}={shown(text)} in the environment is no number; a launcher sets it, so unset it here"
        )
    return int(text or default)


def check_environment() -> None:
    """Checks what launchers such as torchrun put into the environment.

    Raises:
        RankInputError: it names several processes, but not all that they need to find each other, or a wrong number.
    """
    count, number = world_size(), rank()
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        _number(name, 0)
    if not 0 <= number < count:
        raise RankInputError(
            f"RANK={number} in the environment, but WORLD_SIZE is {count}; a launcher sets both, so unset them here"
        )
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if count > 1 and missing:
        absent = ", ".join(missing)
        raise RankInputError(
            f"WORLD_SIZE={count} in the environment says that {count} processes train together, but {absent} is "
            "missing; start them with --gpus, torchrun or srun, or unset WORLD_SIZE"
        )


def connected() -> bool:
    """Whether this process can exchange values with others now. That is so while they train together."""
    return distributed.is_available() and distributed.is_initialized()


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def local_device(name: str) -> str:
    """The device of this rank. Each of several processes on one machine gets another GPU, also as its present device.

    Libraries such as FSDP take the present device, not that of the tensors. Call this before anything uses a GPU.

    Raises:
        RankInputError: there are fewer GPUs than processes.
        UserError: ``name`` is one GPU for several processes.
    """
    local = _number("LOCAL_RANK", 0)
    if name in ("auto", "cuda") and world_size() > 1 and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            available = torch.cuda.device_count()
            raise RankInputError(
                f"{local + 1} or more processes need a GPU each, this machine has {available}; start fewer processes"
            )
        torch.cuda.set_device(local)
        return f"cuda:{local}"
    if name.startswith("cuda:") and _number("LOCAL_WORLD_SIZE", 1) > 1:
        raise UserError(f"device: {name} is one GPU for several processes; device=cuda gives each process another GPU")
    return name


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, in place. The values have to be on the same kind of device on all ranks."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def max_over_ranks(value: int) -> int:
    """The largest value over all ranks. Every rank gets the same result."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value)
    distributed.all_reduce(largest, op=distributed.ReduceOp.MAX)
    return int(largest)


def all_gather(value: T) -> list[T]:
    """The values of all ranks, in the order of ranks. Every rank gets the same list."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def say(text: str) -> None:
    """Prints a line from the main process only, above the progress bar."""
    if is_main():
        tqdm.write("\n".join(map(printable, without_secrets(text).split("\n"))))


def barrier() -> None:
    """Waits until all ranks have come here."""
    if world_size() > 1:
        distributed.barrier()


def main_first(work: Callable[[], T]) -> T:
    """Calls ``work`` on the main rank, then on the others. Each rank gets the result of its call.

    So only the main rank writes files, and the others find them.

    Raises:
        UserError: ``work`` raised it on the main rank. Then all ranks raise it.
    """
    problem: list[UserError | None] = [None]
    result: T | None = None
    if is_main():
        try:
            result = work()
        except UserError as error:
            problem = [error]
            if world_size() == 1:
                raise
    if world_size() > 1:
        distributed.broadcast_object_list(problem)
    if problem[0] is not None:
        raise problem[0]
    return result if is_main() else work()  # type: ignore[return-value]
