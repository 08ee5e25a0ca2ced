"""Contrast of the pages' colours by WCAG 2.1's own formula, and that nothing is fetched."""

import itertools
import re

import pytest

from jaxseg.report import page, paint, script, style

TEXT = ("ink", "faint", "accent", "up", "down")
DRAWN = ("old", "accent", *(f"line{i}" for i in range(style.LINES)))


def luminance(colour):
    """Relative luminance of '#rrggbb' as WCAG 2.1 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_formula():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # published value


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_drawings_stand_out(theme):
    colours = {name: pair[theme] for name, pair in style.COLOURS.items()}
    for ground, (names, least) in itertools.product(("paper", "card"), ((TEXT, 4.5), (DRAWN, 3.0))):
        for name in names:
            assert contrast(colours[name], colours[ground]) >= least, (name, ground)


def test_both_themes_are_in_the_style_sheet():
    light, dark = style.STYLE.split("@media(prefers-color-scheme:dark)")
    assert "--ink:#24262b" in light and "--ink:#e4e6ea" in dark
    used = set(re.findall(r"var\(--(\w+)\)", style.STYLE)) - {"columns", "cut"}
    assert used <= set(style.COLOURS)


def test_nothing_is_fetched():
    text = page.whole("x", [])
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(|fetch\(|XMLHttp", text)
    assert 'src="' not in text and "</script" not in script.SCRIPT


def test_wrong_and_right_are_told_apart_without_colour():
    right, wrong, unlabelled = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in paint.ERRORS)
    assert contrast(right, wrong) >= 3
    assert contrast(right, unlabelled) >= 2 and contrast(wrong, unlabelled) >= 1.5
