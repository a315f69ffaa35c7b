"""Saves and restores the parts of a run other than the model. Both use the same mapping of names to parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from mt_dnn.adversarial.base import Adversary
from mt_dnn.distributed.ranks import barrier, is_main
from mt_dnn.runs.checkpoint import (
    checkpoint_path,
    forget_trainer_tensors,
    read_state,
    read_trainer_tensors,
    save_checkpoint,
)
from mt_dnn.runs.checkpoints import forget_checkpoints, last_checkpoint, mark_best, prune
from mt_dnn.runs.config_file import differences
from mt_dnn.runs.damaged import damaged
from mt_dnn.runs.folder import check_not_lost
from mt_dnn.runs.progress import Progress
from mt_dnn.training.optimizer_state import load_optimizer_tensors, optimizer_tensors
from mt_dnn.training.step import Stepper

TORCH_STREAM, MASK_STREAM = 1, 2  # dropout masks from torch's generator; from mt_dnn/encoders/dropout.py


class Stateful(Protocol):
    """A part with a state that JSON can hold."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True)
class TensorState:
    """A part whose state is tensors.

    Args:
        state_dict: gives the tensors by name.
        load_state_dict: restores the tensors.
        like: tensors by name that show how the state is split over ranks (see ``load_sharded``).
    """

    state_dict: Callable[[], dict[str, Tensor]]
    load_state_dict: Callable[[dict[str, Tensor]], None]
    like: Mapping[str, Tensor]


def parts_with_state(stepper: Stepper, progress: Progress) -> dict[str, Stateful]:
    """The parts whose state a checkpoint holds, by name, in the order in which they are restored.

    The state of a ``TensorState`` is the file ``trainer/<name>.safetensors``, or the folder ``trainer/<name>`` if it is
    split over ranks. The state of every other part is under its name in ``trainer/state.json``.
    """
    parts: dict[str, Stateful] = {
        "progress": progress,
        "optimizer": _optimizer_state(stepper),
        "schedule": stepper.schedule,
        "scaler": stepper.scaler,
        "balance": stepper.balance,
        "adversaries": AdversaryStates(stepper.adversaries),
    }
    if (average := stepper.average) is not None:
        parts["average"] = TensorState(average.state_dict, average.load_state_dict, average.state_dict())
    return parts


def save(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    stepper: Stepper,
    progress: Progress,
    *,
    keep_optimizer: bool | str = True,
) -> None:
    """Writes a checkpoint, lets ``best`` point at the best one, and removes all others. Every rank has to call it.

    ``keep_optimizer``: the setting ``checkpoint.keep_optimizer``. A checkpoint without the optimizer has no file of any
    ``TensorState``.

    Raises:
        NotSaved: the disk is full or not writable.
        FolderInUse: another process has taken over the folder.
    """
    check_not_lost(folder)
    parts = parts_with_state(stepper, progress)
    states = {name: part.state_dict() for name, part in parts.items()}
    tensors = {name for name, part in parts.items() if isinstance(part, TensorState)}
    resumable = keep_optimizer is True or (keep_optimizer == "while_running" and not progress.finished)
    plain = {name: state for name, state in states.items() if name not in tensors}
    save_checkpoint(
        folder,
        progress.position.step,
        model=stepper.model,
        tokenizer=tokenizer,
        trainer_tensors={name: states[name] for name in tensors} if resumable else {},
        state={"streams": streams(stepper), "resumable": resumable, **plain},
        files=(folder / "config.yml", folder / "task_defs.yml"),
    )
    check_not_lost(folder)  # what follows removes checkpoints
    if is_main():
        kept = [progress.position.step]
        if progress.best_step is not None:
            mark_best(folder, progress.best_step)
            kept.append(progress.best_step)
        prune(folder, kept)
        if not resumable:  # the best checkpoint may be an earlier one
            for step in kept:
                forget_trainer_tensors(checkpoint_path(folder, step), tensors)
    barrier()


