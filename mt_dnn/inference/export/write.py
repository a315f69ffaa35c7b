"""Exports a trained run: what ``mt-dnn export`` does."""

from __future__ import annotations

from pathlib import Path

from data_utils.errors import UserError, did_you_mean
from mt_dnn.encoders.adapters import merge_adapter
from mt_dnn.inference.export.folder import check_new, new_folder
from mt_dnn.inference.export.targets import write_adapter, write_hf, write_sentence_transformers
from mt_dnn.inference.huggingface import in_transformers_format, locate
from mt_dnn.inference.trained import TrainedModel, load

TARGETS = ("hf", "sentence-transformers", "onnx")


def export(
    run: Path | str,
    output: Path | str,
    *,
    target: str = "hf",
    task: str | None = None,
    encoder_only: bool = False,
    pooling: str | None = None,
    int8: bool = False,
    merge: bool = False,
) -> None:
    """Writes a folder that other software loads. It is complete or absent.

    Args:
        run: a run folder or one of its checkpoints, as for ``mt_dnn.load``.
        output: the folder to write. It must not exist, or be empty.
        target: who loads it: ``hf`` (transformers), ``sentence-transformers`` or ``onnx`` (ONNX Runtime).
        task: the task whose head is exported. Default: the one that was trained.
        encoder_only: export the shared encoder without a head, for vectors of texts.
        pooling: with sentence-transformers and ``encoder_only``: ``mean`` (the default), ``cls`` or ``max``.
        int8: with onnx: weights of linear layers in eight bits.
        merge: of a run with an adapter: add the adapter to the weights of the encoder. Without ``merge`` only the
            adapter of an encoder without a head can be written, in peft's format.

    Raises:
        UserError: the folder exists, options contradict each other, there is no such task, the target cannot express
            what the run has trained, or the run is a model of transformers.
        NotSaved: the disk is full.
    """
    output = Path(output)
    check_options(target, task, encoder_only, pooling, int8)
    check_new(output)
    source = locate(run)
    if in_transformers_format(source):
        raise UserError(f"{run}: is a model of transformers, not a run; use it as it is, or give the folder of a run")
    model = load(source, "cpu", precision="fp32")
    adapter_alone = _merge(model, merge, alone=encoder_only and target == "hf")
    if not encoder_only and task is None:
        if len(model.trained) > 1:
            raise UserError(
                f"--task: {run} was trained on several tasks; give one of {', '.join(model.trained)}, or --encoder-only"
            )
        (task,) = model.trained
    with new_folder(output) as folder:
        if adapter_alone:
            write_adapter(model, folder, output.name)
        elif target == "hf":
            write_hf(model, task, folder, output.name)
        elif target == "sentence-transformers":
            write_sentence_transformers(model, task, folder, output.name, pooling or "mean")
        else:
            from mt_dnn.inference.export.onnx_file import write_onnx

            write_onnx(model, task, folder, output.name, int8=int8)


def _merge(model: TrainedModel, merge: bool, *, alone: bool) -> bool:
    """Merges the adapter of a model if that is asked for. Returns whether the adapter by itself has to be written.

    ``alone``: the user asks for something that an adapter by itself can be.

    Raises:
        UserError: the model has an adapter and has to be merged, or it has none.
    """
    encoder = model.model.encoder
    if encoder.adapter is None:
        if merge:
            raise UserError(f"--merge: {model.run} has no adapter; leave it out")
        return False
    if merge:
        merge_adapter(encoder)
    elif not alone:
        raise UserError(
            f"{model.run}: has an adapter; add --merge, which makes it part of the encoder's weights, or use --to hf "
            "and --encoder-only for the adapter by itself"
        )
    return not merge


def check_options(target: str, task: str | None, encoder_only: bool, pooling: str | None, int8: bool) -> None:
    """Raises UserError for an unknown target, or options that have no effect together."""
    if target not in TARGETS:
        raise UserError(f"--to: no '{target}'{did_you_mean(target, TARGETS)} (known: {', '.join(TARGETS)})")
    if encoder_only and task is not None:
        raise UserError(f"--encoder-only: leaves out all heads, and --task asks for that of {task}; give one of them")
    if int8 and target != "onnx":
        raise UserError(f"--int8: {target} has no such files; use --to onnx, or leave it out")
    if pooling is not None and not (encoder_only and target == "sentence-transformers"):
        raise UserError("--pooling: needs --to sentence-transformers and --encoder-only; leave it out")
