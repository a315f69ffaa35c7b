"""Kills runs at random points and checks what they promise: see ``__main__``."""

import os

# Before numpy and torch are imported, which would start threads. A process with threads must not fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
