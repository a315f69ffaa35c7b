"""Adversarial modes: one short file each, one entry each."""

from __future__ import annotations

from mt_dnn.adversarial.base import Adversary, View
from mt_dnn.adversarial.none import none
from mt_dnn.config import AdversaryConfig

ADVERSARIES = {"none": none}


def build_adversary(config: AdversaryConfig) -> Adversary:
    """The adversary of a run."""
    return ADVERSARIES[config.mode]


__all__ = ["ADVERSARIES", "Adversary", "View", "build_adversary"]
