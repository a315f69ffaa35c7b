"""``python -m mt_dnn.cli`` is the ``mt-dnn`` command."""

from mt_dnn.cli.main import main

if __name__ == "__main__":
    main()
