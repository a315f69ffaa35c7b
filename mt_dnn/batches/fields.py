"""The kinds of tensors in a batch. The type of a field names its kind, which decides how a batch is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

Repeat = Callable[[Tensor, int, int], Tensor]  # (tensor, copies, tokens in one copy) → tensor of all copies


def repeat_values(values: Tensor, copies: int, tokens: int) -> Tensor:
    """(N, …) → (copies·N, …): repeats the values for each copy."""
    return values.repeat(copies, *[1] * (values.dim() - 1))


def repeat_bounds(bounds: Tensor, copies: int, tokens: int) -> Tensor:
    """(N+1,) → (copies·N+1,): the parts of each copy begin where the parts of the copy before it end."""
    return torch.cat([bounds[:1], bounds.diff().repeat(copies).cumsum(0)])


def repeat_token_index(index: Tensor, copies: int, tokens: int) -> Tensor:
    """(N,) → (copies·N,): in each copy a token is ``tokens`` positions after the same token of the copy before it."""
    return torch.cat([index + copy * tokens for copy in range(copies)])


PerToken = Annotated[Tensor, repeat_values]  # (T,)
PerDecision = Annotated[Tensor, repeat_values]  # (N,) or (N, C)
Bounds = Annotated[Tensor, repeat_bounds]  # (parts+1,): part i is bounds[i]:bounds[i+1]
TokenIndex = Annotated[Tensor, repeat_token_index]  # positions of tokens among the T of the batch


@cache
def repeats_of(batch_type: type) -> dict[str, Repeat]:
    """The function that repeats each tensor of a dataclass, by the name of its field.

    Raises:
        TypeError: a field is declared as a plain Tensor, not as PerToken, PerDecision, Bounds or TokenIndex.
    """
    hints = get_type_hints(batch_type, include_extras=True)
    repeats: dict[str, Repeat] = {}
    for field in fields(batch_type):
        hint = hints[field.name]
        for part in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            if part is Tensor:
                raise TypeError(f"{batch_type.__name__}.{field.name}: declare it as PerToken, PerDecision, Bounds, …")
            if get_origin(part) is Annotated:
                repeats[field.name] = part.__metadata__[0]
    return repeats
