"""What of a saved state fits, and what is said of the rest."""

import numpy as np
import pytest

from tflearner.checkpoint.matching import check, match, merged
from tflearner.errors import CheckpointMismatchError

ONE, TWO = np.ones((2, 3), np.float32), np.zeros(4, np.float32)
OWN = {"p0": {"kernel": ONE, "bias": TWO}}


def test_equal_states_fit():
    fits = match({"p0": {"bias": TWO + 1, "kernel": ONE + 1}}, OWN)
    assert sorted(fits.loaded) == [("p0", "bias"), ("p0", "kernel")]
    assert fits.kept == fits.ignored == fits.problems == []


@pytest.mark.parametrize(
    ("saved", "loaded", "kept", "ignored", "problems"),
    [
        (
            {"p0": {"kernel": ONE}},
            [("p0", "kernel")],
            [("p0", "bias")],
            [],
            ["missing 'p0/bias'"],
        ),
        (
            {"p0": {"kernel": ONE, "bias": TWO, "x": TWO}},
            [("p0", "kernel"), ("p0", "bias")],
            [],
            [("p0", "x")],
            ["unexpected 'p0/x'"],
        ),
        (
            {"p0": {"kernel": ONE.T, "bias": TWO.astype(np.float64)}},
            [],
            [("p0", "kernel"), ("p0", "bias")],
            [],
            [
                "'p0/kernel' of shape (3, 2) instead of (2, 3)",
                "'p0/bias' of dtype float64 instead of float32",
            ],
        ),
        (
            {"p1": {"kernel": ONE, "bias": TWO}},
            [],
            [("p0", "kernel"), ("p0", "bias")],
            [("p1", "kernel"), ("p1", "bias")],
            [
                "missing 'p0/kernel'",
                "missing 'p0/bias'",
                "unexpected 'p1/kernel'",
                "unexpected 'p1/bias'",
            ],
        ),
        (  # An array where there are several, and the other way round.
            {"p0": ONE},
            [],
            [("p0", "kernel"), ("p0", "bias")],
            [("p0",)],
            ["missing 'p0/kernel'", "missing 'p0/bias'", "unexpected 'p0'"],
        ),
    ],
    ids=["missing", "extra", "other form", "renamed", "other depth"],
)
def test_differences(saved, loaded, kept, ignored, problems):
    fits = match(saved, OWN)
    assert (fits.loaded, fits.kept, fits.ignored) == (loaded, kept, ignored)
    assert fits.problems == problems


@pytest.mark.parametrize(
    ("saved", "own", "problem"),
    [
        ({"p0": {}}, {}, "unexpected 'p0'"),
        ({}, {"p0": {}}, "missing 'p0'"),
        ({"p0": {}}, {"p0": ONE}, "'p0'"),
        ({"p0": ONE}, {"p0": {}}, "'p0'"),
    ],
)
def test_a_module_without_weights_is_one_all_the_same(saved, own, problem):
    assert problem in "; ".join(match(saved, own).problems)


@pytest.mark.parametrize("state", [{}, {"p0": {}}])
def test_nothing_fits_nothing(state):
    assert match(state, state).problems == []


def test_one_element_is_not_one_number():
    assert match({"x": np.ones(1)}, {"x": np.ones(())}).problems
    assert match({"x": np.float32(1)}, {"x": np.ones((), np.float32)}).problems == []


def test_what_is_kept_after_all_is_loaded_no_more():
    fits = match(OWN, OWN)
    fits.keep([("p0", "bias")])
    assert fits.loaded == [("p0", "kernel")] and fits.kept == [("p0", "bias")]


def test_merged_takes_the_paths_and_changes_neither_state():
    saved = {"p0": {"kernel": ONE + 1, "bias": TWO + 1}, "p1": {}}
    both = merged(OWN, saved, [("p0", "bias")])
    assert both["p0"]["kernel"] is ONE and both["p0"]["bias"] is saved["p0"]["bias"]
    assert OWN["p0"]["bias"] is TWO and [*both] == ["p0"]


def test_all_problems_are_in_one_error():
    check("here", [])
    with pytest.raises(CheckpointMismatchError) as caught:
        check(
            "here",
            ["missing 'a'", "unexpected 'b'", "'c' of shape (1,)"],
            "strict=False",
        )
    text = str(caught.value)
    assert text.startswith(
        "here: 3 problems: missing 'a'; unexpected 'b'; 'c' of shape"
    )
    assert "Nothing was changed" in text and "strict=False" in text
