"""mt-dnn export: a trained run as a folder for transformers, sentence-transformers or ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import RunFolder


def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    to: Annotated[str, typer.Option(help="Format: hf (transformers), sentence-transformers or onnx.")] = "hf",
    task: Annotated[
        str | None, typer.Option(help="The task whose head is exported; default: the one that was trained.")
    ] = None,
    encoder_only: Annotated[bool, typer.Option("--encoder-only", help="The encoder without a head.")] = False,
    pooling: Annotated[
        str | None, typer.Option(help="Vectors of sentence-transformers: mean, cls or max; default: mean.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="With onnx: weights in eight bits.")] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Of a run with an adapter: make it part of the encoder's weights.")
    ] = False,
    push: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Then upload it to this repository of the hub; HF_TOKEN holds the token."),
    ] = None,
) -> None:
    """Write a task of a trained run, or its encoder, for other software."""
    from mt_dnn.distributed.signals import exit_on_signals
    from mt_dnn.inference.export.push import push_folder, token_of
    from mt_dnn.inference.export.write import export as write

    token = token_of() if push is not None else ""
    with exit_on_signals():
        write(run, output, target=to, task=task, encoder_only=encoder_only, pooling=pooling, int8=int8, merge=merge)
    alone = " (the adapter by itself, in peft's format)" if (output / "adapter_config.json").exists() else ""
    print(f"mt-dnn: wrote {output}{alone}")
    if push is not None:
        print(f"mt-dnn: pushed to {push_folder(output, push, token)}")
