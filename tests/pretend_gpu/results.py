"""What operations on the pretend device return, without asking torch twice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

IN_PLACE = object()  # the result is the first argument


class Layout(NamedTuple):
    """What is known of a tensor on the device."""

    shape: torch.Size
    stride: tuple[int, ...]
    start: int  # in its memory
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        return cls(tensor.shape, tensor.stride(), int(tensor.storage_offset()), tensor.dtype)


class Results:
    """What operations on the device return. Torch's rules are slow, so each question is asked once.

    A question is an operation with the layouts of its tensors and its other arguments. Remembered are results that
    are new tensors or views, and changes in place. Views share no memory here, as there are no numbers in it.
    """

    def __init__(self, mode: FakeTensorMode, device: torch.device) -> None:
        self.mode, self.device = mode, device
        self.known: dict[Any, Any] = {}

    def __call__(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        try:
            question = (func, _question(args), _question(tuple(kwargs.items())))
            answer = self.known.get(question)
        except TypeError:  # a value that has no hash
            return func(*args, **kwargs)
        if answer is None:
            result = func(*args, **kwargs)
            self._remember(question, args, result)
            return result
        if answer is IN_PLACE:
            return args[0]
        return self._new(answer) if isinstance(answer, Layout) else tuple(map(self._new, answer))

    def _remember(self, question: Any, args: Any, result: Any) -> None:
        if _changes_first(question[0]):
            if result is args[0] and _question(args) == question[1]:  # resize_ would change the layout
                self.known[question] = IN_PLACE
        elif question[0].is_view or _makes_tensors(question[0]):
            results = result if isinstance(result, tuple) else (result,)
            if all(isinstance(value, FakeTensor) and value.fake_device.type == self.device.type for value in results):
                layouts = tuple(map(Layout.of, results))
                self.known[question] = layouts if isinstance(result, tuple) else layouts[0]

    def _new(self, layout: Layout) -> FakeTensor:
        with unset_fake_temporarily():
            shape, stride, start, dtype = layout
            elements = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            if start:
                elements = elements.new_empty(start + elements.untyped_storage().nbytes() // dtype.itemsize)
                elements = elements.as_strided(shape, stride, start)
        return FakeTensor(self.mode, elements, self.device)


def _question(value: Any) -> Any:
    """What a rule may depend on. Raises TypeError for tensors of the CPU: torch's rules have to see them."""
    if isinstance(value, FakeTensor):
        return Layout.of(value)
    if isinstance(value, Tensor):
        raise TypeError("a tensor of the CPU")
    if isinstance(value, (list, tuple)):
        return tuple(map(_question, value))
    return type(value), value  # 1, 1.0 and True are equal


@cache
def _makes_tensors(func: Any) -> bool:
    """Whether an operation only returns new tensors."""
    schema = func._schema
    return all(place.alias_info is None for place in (*schema.arguments, *schema.returns))


@cache
def _changes_first(func: Any) -> bool:
    """Whether an operation changes its first argument in place, nothing else, and returns it."""
    schema = func._schema
    changed = [place.alias_info is not None and place.alias_info.is_write for place in schema.arguments]
    return changed == [True] + [False] * (len(changed) - 1) and len(schema.returns) == 1 and schema.name.endswith("_")
