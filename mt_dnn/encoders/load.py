"""Loading an encoder by its name, or creating one from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.encoders import attention as packed_attention
from mt_dnn.encoders.dropout import replace_dropouts
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.family import check_family
from mt_dnn.encoders.packed import PACKED_FAMILIES, PackedEncoder
from mt_dnn.encoders.padded import PaddedEncoder
from mt_dnn.encoders.pretrained import (
    ATTENTION_DROPOUT_NAMES,
    DROPOUT_NAMES,
    fresh_model,
    keep_blocks,
    load_weights,
    make_config,
    read_config,
    set_dropout,
)
from mt_dnn.section import NonNegativeInt, Section


class EncoderConfig(Section):
    """Settings of the shared encoder."""

    name: str | None = Field(None, description="hub name, local folder, or `package:<package>/<folder>`")
    revision: str | None = Field(
        None, description="commit, branch or tag of an encoder on the hub, and of its tokenizer; default: the newest"
    )
    config: dict[str, Any] | None = Field(None, description="new encoder with this transformers configuration")
    tokenizer: str | None = Field(None, description="tokenizer name or folder; default: the encoder's")
    sha256: str | None = Field(None, description="expected SHA-256 of the file of weights")
    attention: Literal["auto", "packed", "padded"] = Field("auto", description="auto: packed if the family allows it")
    blocks: tuple[NonNegativeInt, ...] | None = Field(
        None, min_length=1, description="keep only these blocks of a pretrained encoder, counted from 0; default: all"
    )
    pooler: Literal["pretrained", "fresh", "family", "cls", "mean", "max", "attention"] = Field(
        "pretrained",
        description="what pooled heads read; pretrained and fresh: a layer over the first token; family: what the "
        "classifier of this family in transformers has below its output layer, which `mt-dnn export` needs for "
        "ELECTRA, DistilBERT and ModernBERT (there also for heads that read tokens)",
    )
    scalar_mix: bool = Field(False, description="heads read a learned mix of the states of all blocks and embeddings")
    dropout: float | None = Field(None, ge=0, lt=1, description="hidden dropout; default: as in its configuration")
    attention_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout of attention weights; default: as in the encoder's configuration"
    )

    @property
    def origin(self) -> str:
        """What people call the encoder: its name, and its version on the hub if that is chosen."""
        if self.name is None:
            return "random weights"
        return self.name if self.revision is None else f"{self.name} at revision {self.revision}"

    @model_validator(mode="after")
    def _source(self) -> EncoderConfig:
        if (self.name is None) == (self.config is None):
            raise ValueError("give exactly one of name and config")
        if self.name is None and self.revision is not None:
            raise ValueError("revision: has no effect without encoder.name; leave it out")
        if self.name is None and self.tokenizer is None:
            raise ValueError("an encoder from encoder.config needs encoder.tokenizer; set it")
        if self.blocks is not None and list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError("blocks: list each kept block once, in ascending order")
        return self


def load_encoder(
    *,
    name: str | None = None,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
    attention: str = "auto",
    pooler: str = "pretrained",
    scalar_mix: bool = False,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    blocks: Sequence[int] | None = None,
    state: tuple[str, Mapping[str, Tensor]] | None = None,
) -> Encoder:
    """Loads the pretrained encoder ``name``, or makes an encoder with random weights from the mapping ``config``.

    ``name`` is a hub name, a folder or ``package:<package>/<folder>``. ``EncoderConfig`` describes the other settings.
    ``state``: a file that was read, and the weights in it by name; they are taken instead of those of ``name``.
    Every ``nn.Dropout`` of the model becomes a ``Dropout``, whose masks several passes can share.

    Raises:
        UserError: the encoder does not exist, is damaged or lacks weights, or its family does not support a setting.
    """
    settings = read_config(name, revision) if name is not None else make_config(config or {})
    if pooler == "family":
        check_family(settings)
        pooler = "pretrained" if settings.model_type == "bert" else pooler  # what BERT's classifier has
    set_dropout(settings, dropout, DROPOUT_NAMES, "encoder.dropout")
    set_dropout(settings, attention_dropout, ATTENTION_DROPOUT_NAMES, "encoder.attention_dropout")
    if name is None and state is None and blocks is not None:
        raise UserError(
            "encoder.blocks: a fresh encoder has no pretrained blocks to keep; leave it out and set "
            "encoder.config.num_hidden_layers"
        )
    packs = settings.model_type in PACKED_FAMILIES and not getattr(settings, "is_decoder", False)
    if attention == "packed" and not packs:
        known = ", ".join(PACKED_FAMILIES)
        raise UserError(
            f"encoder.attention: '{settings.model_type}' cannot be packed (only {known}); use auto or padded"
        )
    packs = packs and attention != "padded"
    chosen: dict[str, Any] = {"attn_implementation": packed_attention.NAME} if packs else {}
    missing, ignored = list[str](), list[str]()
    if state is not None:
        model, missing, ignored = load_weights(state[0], settings, state=state[1], **chosen)
    elif name is not None:
        model, missing, ignored = load_weights(name, settings, revision=revision, **chosen)
    else:
        model = fresh_model(settings, **chosen)
    if blocks is not None:
        keep_blocks(model, blocks)
    replace_dropouts(model)
    reusable = (name is not None or state is not None) and getattr(model, "pooler", None) is not None and not missing
    encoder = (PackedEncoder if packs else PaddedEncoder)(
        model,
        pooler=pooler,
        has_pooler=pooler == "pretrained" and reusable,
        scalar_mix=scalar_mix,
        ignored_weights=ignored,
    )
    return encoder.train()
