"""The blocks of README.md and docs/ do what their pages say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.documents import NOTEBOOKS, PAGES, Block, Reader, blocks

SLOW = ("tutorial", "studies", "multi_task")  # these make several runs
RUN = [page for page in PAGES if any(block.needs is None for block in blocks(page))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("reader"))
    yield reader
    reader.close()


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in RUN],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_blocks_of_a_page_run(page: Path, reader: Reader, tmp_path: Path) -> None:
    reader.read(page, tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(notebook: Path, reader: Reader, tmp_path: Path) -> None:
    printed = reader.run_notebook(notebook, tmp_path)
    assert "messages (dev)" in printed and "My card was charged three times.\n  " in printed


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("bash", "mt-dnn train missing.yml"),
        ("bash", "mt-dnn runs | false"),
        ("bash", "python experiments/quickstart/generate.py --no-such-option"),
        ("python", "import mt_dnn\nmt_dnn.load('missing')"),
    ],
)
def test_a_block_that_fails_fails_the_page(language: str, text: str, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    with pytest.raises(AssertionError, match=r"README.md:7: exit code [1-9]"):
        reader.run(Block(ROOT / "README.md", 7, language, text, None), tmp_path)
