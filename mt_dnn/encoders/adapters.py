"""Adapters: small trained weights in the blocks of an encoder, whose other weights stay as they are. peft makes them.

LoRA adds BA·alpha/rank to the weight of a linear layer, where A and B have few rows and columns (Hu et al. 2022). IA3
multiplies outputs or inputs of a linear layer by a learned vector (Liu et al. 2022). At the start both change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from data_utils.errors import UserError, did_you_mean
from mt_dnn.encoders.dropout import replace_dropouts
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.section import PositiveInt, Section

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
ADAPTER, PREFIX = "default", "base_model.model."  # peft's name of a single adapter; how names in its files begin
ALL_LINEAR = "all-linear"
# The layers of families that peft has no default for: the counterparts of those that it adapts in BERT.
LORA_LAYERS = {
    "distilbert": ("q_lin", "v_lin"),
    "modernbert": ("Wqkv",),
    "mpnet": ("attn.q", "attn.v"),
    "xlm-roberta-xl": ("query", "value"),
}
IA3_LAYERS = {
    "distilbert": ("k_lin", "v_lin", "lin2"),
    "electra": ("key", "value", "output.dense"),
    "modernbert": ("Wqkv", "mlp.Wo"),
    "mpnet": ("attn.k", "attn.v", "output.dense"),
    "xlm-roberta": ("key", "value", "output.dense"),
    "xlm-roberta-xl": ("key", "value", "output.dense"),
}
IA3_INPUTS = ("output.dense", "lin2", "mlp.Wo")  # of these layers IA3 multiplies the input, of others the output


class AdapterConfig(Section):
    """A small part of the encoder that is trained in place of all of it."""

    kind: Literal["none", "lora", "ia3"] = Field(
        "none",
        description="lora, ia3: the encoder's weights stay as they are, and few new ones in its blocks are trained; "
        "needs the extra adapters",
    )
    rank: PositiveInt = Field(8, description="lora: r, the rank of the change of a weight")
    alpha: PositiveFloat = Field(16.0, description="lora: the change is multiplied by alpha/rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="lora: dropout before the new weights")
    targets: Literal["all-linear"] | tuple[str, ...] | None = Field(
        None,
        description="the layers that get new weights: ends of their names, such as [query, value]; all-linear: each "
        "linear layer of the blocks; default: peft's choice for the family",
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _without_brackets(cls, targets: object) -> object:
        """``adapter.targets=query`` means ``adapter.targets=[query]``."""
        if targets is None or targets == ALL_LINEAR:
            return targets
        names = [targets] if isinstance(targets, str) else targets
        if not (isinstance(names, list | tuple) and names and all(name and isinstance(name, str) for name in names)):
            raise ValueError(f"write ends of names, such as [query, value], or {ALL_LINEAR}")
        return names

    @model_validator(mode="after")
    def _all_read(self) -> AdapterConfig:
        lora = {"rank", "alpha", "dropout"}
        reads: Mapping[str, set[str]] = {"none": set(), "lora": {*lora, "targets"}, "ia3": {"targets"}}
        self._refuse_unread(self.kind, {*lora, "targets"}, reads[self.kind])
        return self


def add_adapter(encoder: Encoder, config: AdapterConfig, name: str | None = None, revision: str | None = None) -> None:
    """Puts an adapter into an encoder, in place. Its weights and those of a new pooler are the ones that train.

    Args:
        name: the name of the encoder, which peft's files repeat. None: it has none.
        revision: which of its versions on the hub it is. None: the newest.

    Raises:
        UserError: the extra is not installed, or ``targets`` names no layer, or one that is not linear or in no block.
    """
    peft = _peft()
    chosen = _chosen(peft, encoder, config)
    targets = list(_expanded(encoder, chosen))
    common = {"target_modules": targets, "base_model_name_or_path": name, "revision": revision}
    if config.kind == "lora":
        given = {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
        settings = peft.LoraConfig(**common, **given)
    else:
        inputs = [target for target in targets if any(f".{target}".endswith(f".{end}") for end in IA3_INPUTS)]
        settings = peft.IA3Config(**common, feedforward_modules=inputs)
    peft.inject_adapter_in_model(settings, encoder.model, adapter_name=ADAPTER)
    replace_dropouts(encoder.model)
    if encoder.pooler_source == "fresh" and encoder.pooler is None:
        encoder.model.pooler.requires_grad_(True)
    encoder.adapter = settings


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError(
            "adapter.kind: needs one more package. Install it with: pip install 'mt-dnn[adapters]'"
        ) from None
    return peft


def _chosen(peft: Any, encoder: Encoder, config: AdapterConfig) -> Sequence[str]:
    """The targets that the user has named, or the default of the family."""
    if config.targets is not None:
        return config.targets if config.targets != ALL_LINEAR else sorted(set(_linear(encoder).values()))
    family, lora = encoder.model.config.model_type, config.kind == "lora"
    tables = peft.utils.constants
    known = (
        tables.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        if lora
        else tables.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    )
    found = known.get(family) or (LORA_LAYERS if lora else IA3_LAYERS).get(family)
    if found is None:
        raise UserError(f"adapter.targets: no default is known for '{family}'; name layers, or use {ALL_LINEAR}")
    return list(found)


def _linear(encoder: Encoder) -> dict[str, str]:
    """The linear layers of the blocks: full name in the model → name inside of the block."""
    blocks = encoder.blocks_name.removeprefix("model.")
    return {
        f"{blocks}.{number}.{name}": name
        for number, block in enumerate(encoder.blocks)
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
    }


def _expanded(encoder: Encoder, targets: Sequence[str]) -> Iterator[str]:
    """Yields the targets after it has checked that each names linear layers of blocks, and nothing else."""
    linear, names = _linear(encoder), [name for name, _ in encoder.model.named_modules()]
    for target in targets:
        found = [name for name in names if f".{name}".endswith(f".{target}")]  # what peft takes
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            hint = did_you_mean(target, ends) or f" (names end like {', '.join(ends)})"
            raise UserError(f"adapter.targets: no layer of the encoder is called '{target}'{hint}")
        if wrong := [name for name in found if name not in linear]:
            raise UserError(
                f"adapter.targets: '{target}' also names {wrong[0]}, which is no linear layer of a block; "
                "write more of the name"
            )
        yield target


def adapter_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """The weights of the adapter by the names that peft's files have."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(encoder.model, adapter_name=ADAPTER, save_embedding_layers=False)
    return {f"{PREFIX}{name}": value for name, value in found.items()}


