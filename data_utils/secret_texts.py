"""Hides passwords and tokens in texts that are printed or kept."""

from __future__ import annotations

import os
import re

HIDDEN = "***"
SHORTEST = 6  # characters of a secret in the environment; a shorter one may be any word
NAME = r"(?:token|password|passwd|secret|api[_-]?key|access[_-]?key)"
# Each may begin at few characters and ends before the next such one, so that a text of n characters takes n steps.
PATTERNS = [
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"(://[^\s/:@?#]*:)(?!/|\d+[/?#])(?:[^\s/?#]+@|(?:(?!://)[^\s?#@])+@)", rf"\1{HIDDEN}@"),
        (r"(https?://)[^\s/:@?#]+@", rf"\1{HIDDEN}@"),
        (rf"(/[^\s/?&'\"]*?{NAME}=)[^\s&'\"/:]+", rf"\1{HIDDEN}"),  # in the name of a file, which stays readable
        (rf"({NAME}=)(?!{re.escape(HIDDEN)})[^\s&'\"]*[^\s&'\":]", rf"\1{HIDDEN}"),
        (rf"({NAME}=([\"']))(?=[^\s:,;.)\]}}\"'])(?:(?!\2)[^\n])*", rf"\1{HIDDEN}"),
        (rf"((?<![\w-])--(?:[\w-]*[_-])?{NAME}[ \t]+)(?!-)[^\s'\"]+", rf"\1{HIDDEN}"),
        (rf"([{{,][ \t]*[\"']?[\w.-]*{NAME}[\"']?[ \t]*:[ \t]*[\"']?)[^\s,}}\"']+", rf"\1{HIDDEN}"),
    )
]
VARIABLE = re.compile(rf"{NAME}$", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Replaces secrets by ``***``.

    These are the password or the token in a URL, what stands behind ``token=``, ``--password``, ``{api_key:`` and the
    like, and the values of variables in the environment with such names, such as ``HF_TOKEN`` and ``WANDB_API_KEY``. A
    value of letters only may be any word, so it stays in the name of a file.
    """
    for pattern, hidden in PATTERNS:
        text = pattern.sub(hidden, text)
    for name, value in os.environ.items():
        secret = value.strip()
        if VARIABLE.search(name) and len(secret) >= SHORTEST:
            joined = r"[\w/]" if secret.isalpha() else r"\w"
            text = re.sub(rf"(?<!{joined}){re.escape(secret)}(?!{joined})", HIDDEN, text)
    return text
