"""Multi-task fine-tuning of BERT, XLM-R and similar encoders with adversarial training.

From Python: ``mt_dnn.train(config)`` trains a run, ``mt_dnn.load(run)`` gives the trained model.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load", "train"]


def __dir__() -> list[str]:
    """The names that completion offers."""
    return __all__


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for, so that ``import mt_dnn`` does not import torch."""
    if name in __all__:
        from mt_dnn.foreign import check_data_utils
        from mt_dnn.threads import set_threads

        check_data_utils()
        set_threads(None)
    if name == "load":
        from mt_dnn.inference.trained import load

        return load
    if name == "train":
        from mt_dnn.inference.training import train

        return train
    raise AttributeError(f"module 'mt_dnn' has no attribute '{name}'")
