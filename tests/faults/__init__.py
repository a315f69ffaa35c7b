"""Lets calls of commands that change files fail, one at a time, and checks what they promise: see ``__main__``."""

import os

# Before numpy and torch are imported, which would start threads. A process with threads must not fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("HF_HUB_OFFLINE", "1")
