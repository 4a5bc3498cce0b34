"""The sources of the house, each read and parsed once for all tests that ask.

python tests/house.py        # how large it is, beside what it may be
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES, MAX_FILES = 27_500, 150


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def main() -> None:
    sizes = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources("gradviz")
    }
    print(f"{'place in gradviz/':<22}{'files':>8}{'lines':>8}")
    places = sorted({path.relative_to(ROOT / "gradviz").parts[0] for path in sizes})
    for place in places:
        here = [
            lines
            for path, lines in sizes.items()
            if path.relative_to(ROOT / "gradviz").parts[0] == place
        ]
        print(f"{place:<22}{len(here):>8}{sum(here):>8,}")
    print(f"{'all':<22}{len(sizes):>8}{sum(sizes.values()):>8,}")
    print(f"{'goal':<22}{f'<= {MAX_FILES}':>8}{f'<= {MAX_LINES:,}':>9}")


if __name__ == "__main__":
    main()
