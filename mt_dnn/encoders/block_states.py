"""Reads and changes the hidden state that goes into a transformer block or comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def output_state(output: Any) -> Tensor:
    """The hidden state in the output of a block, which is either the state itself or a tuple that starts with it."""
    return output[0] if isinstance(output, tuple) else output


def with_output_state(output: Any, change: Change) -> Any:
    """The output of a block, with its hidden state replaced by ``change(state)``."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def with_input_state(args: tuple[Any, ...], kwargs: dict[str, Any], change: Change) -> Any:
    """The arguments of a block, (args, kwargs), with the hidden state replaced by ``change(state)``.

    The hidden state is the first positional argument or the keyword ``hidden_states``.
    """
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}


@contextmanager
def input_states(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Gives a list. As long as the context is open, each block adds the hidden state that goes into it."""
    states: list[Tensor] = []

    def keep(state: Tensor) -> Tensor:
        states.append(state)
        return state

    hooks = [
        block.register_forward_pre_hook(lambda _, args, kwargs: with_input_state(args, kwargs, keep), with_kwargs=True)
        for block in blocks
    ]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
