"""On a CPU the two halves of a batch run through the encoder at the same time, each on half of the threads.

Otherwise all threads divide each single operation between them. Then they wait for each other hundreds of times in a
pass, and an operation that is too small to be divided leaves all of them but one idle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from itertools import accumulate
from threading import Barrier
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from mt_dnn.batches.batch import Batch
from mt_dnn.distributed.ranks import world_size
from mt_dnn.encoders.dropout import Dropout, parts_of_pass

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[Tensor, Batch], Tensor]  # from the state (T, H) of a batch to one row per token or per sequence
Graph = tuple[Tensor, Tensor]  # the state that went into a half, and what came out

HALVES = 2


class Half(NamedTuple):
    """Neighbouring sequences of a batch. ``tokens``: where their tokens are in the batch."""

    batch: Batch
    tokens: slice


def can_run_halves(batch: Batch, dropouts: Iterable[Dropout]) -> bool:
    """Whether halves give what the complete batch gives, and there are threads for both.

    ``dropouts``: those of the encoder. If one of them draws from torch's global generator, the order of the draws
    counts.
    """
    device = batch.input_ids.device
    return (
        device.type == "cpu"
        and torch.get_num_threads() >= HALVES
        and batch.sequences >= HALVES
        and world_size() == 1
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()  # a mode, such as one that counts operations, is of one thread
        and not any(dropout.training and dropout.p and not dropout.has_masks(device) for dropout in dropouts)
    )


def run_halves(run: Run, state: Tensor, batch: Batch, weights: Sequence[Tensor]) -> Tensor:
    """Gives ``run(state, batch)``, with each half of the batch in a thread of its own.

    ``weights``: the parameters that ``run`` reads. ``can_run_halves`` has to be true.
    """
    halves = halves_of(batch, state.shape[1])
    with parts_of_pass([half.batch for half in halves]) as passes:
        if torch.is_grad_enabled():
            return _Halves.apply(run, halves, passes, state, *weights)

        def run_half(half: Half, masks: AbstractContextManager[None]) -> Tensor:
            with torch.no_grad(), masks:
                return run(state[half.tokens], half.batch)

        return torch.cat(at_once(run_half, halves, passes))


@lru_cache(maxsize=8)  # all passes of a batch ask for the same
def halves_of(batch: Batch, width: int) -> list[Half]:
    """Divides a batch of two sequences or more where both halves take about the same time. ``width``: H."""
    # Per token linear layers multiply 12·H² numbers. Attention multiplies 2·H·L, and takes longer than that says.
    costs = list(accumulate(length * (width + length / 2) for length in batch.lengths.tolist()))
    middle = min(range(1, len(costs)), key=lambda count: abs(costs[count - 1] - costs[-1] / 2))
    return [_between(batch, 0, middle), _between(batch, middle, batch.sequences)]


def _between(batch: Batch, first: int, end: int) -> Half:
    """The sequences from number ``first`` to ``end`` − 1, without their labels and decisions."""
    offsets = batch.offsets[first : end + 1]
    tokens = slice(int(offsets[0]), int(offsets[-1]))
    half = Batch(
        task=batch.task,
        input_ids=batch.input_ids[tokens],
        token_type_ids=batch.token_type_ids[tokens],
        position_ids=batch.position_ids[tokens],
        offsets=offsets - offsets[0],
        longest=int(offsets.diff().max()),
        share=batch.share,
    )
    return Half(half, tokens)


class _Halves(torch.autograd.Function):
    """The output of both halves. Each half has a graph of its own, through which its thread goes backward."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Run,
        halves: Sequence[Half],
        passes: Sequence[AbstractContextManager[None]],
        state: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        def run_half(half: Half, masks: AbstractContextManager[None]) -> Graph:
            leaf = state[half.tokens].detach().requires_grad_(state.requires_grad)
            with torch.enable_grad(), masks:
                return leaf, run(leaf, half.batch)

        ctx.graphs, ctx.weights = at_once(run_half, halves, passes), weights
        return torch.cat([output.detach() for _, output in ctx.graphs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        keeps = torch._C._autograd._get_current_graph_task_keep_graph()  # adversaries go backward twice
        # A gradient by the state alone asks for none of the weights.
        wanted = [_is_wanted(node) for node, _ in ctx.next_functions]  # of the tensors among the arguments of forward
        weights = [weight for weight, is_wanted in zip(ctx.weights, wanted[1:], strict=True) if is_wanted]

        def go_back(graph: Graph, of_output: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
            leaf, output = graph
            inputs = [leaf] if wanted[0] else []
            found = torch.autograd.grad(output, [*inputs, *weights], of_output, retain_graph=keeps, allow_unused=True)
            return list(found[: len(inputs)]), list(found[len(inputs) :])

        sizes = [len(output) for _, output in ctx.graphs]
        (states, first), (others, second) = at_once(go_back, ctx.graphs, gradient.split(sizes))
        of_state = torch.cat([*states, *others]) if wanted[0] else None
        of_weights = iter(_sums(first, second))
        return None, None, None, of_state, *(next(of_weights) if is_wanted else None for is_wanted in wanted[1:])


def _is_wanted(node: Any) -> bool:
    """Whether the present backward pass needs the gradient that goes to this node."""
    if node is None:
        return False
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # of a leaf, which torch.autograd.grad was asked for
        return True


def _sums(first: list[Tensor | None], second: list[Tensor | None]) -> list[Tensor | None]:
    """The sums of both halves' gradients of each weight, in the memory of the first. None: no half reads the weight."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if pairs:
        torch._foreach_add_([a for a, _ in pairs], [b for _, b in pairs])
    return first


def at_once(work: Callable[..., Result], *arguments: Sequence[Item]) -> list[Result]:
    """What ``work`` gives for the arguments of each half. Each half has a thread of its own."""
    return list(_threads(os.getpid(), torch.get_num_threads()).map(work, *arguments))


@cache
def _threads(process: int, number: int) -> ThreadPoolExecutor:
    """A thread for each half, in which an operation uses half of ``number`` threads. ``process``: the present one."""
    started = Barrier(HALVES)

    def start(_: int) -> None:
        torch.get_num_threads()  # or the first operation would set their number again
        torch.set_num_threads(number // HALVES)
        started.wait()

    threads = ThreadPoolExecutor(HALVES, "half of a batch")
    list(threads.map(start, range(HALVES)))
    torch.set_num_threads(number)  # it is also the default of threads that start later
    return threads
