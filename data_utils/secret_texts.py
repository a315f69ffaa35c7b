"""Hides passwords and tokens in texts that are printed or kept."""

from __future__ import annotations

import os
import re

HIDDEN = "***"
SHORTEST = 6  # characters of a secret in the environment; a shorter one may be any word
NAME = r"(?:token|password|passwd|secret|api_?key|access_?key)"
IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]+@")
ASSIGNED = re.compile(rf"({NAME}=)[^\s&'\"]+", re.IGNORECASE)
VARIABLE = re.compile(rf"{NAME}$", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Replaces secrets by ``***``.

    These are the password of a URL, what stands behind ``token=``, ``password=``, ``api_key=`` and the like, and the
    values of variables in the environment with such names, such as ``HF_TOKEN`` and ``WANDB_API_KEY``.
    """
    text = ASSIGNED.sub(rf"\1{HIDDEN}", IN_URL.sub(rf"\1{HIDDEN}@", text))
    for name, value in os.environ.items():
        secret = value.strip()
        if VARIABLE.search(name) and len(secret) >= SHORTEST:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text
