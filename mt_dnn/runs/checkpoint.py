"""Checkpoints: directories that are either whole or absent, and load without pickle.

``<run>/checkpoints/step-00000120/`` holds ``encoder/`` (Hugging Face format with tokenizer), ``heads.safetensors``
(every weight that is not the encoder's), ``config.yml``, ``task_defs.yml`` and ``trainer/`` (optimizer, Lookahead slow
weights, adversaries, position). Random numbers are a function of (seed, step), so no generator state needs saving.
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

from data_utils.errors import UserError
from mt_dnn.distributed.ranks import barrier, is_main
from mt_dnn.distributed.sharded import as_split, full_tensors, is_sharded, load_sharded, save_sharded
from mt_dnn.tasks.model import Model

HF_PREFIX = "encoder.model."


BEST = "best"


def checkpoint_path(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def save_checkpoint(
    run: Path,
    step: int,
    *,
    model: Model,
    tokenizer: Any,
    trainer_tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    files: Iterable[Path],
) -> Path:
    """Writes a checkpoint under a temporary name, flushes it to disk and renames it; returns its path.

    The main rank writes, and where weights are split over ranks all of them do. ``files`` are copied into it as they
    are. On failure the temporary folder is removed and nothing else is touched.

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
    """Every weight of a model that ``encoder/`` does not hold: heads, and a pooler of our own."""
    return {name: value.contiguous() for name, value in weights.items() if not name.startswith(HF_PREFIX)}


def prune(run: Path, keep: Iterable[int]) -> None:
    """Removes every checkpoint but those of the steps to keep, and leftovers of saves that were cut off."""
    kept = {checkpoint_path(run, step) for step in keep}
    for path in list((run / "checkpoints").iterdir()):
        if path not in kept:
            hidden = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}.old"))
            shutil.rmtree(hidden)  # a checkpoint that is half removed must not look like one


def mark_best(run: Path, step: int) -> None:
    """Points ``<run>/best`` at the checkpoint of this step."""
    temporary = run / f".{BEST}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(checkpoint_path(run, step).relative_to(run), target_is_directory=True)
    temporary.replace(run / BEST)


def last_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    return max((run / "checkpoints").glob("step-*"), default=None)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means by a run folder (its best, else its last) or by a checkpoint folder.

    Raises:
        UserError: there is none.
    """
    if (path / "heads.safetensors").exists():
        return path
    found = (path / BEST).resolve() if (path / BEST).exists() else last_checkpoint(path)
    if found is None:
        raise UserError(f"{path}: no checkpoint here; give a run folder or one of its checkpoints/step-… folders")
    return found


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's position and counters."""
    file = checkpoint / "trainer" / "state.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """A safetensors file as a dictionary on the CPU."""
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(file, error) from None


def read_trainer_tensors(checkpoint: Path, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What only training needs; of tensors split over ranks as those in ``like`` each rank gets its part."""
    folder = checkpoint / "trainer" / name
    if not folder.is_dir():
        return read_tensors(folder.with_suffix(".safetensors"))
    try:
        return load_sharded(folder, like)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(folder, error) from None


def load_rest(model: Model, checkpoint: Path) -> None:
    """Restores the weights written by ``rest_of``.

    Raises:
        UserError: the file is damaged or belongs to other heads.
    """
    file = checkpoint / "heads.safetensors"
    tensors, own = read_tensors(file), rest_of(model.state_dict())
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    wanted = {name: tuple(value.shape) for name, value in own.items()}
    if shapes != wanted:
        wrong = sorted({name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name)})
        raise UserError(f"{file}: holds other heads than this run's task definitions: {', '.join(wrong[:4])}")
    model.load_state_dict({name: as_split(value, own[name]) for name, value in tensors.items()}, strict=False)


def load_encoder_weights(model: Model, checkpoint: Path) -> None:
    """Restores the weights of ``encoder/`` into the model's encoder, strictly."""
    tensors = read_tensors(checkpoint / "encoder" / "model.safetensors")
    own = model.encoder.model.state_dict()
    fitting = {name: as_split(value, own.get(name, value)) for name, value in tensors.items()}
    missing, unexpected = model.encoder.model.load_state_dict(fitting, strict=False)
    tied = {name for name in missing if name in dict(model.encoder.model.named_buffers())}
    if unexpected or set(missing) - tied:
        raise UserError(f"{checkpoint}/encoder: weights do not fit: {', '.join([*missing, *unexpected][:4])}")


def damaged(file: Path, error: Exception) -> UserError:
    reason = str(error).split("\n")[0]
    return UserError(
        f"{file}: damaged or missing ({reason}); delete this checkpoint folder to resume from an earlier one"
    )


def flush_tree(folder: Path) -> None:
    """fsync of every file and folder below, so that a rename never outruns the data."""
    for directory, _, files in os.walk(folder):
        for name in files:
            flush(Path(directory) / name)
        flush(Path(directory))


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