def resume(checkpoint: Path, stepper: Stepper, progress: Progress) -> list[str]:
    """Restores the state of all parts except the model, which was built from the checkpoint. Every rank has to call it.

    Returns:
        Lines that tell the user what will not be as it would have been without the interruption.

    Raises:
        UserError: a file is damaged, or the checkpoint was trained on other rows than ``progress.data`` names.
    """
    states = read_state(checkpoint)
    if changed := list(differences(states["progress"]["data"], progress.data)):
        raise UserError(f"{checkpoint}: was trained on other data ({changed[0]}); choose another output=")
    for name, part in parts_with_state(stepper, progress).items():
        if isinstance(part, TensorState):
            if states.get("resumable", True):
                part.load_state_dict(read_trainer_tensors(checkpoint, name, part.like))
            continue
        try:
            if name != "progress" and not same_form(states[name], part.state_dict()):
                raise ValueError(f"{name} is that of other settings")
            part.load_state_dict(states[name])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise damaged(checkpoint / "trainer" / "state.json", error) from None
    before, now = states.get("streams", TORCH_STREAM), streams(stepper)
    if before == now:
        return []
    remedy = " (train.fast_paths=[] draws them as before)" if before == TORCH_STREAM else ""
    return [f"{checkpoint}: until here dropout masks were drawn in another way{remedy}"]


def same_form(saved: Any, fresh: Any) -> bool:
    """Whether values from JSON have the types, and lists the lengths, of those that a new part has.

    Versions of torch may add and remove keys.
    """
    if saved is None or fresh is None:
        return True
    if isinstance(fresh, Mapping):
        return isinstance(saved, Mapping) and all(same_form(saved[key], fresh[key]) for key in fresh if key in saved)
    if isinstance(fresh, list | tuple):
        return isinstance(saved, list) and len(saved) == len(fresh) and all(map(same_form, saved, fresh))
    if isinstance(fresh, bool) or not isinstance(fresh, int | float):
        return isinstance(saved, type(fresh))
    return isinstance(saved, int | float) and not isinstance(saved, bool)


def usable_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The last checkpoint of a run, unless the run has updates to make and it was saved without the optimizer.

    Then there is a line that tells the user that the run starts again.
    """
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return None, []
    states = read_state(checkpoint)
    if states.get("resumable", True) or states["progress"]["finished"]:
        return checkpoint, []
    return None, [f"{folder}: starts again, because its checkpoint was saved without the optimizer"]


def forget_attempt(folder: Path) -> None:
    """Removes what an attempt has left from which the run cannot go on. The log is cut back when it is opened.

    Raises:
        UserError: a checkpoint cannot be removed, because a file of the user is in it.
    """
    _, again = usable_checkpoint(folder)
    if not again:
        return
    forget_checkpoints(folder)
    if left := last_checkpoint(folder):
        raise UserError(f"{left}: holds a file that the run has not written; move it away, then the run starts again")
    for tally in (folder / "adversary").glob("*-epoch-*.json"):
        tally.unlink()


def check_resumable(checkpoint: Path, progress: Progress) -> None:
    """Raises UserError if a run has updates to make, but its checkpoint was saved without the optimizer."""
    if not progress.finished and not read_state(checkpoint).get("resumable", True):
        raise UserError(
            f"{checkpoint}: was saved without the optimizer (checkpoint.keep_optimizer), so the run cannot go on; "
            "choose another output=, or delete the run folder to start again"
        )


def streams(stepper: Stepper) -> int:
    """Which random numbers the run gets from its seed. Give a new way of drawing them a new number."""
    return MASK_STREAM if stepper.model.encoder.draws_masks else TORCH_STREAM


def forget_missing_best(folder: Path, progress: Progress) -> list[str]:
    """Forgets the best model if its checkpoint is missing. Then it returns a line that tells this to the user."""
    best = progress.best_step
    if best is None or checkpoint_path(folder, best).is_dir():
        return []
    return [
        f"{folder}: the best checkpoint, of update {best}, is missing; "
        f"from here on the best model is chosen among {progress.forget_best()}"
    ]


class AdversaryStates:
    """The states of several adversaries as one, by task."""

    def __init__(self, adversaries: Mapping[str, Adversary[Any]]) -> None:
        self.adversaries = adversaries

    def state_dict(self) -> dict[str, Any]:
        """Collects the counts of all ranks, so every rank has to call it. The result is complete on the main rank."""
        for adversary in self.adversaries.values():
            adversary.collect()
        return {name: adversary.state_dict() for name, adversary in self.adversaries.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, adversary in self.adversaries.items():
            adversary.load_state_dict(state[name])


def _optimizer_state(stepper: Stepper) -> TensorState:
    """The optimizer's tensors under names of parameters. Names of Lookahead's tensors have a prefix."""
    optimizer, weights = stepper.optimizer, dict(stepper.model.named_parameters())
    names = {parameter: name for name, parameter in weights.items()}
    slow_weights = {f"lookahead::{name}": parameter for name, parameter in weights.items()}
    return TensorState(
        state_dict=lambda: optimizer_tensors(optimizer, names),
        load_state_dict=lambda tensors: load_optimizer_tensors(optimizer, names, tensors),
        like={**weights, **slow_weights},
    )
