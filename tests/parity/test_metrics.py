"""Reductions and merging of metrics against those of RLlib."""

import math

import pytest

from tflearner.metrics import MetricsLogger
from tflearner.stats import Stats


def our_settings(settings):
    """Returns what RLlib's settings are called here.

    RLlib has a class for each reduction and empties all but two of them in every
    `reduce()`; we have settings for that.
    """
    settings = dict(settings)
    reduction = settings.pop("reduce")
    if reduction == "ema":
        return settings  # The mean without a window.
    if reduction == "lifetime_sum":
        return settings | {"reduce": "sum"}
    if reduction == "item":
        settings["window"] = 1
    if reduction == "mean":
        settings.setdefault("window", math.inf)
    names = {"item": "mean", "item_series": None}
    settings["reduce"] = names.get(reduction, reduction)
    return settings | {"clear_on_reduce": True}


def near(recorded, reduction=None):
    """Returns what a recorded value may be compared with by `==`."""
    if reduction == "sum" and math.isnan(recorded):
        recorded = 0  # The sum of nothing but NaN; RLlib says NaN.
    return pytest.approx(recorded, rel=1e-12, abs=1e-15, nan_ok=True)


def test_reductions_are_those_of_rllib(load):
    for entry in load("metrics.json")["reductions"]:
        metrics, settings = MetricsLogger(), our_settings(entry["settings"])
        rounds = zip(entry["rounds"], entry["peeks"], entry["reduced"], strict=True)
        for values, peeks, reduced in rounds:
            for value, peek in zip(values, peeks, strict=True):
                metrics.log_value("x", value, **settings)
                assert metrics.peek("x") == near(peek, settings.get("reduce")), entry
            assert metrics.reduce("x", return_stats_obj=False) == near(reduced), entry


def test_rounds_of_several_loggers_merge_as_rllibs(load):
    recorded = load("metrics.json")["aggregates"]
    for entry in recorded["cases"]:
        settings = our_settings(entry["settings"])
        root = MetricsLogger()
        loggers = [MetricsLogger() for _ in recorded["loggers"][0]]
        for values_by_logger, reduced in zip(
            recorded["loggers"], entry["reduced"], strict=True
        ):
            for logger, values in zip(loggers, values_by_logger, strict=True):
                logger.log_values("x", values, **settings)
            if entry["settings"]["reduce"] == "ema":
                root.reset()  # RLlib's forgets the rounds before; ours goes on from them.
            root.merge_and_log_n_dicts([logger.reduce() for logger in loggers])
            assert root.reduce(return_stats_obj=False) == {"x": near(reduced)}, entry


def test_metrics_merge_in_parallel_as_rllibs(load):
    for entry in load("metrics.json")["merges"]:
        settings = entry["settings"]
        first, *others = (Stats(own, **settings) for own in entry["values"])
        first.merge_in_parallel(*others)
        assert first.peek() == near(entry["peek"]), entry
        if settings.get("window") and settings["reduce"] != "sum":
            assert list(first.values) == near(entry["merged"]), entry