def save_adapter(encoder: Encoder, folder: Path) -> None:
    """Writes the adapter in peft's format, which ``PeftModel.from_pretrained`` reads."""
    folder.mkdir(exist_ok=True)
    settings = {**encoder.adapter.to_dict(), "inference_mode": True}
    content = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (folder / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in adapter_tensors(encoder).items()}, folder / WEIGHTS)


def load_adapter(encoder: Encoder, tensors: Mapping[str, Tensor]) -> list[str]:
    """Restores what ``adapter_tensors`` gave. Returns the names that do not fit; then nothing was restored."""
    from peft import set_peft_model_state_dict

    present = adapter_tensors(encoder)
    shapes, given = ({name: tuple(value.shape) for name, value in found.items()} for found in (present, tensors))
    if shapes != given:
        return sorted(name for name in {*shapes, *given} if shapes.get(name) != given.get(name))
    weights = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    set_peft_model_state_dict(encoder.model, weights, adapter_name=ADAPTER)
    return []


def base_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """The weights of the encoder without its adapter and without a pooler that is new, by transformers' names."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = tuple(f"{name}." for name, layer in encoder.model.named_modules() if isinstance(layer, BaseTunerLayer))
    return {
        name.replace(".base_layer.", "."): value
        for name, value in encoder.model.state_dict().items()
        if (".base_layer." in name or not name.startswith(adapted)) and not encoder.is_new(name)
    }


def merge_adapter(encoder: Encoder) -> None:
    """Adds the adapter to the weights of the encoder, in place. It has plain layers again, and no adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(encoder.model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, attribute = name.rpartition(".")
            setattr(encoder.model.get_submodule(parent), attribute, layer.get_base_layer())
    encoder.adapter = None
