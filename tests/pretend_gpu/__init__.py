"""A pretend GPU: training steps run as on a GPU, without one. ``python -m tests.pretend_gpu --help``."""
