"""The Gaussian process: as scikit-learn has it, and sound without scikit-learn."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from shaper.errors import BadInput
from shaper.models.gp import Array, Kernel, Process, coordinates, installed, noise_alone, tuned
from tests.conftest import needs

START = Kernel()


def wave(n: int, noise: float, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 3, (n, 3))
    return x, 2.0 * np.sin(x[:, 0]) + rng.normal(0, noise, n)


def sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        needs(False, "scikit-learn")


def test_it_is_the_process_of_scikit_learn() -> None:
    sklearn()
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    x, y = wave(30, 0.3)
    kernel = Kernel(1.7, (0.8, 2.0, 5.0), 0.4)
    theirs = GaussianProcessRegressor(
        kernels.ConstantKernel(kernel.amplitude2) * kernels.Matern(kernel.lengths, nu=2.5)
        + kernels.WhiteKernel(kernel.noise2),
        optimizer=None,
    ).fit(x, y)
    ours = Process.of(x, y, kernel)
    assert ours.log_likelihood == pytest.approx(theirs.log_marginal_likelihood_value_)
    q = wave(10, 0.0, seed=2)[0]
    mean, deviation = theirs.predict(q, return_std=True)
    assert ours.at(q)[0] == pytest.approx(mean)
    assert ours.at(q)[1] == pytest.approx(deviation**2 - kernel.noise2)  # theirs has the noise in it


def test_the_kernel_is_the_likeliest_of_many_and_a_search_from_it_stays() -> None:
    sklearn()
    x, y = wave(40, 0.7)
    found = tuned(x, y, START)
    assert found is not None
    grid = [
        Kernel(v, (each,) * 3, w) for v in (0.3, 1.0, 3.0, 10.0) for each in (0.5, 1.5, 5.0) for w in (0.5, 1.0, 2.0)
    ]
    best = Process.of(x, y, found).log_likelihood
    assert noise_alone(y) + 5 < max(Process.of(x, y, kernel).log_likelihood for kernel in grid) <= best + 0.1
    again = tuned(x, y, found)
    assert again is not None
    assert Process.of(x, y, again).log_likelihood == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("module", ["sklearn", "sklearn.gaussian_process"])
def test_without_scikit_learn_no_kernel_is_sought(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert tuned(*wave(20, 0.5), START) is None
    assert installed() == (module != "sklearn")


def test_a_wave_is_followed_where_it_was_seen_and_forgotten_elsewhere() -> None:
    x, y = wave(60, 0.5)
    process = Process.of(x, y, Kernel(3.0, (1.5, 5.0, 5.0), 0.25))
    seen, far = np.array([(1.5, 1.0, 1.0)]), np.array([(90.0, 90.0, 90.0)])
    mean, variance = process.at(seen)
    assert mean[0] == pytest.approx(2 * math.sin(1.5), abs=0.5)
    assert variance[0] < 0.3
    mean, variance = process.at(far)
    assert mean[0] == pytest.approx(0.0, abs=1e-6)
    assert variance[0] == pytest.approx(process.kernel.amplitude2)


@pytest.mark.parametrize(
    "kernel",
    [
        Kernel(1.0, (1.0,), 1.0),
        Kernel(0.0),
        Kernel(lengths=(1.0, -1.0, 1.0)),
        Kernel(1e308, (1e-308,) * 3, 1e-308),
        Kernel(math.nan),
    ],
)
def test_a_kernel_that_cannot_be_is_refused(kernel: Kernel) -> None:
    with pytest.raises(BadInput, match="is no kernel"):
        kernel.checked()


def test_identical_points_can_be_learnt() -> None:
    x, y = np.ones((20, 3)), np.zeros(20)
    kernel = tuned(x, y, START) or START
    mean, variance = Process.of(x, y, kernel).at(x[:1])
    assert mean[0] == 0.0
    assert 0 <= variance[0] < 1


def test_coordinates_are_logarithms_within_limits() -> None:
    points = np.array([(1.0, 1.0, 0.0), (8.0, 0.5, 3.0), (1e6, 1e-300, 1e300)])
    assert coordinates(points)[0] == pytest.approx([0, 0, 0])
    assert coordinates(points)[1] == pytest.approx([math.log(8), math.log(0.5), math.log(4)])
    assert np.abs(coordinates(points)).max() == 20.0
