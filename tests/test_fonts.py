"""Widths are Helvetica's, so that a box fits its text in every viewer."""

import pytest

from gradviz.renderers.cards import text_width


@pytest.mark.parametrize(
    ("text", "regular", "bold"),
    [  # from Adobe's Helvetica and Helvetica-Bold metrics
        (" ", 278, 278),
        ("A", 667, 722),
        ("i", 222, 278),
        ("m", 833, 889),
        ("0", 556, 556),
        ("@", 1015, 975),
        ("~", 584, 584),
        ("\u00e9", 556, 556),
        ("\u00ff", 500, 556),
        ("×", 584, 584),
    ],
)
def test_known_advance_widths(text: str, regular: int, bold: int) -> None:
    assert text_width(text, 1000) == regular
    assert text_width(text, 1000, bold=True) == bold


def test_width_grows_with_size_and_adds_up() -> None:
    assert text_width("weight", 20) == pytest.approx(2 * text_width("weight", 10))
    assert text_width("ab", 10) == pytest.approx(text_width("a", 10) + text_width("b", 10))
    assert text_width("", 10) == 0


def test_characters_helvetica_lacks() -> None:
    assert text_width("层", 10) == 10
    assert text_width("🔥", 10) == 10
    assert text_width("ᚠ∂", 10) == pytest.approx(12)
    assert text_width("e\u0301", 10) == text_width("e", 10)
    assert text_width("a\u200bb", 10) == text_width("ab", 10)


def test_arrows_are_as_wide_as_arial_draws_them() -> None:
    assert text_width("→", 10) == 10
