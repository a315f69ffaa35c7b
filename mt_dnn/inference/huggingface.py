"""Models in the format of transformers that are no runs of ours: from a folder, a package or the Hugging Face hub.

A model that classifies texts has the task ``default``, for single texts, and ``default_pair``, for pairs of texts. One
that classifies words has the task ``default``. The labels are those of ``id2label`` in its config.json. If its model
card names the data set of its results, as a model that mt-dnn has exported does, the task has that name instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from data_utils.encoder_names import UNREACHABLE, is_unreachable, resolve_name
from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.task_def import NAME, TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder, Level
from mt_dnn.encoders.load import load_encoder
from mt_dnn.encoders.padded import PaddedEncoder
from mt_dnn.encoders.pretrained import load_weights, read_config
from mt_dnn.runs.config import RunConfig
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.units import NoUnits

DEFAULT = "default"  # the name of the task of a model that does not name it
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What is read of a repository on the hub. Weights in PyTorch's format only if there are no others.
FILES = ("*.json", "*.txt", "*.model", "*.yml", "*.md", "*.safetensors")
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
LONGEST = 512  # tokens, where the model could read more


def locate(run: Path | str) -> Path:
    """The folder that a user means: a folder, ``package:<package>/<folder>``, or a name on the Hugging Face hub.

    A name whose first part is a folder here is a path. Files of the hub are in its cache afterwards.

    Raises:
        UserError: a package does not exist, or neither the folder nor the name on the hub does.
    """
    folder = Path(resolve_name(str(run)))
    if folder.exists() or not HUB_NAME.fullmatch(str(run)) or folder.parent.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(str(run), allow_patterns=[*FILES], ignore_patterns=["*/trainer/*"]))
        if not list(found.rglob("*.safetensors")):
            snapshot_download(str(run), allow_patterns=["pytorch_model*.bin"])
    except Exception as error:  # the hub's client raises many kinds
        if is_unreachable(error):
            raise UserError(f"{run}: no such folder here, and {UNREACHABLE}") from None
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{run}: no such folder here, and no such model on the Hugging Face hub ({reason}); give a run folder, a "
            "folder in the format of transformers, or a name owner/model"
        ) from None
    return found


def in_transformers_format(folder: Path) -> bool:
    """Whether the folder is a model that ``save_pretrained`` of transformers has written, and no checkpoint of ours."""
    return (folder / "config.json").is_file() and not (folder / "heads.safetensors").exists()


def describe(folder: Path, model: TransformersModel) -> tuple[RunConfig, dict[str, TaskDef]]:
    """A configuration for the model that was loaded from the folder, and its tasks by name.

    An encoder alone has no tasks.

    Raises:
        UserError: the tokenizer cannot be read, or the settings of the model are of no task.
    """
    positions = model.encoder.max_positions or LONGEST
    length = min(LONGEST, positions, load_tokenizer(str(folder)).model_max_length)
    config = RunConfig.model_validate(
        {
            "task_defs": folder / "task_defs.yml",
            "output": folder,
            "data": {"dir": folder, "max_length": length},
            "encoder": {"name": str(folder)},
        }
    )
    try:
        return config, {task.name: task for task in _tasks(read_config(str(folder)), task_name(folder))}
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{folder}: its labels, id2label in config.json, are of no task: {reason}") from None
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def task_name(folder: Path) -> str:
    """The name of the data set in the results of the model card, README.md, or ``default``.

    A card that cannot be read names none.
    """
    card = folder / "README.md"
    try:
        parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
        metadata = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
        name = metadata["model-index"][0]["results"][0]["dataset"]["name"]
    except (KeyError, IndexError, TypeError, ValueError, RecursionError, yaml.YAMLError):
        return DEFAULT
    return name if isinstance(name, str) and re.fullmatch(NAME, name) else DEFAULT


def _tasks(settings: Any, name: str) -> Iterator[TaskDef]:
    """The tasks of a model with these transformers settings."""
    kind = _kind(settings)
    labels = tuple(f"{settings.id2label[number]}" for number in sorted(settings.id2label))
    if kind == "ForTokenClassification":
        yield _task(name, "sequence_labelling", labels=labels, data_format="words")
    elif kind == "ForSequenceClassification":
        problem = getattr(settings, "problem_type", None)
        if problem == "regression" and len(labels) > 1:
            raise UserError(f"predicts {len(labels)} numbers for a text; only models with one number can be read")
        several = problem == "multi_label_classification"
        task_type = "multi_label" if several else "regression" if len(labels) == 1 else "classification"
        known = {} if task_type == "regression" else {"labels": labels}
        yield _task(name, task_type, data_format="single", **known)
        yield _task(f"{name}_pair", task_type, data_format="pair", head=name, splits=("dev", "test"), **known)


def _task(name: str, task_type: str, **fields: Any) -> TaskDef:
    defaults = TASK_TYPES[task_type].defaults
    if task_type == "sequence_labelling":
        defaults["metrics"] = ("accuracy",)  # labels need not mark entities
    return TaskDef(name=name, task_type=task_type, **{**defaults, **fields})


def _kind(settings: Any) -> str:
    """What the model is for: the end of the name of its class, from ``For`` on."""
    name = next(iter(settings.architectures or ()), "")
    return name[name.index("For") :] if "For" in name else ""


class TransformersModel(Model):
    """A model of transformers with its head, in place of a Model of ours, for evaluation only.

    ``encoder``: its encoder, for vectors of texts. ``classifier``: the model with its head. None: it has no head.
    """

    def __init__(self, encoder: Encoder, classifier: Any = None) -> None:
        nn.Module.__init__(self)
        self.encoder, self.classifier, self.heads = encoder, classifier, nn.ModuleDict()

    @classmethod
    def load(cls, folder: Path) -> TransformersModel:
        """Loads the model in a folder in float32. It reads token types if its tokenizer gives them.

        Raises:
            UserError: it is damaged or lacks weights.
        """
        settings = read_config(str(folder))
        kind = _kind(settings)
        token_types = "token_type_ids" in load_tokenizer(str(folder)).model_input_names
        if kind not in CLASSIFIERS:
            encoder = load_encoder(name=str(folder))
            encoder.untrained_pooler = encoder.pooler_source == "fresh"
            encoder.reads_token_types = token_types
            return cls(encoder)
        auto = getattr(transformers, f"AutoModel{kind}")
        classifier, missing, ignored = load_weights(str(folder), settings, auto=auto)
        if missing:
            raise UserError(f"{folder}: the checkpoint lacks weights: {', '.join(missing[:4])}")
        pooler = getattr(classifier.base_model, "pooler", None) is not None
        encoder = PaddedEncoder(
            classifier.base_model, pooler="pretrained", has_pooler=pooler, scalar_mix=False, ignored_weights=ignored
        )
        encoder.untrained_pooler = not pooler
        encoder.reads_token_types = token_types
        return cls(encoder, classifier)

    def units(self, task: str) -> NoUnits:
        """The numbers of the head are those of the user."""
        return NoUnits()

    def resume(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """The logits of the batch's decisions from the word embeddings, level 0, as the task types of ours have them.

        Raises:
            UserError: for another level. Only a run has it.
        """
        if level != 0:
            raise UserError(
                f"level {level}: a model of transformers gives logits from level 0 only; use a run of mt-dnn"
            )
        inputs = {"inputs_embeds": batch.pad(state), "attention_mask": batch.mask[:, 0, 0].long()}
        if getattr(self.classifier.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = batch.pad(self.encoder.token_types(batch))
        logits = self.classifier(**inputs).logits
        if batch.marked is not None:  # of words: (S, L, C) → (N, C)
            return batch.unpad(logits).index_select(0, batch.marked)
        if batch.decisions is not None:  # yes or no for each class: (S, C) → (S·C, 2)
            return torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(0, 1)
        return logits
