"""The picture: what is drawn, where, and that it is SVG."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.figures import Figure, Point, alone, ratio
from bench.picture import Panel, draw, panels

SVG = "{http://www.w3.org/2000/svg}"


def figure(streams: int, phase: str, ours: float, other: float) -> Figure:
    made = ratio(f"{streams} streams", [ours], [other])
    return replace(made, side="A & B", phase=phase, point=Point("Tokens/s <all>", "streams", streams))


FIGURES = [
    figure(2, "fresh", 30.0, 20.0),
    figure(1, "fresh", 20.0, 21.0),
    figure(1, "steady", 19.0, 20.0),
    replace(alone("turn 1", "s", [0.5]), phase="fresh", point=Point("Chat", "turn", 1)),
    alone("memory", "MiB", [80.0]),
]


def test_panels_have_a_curve_for_each_side_and_phase() -> None:
    load, chat = panels(FIGURES, "ours")
    assert (load.title, load.axis, load.xs) == ("Tokens/s <all>", "streams", [1, 2])
    assert load.curves == {
        ("ours", "fresh"): {2: 30.0, 1: 20.0},
        ("A & B", "fresh"): {2: 20.0, 1: 21.0},
        ("ours", "steady"): {1: 19.0},
        ("A & B", "steady"): {1: 20.0},
    }
    assert chat.curves == {("ours", "fresh"): {1: 0.5}}


@pytest.mark.parametrize(("highest", "top"), [(30.0, 32), (0.5, 0.5), (0.51, 0.6), (1.0, 1), (97.0, 100), (0.0, 1)])
def test_the_axis_ends_at_a_round_number(highest: float, top: float) -> None:
    assert Panel("", "", {("ours", ""): {1: highest}}).top == pytest.approx(top)


def test_it_is_svg_with_a_line_for_each_curve() -> None:
    root = ElementTree.fromstring(draw(panels(FIGURES, "ours"), "a <machine> & more"))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert root.find(f"{SVG}title") is not None
    assert {"Tokens/s <all>", "Chat", "a <machine> & more", "ours, after traffic", "A & B, after the load"} <= set(
        texts
    )
    curves = [element for element in root.iter(f"{SVG}path") if "L" in element.attrib["d"]]
    assert len(curves) == 2  # the others have a single point
    assert len(list(root.iter(f"{SVG}circle"))) == 7


def test_higher_values_are_higher_up() -> None:
    panel = Panel("", "", {("ours", ""): {1: 1.0, 2: 5.0, 4: 10.0}})
    root = ElementTree.fromstring(draw([panel], ""))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle")]
    assert dots == sorted(dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.2)
