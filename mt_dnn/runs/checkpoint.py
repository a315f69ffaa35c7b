"""The files of a checkpoint: a folder that is complete or absent, and that loads without pickle.

``<run>/checkpoints/step-00000120/`` holds

- ``encoder/``: encoder and tokenizer in Hugging Face format. With an adapter, the weights of the encoder are in the
  folder ``base`` of the run (see ``base.py``);
- ``adapter/``: the adapter in peft's format, if the run has one;
- ``heads.safetensors``: every weight that is not the encoder's;
- ``trainer/``: the state of everything else, which only training needs (see ``saving.py``). ``trainer/state.json``
  also has the ``format`` of the run folder and the names of all ``files`` of the checkpoint;
- ``config.yml`` and ``task_defs.yml``: copies of these files of the run folder.

Random numbers are a function of seed and update, so no state of a random generator is saved.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, StrictBool, StrictInt, StrictStr
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.errors import NotSaved, UserError, refused, shown, system_error
from data_utils.features import save_tokenizer
from data_utils.files import flush, open_file, read_text
from mt_dnn.distributed.ranks import barrier, is_main
from mt_dnn.distributed.sharded import as_split, full_tensors, is_sharded, load_sharded, save_sharded
from mt_dnn.encoders.adapters import CONFIG, WEIGHTS, load_adapter, save_adapter
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.pretrained import load_weights, read_config
from mt_dnn.runs.damaged import damaged, of_checkpoint
from mt_dnn.section import NonNegativeInt
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.units import new_units

HF_PREFIX = "encoder.model."  # names of a Model's weights begin with it if Hugging Face's model holds them
CONTENT = {"encoder", "adapter", "heads.safetensors", "trainer", "config.yml", "task_defs.yml"}
FORMAT = 2  # raise it when a checkpoint or another file of a run folder can no longer be read by earlier versions


class SavedPosition(BaseModel):
    """How far a run has come, in ``state.json``."""

    step: NonNegativeInt
    epoch: NonNegativeInt
    update: NonNegativeInt


class SavedWindow(BaseModel):
    """Figures since the last line of the log, in ``state.json``."""

    sums: dict[str, float]
    weights: dict[str, float]


class SavedProgress(BaseModel):
    """The progress of a run, in ``state.json``."""

    position: SavedPosition
    best_step: NonNegativeInt | None
    best_score: float | None
    stale: NonNegativeInt
    window: SavedWindow
    finished: StrictBool
    data: dict[str, StrictStr]


class SavedState(BaseModel):
    """What every ``state.json`` has. Further keys are those of single parts of a run."""

    progress: SavedProgress
    streams: StrictInt = 1
    resumable: StrictBool = True


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
        trainer_tensors: for each name, the tensors that ``trainer/<name>`` holds, by their names.
        state: the content of ``trainer/state.json``.
        files: these are copied into the checkpoint.

    Returns:
        The folder of the checkpoint. The main rank writes it. If weights are split over ranks, each rank writes its
        parts of ``trainer_tensors``.

    Raises:
        NotSaved: the disk is full or not writable.
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
            if model.encoder.adapter is not None:
                model.encoder.model.config.save_pretrained(temporary / "encoder")
                save_adapter(model.encoder, temporary / "adapter")
            else:
                names = {name: name.removeprefix(HF_PREFIX) for name in weights if name.startswith(HF_PREFIX)}
                model.encoder.save(temporary / "encoder", {names[name]: weights[name] for name in names})
            save_tokenizer(tokenizer, temporary / "encoder")
            save_file(rest_of(model, weights), temporary / "heads.safetensors")
            for name, tensors in {} if split else trainer_tensors.items():
                save_file(dict(tensors), temporary / "trainer" / f"{name}.safetensors")
            for file in files:
                shutil.copy(file, temporary / file.name)
            content = {"format": FORMAT, **state, "files": files_of(temporary)}
            (temporary / "trainer" / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
            flush_tree(temporary)
            temporary.rename(final)
            flush(final.parent)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if (failure := system_error(error)) is None:
            raise
        kept = "earlier checkpoints are untouched"
        raise refused(final, "checkpoint not written", failure, kept=kept, kind=NotSaved) from None
    return final


def files_of(folder: Path) -> list[str]:
    """The names of all files in the folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def rest_of(model: Model, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model that belong to no encoder: heads, scalar mix, and a pooler that we added.

    ``weights``: all weights of the model by name.
    """
    return {
        name: value.contiguous()
        for name, value in weights.items()
        if not name.startswith(HF_PREFIX) or model.encoder.is_new(name.removeprefix(HF_PREFIX))
    }


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The content of ``trainer/state.json``. It has the keys of ``SavedState``.

    Raises:
        UserError: the file is damaged, or a later version of the toolkit has written it.
    """
    file = checkpoint / "trainer" / "state.json"
    try:
        state = json.loads(read_text(file))
        written = state.get("format", 1)  # the first checkpoints had no format
        if type(written) is not int or not 1 <= written <= FORMAT:
            problem = f"format {shown(written)} is unknown, this version reads up to {FORMAT}"
            raise UserError(f"{file}: {problem}; update mt-dnn")
        SavedState.model_validate(state)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(file, error) from None
    return state


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    try:
        open_file(file).close()  # no pipe, which safetensors would wait for
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(file, error) from None


def read_trainer_tensors(checkpoint: Path, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads the tensors of ``trainer/<name>``.

    If they were saved in parts, each rank gets its part. ``like`` says how they are split now: see ``load_sharded``.
    """
    folder = checkpoint / "trainer" / name
    if not folder.is_dir():
        return read_tensors(folder.with_suffix(".safetensors"))
    try:
        return load_sharded(folder, like)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(folder, error) from None


def forget_trainer_tensors(checkpoint: Path, names: Iterable[str]) -> None:
    """Removes ``trainer/<name>`` from a checkpoint. What cannot be removed stays: it only takes space."""
    for name in names:
        folder = checkpoint / "trainer" / name
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.with_suffix(".safetensors").unlink()


def load_rest(model: Model, checkpoint: Path) -> None:
    """Restores the weights that ``rest_of`` gave. The first checkpoints had no units.

    Raises:
        UserError: the file is damaged or belongs to other heads.
    """
    file = checkpoint / "heads.safetensors"
    saved, present = {**new_units(model), **read_tensors(file)}, rest_of(model, model.state_dict())
    saved_shapes, shapes = ({name: tuple(v.shape) for name, v in tensors.items()} for tensors in (saved, present))
    if saved_shapes != shapes:
        wrong = sorted({name for name in {*saved_shapes, *shapes} if saved_shapes.get(name) != shapes.get(name)})
        raise UserError(
            f"{file}: heads differ from task_defs.yml ({', '.join(wrong[:4])}); "
            "use the task file and the version of mt-dnn that the run was trained with"
        )
    model.load_state_dict({name: as_split(value, present[name]) for name, value in saved.items()}, strict=False)


def adapted_encoder(checkpoint: Path) -> tuple[str | None, str | None]:
    """The name of the encoder below the adapter of a checkpoint, and its revision. None, None: it has no name.

    Raises:
        UserError: the file that says so is damaged or missing.
    """
    file = checkpoint / "adapter" / CONFIG
    try:
        content = json.loads(read_text(file))
        return content["base_model_name_or_path"], content.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(file, error) from None


def load_encoder_weights(encoder: Encoder, checkpoint: Path) -> None:
    """Restores the weights of an encoder, or those of its adapter if it has one.

    transformers reads those of the encoder and converts old names.

    Raises:
        UserError: a file is damaged, or does not hold exactly these weights. Buffers may be missing.
    """
    if encoder.adapter is not None:
        file = checkpoint / "adapter" / WEIGHTS
        if misfits := load_adapter(encoder, read_tensors(file)):
            raise UserError(f"{file}: does not fit the section adapter of config.yml ({', '.join(misfits[:4])})")
        return
    folder = str(checkpoint / "encoder")
    with of_checkpoint(checkpoint / "encoder"):
        saved, absent, _ = load_weights(folder, read_config(folder))
    present = encoder.model.state_dict()
    local = {
        name: as_split(value, present.get(name, value))
        for name, value in saved.state_dict().items()
        if name not in absent
    }
    missing, unexpected = encoder.model.load_state_dict(local, strict=False)
    if unexpected or set(missing) - {name for name, _ in encoder.model.named_buffers()}:
        wrong = ", ".join([*missing, *unexpected][:4])
        raise UserError(f"{folder}: its weights do not fit this encoder ({wrong}); use the encoder settings of the run")


def flush_tree(folder: Path) -> None:
    """Flushes a folder and all in it, before it is renamed. Gives weights the rights that other new files have."""
    for directory, _, files in os.walk(folder):
        rights = stat.S_IMODE(os.stat(directory).st_mode) & 0o666
        for file in (Path(directory) / name for name in files):
            if file.suffix == ".safetensors" and stat.S_IMODE(file.stat().st_mode) != rights:
                file.chmod(rights)
            flush(file)
        flush(Path(directory))
