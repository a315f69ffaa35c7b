"""Folders for ONNX Runtime, through the exporters of transformers. Needs the extra onnx."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_utils.errors import UserError, os_errors, tell
from data_utils.features import save_tokenizer
from mt_dnn.encoders.pretrained import quiet
from mt_dnn.inference.export.card import Content, write_card
from mt_dnn.inference.export.forms import FORMS
from mt_dnn.inference.export.model import input_names, tokenizer_of
from mt_dnn.inference.export.targets import FEATURES, built_model, notes_of
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.tasks.run_tasks import head_owner

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of logits; of larger outputs, such as a regression's in the user's units, their share
ONE_FILE = 1.5e9  # bytes of weights; protobuf takes 2 GB
LINEAR = ["MatMul", "Gemm"]  # what is quantized
USAGE = """import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession("{folder}/model.onnx")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
inputs = tokenizer(["A text.", "Another one."], truncation=True, padding=True, return_tensors="np")
outputs = session.run(None, dict(inputs))"""


def write_onnx(model: TrainedModel, task: str | None, folder: Path, name: str, *, int8: bool) -> None:
    """Writes ``model.onnx``, tokenizer, configuration and card. Any number of rows of any length goes in.

    ``task``: None for the encoder alone. ``int8``: the weights of linear layers, not those of embeddings, have eight
    bits. Inputs are quantized while the model runs.

    Raises:
        UserError: the extra onnx is not installed, transformers has no model that computes what the head computes, or
            torch cannot turn it into a graph that computes the same.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(f"--to onnx: {', '.join(missing)} is not installed; pip install 'mt-dnn[onnx]'")
    definition = model.task(task) if task is not None else None
    built = built_model(model, task)
    built.config.architectures = [type(built).__name__]
    built.config.save_pretrained(folder)
    save_tokenizer(tokenizer_of(model, built), folder)
    choices = definition is not None and definition.type.answer in ("choice", "choices")
    tell("makes the ONNX graph, which takes a minute or more")
    save_graph(built, folder / FILE, choices=choices)
    notes = notes_of(built)
    if int8:
        quantize(folder / FILE)
        notes = (*notes, "Weights of linear layers have eight bits, so scores differ a little from those of the run.")
    tag = FORMS[model.trained[head_owner(definition)].task_type].tag if definition is not None else FEATURES
    write_card(folder, model, Content(definition, "onnx", tag, USAGE.format(folder=name), notes))


def save_graph(built: PreTrainedModel, file: Path, *, choices: bool) -> None:
    """Writes a transformers model as an ONNX graph.

    ``choices``: rows have several choices, so that inputs are (B, C, L) instead of (B, L).

    Raises:
        UserError: torch cannot turn it into a graph, or the graph computes something else at another size.
    """
    import onnx_ir
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    family, inputs = built.config.model_type, dict[str, Any](example(built, (2, 3, 8) if choices else (2, 8)))
    try:
        with silent(), torch.no_grad():
            found: Any = OnnxExporter().export(built, inputs, config=OnnxConfig(dynamic=True))
            graph = found.program if hasattr(found, "program") else found.model  # transformers 5.17 gives a program
    except Exception as error:  # torch raises many kinds
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"--to onnx: torch cannot export a '{family}' model ({reason}); use --to hf") from None
    size = sum(weight.numel() * weight.element_size() for weight in built.parameters())
    with os_errors(file.name, "cannot be written"):
        onnx_ir.save(graph, str(file), external_data=f"{FILE}.data" if size > ONE_FILE else None)
    for shape in ((1, 2, 5), (5, 4, 21)) if choices else ((1, 5), (5, 21)):
        difference = largest_difference(built, file, example(built, shape))
        if not difference <= TOLERANCE:
            fault = f"is off by {difference:.1e}" if np.isfinite(difference) else "gives numbers that are not finite"
            raise UserError(f"--to onnx: the graph of a '{family}' model {fault}; use --to hf")


def example(built: PreTrainedModel, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Random inputs of a shape, (B, L) or (B, C, L). The first row is padded in its second half."""
    generator, vocabulary = torch.Generator().manual_seed(shape[-1]), built.config.vocab_size
    padding = built.config.pad_token_id or 0
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, ..., shape[-1] // 2 :] = 0
    ids = torch.randint(vocabulary, shape, generator=generator)
    ids = torch.where(ids == padding, (padding + 1) % vocabulary, ids)
    ids = torch.where(mask.bool(), ids, padding)
    values = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask}
    return {name: values[name] for name in input_names(built)}


def largest_difference(built: PreTrainedModel, file: Path, inputs: dict[str, Tensor]) -> float:
    """The largest difference between the outputs of a model and those of its graph, at tokens that are not padding.

    It is a share of the largest value of an output, if that is above 1. NaN if a number is not finite.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        outputs = built(**inputs)
    mask = inputs["attention_mask"].numpy().astype(bool)
    differences = []
    for name, values in zip(names, found, strict=True):
        expected = outputs[name].numpy()
        if expected.shape[: mask.ndim] == mask.shape:
            values, expected = values[mask], expected[mask]
        finite = np.isfinite(values).all() and np.isfinite(expected).all()
        differences.append(np.abs(values - expected).max() / max(1, np.abs(expected).max()) if finite else np.nan)
    return float(np.max(differences))


def quantize(file: Path) -> None:
    """Replaces a graph by one whose linear layers have weights of eight bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = file.with_name(f"{FILE}.data").exists()
    quantized = file.with_name("quantized.onnx")
    with silent():
        quantize_dynamic(
            file,
            quantized,
            op_types_to_quantize=LINEAR,
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=large,
        )
    if large:
        file.with_name(f"{FILE}.data").unlink()
    quantized.replace(file)


@contextmanager
def silent() -> Iterator[None]:
    """Keeps back what torch and ONNX print about their work."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet(), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
