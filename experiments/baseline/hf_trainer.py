"""Plain Hugging Face Trainer on one task. This toolkit is compared with it; the two share no code.

    python experiments/baseline/hf_trainer.py --data data/glue --encoder FOLDER --task sst2 \
        --rows 6400 --epochs 1 --seed 1 --output baseline.jsonl

Appends one JSON line per run. A run whose line is already there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from data_utils.files import write_json_lines

LABELS = {
    "cola": ["0", "1"],
    "sst2": ["0", "1"],
    "mrpc": ["0", "1"],
    "rte": ["not_entailment", "entailment"],
    "stsb": None,
}


def read(file: Path, labels: list[str] | None, limit: int | None) -> list[dict[str, Any]]:
    """Rows of a canonical TSV: text fields and the label as a class index or a score."""
    header, *records = [line.split("\t") for line in file.read_text(encoding="utf-8").split("\n") if line]
    rows: list[dict[str, Any]] = [dict(zip(header, fields, strict=True)) for fields in records[:limit]]
    for row in rows:
        row["label"] = labels.index(row["label"]) if labels else float(row["label"])
    return rows


def tokenize(
    rows: list[dict[str, Any]], tokenizer: transformers.PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, Any]]:
    pairs = [row["hypothesis"] for row in rows] if "hypothesis" in rows[0] else None
    encoded = tokenizer([row["premise"] for row in rows], pairs, truncation=True, max_length=max_length)
    return [{**{key: encoded[key][i] for key in encoded}, "labels": row["label"]} for i, row in enumerate(rows)]


def metrics(task: str, output: Any) -> dict[str, float]:
    logits, labels = output.predictions, output.label_ids
    if task == "stsb":
        values = logits[:, 0]
        return {"pearson": pearsonr(values, labels)[0], "spearman": spearmanr(values, labels)[0]}
    predictions = logits.argmax(axis=1)
    result = {"accuracy": accuracy_score(labels, predictions)}
    if task == "mrpc":
        result["f1"] = f1_score(labels, predictions)
    if task == "cola":
        result["mcc"] = matthews_corrcoef(labels, predictions)
    return result


def run(options: argparse.Namespace) -> dict[str, Any]:
    labels = LABELS[options.task]
    transformers.set_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.encoder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        options.encoder, num_labels=len(labels) if labels else 1
    )
    splits: dict[str, Any] = {}
    for name, limit in (("train", options.rows), ("dev", None)):
        rows = read(options.data / f"{options.task}_{name}.tsv", labels, limit)
        splits[name] = tokenize(rows, tokenizer, options.max_length)
    with TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=options.lr,
            weight_decay=0.01,
            warmup_steps=0.1,  # below 1: a fraction of all steps
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            seed=options.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=splits["train"],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        scores = metrics(options.task, trainer.predict(splits["dev"]))
    rounded = {name: round(float(value), 6) for name, value in scores.items()}
    return {"scores": rounded, "train_seconds": round(seconds, 1)}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--task", choices=LABELS, required=True)
    parser.add_argument("--rows", type=int, required=True, help="first training rows used")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    options = parser.parse_args()
    keys = ("task", "rows", "epochs", "batch_size", "lr", "max_length", "seed")
    settings = {key: getattr(options, key) for key in keys}
    text = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
    records = [json.loads(line) for line in text.splitlines()]
    if any(record.items() >= settings.items() for record in records):
        return
    record = {
        "system": "hf_trainer",
        **settings,
        **run(options),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    write_json_lines(options.output, [*records, record])
    print(record["task"], record["seed"], record["scores"])


if __name__ == "__main__":
    main()
