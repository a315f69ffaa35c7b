"""What holds for the project as a whole: imports, sizes, documents, scripts, pins and shipped YAML files."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.documents import PAGES

PACKAGES = ("data_utils", "mt_dnn", "experiments", "scripts")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FOLDERS = (*PACKAGES, "docs", "task_defs", "docker", "tests")
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))),
]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
# Each package of mt_dnn imports only those before it; packages on one line do not import each other.
ORDER = [
    ["foreign"],
    ["section"],
    ["threads"],
    ["telemetry"],
    ["apex"],
    ["distributed"],
    ["batches"],
    ["encoders"],
    ["tasks"],
    ["adversarial"],
    ["training"],
    ["runs"],
    ["inference"],
    ["bench", "studies", "analyses"],
    ["cli"],
]
LEVEL = {package: level for level, packages in enumerate(ORDER) for package in packages}
ALLOWED = {
    "data_utils": {"data_utils"},
    "mt_dnn": {"data_utils", "mt_dnn"},
    "experiments": {"data_utils", "mt_dnn"},
    "scripts": {"data_utils", "mt_dnn"},
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file. Most tests look at all nodes of all files, and finding them takes longest."""
    return (*ast.walk(tree(path)),)


def broken(
    rule: Callable[[Path], Collection[object]], paths: Sequence[Path] = SOURCES
) -> dict[str, Collection[object]]:
    """What breaks the rule, by file. One test for all files, since thousands of tests take longer than what they do."""
    assert paths
    return {named(path): found for path in paths if (found := rule(path))}


def imports_of(part: Iterable[ast.AST]) -> Iterator[str]:
    """Full names of all modules that are imported in these nodes."""
    for node in part:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:  # from package import module
                module = f"{node.module}.{alias.name}"
                yield module if (ROOT / f"{module.replace('.', '/')}.py").exists() else node.module


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of all modules imported anywhere in a file, also inside functions."""
    return frozenset(imports_of(nodes(path)))


def test_imports_point_one_way():
    def wrong(path: Path) -> set[str]:
        package = path.relative_to(ROOT).parts[0]
        return {name.split(".")[0] for name in imported(path)} & {*PACKAGES, "tests"} - ALLOWED[package]

    assert broken(wrong) == {}


def test_packages_import_only_those_before_them():
    def wrong(path: Path) -> list[str]:
        here = path.relative_to(ROOT / "mt_dnn").parts[0].removesuffix(".py")
        names = [name.split(".") for name in imported(path) if name.startswith("mt_dnn.")]
        return [".".join(name) for name in names if name[1] != here and LEVEL[name[1]] >= LEVEL[here]]

    # mt_dnn/__init__.py has lazy names only, see test_package_files_hold_only_lazy_names
    assert broken(wrong, [*{*(ROOT / "mt_dnn").rglob("*.py")} - {ROOT / "mt_dnn" / "__init__.py"}]) == {}


def test_every_package_has_its_level():
    found = {path.name.removesuffix(".py") for path in (ROOT / "mt_dnn").iterdir() if path.suffix in ("", ".py")}
    assert found - {"__init__", "__pycache__"} <= set(LEVEL)


@pytest.mark.parametrize("package", ["mt_dnn", "data_utils"])
def test_no_modules_import_each_other_in_a_circle(package):
    graph = {}
    for path in (ROOT / package).rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = {name for name in imported(path) if name.startswith(package)}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_import_is_hidden_from_the_interpreter():
    def hidden(path: Path) -> list[int]:
        checks = [node for node in nodes(path) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
        parts = [part for node in checks for part in ast.walk(node)]
        return [part.lineno for part in parts if isinstance(part, ast.Import | ast.ImportFrom)]

    assert broken(hidden) == {}


def test_package_files_hold_only_lazy_names():
    """Importing a package loads none of its modules; names are imported when they are asked for."""

    def loaded(path: Path) -> list[str]:
        body = tree(path).body[1:]
        classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
        names = [name for node in body if not isinstance(node, ast.FunctionDef) for name in imports_of(ast.walk(node))]
        return classes + [name for name in names if name.startswith(("mt_dnn", "data_utils"))]

    assert broken(loaded, [path for path in SOURCES if path.name == "__init__.py"]) == {}


def test_only_the_data_command_and_experiments_know_benchmarks():
    sources = [
        path for path in SOURCES if "benchmarks" not in path.parts and path.parts[-3:] != ("mt_dnn", "cli", "data.py")
    ]
    wrong = [
        named(path)
        for path in sources
        if path.relative_to(ROOT).parts[0] != "experiments"
        and any(name.startswith("data_utils.benchmarks") for name in imported(path))
    ]
    assert not wrong


@pytest.mark.parametrize("package", ["training", "batches"])
def test_training_and_batches_do_not_know_the_run_file(package):
    names = {
        node.id
        for path in (ROOT / "mt_dnn" / package).rglob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.Name)
    }
    assert "RunConfig" not in names


def test_data_utils_never_imports_torch():
    modules = [path for path in SOURCES if path.is_relative_to(ROOT / "data_utils")]
    assert not [named(path) for path in modules if "torch" in {name.split(".")[0] for name in imported(path)}]


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {named(path): length for path, length in lengths.items() if length > 300} == {}


@pytest.mark.parametrize(("kind", "most"), [(ast.ClassDef, 150), (ast.FunctionDef, 60)])
def test_classes_and_functions_are_short(kind, most):
    def long(path: Path) -> list[str]:
        parts = [node for node in nodes(path) if isinstance(node, kind)]
        return [node.name for node in parts if node.end_lineno - node.lineno + 1 > most]

    assert broken(long) == {}


def test_nothing_evaluates_or_unpickles():
    def called(path: Path) -> set[str]:
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        return names & {"eval", "exec"} | imported(path) & {"pickle"}

    assert broken(called) == {}


# Names that said too little, and what stands in their place.
RETIRED = {
    "place": "location (in a file) or position (in a sequence or batch)",
    "places": "locations or positions",
    "own": "what it belongs to: task_options, local_rows, ...",
    "one": "what it is: decoded, adversary, ...",
    "total": "all_reduce_sum, total_steps, count",
    "any_rank": "max_over_ranks",
    "tuned": "with_memory_options",
    "whole": "full_tensors, global_size",
    "lines": "records",
}


def texts(path: Path) -> Iterator[str]:
    """The texts in a module that are not docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [node.body[0] for node in nodes(path) if isinstance(node, owners) and node.body]
    docstrings = {id(statement.value) for statement in first if isinstance(statement, ast.Expr)}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("package", ["data_utils", "mt_dnn"])
