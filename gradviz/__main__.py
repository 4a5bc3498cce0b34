"""``python -m gradviz`` is the same as ``gradviz``."""

from gradviz.frontends.cli import main

main()
