"""Points of a search space as arrays: inside the space, conditional keys only where they exist, there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.distributions import When
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.trial_result import Params

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "share": FloatDistribution(-1.0, 2.0),
    "grid": FloatDistribution(0.0, 1.0, step=0.25),
    "units": IntDistribution(16, 512, log=True),
    "even": IntDistribution(2, 10, step=2),
    "one": IntDistribution(3, 3),
    "loss": CategoricalDistribution(("bce", "hinge", None)),
}
CONDITIONS = (
    When("loss", "hinge", {"margin": FloatDistribution(0.5, 2.0)}),
    When("loss", ("bce", "hinge"), {"norm": CategoricalDistribution((False, True))}),
)


@pytest.fixture(scope="module")
def space() -> UnitCube:
    return UnitCube(SPACE, CONDITIONS)


def check_inside(params: Params) -> None:
    expected = set(SPACE) | {key for c in CONDITIONS if c.holds(params) for key in c.space}
    assert set(params) == expected
    for key, value in params.items():
        distribution = {**SPACE, **CONDITIONS[0].space, **CONDITIONS[1].space}[key]
        assert distribution._contains(distribution.to_internal_repr(value)), (key, value)
        if isinstance(distribution, IntDistribution):
            assert isinstance(value, int)
            assert (value - distribution.low) % distribution.step == 0
        elif isinstance(distribution, FloatDistribution) and distribution.step:
            assert (value / distribution.step) % 1 == 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_or_moved_is_in_the_space(space: UnitCube, seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = space.draw(random, 5)
    moved = np.vstack([space.perturb(random, row, 5) for row in drawn])
    for row in (*drawn, *moved):
        check_inside(space.to_params(row))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_parameters_come_back_from_their_row(space: UnitCube, seed: int) -> None:
    row = space.draw(np.random.default_rng(seed), 1)[0]
    params = space.to_params(row)
    again = space.to_row(params)
    assert np.allclose(again, row, equal_nan=True)
    assert space.to_params(again) == pytest.approx(params)


def test_every_value_of_a_range_has_an_equal_share(space: UnitCube) -> None:
    params = [space.to_params(row) for row in space.draw(np.random.default_rng(0), 8000)]
    for key, count in (("even", 5), ("grid", 5), ("loss", 3)):
        values, counts = np.unique([str(point[key]) for point in params], return_counts=True)
        assert len(values) == count
        assert np.allclose(counts / len(params), 1 / count, atol=0.02)


def test_small_moves_stay_near_and_choices_mostly_stay(space: UnitCube) -> None:
    random = np.random.default_rng(0)
    row = space.to_row(
        {**dict.fromkeys(("rate",), 1e-2), "share": 0.5, "grid": 0.5, "units": 64, "even": 4, "one": 3, "loss": None}
    )
    moved = space.perturb(random, row, 400)
    column = space.keys.index("share")
    assert 0 < np.median(np.abs(moved[:, column] - row[column])) < 0.1
    stayed = np.mean([space.to_params(m)["loss"] is None for m in moved])
    assert 0.7 < stayed < 0.95


def test_features_are_as_far_apart_as_the_points(space: UnitCube) -> None:
    point = {"rate": 1e-2, "share": 0.5, "grid": 0.5, "units": 64, "even": 4, "one": 3, "loss": None}
    rows = np.array(
        [space.to_row(point), space.to_row({**point, "share": 2.0}), space.to_row({**point, "loss": "bce"})]
    )
    features = space.to_features(rows)
    assert np.linalg.norm(features[0] - features[1]) == pytest.approx(0.5)
    assert np.linalg.norm(features[0] - features[2]) == pytest.approx(1.0)
    assert features.shape[1] == len(space.feature_keys)


def test_values_from_another_space_are_brought_inside(space: UnitCube) -> None:
    row = space.to_row({"rate": 10.0, "loss": "unknown", "gone": 1})
    assert row[space.keys.index("rate")] == 1.0
    assert np.isnan(row[space.keys.index("loss")])
    assert np.isfinite(space.to_features(row[None])).all()
