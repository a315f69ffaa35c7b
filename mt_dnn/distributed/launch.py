"""Connects the processes of a run, and explains what ends them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from data_utils.errors import RankError, UserError
from mt_dnn.distributed.ranks import barrier, check_environment, rank, world_size
from mt_dnn.distributed.signals import follow_launcher

COMMUNICATION = ("gloo", "Gloo", "NCCL", "nccl", "imed out", "onnection", "peer")  # parts of messages about lost ranks


@contextmanager
def process_group(*, timeout_s: float) -> Iterator[None]:
    """Connects the ranks as long as the context is open. Does nothing if there is only one process.

    A launcher such as torchrun has started the processes. Tensors on a CPU are sent with gloo, those on GPUs with NCCL.

    Raises:
        UserError: there are GPUs, but this torch has no NCCL; or the environment is not that of a launcher.
        RankError: another rank has died or does not answer.
    """
    follow_launcher()
    check_environment()
    if world_size() == 1:
        yield
        return
    if torch.cuda.is_available() and not distributed.is_nccl_available():
        raise UserError("this torch has no NCCL, which several GPUs need; install a CUDA build of torch")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with explained(lambda: "before or after training"):
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
        try:
            yield
            barrier()  # rank 0 serves the store that the other ranks use, so it must not end before them
        finally:
            gc.collect()  # objects that refer to the group must be deleted before the group
            distributed.destroy_process_group()


def leave(code: int) -> None:
    """Exits this worker without Python's normal shutdown.

    During that shutdown, gloo's background threads can crash the process (seen with torch 2.13).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def explained(progress: Callable[[], str]) -> Iterator[None]:
    """Turns errors about missing memory and lost ranks into one line that says what to do.

    The line names this rank and what ``progress`` returns, such as ``after update 7``.

    Raises:
        RankError: no memory is left, or another rank has died or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        text, who = " ".join(str(error).split()), f"rank {rank()}: {progress()}"
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            remedy = "lower train.batch_size (train.accumulate makes up for it) or data.max_length"
            raise RankError(f"{who}: out of memory; {remedy}") from None
        if world_size() > 1 and any(word in text for word in COMMUNICATION):
            reason = "does not answer (distributed.timeout_s)" if "imed out" in text else "has died"
            raise RankError(f"{who}: another rank {reason}; see what it printed. {text[:160]}") from None
        raise
