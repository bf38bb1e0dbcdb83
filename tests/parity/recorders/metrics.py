"""What RLlib's metrics reduce and merge to."""

import collections
import math

from ray.rllib.utils.metrics.legacy_stats import Stats
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

ROUNDS = [[3.0, -1.5, 8.0, 0.25], [7.0], [2.0, 2.0, -6.0]]
WITH_NAN = [[math.nan, 3.0, -1.5, math.nan], [math.nan], [2.0, math.nan, -6.0, 1.0]]
METRICS = [
    ({"reduce": "mean", "window": 1}, ROUNDS),
    ({"reduce": "mean", "window": 3}, ROUNDS),
    ({"reduce": "mean"}, ROUNDS),
    ({"reduce": "ema"}, ROUNDS),
    ({"reduce": "ema", "ema_coeff": 0.3}, ROUNDS),
    ({"reduce": "min"}, ROUNDS),
    ({"reduce": "min", "window": 2}, ROUNDS),
    ({"reduce": "max"}, ROUNDS),
    ({"reduce": "max", "window": 2}, ROUNDS),
    ({"reduce": "sum"}, ROUNDS),
    ({"reduce": "sum", "window": 3}, ROUNDS),
    ({"reduce": "lifetime_sum"}, ROUNDS),
    ({"reduce": "item"}, ROUNDS),
    ({"reduce": "item_series", "window": 3}, ROUNDS),
    ({"reduce": "mean", "window": 3}, WITH_NAN),
    ({"reduce": "min", "window": 3}, WITH_NAN),
    ({"reduce": "max", "window": 3}, WITH_NAN),
    ({"reduce": "sum", "window": 3}, WITH_NAN[::2]),
]
LOGGERS = [[[1.0, 2.0, 3.0], [5.0, 5.5]], [[4.0], [1.0, -7.0, 2.0]]]
AGGREGATES = [
    {"reduce": "ema", "ema_coeff": 0.1},
    {"reduce": "mean", "window": 1},
    {"reduce": "min"},
    {"reduce": "max"},
    {"reduce": "sum"},
    {"reduce": "lifetime_sum"},
]
MERGES = [
    ({"reduce": "mean", "window": 3}, [[0, 1, 2, 3], [4000, 4, 5, 6]]),
    ({"reduce": "mean", "window": 3}, [[100, 200, 300, 400], [150, 250, 350, 450]]),
    ({"reduce": "mean", "window": 6}, [[1, 2, 3, 4], [10, 30]]),
    ({"reduce": "mean", "window": 1}, [[1, 2], [5], [12]]),
    ({"reduce": "mean", "window": 4}, [[1, 2, 3], [], [7]]),
    ({"reduce": "mean", "ema_coeff": 0.1}, [[1, 2, 3], [5]]),
    ({"reduce": "min", "window": 3}, [[0, 1, 2, 3], [9, 2, 8]]),
    ({"reduce": "max", "window": 4}, [[9, 1, 2, 3], [4, 4, 5]]),
    ({"reduce": "min"}, [[9, 1, 2, 3], [4, 0.5]]),
    ({"reduce": "max"}, [[9, 1, 2, 3], [4, 4, 5]]),
    ({"reduce": "sum"}, [[50, 25], [75]]),
    ({"reduce": "sum", "window": 8}, [[50, 25, 10, 5], [75, 100]]),
    ({"reduce": None, "window": 4}, [[9, 1, 2, 3], [4, 4, 5]]),
    ({"reduce": None, "window": 9}, [[9, 1, 2, 3], [4, 4, 5]]),
]


def record():
    """Returns reductions of logged values, and merged ones of several loggers."""
    reductions = []
    for settings, rounds in METRICS:
        logger = MetricsLogger(root=True)
        peeks, reduced = [], []
        for values in rounds:
            own = []
            for value in values:
                logger.log_value("x", value, **settings)
                own.append(plain(logger.peek("x")))
            peeks.append(own)
            reduced.append(plain(logger.reduce(compile=True)["x"]))
        reductions.append(
            {"settings": settings, "rounds": rounds, "peeks": peeks, "reduced": reduced}
        )

    aggregates = []
    for settings in AGGREGATES:
        root = MetricsLogger(root=True)
        loggers = [MetricsLogger() for _ in LOGGERS[0]]
        reduced = []
        for values_by_logger in LOGGERS:
            for logger, values in zip(loggers, values_by_logger):
                for value in values:
                    logger.log_value("x", value, **settings)
            root.aggregate([logger.reduce() for logger in loggers])
            reduced.append(plain(root.reduce(compile=True)["x"]))
        aggregates.append({"settings": settings, "reduced": reduced})

    merges = []
    for settings, values_by_logger in MERGES:
        # A None without a finite window cannot be asked for otherwise.
        parts = [Stats(**settings) for _ in values_by_logger]
        for part, values in zip(parts, values_by_logger):
            for value in values:
                part.push(float(value))
        parts[0].merge_in_parallel(*parts[1:])
        merges.append(
            {
                "settings": settings,
                "values": values_by_logger,
                "merged": plain(parts[0].values),
                "peek": plain(parts[0].peek()),
            }
        )
    return {
        "reductions": reductions,
        "aggregates": {"loggers": LOGGERS, "cases": aggregates},
        "merges": merges,
    }


def plain(x):
    """Returns Python numbers, or a list of them."""
    if isinstance(x, (list, collections.deque)):
        return [plain(each) for each in x]
    return x if isinstance(x, int) else float(x)
