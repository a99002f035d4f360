"""A power law of the loss: loss = floor + a · N^(-b), fitted by least squares of the logarithm of the loss.

With a floor of 0 it is a straight line in logarithmic axes (Kaplan et al. 2020). A floor, the entropy of the text that
no model predicts (Hoffmann et al. 2022), is one more number to fit: it is used only if five or more points show it.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The two-sided 95 % quantiles of Student's t by degrees of freedom; above the last one the normal distribution's.
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
MOST_STEPS = 100  # of the Gauss-Newton iteration
SMALLEST_SHARE = 1e-6  # smallest to largest singular value of a Jacobian; the covariance, its square, loses 12 digits


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A fitted law. `b_error` is the standard error of b, `points` the number of points.

    `spread`: the standard deviation of ln(loss) around the law. `covariance`: that of the fitted numbers, in the order
    ln(a), b, floor; of the first two if the floor is not fitted.
    """

    a: float
    b: float
    floor: float
    b_error: float
    spread: float
    points: int
    covariance: Floats

    def at(self, size: float) -> float:
        """Return the loss that the law gives for a size."""
        return self.floor + self.a * math.exp(-self.b * math.log(size))

    def standard_error(self, size: float) -> float:
        """Return the standard error of ln(loss) that the law gives for a size."""
        slopes = _jacobian(np.array([math.log(self.a), self.b, self.floor]), np.log([size]))[0]
        slopes = slopes[: len(self.covariance)]
        return math.sqrt(float(slopes @ self.covariance @ slopes))

    def prediction(self, size: float) -> tuple[float, float]:
        """Return the interval in which the loss of one more model of this size lies with a probability of 95 %."""
        deviation = math.hypot(self.spread, self.standard_error(size))
        factor = math.exp(t_95(self.points - len(self.covariance)) * deviation)
        return self.at(size) / factor, self.at(size) * factor


def t_95(degrees: int) -> float:
    """Return the factor of a standard error that gives a 95 % interval, for these degrees of freedom (1 or more)."""
    return T_95[degrees - 1] if degrees <= len(T_95) else 1.96


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Return the power law through three or more points of different sizes; all numbers are positive.

    The floor is 0, unless a fitted one makes the squared deviations smaller than chance would (F test, 95 %), and the
    points determine it with a and b.
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(losses, float))
    plain = _line(x, y)
    if len(x) < 5:
        return _law(plain, x, y, 2)
    curved = _refined(_best_start(x, y), x, y)
    without, with_floor = _squares(plain, x, y), _squares(curved, x, y)
    degrees = len(x) - 3
    is_better = curved[1] > 0 and curved[2] > 0 and without - with_floor > t_95(degrees) ** 2 * with_floor / degrees
    return _law(curved, x, y, 3) if is_better and _is_determined(curved, x) else _law(plain, x, y, 2)


def _is_determined(fitted: Floats, x: Floats) -> bool:
    """Return whether the points determine the fitted numbers: if they are flat after the first one, b has no bound."""
    if fitted[0] >= math.log(sys.float_info.max):
        return False
    values = np.linalg.svd(_jacobian(fitted, x), compute_uv=False)  # from the largest to the smallest
    return bool(values[-1] > SMALLEST_SHARE * values[0])


def _model(fitted: Floats, x: Floats) -> Floats:
    """Return ln(loss) (n) at x = ln(size) (n). fitted: ln(a), b, floor."""
    log_a, b, floor = fitted
    modelled: Floats = np.log(floor + np.exp(log_a - b * x))
    return modelled


def _jacobian(fitted: Floats, x: Floats) -> Floats:
    """Return the derivatives (n, 3) of `_model` by the fitted numbers."""
    log_a, b, floor = fitted
    falling = np.exp(log_a - b * x)
    share = falling / (floor + falling)
    return np.stack((share, -share * x, 1 / (floor + falling)), axis=1)


def _squares(fitted: Floats, x: Floats, y: Floats) -> float:
    return float(((y - _model(fitted, x)) ** 2).sum())


def _line(x: Floats, y: Floats, floor: float = 0.0) -> Floats:
    """Return ln(a) and b of the straight line through y (n) at x (n) with the smallest squares, and the floor."""
    centred = x - x.mean()
    b = -float(centred @ y) / float(centred @ centred)
    return np.array([y.mean() + b * x.mean(), b, floor])


def _best_start(x: Floats, y: Floats) -> Floats:
    """Return the best of some floors below the smallest loss, each with the straight line of what is above it."""
    starts = []
    for share in np.linspace(0.02, 0.98, 49):
        floor = share * math.exp(y.min())
        starts.append(_line(x, np.log(np.exp(y) - floor), floor))
    return min(starts, key=lambda start: _squares(start, x, y))


def _refined(fitted: Floats, x: Floats, y: Floats) -> Floats:
    """Return the numbers with the smallest squared deviations near `fitted`: Gauss-Newton with halved steps."""
    for _ in range(MOST_STEPS):
        step = np.linalg.lstsq(_jacobian(fitted, x), y - _model(fitted, x), rcond=None)[0]
        before = _squares(fitted, x, y)
        while np.abs(step).max() > 1e-12:
            candidate = fitted + step
            if candidate[2] >= 0 and _squares(candidate, x, y) < before:
                break
            step = step / 2
        else:
            return fitted
        fitted = candidate
    return fitted


def _law(fitted: Floats, x: Floats, y: Floats, count: int) -> PowerLaw:
    """Return the law of these numbers, of which the first `count` were fitted."""
    variance = _squares(fitted, x, y) / (len(x) - count)
    jacobian = _jacobian(fitted, x)[:, :count]
    covariance: Floats = variance * np.linalg.inv(jacobian.T @ jacobian).astype(np.float64)
    log_a, b, floor = (float(each) for each in fitted)
    b_error, spread = math.sqrt(float(covariance[1, 1])), math.sqrt(variance)
    return PowerLaw(math.exp(log_a), b, floor, b_error, spread, len(x), covariance)
