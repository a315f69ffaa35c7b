"""What ``train.init_from`` names: the encoder that a new run starts from, and the heads if ``train.init_heads`` is set.

It is a run folder, one of its checkpoints, or a file that the old MT-DNN has saved. Such a file is a dictionary. Its
entry ``state`` has the encoder's weights under ``bert.…`` and the head of task number i under ``scoring_list.i.…``. The
list ``train_datasets`` in its entry ``config`` names the tasks in the order of their numbers, as ``mnli`` or
``mnli_matched``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.distributed.ranks import say
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.runs.checkpoint import read_tensors
from mt_dnn.runs.checkpoints import find_checkpoint
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import HEAD_FIELDS

ENCODER, HEAD = "bert.", "scoring_list."  # how names of weights begin in a file of the old MT-DNN


@dataclass(frozen=True, kw_only=True)
class Initial:
    """Weights that a new run starts from.

    Args:
        source: the checkpoint or file that holds them.
        encoder: the encoder's weights in a file of the old MT-DNN. None: they are in the folder ``source/encoder``.
        heads: the weights of each head by name, by task.
        tasks: the definitions of the tasks. Empty if the source has none.
        pooler: weights of the encoder that ``source/encoder`` does not hold: scalar mix, and a pooler that we added.
    """

    source: Path
    heads: Mapping[str, Mapping[str, Tensor]]
    encoder: Mapping[str, Tensor] | None = None
    tasks: Mapping[str, TaskDef]
    pooler: Mapping[str, Tensor]

    def load_heads(self, model: Model, tasks: Mapping[str, TaskDef]) -> set[str]:
        """Copies the heads that fit into a new model, and says which do not.

        Args:
            tasks: the training tasks.

        Returns:
            The tasks whose heads were copied.

        Raises:
            UserError: no head fits.
        """
        problems = {name: self._problem(tasks[name], head) for name, head in model.heads.items()}
        fresh = [f"{name} ({problem})" for name, problem in problems.items() if problem]
        fitting = {name for name, problem in problems.items() if not problem}
        if not fitting:
            raise UserError(f"train.init_heads: no head of {self.source} fits: {', '.join(fresh)}; leave it out")
        for name in fitting:
            model.load_head(name, self.heads[name])
        say(f"heads from {self.source}: {', '.join(sorted(fitting))}" + (f"; new: {', '.join(fresh)}" if fresh else ""))
        return fitting

    def _problem(self, task: TaskDef, head: nn.Module) -> str:
        """Why no head of the source fits the new head of a task. Empty if there is one. It may lack buffers."""
        if task.name not in self.heads:
            return "no head of this name"
        if (before := self.tasks.get(task.name)) is not None:
            for field in HEAD_FIELDS:
                if getattr(before, field) != getattr(task, field):
                    return f"{field} differs"
        shapes, present = (
            {name: value.shape for name, value in weights.items()}
            for weights in (self.heads[task.name], head.state_dict())
        )
        needed = {name for name, _ in head.named_parameters()}
        fits = needed <= shapes.keys() and shapes.items() <= present.items()
        return "" if fits else "its weights have other names or shapes"

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises UserError unless every token of the source has the same number in the new run's tokenizer."""
        if self.encoder is not None:  # the old MT-DNN keeps no tokenizer in its files
            return
        known, found = load_tokenizer(str(self.source / "encoder")).get_vocab(), tokenizer.get_vocab()
        for token, number in known.items():
            if found.get(token) != number:
                raise UserError(
                    f"train.init_from: {self.source} was trained with another tokenizer (it has '{token}' as number "
                    f"{number}); set encoder.tokenizer={self.source}/encoder"
                )

    def load_pooler(self, encoder: Encoder) -> None:
        """Copies the scalar mix and the added pooler into a new encoder that has the same ones."""
        present = encoder.state_dict()
        fitting = {
            name: value for name, value in self.pooler.items() if name in present and present[name].shape == value.shape
        }
        encoder.load_state_dict(fitting, strict=False)
        if encoder.pooler_source == "fresh" and "pooler.weight" in fitting:
            encoder.pooler_source = "pretrained"


def read_initial(path: Path) -> Initial:
    """Reads what ``train.init_from`` names.

    Raises:
        UserError: there is no checkpoint, it has an adapter, or the file is not one of the old MT-DNN.
    """
    if path.is_file():
        return _read_old(path)
    checkpoint = find_checkpoint(path)
    if (checkpoint / "adapter").exists():
        raise UserError(
            f"train.init_from: {path} has an adapter; write its encoder with mt-dnn export {path} --encoder-only "
            "--merge --output FOLDER, and set encoder.name to that folder"
        )
    weights = read_tensors(checkpoint / "heads.safetensors")
    heads: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        part, _, inner = name.partition(".")
        if part == "heads":
            task, _, weight = inner.partition(".")
            heads.setdefault(task, {})[weight] = value
    return Initial(
        source=checkpoint,
        heads=heads,
        tasks=load_task_defs(checkpoint / "task_defs.yml"),
        pooler={name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")},
    )


def _read_old(file: Path) -> Initial:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are damaged
        raise UserError(f"{file}: {_unreadable(error)}") from None
    state = content.get("state") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file}: is no checkpoint of the old MT-DNN, which has its weights under 'state'")
    encoder = {name.removeprefix(ENCODER): value for name, value in state.items() if name.startswith(ENCODER)}
    if not encoder:
        raise UserError(f"{file}: has no weights of an encoder, whose names begin with {ENCODER}")
    return Initial(source=file, heads=_old_heads(state, content.get("config")), encoder=encoder, tasks={}, pooler={})


def _unreadable(error: Exception) -> str:
    """Says why a file of the old MT-DNN cannot be loaded."""
    if type(error).__name__ == "UnpicklingError":
        return (
            "damaged, or holds other Python objects than tensors, which are never run; load it where you trust it, and "
            "save a dictionary with its 'state' alone (and config: {train_datasets: …} for the heads)"
        )
    return f"cannot be read as a checkpoint of the old MT-DNN ({str(error).splitlines()[0] if str(error) else error!r})"


def _old_heads(state: Mapping[str, Tensor], config: Any) -> dict[str, dict[str, Tensor]]:
    """The heads in a file of the old MT-DNN by task, under our names. Empty if nothing says whose heads they are."""
    numbered: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        number, _, weight = name.removeprefix(HEAD).partition(".")
        if name.startswith(HEAD) and number.isdecimal():
            # A linear layer. Some versions put it behind a dropout, as number 1 of two modules.
            numbered.setdefault(int(number), {})[f"linear.{weight.removeprefix('1.')}"] = value
    datasets = config.get("train_datasets") if isinstance(config, dict) else None
    if not isinstance(datasets, list) or not all(isinstance(name, str) for name in datasets):
        return {}
    names = list(dict.fromkeys(name.partition("_")[0] for name in datasets))
    if len(names) != len(numbered):  # with its option mtl_opt several tasks share a head
        return {}
    return dict(zip(names, (numbered[number] for number in sorted(numbered)), strict=True))
