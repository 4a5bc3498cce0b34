"""The command ``gradviz``, which ``python -m gradviz`` starts as well."""

import os
import sys
import threading


def main() -> None:
    """Run the command line; Ctrl-C while it is imported ends it with a line, too."""
    try:
        from gradviz.frontends.cli import main as run

        run()
    except SystemExit as ended:
        _leave_threads(ended.code)
        raise
    except KeyboardInterrupt:
        print("\ngradviz: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _leave_threads(code: object) -> None:
    """End the process, where threads of a program that was stopped early wait for it.

    Python would wait for them for ever, as for a producer whose queue is full.
    """
    program = sys.modules.get("gradviz.frontends.program")
    if program is None or not program.stopped_early.is_set():
        return
    own = threading.current_thread()
    others = [each for each in threading.enumerate() if each is not own and not each.daemon]
    for each in others:
        each.join(1.0)
    if any(each.is_alive() for each in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109  (a click.py in there is the program's)
        del sys.path[0]
    main()
