"""Tensors that are split over ranks (FSDP): gathers and splits them, and writes files for any number of ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from data_utils.errors import reason, system_error
from mt_dnn.distributed.ranks import is_main


def is_sharded(module: nn.Module) -> bool:
    """Whether the weights of the module are split over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by name. Tensors that are split over ranks are gathered on the CPU of the main rank.

    All ranks have to call this. On the other ranks the result lacks the split tensors.
    """
    gathered = {}
    for name, value in tensors.items():
        if isinstance(value, DTensor):
            full = value.full_tensor()
            if is_main():
                gathered[name] = full.cpu()
        else:
            gathered[name] = value
    return gathered


def local_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's parts of split tensors, and other tensors as they are. A part shares memory with its tensor."""
    return [value.to_local() if isinstance(value, DTensor) else value for value in tensors]


def as_split(value: Tensor, like: Tensor) -> Tensor:
    """Splits the tensor ``value`` over ranks as ``like`` is split. Every rank has all its entries, so nothing is sent.

    ``value`` stays as it is if it is already split, or if ``like`` is not split or has another shape.
    """
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def save_sharded(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors to safetensors files in a folder. Each rank writes its parts.

    All ranks have to call this, with a folder on a disk that all ranks can read.

    Raises:
        OSError: a rank could not write. It is the error of the first of them.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer)
    except checkpoint.api.CheckpointException as error:
        for rank, (problem, _) in error.failures.items():
            if (cause := system_error(problem)) is not None:
                raise OSError(cause.errno, f"rank {rank}: {reason(cause)}", cause.filename) from None
        raise


def load_sharded(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads the tensors that ``save_sharded`` wrote, by name. Each rank reads its parts. All ranks have to call this.

    ``like`` maps a name, or the part of a name before ``::``, to a tensor that is split in the same way. So an
    optimizer's state, named ``<parameter>::<key>``, is split as the parameter is.
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors = {}
    for name, found in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(found, TensorStorageMetadata)  # safetensors hold nothing else
        empty = torch.empty(found.size, dtype=found.properties.dtype)
        tensors[name] = as_split(empty, like.get(name, like.get(name.partition("::")[0], empty)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # right where one process reads
        checkpoint.load(tensors, storage_reader=reader)
    return tensors
