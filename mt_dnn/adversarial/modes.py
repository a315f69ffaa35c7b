"""The adversarial modes by name, and the adversary of each task. A new mode is one file and one entry here."""

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
else:  # the key ``mode`` tells pydantic which settings class to use; type checkers do not accept such a union
    AnyOptions = Annotated[
        Union[tuple(adversary.options_type for adversary in ADVERSARIES.values())],  # noqa: UP007
        Field(discriminator="mode"),
    ]


def options_of(options: Options, task: str) -> Options:
    """The settings of one task: the settings of the run, changed by ``options.tasks[task]``.

    A task with another mode starts from the default settings of that mode. In a group of settings such as ``bregman``
    the task changes the keys that it names. The other keys stay.

    Raises:
        ValueError: the mode is unknown, or it does not have one of the settings.
    """
    task_options = options.tasks.get(task, {})
    if not isinstance(task_options, Mapping):
        raise ValueError(f"tasks.{task}: write a mapping of keys to values")
    if "tasks" in task_options:
        raise ValueError(f"tasks.{task}.tasks: the settings of a task cannot hold tasks; remove the key")
    mode = task_options.get("mode", options.mode)
    if mode not in ADVERSARIES:
        raise ValueError(f"tasks.{task}.mode: no mode '{mode}'{did_you_mean(str(mode), ADVERSARIES)}")
    shared = options.model_dump(exclude={"tasks"}) if mode == options.mode else {}
    groups = {
        key: {**shared[key], **value}
        for key, value in task_options.items()
        if isinstance(value, Mapping) and isinstance(shared.get(key), Mapping)
    }
    settings = ADVERSARIES[mode].options_type
    try:
        return settings.model_validate({**shared, **task_options, **groups, "mode": mode})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in ("tasks", task, *problem["loc"]))
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(str(problem["loc"][-1]), settings.model_fields)
            raise ValueError(f"{key}: no such setting of {mode}{hint}") from None
        raise ValueError(f"{key}: {problem['msg'].removeprefix('Value error, ')}") from None


def build_adversaries(options: Options, tasks: Mapping[str, TaskDef]) -> dict[str, Adversary[Any]]:
    """Builds one adversary per training task. Returns them by the task's name.

    Raises:
        UserError: settings name a task that is not trained, or do not fit the task or another task with the same head.
    """
    for name in options.tasks:
        if name not in tasks:
            raise UserError(f"adversary.tasks: '{name}' is not a training task{did_you_mean(name, tasks)}")
    chosen = {name: options_of(options, name) for name in tasks}
    for name, task in tasks.items():
        modes = {chosen[name].mode, chosen[head_owner(task)].mode}
        if len({ADVERSARIES[mode].changes_head for mode in modes}) > 1:
            raise UserError(
                f"adversary.tasks: {name} and {task.head} share a head, and of the modes "
                f"{' and '.join(sorted(modes))} one changes it; give both tasks the same mode"
            )
    return {name: ADVERSARIES[settings.mode](settings, tasks[name]) for name, settings in chosen.items()}


def prepare_model(options: Options, model: Model, tasks: Iterable[str]) -> None:
    """Lets the mode of each task check a new model or change the task's head.

    Raises:
        UserError: a mode does not work with this model.
    """
    for name in tasks:
        settings = options_of(options, name)
        ADVERSARIES[settings.mode].prepare(settings, model, name)
