"""The programs are run by the tests, many of them into an error; they are not imported."""

collect_ignore_glob = ["programs/*.py", "threads/*.py"]
