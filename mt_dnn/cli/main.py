"""The ``mt-dnn`` command. Nothing heavy is imported before a subcommand needs it."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from data_utils.errors import RankError, UserError
from mt_dnn.cli.bench import bench_app
from mt_dnn.cli.config import config
from mt_dnn.cli.data import data
from mt_dnn.cli.distill import distill
from mt_dnn.cli.evaluate import evaluate
from mt_dnn.cli.predict import predict
from mt_dnn.cli.prepare import prepare
from mt_dnn.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-task fine-tuning of BERT and XLM-R encoders with adversarial training.",
)
for command in (prepare, train, evaluate, predict, distill, config, data):
    app.command()(command)
app.add_typer(bench_app, name="bench")


def main(arguments: list[str] | None = None) -> Any:
    """Runs a subcommand; bad input is one line on stderr and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        return app(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0" or isinstance(error, RankError):
            print(f"mt-dnn: {error}", file=sys.stderr)
        sys.exit(2)