def test_no_message_names_a_file_that_an_installed_package_lacks(package: str) -> None:
    """The wheel has the YAML files of task_defs/ and experiments/, and nothing else beside the packages."""
    lacking = re.compile(r"\b(?:docs|scripts)/\w|\b(?:experiments|task_defs)/[\w/.-]*\.(?!yml\b)\w|CONTRIBUTING")
    assert lacking.search("as in docs/export.md") and not lacking.search("such as task_defs/glue.yml")
    sources = sorted((ROOT / package).rglob("*.py"))
    assert [(named(path), text) for path in sources for text in texts(path) if lacking.search(text)] == []


def identifiers(part: Iterable[ast.AST]) -> Iterator[str]:
    """Every name of a function, class, parameter, variable, field and keyword in these nodes."""
    for node in part:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.split(".")[-1]


def test_identifiers_are_found_wherever_they_stand():
    code = "import a.b as c\ndef d(e, *, f=1):\n    g.h = i(j=2)\nclass k: l: int"
    assert set(identifiers(ast.walk(ast.parse(code)))) >= set("cdefghijkl")


def test_retired_names_are_gone():
    assert broken(lambda path: {name: RETIRED[name] for name in identifiers(nodes(path)) if name in RETIRED}) == {}


def test_tokenizers_have_a_type():
    def untyped(path: Path) -> list[int]:
        found = [node for node in nodes(path) if isinstance(node, ast.arg) and "tokenizer" in node.arg]
        return [node.lineno for node in found if node.annotation is None or "Any" in ast.unparse(node.annotation)]

    assert broken(untyped) == {}


