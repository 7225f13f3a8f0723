"""Intervals: what is promised is held, by an independent count, on made-up data, and by whatever a run writes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, laplace
from tiny import refused

from dataloader.calibration import calibrates
from engine.adaptive import quantiles
from engine.coverage import allowed_by_creators, allowed_range
from engine.difficulty import WIDEST, Difficulty
from engine.intervals import Intervals, rank

FLAT = Difficulty((), (), (), (), (), (), 1.0)


def flat(scores: np.ndarray) -> Intervals:
    return Intervals(("a",), (FLAT,), scores[:, None])


def half_width(scores: np.ndarray, level: int) -> float | None:
    """By the definition: the smallest score that no fewer than ceil(level (n + 1)) of them reach, if there is one."""
    needed = -(-level * (len(scores) + 1) // 100)
    reached = [s for s in scores if (scores <= s).sum() >= needed]
    return min(reached) if reached else None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=130), st.sampled_from([80, 95]))
def test_the_quantile_is_that_of_its_definition(scores, level):
    scores = np.array(scores)
    one, expected = flat(scores), half_width(scores, level)
    assert (level in one.levels) == (expected is not None)
    if expected is not None:
        (found,) = [
            r.predict_int(np.zeros(1), sigmas=np.ones(1), confidence=level / 100 - 1e-9) for r in one.regressors
        ]
        np.testing.assert_allclose(found, [[-expected, expected]])
        assert np.sort(scores)[::-1][rank(len(scores), level) - 1] == expected


def test_coverage_of_exchangeable_items_is_that_which_is_allowed():
    """Over many draws: 95 % of them are in the beta-binomial range, and their mean is what is promised."""
    rng, held, draws = np.random.default_rng(0), {80: [], 95: []}, 400
    for _ in range(draws):
        difficulty = np.exp(rng.normal(size=400))
        scores = np.abs(laplace.rvs(scale=difficulty, random_state=rng)) / np.exp(0.5 * np.log(difficulty))
        one = flat(scores[:150])
        for level, found in held.items():
            k = rank(150, level)
            found.append(float((scores[150:] <= np.sort(one.scores[:, 0])[::-1][k - 1]).mean()))
    for level, found in held.items():
        low, high = allowed_range(150, 250, level)
        inside = np.mean([low <= share <= high for share in found])
        assert 0.92 <= inside <= 0.985
        assert abs(100 * np.mean(found) - level) < 1
        k = rank(150, level)
        assert betabinom.cdf(round(low * 250) - 1, 250, 151 - k, k) <= 0.025


def test_creators_widen_the_range_and_creators_of_one_video_do_not():
    rng = np.random.default_rng(1)
    alike = np.repeat(np.abs(rng.normal(size=60)), 10)  # 60 creators of ten videos, all alike
    theirs = np.repeat(np.arange(60), 10)
    low, high = allowed_by_creators(alike[:300], theirs[:300], alike[300:], theirs[300:], 80)
    plain = allowed_range(300, 300, 80)
    assert high - low > 2 * (plain[1] - plain[0])
    own = np.abs(rng.normal(size=600))
    low, high = allowed_by_creators(own[:300], np.arange(300), own[300:], np.arange(300), 80)
    np.testing.assert_allclose((low, high), plain, atol=0.02)


def test_which_items_calibrate_is_a_matter_of_their_names():
    item, user = (
        np.array([f"v{i}" for i in range(2000)], object),
        np.array([f"u{i % 300}" for i in range(2000)], object),
    )
    held = calibrates(item, user)
    assert all(len(set(held[user == name])) == 1 for name in set(user)) and 0.4 < held.mean() < 0.6
    order = np.random.default_rng(0).permutation(2000)[:700]
    np.testing.assert_array_equal(calibrates(item[order], user[order]), held[order])
    unknown = calibrates(item, np.full(2000, "", object))
    assert 0.45 < unknown.mean() < 0.55 and (unknown != held).any()
    assert calibrates(["v1", "\ud800"], ["", ""]).tolist() == [
        calibrates(["v1"], [""])[0],
        calibrates(["\ud800"], [""])[0],
    ]


def test_an_odd_video_is_expected_to_be_farther_off():
    rng, n = np.random.default_rng(2), 600
    spread, distance = np.exp(rng.normal(size=n)), -rng.uniform(size=n)
    error = np.abs(rng.normal(size=n)) * spread * np.exp(distance)
    doubts = {"neighbours_spread": spread, "distance of the nearest": distance, "spread": np.exp(rng.normal(size=n))}
    found = Difficulty.fit(doubts, error)
    weight = dict(zip(found.names, found.weight, strict=True))
    assert min(weight.values()) >= 0 and weight["neighbours_spread"] > 5 * weight["spread"]
    usual = {name: np.array([np.median(values)]) for name, values in doubts.items()}
    odd = usual | {"neighbours_spread": np.array([spread.max()]), "distance of the nearest": np.array([0.0])}
    alone = usual | {"neighbours_spread": np.array([np.nan]), "distance of the nearest": np.array([np.nan])}
    assert found.of({}, 1)[0] >= found.of(alone, 1)[0]  # of data that know nothing of it
    absurd = usual | {"neighbours_spread": np.array([1e30])}
    one = found.of(usual, 1)[0]
    assert found.of(odd, 1)[0] > 2 * one and found.of(alone, 1)[0] > 2 * one
    assert found.of(absurd, 1)[0] == pytest.approx(WIDEST * found.scale)
    assert found.of(usual | {"neighbours_spread": np.zeros(1)}, 1)[0] >= found.scale / WIDEST > 0
    assert Difficulty.fit({}, np.zeros(5)).of({}, 3).tolist() == [1.0] * 3  # nothing to tell, no error at all
    assert Difficulty.fit({}, np.full(5, 2.0)).of({}, 3) == pytest.approx([2] * 3, abs=1e-3)
    assert Difficulty.fit({"spread": np.full(9, np.nan)}, np.ones(9)).of({"spread": np.full(2, np.nan)}, 2) == (
        pytest.approx([1, 1], abs=1e-3)
    )


def test_what_is_adapted_to_was_counted_before():
    rng, n = np.random.default_rng(3), 3000
    scores = np.sort(np.abs(rng.normal(size=400)))[::-1]
    error, asked = np.abs(2 * rng.normal(size=n)), np.arange(n) * 10  # twice as far off as those of calibration
    order, never = np.arange(n), np.iinfo(np.int64).max
    plain = scores[rank(400, 80) - 1]
    fixed, told = quantiles(scores, error, np.full(n, never), asked, order, 80)
    assert (fixed == plain).all() and told == 0  # nothing was counted meanwhile
    found, told = quantiles(scores, error, asked + 15, asked, order, 80)
    assert told == n - 2 and (error <= plain).mean() < 0.6
    assert abs((error <= found)[500:].mean() - 0.8) < 0.03
    later = error.copy()
    later[2000:] = 0  # what comes later, or is not counted yet, changes nothing before
    np.testing.assert_array_equal(quantiles(scores, later, asked + 15, asked, order, 80)[0][:2002], found[:2002])
    assert (quantiles(scores, later, asked + 15, asked, order, 80)[0][2010:2100] <= found[2010:2100]).all()


def test_what_is_saved_is_read_again_and_what_is_damaged_is_refused(tmp_path):
    rng = np.random.default_rng(4)
    doubts = {"spread": np.exp(rng.normal(size=50))}
    one = Intervals(
        ("a", "b"), (Difficulty.fit(doubts, rng.uniform(size=50)), FLAT), rng.uniform(size=(30, 2)), None, True
    )
    assert Intervals.load(tmp_path) is None
    one.save(tmp_path)
    again = Intervals.load(tmp_path)
    assert again.difficulty == one.difficulty and again.by_time and again.levels == (80, 95)
    np.testing.assert_array_equal(again.scores, one.scores)
    content = json.loads((tmp_path / "intervals.json").read_text())
    for part, value in {
        "scores": [[1.0]],
        "difficulty": [],
        "format": 2,
        "targets": 3,
        "creator": [1],
        "by_time": "yes",
    }.items():
        (tmp_path / "intervals.json").write_text(json.dumps(content | {part: value}))
        with refused("truncated or not the intervals of a run"):
            Intervals.load(tmp_path)
    assert not math.isnan(one.scores.sum())
