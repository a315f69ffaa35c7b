"""What the server of ``tests.forks`` does before it forks: everything that each command would do anew."""

import gc
from importlib import import_module

gc.disable()  # nothing of what is imported is garbage
import_module("pytest")
import_module("tests.forks").import_late()
gc.freeze()  # or each process would go through all objects of the imports, and get its own copy of their pages
gc.enable()
