"""What transformers computes between the last block and the output layer of a classifier, family by family.

With ``encoder.pooler: family`` a run trains this, so that ``mt-dnn export`` can write its heads for transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from data_utils.errors import UserError
from mt_dnn.encoders.dropout import Dropout
from mt_dnn.encoders.pooling import initialised


@dataclass(frozen=True)
class FamilyHead:
    """The layers of a family's classifier below its output layer, as far as families differ.

    ``activation``: its name, or the setting of the transformers configuration that holds it, after ``config:``.
    ``dropout``: the settings that may hold the dropout before the dense layer. The first that is set counts; without
    any, there is none. ``with_norm``: a LayerNorm follows the activation. ``on_tokens``: heads that read tokens have
    these layers too.
    """

    activation: str
    dropout: tuple[str, ...] = ()
    with_norm: bool = False
    on_tokens: bool = False


ROBERTA = FamilyHead("tanh", ("classifier_dropout", "hidden_dropout_prob"))
DEBERTA = FamilyHead("config:pooler_hidden_act", ("pooler_dropout",))
FAMILY_HEADS = {
    "bert": FamilyHead("tanh"),  # the pooler of its pre-training
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "xlm-roberta-xl": ROBERTA,
    "mpnet": FamilyHead("tanh", ("hidden_dropout_prob",)),
    "electra": FamilyHead("gelu", ("classifier_dropout", "hidden_dropout_prob")),
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA,
    "distilbert": FamilyHead("relu"),
    "modernbert": FamilyHead("config:classifier_activation", with_norm=True, on_tokens=True),
}


class FamilyLayers(nn.Module):
    """Dropout, dense layer, activation and, in ModernBERT, LayerNorm.

    ``activation``: its name in transformers. ``pooling``: the vector of a sequence that it reads, a key of POOLINGS.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__()
        known, size, std = FAMILY_HEADS[settings.model_type], settings.hidden_size, settings.initializer_range
        drops = [value for name in known.dropout if (value := getattr(settings, name, None)) is not None]
        self.activation = activation_of(settings, known.activation)
        self.pooling = getattr(settings, "classifier_pooling", "cls")
        self.dropout = Dropout(float(drops[0])) if drops else nn.Identity()
        self.dense = initialised(nn.Linear(size, size, bias=getattr(settings, "classifier_bias", True)), std)
        self.norm = nn.LayerNorm(size, settings.norm_eps, bias=settings.norm_bias) if known.with_norm else None
        self._activate = ACT2FN[self.activation]

    def forward(self, states: Tensor) -> Tensor:
        """(…, H) → (…, H)."""
        active = self._activate(self.dense(self.dropout(states)))
        return active if self.norm is None else self.norm(active)


def activation_of(settings: Any, name: str) -> str:
    """The name of an activation. ``config:<key>`` is the value of this key of the transformers configuration."""
    return getattr(settings, name.removeprefix("config:")) if name.startswith("config:") else name


def check_family(settings: Any) -> None:
    """Raises UserError if it is not known what transformers computes above the encoders of this family."""
    if settings.model_type not in FAMILY_HEADS:
        known = ", ".join(FAMILY_HEADS)
        raise UserError(f"encoder.pooler: family is not known for '{settings.model_type}' (only {known}); use fresh")
