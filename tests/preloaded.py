"""What the server of ``tests.forks`` does before it forks: everything that each command would do anew."""

import gc

from tests.forks import import_late

import_late()
gc.freeze()  # or each process would go through all objects of the imports, and get its own copy of their pages
