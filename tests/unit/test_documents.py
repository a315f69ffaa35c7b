"""Blocks, links and navigation of README.md and docs/. tests/end_to_end/test_documents.py runs the blocks."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic import BaseModel

from data_utils.task_def import load_task_defs
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from scripts.write_commands_page import PAGE, page
from tests import ROOT
from tests.documents import NOTEBOOKS, PAGES, Block, blocks

DOCS = ROOT / "docs"
ALL = [block for path in PAGES for block in blocks(path)]
NEEDING = [block for block in ALL if block.needs]
# No block is left out without a reason, and these are few: the most blocks that may need each.
NEEDS = {"hub": 24, "gpu": 8, "slurm": 3, "extra": 12, "time": 4}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_most_blocks_run():
    counts = Counter(str(block.needs) for block in NEEDING)
    assert set(counts) <= set(NEEDS) and all(count <= NEEDS[needs] for needs, count in counts.items()), counts
    assert len(ALL) - len(NEEDING) > 40


def test_every_block_of_code_is_found():
    """A fence that is indented, or has another language, would not run."""
    for path in PAGES:
        fences = [token for token in MarkdownIt().parse(path.read_text(encoding="utf-8")) if token.type == "fence"]
        languages = Counter(token.info.split()[0] for token in fences if token.info)
        assert set(languages) <= {"bash", "python", "text", "yaml", "json", "bibtex"}, path
        found = Counter(block.language for block in blocks(path))
        setup = path.name == "README.md"  # the commands that set up the machine do not run
        assert {"bash": found["bash"] + setup, "python": found["python"]} == {
            language: languages[language] for language in ("bash", "python")
        }, path


@pytest.mark.parametrize("block", NEEDING, ids=str)
def test_blocks_that_cannot_run_fit_the_command_line(block: Block):
    from typer.main import get_command

    from mt_dnn.cli.main import app

    if block.language == "python":
        compile(block.text, str(block), "exec")
        return
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    text = block.text.replace("\\\n", " ")
    commands = [line.removeprefix("mt-dnn ") for line in text.splitlines() if line.startswith("mt-dnn ")]
    for arguments in (shlex.split(line) for line in commands):
        command: Any = get_command(app)
        while hasattr(command, "commands"):
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, list(arguments))  # raises UsageError for what the command does not take
        if name == "train":
            path, *overrides = [word for word in arguments if not re.fullmatch(r"--\w+|\d+", word)]
            load_config(ROOT / path, overrides)
    for script in re.findall(r"^(?:bash|sbatch|python) (\S+)", text, re.M):
        assert (ROOT / script).is_file(), script


def slugs(path: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Links of a page to files or headings that are not there, or from a page of the site to what is not on it."""
    broken = []
    for link, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", path.read_text(encoding="utf-8")):
        target = path.parent / link if link else path
        on_site = not path.is_relative_to(DOCS) or target.resolve().is_relative_to(DOCS)
        if not (target.exists() and on_site and (not anchor or anchor in slugs(target))):
            broken.append(f"{link}#{anchor}")
    return broken


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=named)
def test_links_lead_to_pages_and_headings(path: Path):
    assert broken_links(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_have_code_and_text_but_no_outputs(path: Path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) and {cell["cell_type"] for cell in cells} == {
        "code",
        "markdown",
    }
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_broken_links_are_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[right](#a-heading) [gone](gone.md) [no](page.md#no) [far](https://example.org)\n")
    assert broken_links(page) == ["gone.md#", "page.md#no"]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_that_pages_name_exist(path: Path):
    names = re.findall(r"`((?:docs|experiments|mt_dnn|scripts|task_defs|tests)/[\w./-]+)`", path.read_text("utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_messages_that_the_faq_explains_exist():
    sources = [path for package in ("data_utils", "mt_dnn") for path in (ROOT / package).rglob("*.py")]
    code = re.sub(r'"\s+f?"', "", " ".join(path.read_text(encoding="utf-8") for path in sources))
    messages = re.findall(r"^\*\*`([^`]+)`\.\*\*", (DOCS / "faq.md").read_text(encoding="utf-8"), re.M)
    assert len(messages) >= 5 and [message for message in messages if message not in code] == []


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section of the run file, and of the sections in it."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in (field.annotation, *get_args(field.annotation)):
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from settings(section, f"{prefix}{name}.")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_settings_that_pages_name_exist(path: Path):
    known = {
        *settings(RunConfig),
        *(f"adversary.{name}" for mode in ADVERSARIES.values() for name in settings(mode.options_type)),
    }
    sections = "|".join(sorted({key.split(".")[0] for key in known if "." in key}))
    named = re.findall(rf"`((?:{sections})\.[a-z_.]+)(?==|`| )", path.read_text(encoding="utf-8"))
    assert {key for key in named if key not in known and not key.startswith("adversary.tasks.")} == set()


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent.name != "modes"], ids=named)
def test_yaml_of_pages_can_be_read(path: Path, tmp_path: Path):
    """Pages of modes have settings of their mode alone, which tests/unit/adversarial reads."""
    for code in re.findall(r"^```yaml\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S):
        (tmp_path / "block.yml").write_text(code, encoding="utf-8")
        keys = yaml.safe_load(code).keys()
        if not keys <= {*RunConfig.model_fields, "extends"}:
            assert load_task_defs(tmp_path / "block.yml")
            continue
        # A block may be a part of a file.
        more = {"task_defs": "task_defs=task_defs/glue.yml", "data": "data.dir=data", "encoder": "encoder.name=encoder"}
        load_config(tmp_path / "block.yml", [more[key] for key in more if not keys & {key, "extends"}])


def test_the_navigation_has_every_page_once():
    written = re.sub(r"^ *#.*$", "", (ROOT / "zensical.toml").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(re.findall(r'"([\w/]+\.md)"', written)) == sorted(str(path.relative_to(DOCS)) for path in PAGES[1:])


def test_the_page_of_commands_says_what_the_commands_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "python scripts/write_commands_page.py writes it anew"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_lines_are_short(path: Path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "- `"))]
    assert path == PAGE or long == []


@pytest.mark.skipif(find_spec("zensical") is None, reason="the extra docs is not installed")
@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "with a broken link"])
def test_the_site_builds(broken: bool, tmp_path: Path):
    for name in ("experiments", "task_defs", "mt_dnn", "data_utils"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "zensical.toml", tmp_path)  # its folder is where the site is built
    shutil.copytree(DOCS, tmp_path / "docs")
    if broken:
        with (tmp_path / "docs" / "index.md").open("a") as file:
            file.write("\n[there is no such page](missing.md)\n")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True)
    assert (result.returncode != 0) == broken, result.stdout + result.stderr
    assert broken or (tmp_path / "site" / "tutorial" / "index.html").is_file()
