"""A pretend GPU on a machine that has none. Import this file only in a process of its own: the device is global.

Tensors on the device ``gpu`` have shapes and types, but no numbers (torch's FakeTensorMode). Tensors on the CPU are
real. So a training step runs with all its operations in about a second, and shows:
- an operation on tensors of two devices: it raises;
- a wait for the device: ``item``, ``tolist``, a copy to the CPU, an output whose shape depends on numbers. It raises
  unless its location is listed;
- how many operations the device gets, and how many copies.
It cannot show numbers, times, kernels or autocast, which has no rules for this device.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.optim import optimizer
from torch.utils import _foreach_utils, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from mt_dnn.encoders import variable_length
from mt_dnn.training.precision import AUTOCAST_TYPES
from tests.pretend_gpu.results import Results

ROOT = Path(__file__).resolve().parents[2]

aten = torch.ops.aten
WITHOUT_LAUNCH = {  # besides views
    aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default, aten.empty_strided.default,
    aten.new_empty_strided.default, aten._unsafe_view.default, aten.lift_fresh.default, aten.record_stream.default,
}  # fmt: skip

# Operations for which torch 2.13 has no rule for tensors without numbers, or a wrong one: what they return.
WITHOUT_RULE: Mapping[Any, Callable[..., Any]] = {
    aten._efficient_attention_backward.default: lambda gradient, *parts: (*map(torch.empty_like, parts[:3]), None),
    aten._thnn_fused_gru_cell.default: lambda gates, others, state, *biases: (
        torch.empty_like(state),
        state.new_empty(len(state), 5 * state.shape[1]),
    ),
    aten._thnn_fused_gru_cell_backward.default: lambda gradient, workspace, biased: (
        *(gradient.new_empty(len(gradient), 3 * gradient.shape[1]) for _ in range(2)),
        torch.empty_like(gradient),
        *(gradient.new_empty(3 * gradient.shape[1]) for _ in range(2)),
    ),
}


class Wait(AssertionError):
    """The process waits for the device at a location that is not listed."""


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]  # autocast asks for it


backend_registration._setup_privateuseone_for_python_backend("gpu", backend_module=_Backend())
DEVICE = torch.device("gpu")
MODE = FakeTensorMode(allow_non_fake_inputs=True)
RESULTS = Results(MODE, DEVICE)
for types in (_foreach_utils._foreach_supported_types, optimizer._foreach_supported_types):
    types.append(FakeTensor)  # on a GPU optimizers update all parameters at once
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # an error is raised as well


class Recorder(TorchDispatchMode):
    """Counts what the device gets. It comes before torch's fake mode and keeps operations of the CPU away from it.

    Args:
        listed: locations that may wait, as ``mt_dnn/training/surgery.py:set_gradients``.
    """

    def __init__(self, listed: Mapping[str, str]) -> None:
        super().__init__()
        self.listed = listed
        self.operations: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()  # to the device, from pinned memory or not
        self.waits: Counter[str] = Counter()  # by location
        self.pinned: dict[int, Tensor] = {}  # by data pointer; kept, or others would get the same pointer

    def reset(self) -> None:
        for counter in (self.operations, self.copies, self.waits, self.pinned):
            counter.clear()

    def figures(self) -> dict[str, Any]:
        """What was counted, for the file of counts."""
        found = {"operations": sum(self.operations.values()), "copies": sum(self.copies.values())}
        extra = {"pageable": self.copies["pageable"], "waits": dict(sorted(self.waits.items()))}
        return {**found, **{name: value for name, value in extra.items() if value}}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch wraps the method below; here nothing is compiled, and each operation would cost more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # the device of a tensor, which is asked for all the time
            return torch.device("meta") if args[0].fake_mode.in_kernel_invocation else args[0].fake_device
        kwargs = kwargs or {}
        on_device = _any_on_device(args) or _any_on_device(kwargs.values())
        goes_to = kwargs.get("device")
        if not on_device and (goes_to is None or torch.device(goes_to).type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self._wait()
            return 1.0 if args[0].is_floating_point() else 1
        if func is aten._to_copy.default and on_device and goes_to is not None and torch.device(goes_to).type == "cpu":
            self._wait()
            with unset_fake_temporarily():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[0] if func is aten._to_copy.default else args[1]
            if not isinstance(source, FakeTensor):
                self.copies["pinned" if source.untyped_storage().data_ptr() in self.pinned else "pageable"] += 1
                if func is aten._to_copy.default:
                    return torch.empty(source.shape, dtype=kwargs.get("dtype") or source.dtype, device=DEVICE)
            elif func is aten.copy_.default and not isinstance(args[0], FakeTensor):
                self._wait()
                return args[0]
        if func in WITHOUT_RULE:
            self.operations[str(func)] += 1
            return WITHOUT_RULE[func](*args)
        if not (func.is_view or func in WITHOUT_LAUNCH or func.namespace == "prim"):
            self.operations[str(func)] += 1
        if _changes_a_list(func) and _are_like_the_first(args, kwargs):
            return None  # tensors without numbers stay as they are; torch would look at each of them for long
        try:
            return RESULTS(func, args, kwargs)
        except DynamicOutputShapeException:
            raise Wait(f"{_location()} waits for the device: the shape of {func} depends on numbers") from None

    def _wait(self) -> None:
        location = _location()
        if location not in self.listed:
            raise Wait(f"{location} waits for the device")
        self.waits[location] += 1


def _any_on_device(values: Iterable[Any]) -> bool:
    return any(
        isinstance(value, FakeTensor) or (isinstance(value, (list, tuple)) and _any_on_device(value))
        for value in values
    )


@cache
def _changes_a_list(func: Any) -> bool:
    """Whether this is an operation of an optimizer: it changes a list of tensors in place."""
    return func._schema.name.startswith("aten::_foreach_") and func._schema.name.endswith("_")


def _is_like(value: Any, other: Any) -> bool:
    if not isinstance(value, FakeTensor):
        return isinstance(value, (int, float))
    return isinstance(other, FakeTensor) and (value.shape, value.dtype) == (other.shape, other.dtype)


def _are_like_the_first(args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether all arguments are numbers, on the device or not, or lists of tensors like those of the first list."""
    first = args[0]
    kinds = {value.dtype for value in first}

    def fits(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return len(value) == len(first) and all(map(_is_like, value, first))
        return isinstance(value, (int, float)) or (
            isinstance(value, FakeTensor) and value.dim() == 0 and kinds == {value.dtype}
        )

    return all(map(fits, (*args, *kwargs.values())))


def _location() -> str:
    """The innermost function of the project that is running, no comprehension: its file and name."""
    frame: Any = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "mt_dnn") and not frame.f_code.co_name.startswith("<"):
            return f"{path.relative_to(ROOT)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of the project"


