"""Line charts as SVG."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from nanogpt.reports.chart import POINTS, Curve, chart, label, standalone

NAME = "{http://www.w3.org/2000/svg}"


def drawn(*curves, **options):
    """The chart as the root of its elements; it is well-formed XML."""
    return ElementTree.fromstring(standalone(chart("Loss", curves, **options)))


def path(root, style):
    """The pixels (x, y) of the only path with this style."""
    (found,) = [each for each in root.iter(f"{NAME}path") if style in each.get("class", "").split()]
    pairs = re.split("[ML]", found.get("d").rstrip("Z"))[1:]
    return np.array([[float(number) for number in pair.split()] for pair in pairs])


def texts(root):
    return [each.text for each in root.iter(f"{NAME}text")]


def test_few_points_are_drawn_as_they_are():
    steps = np.arange(1, 11)
    line = path(drawn(Curve("loss", steps, steps**2.0)), "line")
    shares = (line - line[0]) / (line[-1] - line[0])
    np.testing.assert_allclose(shares[:, 0], (steps - 1) / 9, atol=0.001)
    np.testing.assert_allclose(shares[:, 1], (steps**2.0 - 1) / 99, atol=0.001)


def test_very_many_points_are_a_line_of_means_and_a_band_that_has_the_one_outlier():
    losses = np.full(100_000, 2.0)
    losses[::2] = 4.0  # the mean of each column is 3
    losses[70_000] = 3.5
    losses[12_345] = 1.0
    root = drawn(Curve("loss", np.arange(1, 100_001), losses), Curve("val", [0, 100_000], [2.0, 4.0], dots=True))
    val = list(root.iter(f"{NAME}circle"))
    pixel_of = {2.0: float(val[0].get("cy")), 4.0: float(val[1].get("cy"))}

    def value(pixel):
        return 2.0 + 2.0 * (pixel - pixel_of[2.0]) / (pixel_of[4.0] - pixel_of[2.0])

    line = next(each for each in root.iter(f"{NAME}path") if each.get("class") == "line c0")
    assert line.get("d").count("L") == POINTS - 1
    band = path(root, "band")
    assert len(band) == 2 * POINTS
    inner = next(each for each in root if each.tag == f"{NAME}svg")
    assert 0 < np.median(band[:POINTS, 1]) < float(inner.get("height"))
    assert value(band[:, 1].max()) == pytest.approx(1.0, abs=0.05)
    assert np.median([value(pixel) for pixel in band[:POINTS, 1]]) == pytest.approx(4.0, abs=0.05)
    assert len(ElementTree.tostring(root)) < 30_000


def test_a_dot_has_a_value_that_was_measured_and_many_values_have_no_dots():
    steps = np.arange(1, 2 * POINTS + 1)
    tips = [each.text for each in drawn(Curve("val", steps[:2], [2.0, 4.0], dots=True)).iter(f"{NAME}title")]
    assert tips == ["val 2.0000 at step 1", "val 4.0000 at step 2"]
    assert list(drawn(Curve("val", steps, 1 / steps, dots=True)).iter(f"{NAME}circle")) == []


def test_values_that_are_not_finite_are_left_out():
    line = path(drawn(Curve("loss", [1, 2, 3, 4, 5], [1.0, math.nan, math.inf, -math.inf, 2.0])), "line")
    assert len(line) == 2


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]], ids=["none", "nan"])
def test_a_chart_without_values_says_so(values):
    assert "no values" in texts(drawn(Curve("loss", range(len(values)), values)))


@pytest.mark.parametrize("values", [[2.5], [2.5, 2.5], [0.0, 0.0], [1e-30, 2e-30], [1e300, -1e300]])
def test_any_values_have_axes_and_stay_inside(values):
    root = drawn(Curve("loss", range(len(values)), values, dots=True))
    (inner,) = [each for each in root if each.tag == f"{NAME}svg"]
    circles = list(inner.iter(f"{NAME}circle"))
    assert len(circles) == len(values)
    for circle in circles:
        assert 0 <= float(circle.get("cx")) <= float(inner.get("width"))
        assert 0 <= float(circle.get("cy")) <= float(inner.get("height"))


def test_values_that_differ_by_far_have_a_logarithmic_scale_if_it_may_be():
    curve = Curve("norm", [1, 2, 3], [0.01, 1.0, 100.0])
    line = path(drawn(curve, may_be_log=True), "line")
    assert line[1, 1] == pytest.approx(line[[0, 2], 1].mean(), abs=0.1)
    assert {"0.01", "1", "100"} <= set(texts(drawn(curve, may_be_log=True)))
    assert path(drawn(curve), "line")[1, 1] != pytest.approx(line[1, 1], abs=20)


def test_labels_of_axes_are_short():
    assert [label(value) for value in (0.0, 0.0006, 2.5, 2000, 20_000, 1_500_000, 3e9)] == [
        "0", "0.0006", "2.5", "2000", "20k", "1.5M", "3G",
    ]  # fmt: skip


def test_titles_and_names_are_escaped():
    hostile = '"/><script>alert(1)</script>'
    curves = [Curve(hostile, [1, 2], [1, 2]), Curve("b", [1], [1], dots=True)]
    root = ElementTree.fromstring(standalone(chart(hostile, curves, marks=[(1, hostile)])))
    assert not list(root.iter(f"{NAME}script"))
    assert texts(root).count(hostile) == 2
