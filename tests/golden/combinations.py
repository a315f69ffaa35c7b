"""The combinations: which tasks and options each of the short runs has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

# What all runs share. Large steps, much weight decay and Lookahead every second update make a changed term visible.
# With the default eps, Adamax would move a bias whose gradient is 0 but for rounding by lr up or down.
SHARED = (
    "device=cpu",
    "data.max_length=32",
    "train.batch_size=8",
    "train.epochs=2",
    "optimizer.lr=5e-3",
    "optimizer.weight_decay=0.1",
    "optimizer.eps=1e-6",
    "optimizer.lookahead.steps=2",
    "evaluation.metric=null",
    "evaluation.every_steps=1000",
    "log.every_steps=1",
    "log.dropout_floor_every_steps=2",
)
MODES = ("none", "vat", "tat", "freelb", "rapt", "pgd", "freeat", "yopo", "r3f", "r4f", "rdrop")
NEEDED = {"rapt": ("adversary.max_layer=2",)}  # the encoder has two blocks, the default is three
# Every mode trains all of these, one group in a run.
TASK_GROUPS: Mapping[str, str] = {
    "sentences": "same,negated,overlap",
    "labels": "marks,graded",
    "choices": "odd,gap,linked",
    "words": "tagged,chained",
    "texts": "found,guessed",
}
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "adamax": (),
    "adamw": (),
    "adam": (),
    "sgd": ("optimizer.momentum=0.9", "optimizer.lr=0.05"),
    "radam": (),
    "lamb": (),
}
TAUGHT = "distillation.weight=0.5"
MIXED = ("train.accumulate=2", "train.mix_tasks=true", "train.batch_size=4")
FAMILIES = ("roberta", "electra", "deberta-v2", "modernbert", "mpnet")

# name: (tasks, options)
ADVERSARIES: Mapping[str, tuple[str, Sequence[str]]] = {
    "vat-bregman": (
        "negated,overlap",
        ["mode=vat", "bregman={mu: 1, beta: 0.5, beta_after_warmup: 0.9}", "steps=2", "step_size=1", "radius=0.1"],
    ),
    "vat-normalize": ("same,overlap", ["mode=vat", "projection=normalize", "divergence=js", "stop_gradient=none"]),
    "vat-normalized-gradient": (
        "same,tagged",
        ["mode=vat", "normalize_gradient=token", "gradient_norm='2'", "step_size=0.1", "radius=0.1", "noise_std=0.01"],
    ),
    "vat-same-masks": ("same", ["mode=vat", "reuse_dropout_mask=true", "noise_std=0.1", "radius=0.5", "step_size=1"]),
    "vat-warm-start": ("same,overlap", ["mode=vat", "warm_start_steps=2", "weight=3"]),
    "vat-smart-preset": ("negated", ["=preset:vat/smart"]),
    "tat-clean-pass": ("same,overlap", ["mode=tat", "reuse_clean_pass=true", "tally=soft"]),
    "tat-steps": ("tagged,graded", ["mode=tat", "steps=2", "noise_std=0.01", "radius=0.1", "step_size=0.1"]),
    "tat-mtdnn-preset": ("same,odd", ["=preset:tat/mtdnn"]),
    "freelb-new-masks": ("same,overlap", ["mode=freelb", "reuse_dropout_mask=false", "include_clean=true"]),
    "freelb-large": ("same,tagged", ["mode=freelb", "passes=2", "step_size=1", "radius=1.5", "init_magnitude=0.5"]),
    "rapt-embeddings": ("same,overlap", ["mode=rapt", "max_layer=0", "norm=token"]),
    "rapt-whole-passes": ("same,graded", ["mode=rapt", "max_layer=2", "share_prefix=false", "weight=0.3"]),
    "yopo-inner-steps": ("same,found", ["mode=yopo", "passes=2", "inner_steps=3"]),
    "r3f-normal": ("same,overlap", ["mode=r3f", "noise=normal", "epsilon=0.1", "divergence=hellinger"]),
    "rdrop-weight": ("negated,marks", ["mode=rdrop", "weight=4", "divergence=null"]),
    "rdrop-stop-gradient": ("tagged", ["mode=rdrop", "stop_gradient=target"]),
    "modes-per-task": (
        "same,negated,overlap",
        ["mode=freeat", "tasks.negated={mode: tat, tally: soft}", "tasks.overlap={mode: rapt, max_layer: 2}"],
    ),
}
OTHERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "schedule-constant": ("same", ["schedule.name=constant", "schedule.warmup_fraction=0"]),
    "schedule-cosine": ("same,overlap", ["schedule.name=cosine", "schedule.warmup_fraction=0.5"]),
    "schedule-polynomial": ("negated,tagged", ["schedule.name=polynomial", "schedule.power=2"]),
    "accumulate": ("same,overlap", ["train.accumulate=2", "train.batch_size=4", "adversary.mode=freelb"]),
    "mixed-updates": ("same,overlap,tagged", [*MIXED, "adversary.mode=vat"]),
    "mixed-updates-many-modes": (
        "same,negated,overlap",
        [*MIXED, "adversary.mode=freeat", "adversary.tasks.negated.mode=tat", "adversary.tasks.overlap.mode=none"],
    ),
    "balance-log-classes": ("same,tagged,odd", ["train.loss_balance=log_classes", "adversary.mode=r3f"]),
    "balance-uncertainty": ("same,overlap,found", [*MIXED, "train.loss_balance=uncertainty", "train.balance_lr=0.1"]),
    "pcgrad": (  # the order of conflicts matters where there are several
        "same,overlap,tagged,marks",
        [*MIXED, "train.accumulate=8", "train.epochs=4", "train.gradient_surgery=pcgrad"],
    ),
    "pcgrad-pgd": ("same,tagged", [*MIXED, "train.gradient_surgery=pcgrad", "adversary.mode=pgd"]),
    "layer-decay": ("same,overlap", ["optimizer.layer_decay=0.5"]),
    "freeze-embeddings": ("same,tagged", ["optimizer.freeze=[embeddings]", "adversary.mode=tat"]),
    "freeze-layers": ("negated", ["optimizer.freeze=['layers:0','*LayerNorm*']"]),
    "no-decay": ("same", ["optimizer.no_decay=['*embeddings*']", "optimizer.name=adamw"]),
    "lookahead-default": ("same,overlap", ["optimizer.lookahead.steps=3", "optimizer.lookahead.alpha=0.8"]),
    "betas": ("same", ["optimizer.name=adamw", "optimizer.betas=[0.8,0.95]", "optimizer.eps=1e-3"]),
    "clip-norm": ("overlap", ["train.clip_norm=0.1"]),
    "no-clip": (
        "overlap,gap",
        ["train.clip_norm=null", "optimizer.name=sgd", "optimizer.eps=null", "optimizer.lr=0.01"],
    ),
    "pooler-fresh": ("same,negated", ["encoder.pooler=fresh"]),
    "pooler-cls": ("same,overlap", ["encoder.pooler=cls", "adversary.mode=freelb"]),
    "pooler-mean": ("same,odd", ["encoder.pooler=mean"]),
    "pooler-max": ("same,marks", ["encoder.pooler=max"]),
    "pooler-attention": ("same,gap", ["encoder.pooler=attention", "adversary.mode=rapt", "adversary.max_layer=2"]),
    "scalar-mix": ("same,tagged", ["encoder.scalar_mix=true", "adversary.mode=vat"]),
    "padded": ("same,overlap", ["encoder.attention=padded"]),
    "padded-tat": ("tagged,odd,found", ["encoder.attention=padded", "adversary.mode=tat"]),
    "first-block": ("same,overlap", ["encoder.blocks=[0]"]),
    "taught": ("same,overlap,graded", [TAUGHT, "distillation.temperature=2"]),
    "taught-words-tat": ("tagged,chained,found", [TAUGHT, "adversary.mode=tat"]),
    "taught-choices-freelb": ("odd,gap,marks", [TAUGHT, "adversary.mode=freelb"]),
    "sampling-uniform": ("same,overlap", ["sampling.strategy=uniform", "data.max_rows=12", "train.batch_size=4"]),
    "sampling-temperature": (
        "same,overlap,tagged",
        ["sampling.strategy=temperature", "sampling.temperature=3", "train.batch_sizes={same: 2}"],
    ),
    "sampling-annealed": ("same,overlap", ["sampling.strategy=annealed", "train.batch_sizes={same: 2}"]),
    "sampling-weights": ("same,negated", ["sampling.strategy=weights", "sampling.weights={same: 3, negated: 1}"]),
    "sampling-mtdnn": ("same,overlap,odd", ["sampling.strategy=mtdnn", "sampling.mix_opt=1", "sampling.ratio=1"]),
    "activation-checkpointing": ("same,overlap", ["train.activation_checkpointing=true", "adversary.mode=vat"]),
    "shared-heads": ("same,renamed", ["adversary.mode=tat"]),
    "no-dropout": ("same,overlap", ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0"]),
    "much-dropout-rdrop": (
        "marks,tagged",
        ["encoder.dropout=0.4", "heads.dropout=0.5", "adversary.mode=rdrop", "train.epochs=3", "optimizer.lr=0.03"],
    ),
    "much-dropout": ("same,linked", ["encoder.dropout=0.3", "heads.dropout=0.5", "heads.san_prediction_dropout=0.4"]),
    "other-seed": ("same,overlap", ["seed=7", "adversary.mode=rapt", "adversary.max_layer=2"]),
    "best-by-metric": (
        "same,tagged",
        ["evaluation.metric=mean", "evaluation.every_steps=1", "checkpoint.every_steps=3"],
    ),
}


def overrides_of(tasks: str, options: Sequence[str]) -> list[str]:
    """The overrides of one combination; those of its own come last and so win."""
    return [*SHARED, f"tasks=[{tasks}]", *options]


def combinations(encoders: str) -> dict[str, list[str]]:
    """The overrides of every combination by its name; ``encoders`` is the folder of encoders of other families."""
    return {name: overrides_of(tasks, options) for name, tasks, options in _listed(encoders)}


def _listed(encoders: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Name, tasks and options of every combination."""
    for mode in MODES:
        for group, tasks in TASK_GROUPS.items():
            yield f"{mode}-{group}", tasks, [f"adversary.mode={mode}", *NEEDED.get(mode, ())]
    for optimizer, options in OPTIMIZERS.items():
        own = [f"optimizer.name={optimizer}", "optimizer.eps=null", *options]
        yield f"{optimizer}-lookahead", "same,overlap", own
        without = ["optimizer.lookahead.enabled=false", "optimizer.lookahead.steps=5"]  # the default: nothing reads it
        yield f"{optimizer}-alone", "same,overlap", [*own, *without]
    for name, (tasks, settings) in ADVERSARIES.items():
        yield name, tasks, [f"adversary{option if option[0] == '=' else f'.{option}'}" for option in settings]
    for family in FAMILIES:
        mode = "freelb" if family == "modernbert" else "tat"
        yield f"family-{family}", "same,tagged", [f"encoder.name={encoders}/{family}", f"adversary.mode={mode}"]
    yield "pooler-family", "same,tagged", [f"encoder.name={encoders}/modernbert", "encoder.pooler=family"]
    for name, (tasks, settings) in OTHERS.items():
        yield name, tasks, settings
