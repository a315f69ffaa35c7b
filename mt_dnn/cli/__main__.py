"""The start of the ``mt-dnn`` command, also as ``python -m mt_dnn.cli``."""

from __future__ import annotations

import sys

from mt_dnn.foreign import foreign_data_utils


def main() -> None:
    """Runs the command, unless another package stands in place of our ``data_utils``."""
    if (problem := foreign_data_utils()) is not None:
        print(f"mt-dnn: {problem}", file=sys.stderr)
        sys.exit(2)
    from mt_dnn.cli.main import main as run
    from mt_dnn.cli.main import print_traceback

    sys.excepthook = lambda _, error, __: print_traceback(error)
    run()


if __name__ == "__main__":
    main()
