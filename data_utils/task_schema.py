"""The JSON Schema of task files, with the meaning of each key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_utils.extends import KEY, SCHEMA
from data_utils.task_def import TaskDef

# The table of task_defs/README.md says the same.
MEANINGS: Mapping[str, str] = {
    "task_type": "the form of the answers",
    "data_format": "which texts a row has",
    "labels": "the labels, in the order of the classes; default: 0, 1, … as n_class says",
    "n_class": "number of classes, for labels 0, 1, …",
    "metrics": "how answers are scored; default: by task type",
    "loss": "what is minimised; default: by task type",
    "kd_loss": "divergence from soft labels, for distillation.weight above 0; mse compares log-probabilities; "
    "default: kl, for regression mse",
    "adv_loss": "divergence between two outputs, for adversarial modes; default: sym_kl, for regression mse",
    "dropout": "dropout before the head; default: heads.dropout of the run",
    "enable_san": "of pairs: a stochastic answer network as head, which reasons over both texts in heads.san_steps "
    "steps (Liu, Duh & Gao 2018)",
    "crf": "the labels of a sentence are a conditional random field",
    "splits": "names of the files; train is trained on, names with dev or validation choose the model, others are "
    "scored at the end",
    "head": "the task whose head reads this one; without a train split this task is only scored, with one both train "
    "the head",
    "label_map": "with head: each label of the other task → the label here; probabilities of labels that become one "
    "are added; a task with a train split gives each label another name, in the same order",
    "value_range": "lowest and highest number; a training row outside is an error, a prediction outside moves to the "
    "nearest end; it also sets the units of training",
    "no_answer": "a question may have no answer in its context",
    "constant_test_labels": "the rows of a test split may all have one label; otherwise more than ten such rows count "
    "as unlabelled",
    "class_weights": "label → factor on the loss of decisions whose right label it is; at least one above 0; "
    "default: 1 for each",
    "label_smoothing": "share of the loss that compares with equal probabilities of all labels",
    "loss_weight": "factor on the loss of this task",
    "lr_scale": "factor on the learning rate in updates of this task",
    "columns": "our name of a column → its name in your files, or its number in CoNLL files",
    "files": "split → its file, counted from data.dir and in or below it; default: `<task>_<split>.tsv` and the like",
}


def task_def_schema() -> dict[str, Any]:
    """The JSON Schema of a task definition file, without the old MT-DNN's spellings."""
    task = TaskDef.model_json_schema()
    keys = task["properties"]
    del keys["name"]
    keys["n_class"] = {"type": "integer", "minimum": 1, "default": 2}
    keys["columns"]["additionalProperties"] = {"type": ["string", "integer"]}  # numbers count columns
    for key, meaning in MEANINGS.items():
        keys[key]["description"] = meaning
    del task["required"]
    complete = {"additionalProperties": {"required": ["task_type", "data_format"]}}
    return {
        "title": "mt-dnn task definitions",
        "type": "object",
        "properties": {KEY: SCHEMA},
        "additionalProperties": task,
        "anyOf": [{"required": [KEY]}, complete],
    }
