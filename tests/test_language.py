"""The language of comments, docstrings and messages: metaphors that were replaced do not return.

CONTRIBUTING has the style. The list below has words of it that a program can recognize.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import ROOT, sources

# A pattern, and the plain words for it.
REPLACED = {
    r"told": "reported, distinguished, printed",
    r"tells? (?:of|the|it|what|why|which|that|more|most)": "report, show, determine",
    r"ghosts?": "untracked tensor",
    r"stubs?": "op record",
    r"strangers?": "unreachable leaves",
    r"riddles?": "plain English",
    r"let(?:ting)? go of": "freed, released",
    r"ways? for (?:a|the) gradient": "a gradient path",
    r"is to be had|are to be had": "is available",
    r"is no leaf|are no leaves": "is a non-leaf tensor",
    r"no way (?:for|leads|to)": "not reachable",
    r"who(?:ever)? asks": "the caller",
    r"goes on from": "uses, continues",
    r"what (?:became|becomes) of": "the state of, the further use of",
    r"or the like": "or a similar call",
    r"not at any price|at no price": "if reading it has side effects",
    r"colours?|coloured|colouring": "color",
    r"greys?": "gray",
    r"neighbours?|neighbourhood": "neighbor",
    r"behaviours?": "behavior",
    r"(?:re)?(?:normal|initial|optim|recogn|summar)is(?:e|es|ed|ing|ation)": "-ize, -ization",
}
WORDS = re.compile("|".join(rf"\b(?:{words})\b" for words in REPLACED), re.IGNORECASE)
# Deprecated names, which are still accepted.
ALIASES = re.compile(r"colour[_-]by")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The lines of comments and strings, with their numbers."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), token.start[0])


def words_in(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    return [
        (number, match[0])
        for number, line in lines
        for match in WORDS.finditer(ALIASES.sub("", line))
    ]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are for people; of documentation and JavaScript, all of them."""
    source = path.read_text(encoding="utf-8")
    return texts(source) if path.suffix == ".py" else iter(enumerate(source.splitlines(), 1))


def files() -> Iterator[Path]:
    yield from sources("gradviz", "examples")
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield from (ROOT / "README.md", ROOT / "CHANGELOG.md")
    yield from sorted((ROOT / "gradviz" / "viewer").glob("*.js"))


def test_replaced_words_do_not_return() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}"
        for path in files()
        for number, word in words_in(texts_of(path))
    ]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
    "source",
    [
        '"""What the hooks told."""',
        "x = 1  # the colour of a leaf",
        'raise ValueError("it is no leaf: mul made it")',
        'say = f"a backward pass has let go of {count} tensors"',
        '"""No way for a gradient leads to it."""',
        "# to optimise it",
    ],
)
def test_a_replaced_word_is_found(source: str) -> None:
    assert words_in(texts(source))


@pytest.mark.parametrize(
    "source",
    ['RENAMED = {"colour_by": "color_by"}', "told = 1", '"""It is a non-leaf tensor."""'],
)
def test_other_text_is_allowed(source: str) -> None:
    assert not words_in(texts(source))