def test_every_test_tier_has_its_place():
    tests = [path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")]
    assert set(tests) <= {"unit", "parity", "distributed", "end_to_end", "gpu"}


# Documents


def code_lines(path: Path) -> list[str]:
    """Lines of all fenced and indented blocks, continued lines joined."""
    text = re.sub(r" *\\\n *", " ", path.read_text(encoding="utf-8"))
    parts = re.split(r"^```", text, flags=re.M)  # prose and fenced blocks in turn
    fenced = [line for block in parts[1::2] for line in block.splitlines()[1:]]
    indented = [line[4:] for prose in parts[::2] for line in prose.splitlines() if line.startswith("    ")]
    return [line for line in fenced + indented if line]


def commands(word: str) -> list[tuple[str, list[str]]]:
    """(file, arguments) of every fenced command line that starts with the word, where blocks are not run."""
    documents = [path for path in DOCUMENTS if path not in PAGES]
    lines = [(named(path), line.split("  #")[0].strip()) for path in documents for line in code_lines(path)]
    return [(name, shlex.split(line)[1:]) for name, line in lines if line.startswith(f"{word} ")]


def test_readme_opens_with_the_two_commands():
    lines = code_lines(ROOT / "README.md")
    assert lines[:2] == ["bash scripts/quickstart.sh", "bash scripts/test.sh"]


def test_documented_subcommands_and_options_exist():
    from typer.main import get_command

    from mt_dnn.cli.main import app

    found = commands("mt-dnn")
    assert len(found) >= 6
    for place, arguments in found:
        command = get_command(app)
        while (group := getattr(command, "commands", None)) is not None and not arguments[0].startswith("-"):
            assert arguments and arguments[0] in group, f"{place}: mt-dnn {' '.join(arguments)}"
            command, *arguments = group[arguments[0]], *arguments[1:]
        options = {o for p in command.params for o in [*p.opts, *p.secondary_opts]} | {"--help"}
        written = {argument.split("=")[0] for argument in arguments if re.match("--?[a-z]", argument)}
        assert written <= options, f"{place}: {command.name}: {written - options}"


def test_documented_run_files_load_with_their_overrides():
    from mt_dnn.runs.config_file import load_config

    for _, arguments in commands("mt-dnn"):
        if arguments[0] == "train":
            command = re.sub(r"--(gpus|restarts) \d+ ", "", " ".join(arguments[1:]))
            path, *overrides = command.split()
            load_config(ROOT / path, overrides)


@pytest.mark.parametrize("word", ["bash", "python"])
def test_documented_scripts_exist(word):
    found = [(place, arguments[0]) for place, arguments in commands(word) if arguments[0] != "-m"]
    assert found
    assert all((ROOT / script).is_file() for _, script in found), found


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_between_documents_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert all((path.parent / link).exists() for link in links), links


def test_the_tree_has_one_line_per_package():
    tree_block = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8").split("## The tree", 1)[1]
    packages = [path.parent for root in ("data_utils", "mt_dnn") for path in (ROOT / root).rglob("__init__.py")]
    lines = [line.split() for line in tree_block.splitlines()]
    for package in packages:
        assert sum(line[:1] == [f"{package.name}/"] for line in lines) == 1, package
    assert not [line for line in lines if line and line[0].endswith(".py") and line[0] != "setup.py"]


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 100


# Scripts, pins and YAML files


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_scripts_parse_and_stop_at_errors(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "\nset -euo pipefail\n" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage:"),
        (["missing-folder", "encoder", "rte"], "train_glue: missing-folder: no such data folder"),
        ([".", "encoder", "rte", "many"], "train_glue: batch 'many'"),
        ([".", "encoder", "rte", "32", "0"], "train_glue: gpus '0'"),
    ],
)
def test_train_glue_refuses_with_one_line(arguments, message):
    script = str(ROOT / "scripts" / "train_glue.sh")
    result = subprocess.run(["bash", script, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.startswith(message)
    assert "usage" in message or result.stderr.count("\n") == 1


def test_train_glue_hands_settings_on_in_the_active_environment(tmp_path):
    command = tmp_path / "bin" / "mt-dnn"
    command.parent.mkdir()
    command.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "VIRTUAL_ENV": str(tmp_path)}
    script = ["bash", str(ROOT / "scripts" / "train_glue.sh"), str(tmp_path), "base", "rte"]
    arguments = ["16", "1", "preset:tat/paper", "seed=3", "train.epochs=2"]
    printed = subprocess.run([*script, *arguments], capture_output=True, text=True, env=environment, check=True).stdout
    handed = printed.splitlines()
    assert handed[:2] == ["train", "--gpus"] and handed[-2:] == ["seed=3", "train.epochs=2"]
    assert "output=runs/glue-rte-base-preset-tat-paper-batch16-seed3" in handed
    assert {"tasks=[rte]", "train.batch_size=16", "adversary=preset:tat/paper"} < set(handed)


def setup_literals() -> Iterator[str]:
    """Requirement strings of setup.py: everything under install_requires and the extras."""
    for node in ast.walk(tree(ROOT / "setup.py")):
        lists = [node.value] if isinstance(node, ast.keyword) and node.arg == "install_requires" else []
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            lists += node.value.values
        for values in lists:
            yield from ast.literal_eval(values)


def test_setup_requires_what_is_imported():
    """Not what some package happens to require, but for packages whose version another one decides."""
    renamed = {"yaml": "pyyaml", "sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}
    decided = {
        "tokenizers": "transformers",
        "onnx-ir": "onnxscript",
        "starlette": "fastapi",
        "pydantic-core": "pydantic",
    }
    required = {canonicalize_name(Requirement(text).name) for text in setup_literals()}
    assert set(decided.values()) <= required and not set(decided) & required

    def missing(path: Path) -> set[str]:
        names = {name.split(".")[0] for name in imported(path)} - {*sys.stdlib_module_names, *PACKAGES}
        found = {canonicalize_name(renamed.get(name, name)) for name in names}
        return {name for name in found if decided.get(name, name) not in required}

    packaged = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("data_utils", "mt_dnn")]
    assert broken(missing, packaged) == {}


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_constraints_pin_what_setup_requires(version):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, list[str]] = {}
    for requirement in (Requirement(line) for line in lines if line and not line.startswith("#")):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": version}):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            pins.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    assert all(len(versions) == 1 for versions in pins.values())
    required = [Requirement(text) for text in setup_literals()]
    assert len(required) > 15
    for requirement in required:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)][0]), str(requirement)


