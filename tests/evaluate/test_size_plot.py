"""The drawing of claims by size: its curves are the rows and the plans, and what is missing is said."""

import xml.etree.ElementTree as ET

import pytest

from linfusion_cli.evaluate.ablations import Claim
from linfusion_cli.evaluate.bootstrap import Score
from linfusion_cli.evaluate.samples import Way
from linfusion_cli.evaluate.size_plot import Curve, Point, distance_curves, planned_curves, size_svg
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow  # all of them together

SCORES = {"distance whole": Score(8.0, 6.0, 11.0)}
ROWS = [
    (Claim("softmax, direct", Way(attention="softmax"), 2, 72), SCORES),
    (Claim("softmax, direct", Way(attention="softmax"), 1, 72), {"distance whole": Score(5.0, 4.0, 7.0)}),
    (Claim("linear, direct", Way(), 1, 72), SCORES),
    (Claim("linear, distilled, direct", Way(), 1, 72), SCORES),
    (Claim("progressive, softmax", Way(), 16, 9), SCORES),
    (Claim("linear, direct", Way(), 4, 72), {}),
]


def test_curves_are_the_direct_rows_of_the_models_own_attentions() -> None:
    assert distance_curves(ROWS, 128) == [
        Curve("softmax", (Point(128, 5.0, 4.0, 7.0), Point(256, 8.0, 6.0, 11.0))),
        Curve("linear", (Point(128, 8.0, 6.0, 11.0),)),
    ]


def test_softmax_takes_more_the_larger_the_image() -> None:
    seconds, memory = planned_curves("landscape", find_machine("cpu"))
    for softmax, linear in (seconds, memory):
        assert (softmax.name, linear.name) == ("softmax", "linear")
        by_side = {point.side_px: point.value for point in linear.points}
        ratios = [point.value / by_side[point.side_px] for point in softmax.points]
        assert ratios == sorted(ratios)
        assert [point.value for point in linear.points] == sorted(by_side.values())


def test_the_drawing_holds_every_point_with_its_numbers() -> None:
    some = [
        Curve("softmax", (Point.exact(256, 2.0), Point.exact(4096, 900.0))),
        Curve("linear", (Point.exact(256, 3.0),)),
    ]
    root = ET.fromstring(size_svg(distance_curves(ROWS, 128), some, [Curve("linear", ())]))
    told = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "softmax, 128x128: 5 (4 to 7)" in told
    assert "softmax, 4096x4096: 900 (900 to 900)" in told
    assert len(told) == 6
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")].count("not measured") == 1
    drawn = [float(circle.attrib["cx"]) for circle in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert all(0 < x < 960 for x in drawn)
