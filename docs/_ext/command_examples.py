"""Shows the examples of a command as they are typed."""

import click


def as_typed(_app, ctx: click.Context, lines: list[str]) -> None:
    """Replace the prose that a command's examples would become by blocks of code."""
    epilog = (ctx.command.epilog or "").replace("\b", "").strip("\n")
    lines.clear()
    for line in epilog.splitlines():
        if line and not line.startswith(" "):
            lines += ["", line, ""]
            lines += [".. code-block:: console", ""]
        else:
            lines.append(f"   {line}")
    lines.append("")


def setup(app):
    app.connect("sphinx-click-process-epilog", as_typed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