@contextmanager
def pretend_device(listed: Mapping[str, str]) -> Iterator[Recorder]:
    """Inside of this context the device ``gpu`` exists. What it gets is counted."""
    recorder, to, new_generator = Recorder(listed), nn.Module.to, torch.Generator

    def module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        if args and str(args[0]) == "gpu":
            move(module)
            return module
        return to(module, *args, **kwargs)

    def generator(device: Any = "cpu") -> torch.Generator:
        return new_generator("cpu" if torch.device(device).type == "gpu" else device)

    def pin_memory(tensor: Tensor) -> Tensor:
        recorder.pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def inference_mode(enabled: bool = True) -> Any:  # torch's would keep operations away from the recorder
        return torch.no_grad() if enabled else nullcontext()

    patches = (
        mock.patch.object(nn.Module, "to", module_to),
        mock.patch.object(torch, "Generator", generator),
        mock.patch.object(Tensor, "pin_memory", pin_memory),
        mock.patch.object(torch, "inference_mode", inference_mode),
        mock.patch.object(variable_length, "works", lambda *arguments: True),
        mock.patch.dict(AUTOCAST_TYPES, dict.fromkeys(AUTOCAST_TYPES)),  # passes run in fp32
    )
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(MODE)
        stack.enter_context(recorder)
        yield recorder


def move(module: nn.Module) -> None:
    """Moves the parameters and buffers of a module to the device. Shared parameters stay shared."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None and not isinstance(parameter, FakeTensor):
                if id(parameter) not in moved:
                    empty = torch.empty_like(parameter, device=DEVICE)
                    moved[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
                part._parameters[name] = moved[id(parameter)]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and not isinstance(buffer, FakeTensor):
                part._buffers[name] = torch.empty_like(buffer, device=DEVICE)
