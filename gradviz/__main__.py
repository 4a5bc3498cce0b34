"""The command ``gradviz``, which ``python -m gradviz`` starts as well."""

import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is imported ends it with a line, too."""
    try:
        from gradviz.frontends.cli import main as run

        run()
    except KeyboardInterrupt:
        print("\ngradviz: stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109  (a click.py in there is the program's)
        del sys.path[0]
    main()
