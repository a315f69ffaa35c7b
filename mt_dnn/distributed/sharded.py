"""Tensors that are split over ranks (FSDP): as a whole, and in files that any number of ranks can read."""

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

from mt_dnn.distributed.ranks import is_main


def is_sharded(module: nn.Module) -> bool:
    """Whether its weights are split over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as a whole; split ones are gathered, on all ranks, one after the other, for the main rank's CPU.

    On the other ranks the split ones are missing.
    """
    all_gather = {}
    for name, value in tensors.items():
        if isinstance(value, DTensor):
            everything = value.full_tensor()
            if is_main():
                all_gather[name] = everything.cpu()
        else:
            all_gather[name] = value
    return all_gather


def local_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's parts of tensors, the live ones; tensors that are not split stay what they are."""
    return [value.to_local() if isinstance(value, DTensor) else value for value in tensors]


def as_split(value: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, split as another one is; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def save_sharded(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Each rank writes its parts as safetensors, on all ranks; the folder has to be on a disk that all of them see.

    Raises:
        OSError: a rank could not write.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer)
    except checkpoint.api.CheckpointException as error:
        raise OSError("; ".join(f"rank {rank}: {failure[0]}" for rank, failure in error.failures.items())) from None


def load_sharded(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``save_sharded`` wrote, on all ranks; each reads its parts.

    ``like`` maps the beginning of a name, up to ``::``, or a whole name to a tensor split in the same way: a
    parameter's optimizer state is split as the parameter is.
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors = {}
    for name, found in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(found, TensorStorageMetadata)  # safetensors hold nothing else
        empty = torch.empty(found.size, dtype=found.properties.dtype)
        tensors[name] = as_split(empty, like.get(name, like.get(name.partition("::")[0], empty)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is what is meant
        checkpoint.load(tensors, storage_reader=reader)
    return tensors