def test_lower_bounds_of_setup_are_those_that_were_tried():
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    bounds = [Requirement(text) for text in setup_literals()]
    for requirement in (bound for bound in bounds if canonicalize_name(bound.name) in tried):
        (lowest,) = (part.version for part in requirement.specifier if part.operator == ">=")
        assert lowest == tried[canonicalize_name(requirement.name)], str(requirement)


@pytest.mark.parametrize("path", sorted((ROOT / "task_defs").glob("*.yml")), ids=named)
def test_task_files_load(path):
    from data_utils.task_def import load_task_defs

    assert load_task_defs(path)


EXPERIMENTS = {
    path: yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}  # its Python twin takes ten times as long
    for path in sorted((ROOT / "experiments").rglob("*.yml"))
}
RUN_FILES = [path for path, content in EXPERIMENTS.items() if "task_defs" in content]


@pytest.mark.parametrize("path", RUN_FILES, ids=named)
def test_run_files_load_and_name_existing_task_files(path):
    from mt_dnn.runs.config_file import load_config

    config = load_config(path)
    assert config.task_defs.parts[0] == "task_defs" and (ROOT / config.task_defs).is_file()


def test_all_files_of_experiments_are_run_files_studies_published_numbers_or_the_grammar():
    others = [path for path, content in EXPERIMENTS.items() if path not in RUN_FILES and "axes" not in content]
    assert {path.name for path in others} == {"published.yml", "grammar.yml", "trainer.yml", "crf.yml"}


def test_quick_start_has_its_run_file():
    assert ROOT / "experiments" / "quickstart" / "run.yml" in RUN_FILES
