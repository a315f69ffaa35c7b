"""Tests: unit (one folder per package), parity, distributed, end_to_end."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
