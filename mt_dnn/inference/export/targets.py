"""Folders for transformers and for sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from data_utils.errors import UserError, did_you_mean
from data_utils.features import save_tokenizer
from data_utils.task_def import TaskDef
from mt_dnn.encoders.adapters import save_adapter as write_peft
from mt_dnn.encoders.pooling import POOLINGS
from mt_dnn.encoders.pretrained import quiet
from mt_dnn.inference.export.card import Content, on_hub, write_card
from mt_dnn.inference.export.forms import FORMS
from mt_dnn.inference.export.model import encoder_model, task_model, tokenizer_of
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.tasks.run_tasks import head_owner

FEATURES, SIMILARITY = "feature-extraction", "sentence-similarity"
PIPELINE = 'from transformers import pipeline\n\nmodel = pipeline("{tag}", model="{folder}"{options})\n{call}'
AUTO = (
    "from transformers import {auto}, AutoTokenizer\n\n"
    'model = {auto}.from_pretrained("{folder}")\ntokenizer = AutoTokenizer.from_pretrained("{folder}")'
)
ADAPTER = (
    "from peft import PeftModel\nfrom transformers import AutoModel, AutoTokenizer\n\n"
    'model = PeftModel.from_pretrained(AutoModel.from_pretrained("{base}"{version}), "{folder}")\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")'
)
CALLS = {
    "text-classification": 'model("A text.", truncation=True, top_k=None)',
    "token-classification": 'model("Words with spaces between .")',
    "fill-mask": 'model(f"A {model.tokenizer.mask_token} text.")',
    FEATURES: 'model("A text.", tokenize_kwargs={"truncation": True})',
}
PAIR = 'model({"text": "A premise.", "text_pair": "A hypothesis."}, truncation=True, top_k=None)'


def write_hf(model: TrainedModel, task: str | None, folder: Path, name: str) -> None:
    """Writes a folder that transformers' Auto classes and pipelines load. ``task``: None for the encoder alone.

    ``name``: what the folder is called in the examples of its card.

    Raises:
        UserError: transformers has no model that computes what the head of the task computes.
    """
    built = built_model(model, task)
    _save(model, built, folder)
    if task is None:
        notes = ("Heads of the run are not part of it.",)
        write_card(folder, model, Content(None, "transformers", FEATURES, usage(None, built, name), notes))
        return
    definition = model.task(task)
    tag = FORMS[model.trained[head_owner(definition)].task_type].tag
    write_card(folder, model, Content(definition, "transformers", tag, usage(definition, built, name), notes_of(built)))


def write_adapter(model: TrainedModel, folder: Path, name: str) -> None:
    """Writes the adapter of a run in peft's format, with the tokenizer. The encoder itself is not in the folder."""
    encoder = model.model.encoder
    write_peft(encoder, folder)
    save_tokenizer(tokenizer_of(model, encoder.model), folder)
    known = encoder.adapter.base_model_name_or_path
    base = known if on_hub(known, model) else f"{model.config.output.name}/base"
    revision = encoder.adapter.revision
    version = f', revision="{revision}"' if revision is not None else ""
    code = ADAPTER.format(base=base, version=version, folder=name)
    notes = (
        "The folder holds an adapter. The encoder that it changes is not part of it.",
        "Heads of the run are not part of it.",
    )
    write_card(folder, model, Content(None, "peft", FEATURES, code, notes))


def write_sentence_transformers(model: TrainedModel, task: str | None, folder: Path, name: str, pooling: str) -> None:
    """Writes a folder that ``CrossEncoder`` loads, or for the encoder alone one that ``SentenceTransformer`` loads.

    Raises:
        UserError: the task is none that a CrossEncoder can have, or sentence-transformers has no such pooling.
    """
    if task is not None:
        owner = model.trained[head_owner(model.task(task))]
        if FORMS.get(owner.task_type) is not None and FORMS[owner.task_type].tag != "text-classification":
            raise UserError(
                f"{task}: a CrossEncoder has no {owner.task_type}; use --to hf, or --encoder-only for vectors of texts"
            )
        built = task_model(model, task)
        built.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        _save(model, built, folder)
        code = f'from sentence_transformers import CrossEncoder\n\nmodel = CrossEncoder("{name}")\n'
        code += 'model.predict([("A premise.", "A hypothesis.")])  # logits; of a regression, values'
        content = Content(model.task(task), "sentence-transformers", "text-classification", code, notes_of(built))
        write_card(folder, model, content)
        return
    if pooling not in POOLINGS:
        hint = did_you_mean(pooling, POOLINGS) or f" (known: {', '.join(POOLINGS)})"
        raise UserError(f"--pooling: no '{pooling}'{hint}")
    _save(model, built_model(model, None), folder)
    length, size = model.config.data.max_length, model.model.encoder.hidden_size
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "similarity_fn_name": "cosine"},
        "1_Pooling/config.json": {
            "word_embedding_dimension": size,
            **{f"pooling_mode_{name}": key == pooling for key, name in ST_POOLINGS.items()},
        },
    }
    (folder / "1_Pooling").mkdir()
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    code = f'from sentence_transformers import SentenceTransformer\n\nmodel = SentenceTransformer("{name}")\n'
    code += 'model.encode(["A text.", "Another text."])'
    notes = (f"A vector is the {pooling} of the final states of a text's tokens.",)
    write_card(folder, model, Content(None, "sentence-transformers", SIMILARITY, code, notes))


ST_POOLINGS = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}


def built_model(model: TrainedModel, task: str | None) -> PreTrainedModel:
    """The transformers model of a task, or the encoder alone."""
    return encoder_model(model) if task is None else task_model(model, task)


def _save(model: TrainedModel, built: PreTrainedModel, folder: Path) -> None:
    """Writes weights, configuration and tokenizer."""
    with quiet():
        built.save_pretrained(folder, save_original_format=False)
    save_tokenizer(tokenizer_of(model, built), folder)


def usage(task: TaskDef | None, built: PreTrainedModel, folder: str) -> str:
    """Python code that loads a folder and uses it once."""
    tag = FEATURES if task is None else FORMS[task.task_type].tag
    if tag not in CALLS:
        return AUTO.format(auto=FORMS[task.task_type].auto.__name__ if task else "AutoModel", folder=folder)
    options = ', aggregation_strategy="first"' if tag == "token-classification" else ""
    call = PAIR if task is not None and task.data_format == "pair" and tag == "text-classification" else CALLS[tag]
    return PIPELINE.format(tag=tag, folder=folder, options=options, call=call)


def notes_of(built: PreTrainedModel) -> tuple[str, ...]:
    """What a user of the folder has to know that is not in the model."""
    settings: Any = built.config
    if (threshold := getattr(settings, "no_answer_threshold", None)) is not None:
        return (
            "A question has no answer if the sum of both logits at the first token, minus the score of the best span, "
            f"is above {threshold:g} (`no_answer_threshold` in config.json).",
        )
    if settings.problem_type == "regression":
        return ("The output is the value itself, in the units of the training rows.",)
    return ()
