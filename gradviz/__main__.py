"""``python -m gradviz`` is the same as ``gradviz``."""

import os
import sys

if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109  (a click.py in there is the program's)
    del sys.path[0]

from gradviz.frontends.cli import main

main()
