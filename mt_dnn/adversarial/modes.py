"""Adversarial modes: one short file each, one entry each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, ValidationError

from data_utils.errors import UserError, did_you_mean
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.base import Adversary, Options
from mt_dnn.adversarial.freeat import FreeAT
from mt_dnn.adversarial.freelb import FreeLB
from mt_dnn.adversarial.none import NoAdversary
from mt_dnn.adversarial.pgd import PGD
from mt_dnn.adversarial.r3f import R3F
from mt_dnn.adversarial.r4f import R4F
from mt_dnn.adversarial.rapt import RAPT
from mt_dnn.adversarial.rdrop import RDrop
from mt_dnn.adversarial.tat import TAT
from mt_dnn.adversarial.vat import VAT
from mt_dnn.adversarial.yopo import YOPO
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import head_owner

ADVERSARIES: Mapping[str, type[Adversary[Any]]] = {
    "none": NoAdversary,
    "vat": VAT,
    "tat": TAT,
    "freelb": FreeLB,
    "rapt": RAPT,
    "pgd": PGD,
    "freeat": FreeAT,
    "yopo": YOPO,
    "r3f": R3F,
    "r4f": R4F,
    "rdrop": RDrop,
}


if TYPE_CHECKING:
    AnyOptions = Options
else:  # the settings of the mode that stands under the key mode
    AnyOptions = Annotated[
        Union[tuple(adversary.options_type for adversary in ADVERSARIES.values())],  # noqa: UP007
        Field(discriminator="mode"),
    ]


def options_of(options: Options, task: str) -> Options:
    """The settings of one task: those of the run and what ``tasks`` says of it; another mode starts from its defaults.

    A key inside a group, such as ``bregman.mu``, leaves the others of the group as they are.

    Raises:
        ValueError: an unknown mode, or settings that its mode does not take.
    """
    own = options.tasks.get(task, {})
    if not isinstance(own, Mapping):
        raise ValueError(f"tasks.{task}: write a mapping of keys to values")
    if "tasks" in own:
        raise ValueError(f"tasks.{task}.tasks: settings of a task have no tasks of their own")
    mode = own.get("mode", options.mode)
    if mode not in ADVERSARIES:
        raise ValueError(f"tasks.{task}.mode: no mode '{mode}'{did_you_mean(str(mode), ADVERSARIES)}")
    shared = options.model_dump(exclude={"tasks"}) if mode == options.mode else {}
    groups = {
        key: {**shared[key], **value}
        for key, value in own.items()
        if isinstance(value, Mapping) and isinstance(shared.get(key), Mapping)
    }
    settings = ADVERSARIES[mode].options_type
    try:
        return settings.model_validate({**shared, **own, **groups, "mode": mode})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in ("tasks", task, *problem["loc"]))
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(str(problem["loc"][-1]), settings.model_fields)
            raise ValueError(f"{key}: no such setting of {mode}{hint}") from None
        raise ValueError(f"{key}: {problem['msg'].removeprefix('Value error, ')}") from None


def build_adversaries(options: Options, tasks: Mapping[str, TaskDef]) -> dict[str, Adversary[Any]]:
    """One adversary per training task.

    Raises:
        UserError: settings for a task that is not trained, that do not fit the task, or not the others of its head.
    """
    for name in options.tasks:
        if name not in tasks:
            raise UserError(f"adversary.tasks: '{name}' is not a training task{did_you_mean(name, tasks)}")
    chosen = {name: options_of(options, name) for name in tasks}
    for name, task in tasks.items():
        modes = {chosen[name].mode, chosen[head_owner(task)].mode}
        if len({ADVERSARIES[mode].changes_head for mode in modes}) > 1:
            raise UserError(
                f"adversary.tasks: {name} and {task.head} share a head: {' and '.join(sorted(modes))} cannot"
            )
    return {name: ADVERSARIES[own.mode](own, tasks[name]) for name, own in chosen.items()}


def prepare_model(options: Options, model: Model, tasks: Iterable[str]) -> None:
    """What the modes need of a new model.

    Raises:
        UserError: a mode cannot be had with this model.
    """
    for name in tasks:
        own = options_of(options, name)
        ADVERSARIES[own.mode].prepare(own, model, name)
