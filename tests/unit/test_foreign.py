"""Another package of the name data_utils is told in a line, also where it would break our imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mt_dnn.foreign import check_data_utils, foreign_data_utils
from tests import ROOT


def test_our_package_is_ours() -> None:
    assert foreign_data_utils() is None
    check_data_utils()


@pytest.mark.parametrize("code", ["import mt_dnn.cli.__main__ as m; m.main()", "import mt_dnn; mt_dnn.load"])
def test_another_package_is_told_and_never_run(tmp_path: Path, code: str) -> None:
    other = tmp_path / "data_utils" / "__init__.py"
    other.parent.mkdir()
    other.write_text("raise SystemExit('the other package runs')\n")
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; {code}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    (line,) = [line for line in result.stderr.splitlines() if "is not that of mt-dnn" in line]
    assert f"data_utils: {other} is not that of mt-dnn" in line and "pip uninstall data-utils" in line
    if "main()" in code:
        assert (result.returncode, result.stderr, result.stdout) == (2, line + "\n", "") and line.startswith("mt-dnn: ")
    else:
        assert line.startswith("ImportError: ") and result.returncode == 1
