"""Flat, Keras-like names of results, for the history, callbacks and progress."""

import math
import numbers
from collections.abc import Iterator

import numpy as np

from tflearner import constants
from tflearner.types import ResultDict

# Key of a result -> name; other keys are their own names.
RESULT_NAMES = {
    constants.NUM_ENV_STEPS_SAMPLED_LIFETIME: "steps",
    constants.EPISODE_RETURN_MEAN: "episode_return",
    constants.EPISODE_LEN_MEAN: "episode_length",
    constants.TOTAL_LOSS_KEY: "loss",
    f"{constants.DEFAULT_OPTIMIZER}_{constants.LR_KEY}": "learning_rate",
}
EVALUATION_PREFIX = "val_"
# Prefixes of values that are not measured before an episode has ended.
_OF_EPISODES = ("episode_", f"{EVALUATION_PREFIX}episode_")


def flatten_result(result: ResultDict) -> dict[str, float]:
    """Returns the numbers of a train result under flat names.

    Metrics of environment runners and entries at the top of the result have their plain
    names; evaluation has the prefix `val_`. The metrics of the default module, or of
    the only one, have their plain names, too; those of other modules are
    `<module_id>/<name>`. Aggregates over all modules fill the remaining names.
    Everything else keeps its path, as in `timers/learn_s`.

        >>> flatten_result({
        ...     "env_runners": {"episode_return_mean": 21.5},
        ...     "learners": {"default_policy": {"total_loss": 0.5, "vf_loss": 0.1}},
        ...     "training_iteration": 1,
        ... })
        {'episode_return': 21.5, 'loss': 0.5, 'vf_loss': 0.1, 'training_iteration': 1}

    Args:
        result: The result of `Algorithm.train()`. Leaves that are not single numbers
            are ignored.

    Returns:
        Name -> Python number; NaN for values not yet measured.
    """
    rest = dict(result)
    flat = dict(_named(rest.pop(constants.ENV_RUNNER_RESULTS, {})))
    learners = dict(rest.pop(constants.LEARNER_RESULTS, {}))
    aggregates = dict(_named(learners.pop(constants.ALL_MODULES, {})))
    flat_module = (
        next(iter(learners)) if len(learners) == 1 else constants.DEFAULT_MODULE_ID
    )
    for module_id, metrics in learners.items():
        prefix = "" if module_id == flat_module else f"{module_id}/"
        flat |= {prefix + name: value for name, value in _named(metrics)}
    flat = aggregates | flat
    for name, value in _named(rest.pop(constants.EVALUATION_RESULTS, {})):
        flat[EVALUATION_PREFIX + name] = value
    return flat | dict(_named(rest))


def is_unmeasured(name: str, value: object) -> bool:
    """Returns whether a value is NaN because no episode has ended.

    >>> is_unmeasured("episode_return", float("nan")), is_unmeasured("loss", float("nan"))
    (True, False)
    """
    is_nan = isinstance(value, float) and math.isnan(value)
    return is_nan and str(name).startswith(_OF_EPISODES)


def _named(nested: dict) -> Iterator[tuple[str, float]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            for name, number in _named(value):
                yield f"{key}/{name}", number
        elif isinstance(value, np.generic) or getattr(value, "ndim", None) == 0:
            yield from _named({key: np.asarray(value).item()})
        elif isinstance(value, numbers.Real):
            yield RESULT_NAMES.get(key, key), value  # type: ignore[misc]
