"""The files of a checkpoint: a folder that is complete or absent, and that loads without pickle.

``<run>/checkpoints/step-00000120/`` holds

- ``encoder/``: encoder and tokenizer in Hugging Face format;
- ``heads.safetensors``: every weight that is not the encoder's;
- ``trainer/``: the state of everything else, which only training needs (see ``saving.py``);
- ``config.yml`` and ``task_defs.yml``: copies of those of the run folder.

Random numbers are a function of seed and update, so no state of a random generator is saved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.files import flush
from mt_dnn.distributed.ranks import barrier, is_main
from mt_dnn.distributed.sharded import as_split, full_tensors, is_sharded, load_sharded, save_sharded
from mt_dnn.tasks.model import Model

HF_PREFIX = "encoder.model."  # of the weights that Hugging Face's model holds, among those of a Model
BEST = "best"


def checkpoint_path(run: Path, step: int) -> Path:
    """The folder of the checkpoint that is saved after so many updates."""
    return run / "checkpoints" / f"step-{step:08d}"


def save_checkpoint(
    run: Path,
    step: int,
    *,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    trainer_tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    files: Iterable[Path],
) -> Path:
    """Writes a checkpoint under a temporary name, flushes it to disk and renames it. Every rank has to call it.

    Args:
        trainer_tensors: tensors for ``trainer/<name>``, by this name and by their own.
        state: content of ``trainer/state.json``.
        files: are copied into the checkpoint.

    Returns:
        The folder of the checkpoint. The main rank has written it; the other ranks wrote their parts of
        ``trainer_tensors`` when weights are split over ranks.

    Raises:
        UserError: the disk is full or not writable.
    """
    final = checkpoint_path(run, step)
    temporary = final.with_name(f".{final.name}.tmp")
    weights, split = full_tensors(model.state_dict()), is_sharded(model)
    try:
        if is_main():
            shutil.rmtree(temporary, ignore_errors=True)
            (temporary / "trainer").mkdir(parents=True)
        if split:
            barrier()
            for name, tensors in trainer_tensors.items():
                save_sharded(temporary / "trainer" / name, tensors)
        if is_main():
            encoder = {name.removeprefix(HF_PREFIX): v for name, v in weights.items() if name.startswith(HF_PREFIX)}
            model.encoder.save(temporary / "encoder", encoder)
            tokenizer.save_pretrained(temporary / "encoder")
            save_file(rest_of(weights), temporary / "heads.safetensors")
            for name, tensors in {} if split else trainer_tensors.items():
                save_file(dict(tensors), temporary / "trainer" / f"{name}.safetensors")
            (temporary / "trainer" / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
            for file in files:
                shutil.copy(file, temporary / file.name)
            flush_tree(temporary)
            temporary.rename(final)
            flush(final.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(error).split("\n")[0]
        raise UserError(f"{final}: checkpoint not written ({reason}); earlier checkpoints are untouched") from None
    return final


def rest_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every weight of a model that ``encoder/`` does not hold: the heads', and a pooler's that was made fresh."""
    return {name: value.contiguous() for name, value in weights.items() if not name.startswith(HF_PREFIX)}


def prune(run: Path, keep: Iterable[int]) -> None:
    """Removes all checkpoints but those of the steps to keep, and what is left of saves that were cut off."""
    kept = {checkpoint_path(run, step) for step in keep}
    for path in list((run / "checkpoints").iterdir()):
        if path not in kept:
            # Renamed first, so that a checkpoint that is half removed does not look like a complete one.
            hidden = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}.old"))
            shutil.rmtree(hidden)


def mark_best(run: Path, step: int) -> None:
    """Lets the link ``<run>/best`` point at the checkpoint of this step."""
    temporary = run / f".{BEST}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(checkpoint_path(run, step).relative_to(run), target_is_directory=True)
    temporary.replace(run / BEST)


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    return max((run / "checkpoints").glob("step-*"), default=None)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means: the folder itself, or the best one of a run folder, or else its last one.

    Raises:
        UserError: the folder neither is nor has a checkpoint.
    """
    if (path / "heads.safetensors").exists():
        return path
    found = (path / BEST).resolve() if (path / BEST).exists() else last_checkpoint(path)
    if found is None:
        raise UserError(f"{path}: no checkpoint here; give a run folder or one of its checkpoints/step-… folders")
    return found


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The content of ``trainer/state.json``."""
    file = checkpoint / "trainer" / "state.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(file, error) from None


def read_trainer_tensors(checkpoint: Path, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``trainer/<name>``.

    When they were saved in parts, each rank gets its part of them. ``like`` says how they are split now: see
    ``load_sharded``.
    """
    folder = checkpoint / "trainer" / name
    if not folder.is_dir():
        return read_tensors(folder.with_suffix(".safetensors"))
    try:
        return load_sharded(folder, like)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(folder, error) from None


def load_rest(model: Model, checkpoint: Path) -> None:
    """Restores the weights that ``rest_of`` gave.

    Raises:
        UserError: the file is damaged or belongs to other heads.
    """
    file = checkpoint / "heads.safetensors"
    saved, present = read_tensors(file), rest_of(model.state_dict())
    saved_shapes, shapes = ({name: tuple(v.shape) for name, v in tensors.items()} for tensors in (saved, present))
    if saved_shapes != shapes:
        wrong = sorted({name for name in {*saved_shapes, *shapes} if saved_shapes.get(name) != shapes.get(name)})
        raise UserError(f"{file}: holds other heads than this run's task definitions: {', '.join(wrong[:4])}")
    model.load_state_dict({name: as_split(value, present[name]) for name, value in saved.items()}, strict=False)


def load_encoder_weights(model: Model, checkpoint: Path) -> None:
    """Restores the weights of ``encoder/`` into the model's encoder.

    Raises:
        UserError: the file is damaged, or its weights are not exactly those of the encoder. Buffers may be missing.
    """
    saved = read_tensors(checkpoint / "encoder" / "model.safetensors")
    present = model.encoder.model.state_dict()
    local = {name: as_split(value, present.get(name, value)) for name, value in saved.items()}
    missing, unexpected = model.encoder.model.load_state_dict(local, strict=False)
    if unexpected or set(missing) - {name for name, _ in model.encoder.model.named_buffers()}:
        raise UserError(f"{checkpoint}/encoder: weights do not fit: {', '.join([*missing, *unexpected][:4])}")


def damaged(file: Path, error: Exception) -> UserError:
    """The error for a file of a checkpoint that cannot be read."""
    reason = str(error).split("\n")[0]
    return UserError(
        f"{file}: damaged or missing ({reason}); delete this checkpoint folder to resume from an earlier one"
    )


def flush_tree(folder: Path) -> None:
    """Flushes every file and folder below to disk, so that a rename is never on disk before the data."""
    for directory, _, files in os.walk(folder):
        for name in files:
            flush(Path(directory) / name)
        flush(Path(directory))
