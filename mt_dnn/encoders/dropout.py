"""Dropout whose masks depend on seed, pass, module and example only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from math import prod
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mt_dnn.batches.batch import Batch

A = TypeVar("A")
T = TypeVar("T")

CHANCES = 2**16  # a mask compares 16 random bits with a threshold
APART = 2**18  # entries of masks, estimated: for fewer a thread of their own costs more than it saves
SHARED = (0, 2**31)  # the position and number that no sequence has


class Dropout(nn.Dropout):
    """Like ``nn.Dropout``. In a pass of ``Masks``, on a CPU, it takes its mask from there.

    It has no weights and no buffers, so saved encoders are the same as with ``nn.Dropout``. ``number``: its number
    among the dropouts of the model (``number_dropouts``).
    """

    number = 0

    def forward(self, state: Tensor, sequences: Sequence[int] | None = None) -> Tensor:
        """The state with entries dropped in training, in any shape.

        ``sequences``: the state holds weights of attention of these sequences of the batch, (n, heads, queries, keys).
        """
        if not self.has_masks(state.device):
            return super().forward(state)
        mask = self.kept(tuple(state.shape), state.dtype, sequences).mul_(self.scale)
        return state.mul_(mask) if self.inplace else state * mask

    def has_masks(self, device: torch.device) -> bool:
        """Whether it drops entries now, and takes its masks from ``Masks``."""
        return self.training and 0 < self._drops < CHANCES and _present(device) is not None

    def kept(self, shape: tuple[int, ...], dtype: torch.dtype, sequences: Sequence[int] | None) -> Tensor:
        """The mask of a state: 1 where an entry stays, 0 where it is dropped. Needs ``has_masks``."""
        return next(self.kept_in_turn([(shape, sequences)], dtype))

    def kept_in_turn(
        self, asked: Sequence[tuple[tuple[int, ...], Sequence[int] | None]], dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """The masks of several states, each as ``kept`` gives it. ``asked``: shape and sequences of each.

        If they are large and torch computes with several threads, one more thread draws them while the caller works.
        Until the last one is there, nothing else of the pass may be drawn.
        """
        current, drops = _PASS.get(), self._drops
        assert current is not None

        def draw(state: tuple[tuple[int, ...], Sequence[int] | None]) -> np.ndarray:
            return current.bits(self.number, *state) >= drops

        apart = sum(prod(shape) for shape, _ in asked[1:]) >= APART and torch.get_num_threads() > 1
        drawn = apart_in_turn(draw, asked) if apart else map(draw, asked)
        return (torch.from_numpy(kept.view(np.uint8)).to(dtype) for kept in drawn)

    @property
    def scale(self) -> float:
        """The factor on entries that stay."""
        return CHANCES / (CHANCES - self._drops)

    @property
    def _drops(self) -> int:
        return round(self.p * CHANCES)  # of CHANCES

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """U(0, 1) in a shape (S, K), from where the masks come from."""
        current = _present(device)
        if current is None:
            return torch.rand(shape[::-1], device=device).T
        return torch.from_numpy(current.bits(self.number, shape, None) / np.float32(CHANCES))


def _present(device: torch.device) -> Pass | None:
    """The pass that masks on this device come from; None: from torch's generator.

    An accelerator draws masks faster by itself, and compiled code cannot call numpy.
    """
    return None if torch.compiler.is_compiling() or device.type != "cpu" else _PASS.get()


class Masks:
    """The dropout masks of a batch in the passes of an update.

    The mask of a pass, a dropout and an example is a function of the batch's seed, the number of the pass, the number
    of the dropout and the example's position. So the masks do not depend on how ranks divide the batch, nor on whether
    a pass is made in one part or in two. A pass that gets the number of an earlier one has the same masks. The numbers
    come from numpy's Philox generator, whose counter holds them (Salmon et al. 2011).

    ``position``: the number of the present pass, and whether only its first part has been made. Set it back to give
    later passes the masks of earlier ones.
    ``enabled``: False: dropouts draw from torch's global generator.
    """

    def __init__(self, seed: int, *, enabled: bool = True) -> None:
        self.seed, self.enabled, self.position = seed, enabled, (0, False)

    def first_part(self, batch: Batch) -> AbstractContextManager[None]:
        """A context for the part of a pass up to a level, on the batch or on several copies of it."""
        self.position = self.position[0] + 1, True
        return self._open(batch)

    def last_part(self, batch: Batch, *, begins: bool) -> AbstractContextManager[None]:
        """A context for the rest of a pass after a first part, or a new pass if there was none or it ``begins``."""
        number, begun = self.position
        self.position = number if begun and not begins else number + 1, False
        return self._open(batch)

    def _open(self, batch: Batch) -> AbstractContextManager[None]:
        return Pass(self.seed, self.position[0], batch).open() if self.enabled else nullcontext()


class Pass:
    """One run of the network, or of a part of it, over a batch."""

    def __init__(self, seed: int, number: int, batch: Batch) -> None:
        self.seed, self.number, self.batch = seed, number, batch
        self._calls: Counter[int] = Counter()  # of each dropout

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside of this context dropouts take their masks from this pass."""
        before = _PASS.set(self)
        try:
            yield
        finally:
            _PASS.reset(before)

    def again(self) -> Pass:
        """The same pass from its start, for a part of the network that runs again."""
        return Pass(self.seed, self.number, self.batch)

    def bits(self, dropout: int, shape: tuple[int, ...], sequences: Sequence[int] | None) -> np.ndarray:
        """Random numbers from 0 to 2¹⁶ − 1 in a shape, uint16.

        The tensor holds weights of attention, of some ``sequences``, (n, heads, queries, keys), or of all, (S, heads,
        queries, keys). Otherwise its rows are tokens, (T, …) or (1, T, …); marked tokens, (N, …); or whole sequences,
        (S, …) or (1, S, …). Any other tensor, such as relative positions, belongs to all sequences together.
        """
        if sequences is not None:
            return self._weights(dropout, shape, sequences)
        size, words = prod(shape), (self._calls[dropout] << 32 | dropout)
        self._calls[dropout] += 1
        if len(shape) == 4 and shape[0] == len(self._ids):
            return self._weights(words, shape, range(len(self._ids)))
        rows = shape[1] if len(shape) == 3 and shape[0] == 1 else shape[0]
        if rows == len(self.batch.input_ids):
            counts = self._lengths
        elif self.batch.decisions is not None and rows == self.batch.decisions[-1]:
            counts = self.batch.decisions_each.tolist()
        elif rows == len(self._ids):
            counts = [1] * rows
        else:
            return self._drawn(SHARED, words, size).reshape(shape)
        each = size // rows
        parts = [self._drawn(key, words, count * each) for key, count in zip(self._ids, counts, strict=True)]
        return np.concatenate(parts).reshape(shape)

    def _weights(self, words: int, shape: tuple[int, ...], sequences: Sequence[int]) -> np.ndarray:
        """For weights of attention: each sequence has numbers of its own, whatever it is padded to. Padding has 0."""
        if len(sequences) == 1 and max(shape[2:]) <= self._lengths[sequences[0]]:
            return self._drawn(self._ids[sequences[0]], words, prod(shape)).reshape(shape)
        bits = np.zeros(shape, np.uint16)
        for number, sequence in enumerate(sequences):
            heads, queries, keys = (shape[1], *(min(size, self._lengths[sequence]) for size in shape[2:]))
            drawn = self._drawn(self._ids[sequence], words, heads * queries * keys)
            bits[number, :, :queries, :keys] = drawn.reshape(heads, queries, keys)
        return bits

    def _drawn(self, key: tuple[int, int], words: int, size: int) -> np.ndarray:
        """``size`` random numbers. ``key``: a value of ``_ids``. ``words``: the dropout and its call in the pass."""
        position, part = key
        self._counter[:] = 0, position, words, part << 32 | self.number
        self._generator.state = self._state
        return self._generator.random_raw(-(-size // 4)).view(np.uint16)[:size]

    @cached_property
    def _lengths(self) -> list[int]:
        return self.batch.lengths.tolist()

    @cached_property
    def _ids(self) -> list[tuple[int, int]]:
        """For each sequence the position of its example, and which sequence of it it is, in which copy of the batch."""
        batch, positions = self.batch, self.batch.share.positions
        choices = [1] * batch.size if batch.groups is None else batch.groups.diff().tolist()
        return [
            (positions[example % len(positions)], example // len(positions) << 15 | choice)  # the copy, then the choice
            for example, count in enumerate(choices)
            for choice in range(count)
        ]

    @cached_property
    def _generator(self) -> Any:
        return np.random.Philox(key=self.seed)

    @cached_property
    def _state(self) -> dict[str, Any]:
        """The state of a new generator, which is set again for each draw."""
        return dict(self._generator.state)

    @property
    def _counter(self) -> np.ndarray:
        """The four words that the generator counts in, part of ``_state``."""
        return self._state["state"]["counter"]


_PASS: ContextVar[Pass | None] = ContextVar("the pass whose masks dropouts take", default=None)


def apart_in_turn(draw: Callable[[A], T], asked: Sequence[A]) -> Iterator[T]:
    """``draw(each)`` for each of ``asked``, in their order, from a thread that starts now and never waits."""
    results: SimpleQueue[T | Exception] = SimpleQueue()

    def run() -> None:
        try:
            for each in asked:
                results.put(draw(each))
        except Exception as error:  # for the caller to raise
            results.put(error)

    def received() -> Iterator[T]:
        for _ in asked:
            result = results.get()
            if isinstance(result, Exception):
                raise result
            yield result

    Thread(target=run, name="masks", daemon=True).start()
    return received()


def in_this_pass(run: Callable[..., T]) -> Callable[..., T]:
    """A function that does what ``run`` does in the present pass, whenever and however often it is called."""
    current = _PASS.get()
    if current is None:
        return run

    def run_again(*args: Any, **kwargs: Any) -> T:
        with current.again().open():
            return run(*args, **kwargs)

    return run_again


def replace_dropouts(module: nn.Module) -> None:
    """Puts a ``Dropout`` in place of every ``nn.Dropout`` inside the module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p, child.inplace))


def number_dropouts(module: nn.Module) -> None:
    """Gives every ``Dropout`` inside the module a number of its own."""
    for number, dropout in enumerate(part for part in module.modules() if isinstance(part, Dropout)):
        dropout.number = number
