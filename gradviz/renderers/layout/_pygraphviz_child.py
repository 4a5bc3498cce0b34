"""Run the Graphviz of pygraphviz's wheel as a program: DOT on stdin, the picture on stdout.

Run as a script, ``python _pygraphviz_child.py FOLDER SECONDS PROGRAM KIND [ARGUMENT ...]``,
in its own process: the library holds the interpreter lock while it works, so Ctrl-C and timers
have no effect, and a crash would end the whole process.
"""

import sys


def main(folder: str, seconds: str, program: str, kind: str, *arguments: str) -> None:
    """Read DOT from stdin, lay it out and write the picture to stdout.

    Args:
        folder: where pygraphviz is installed.
        seconds: after which the process ends itself, in case its parent no longer exists.
        program: ``dot`` or ``neato``.
        kind: of picture: ``json``, ``png``, ``pdf``, ...
        arguments: ``-n``, ``-n2`` and ``-Gname=value``, ``-Nname=value``, ``-Ename=value``.
    """
    # The first entry is the folder of this script, whose files would hide standard modules.
    sys.path[0] = folder
    import signal

    from pygraphviz import graphviz as library

    if hasattr(signal, "alarm"):
        signal.alarm(int(float(seconds)) + 1)
    graph = library.agread(sys.stdin, None)
    engine = program
    for argument in arguments:
        name, _, value = argument[2:].partition("=")
        if argument in ("-n", "-n1", "-n2") and program == "neato":
            engine = "nop2" if argument == "-n2" else "nop1"
        elif argument[:2] in ("-G", "-N", "-E") and name:
            owner = {"-G": 0, "-N": 1, "-E": 3}[argument[:2]]
            library.agattr_label(graph, owner, name.encode(), (value or "true").encode())
        else:
            sys.exit(f"the argument {argument!r} is not known to {program}")
    context = library.gvContextWithBuiltins()
    if library.gvLayout(context, graph, engine.encode()):
        sys.exit(f"the layout {engine!r} failed")
    failed, picture = library.gvRenderData(context, graph, kind.encode())
    if failed:
        sys.exit(f"no picture in the format {kind!r}")
    sys.stdout.buffer.write(picture)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
