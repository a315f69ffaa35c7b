"""What the server of ``tests.forks`` does before it forks: everything that each command would do anew."""

from tests.forks import import_late

import_late()
