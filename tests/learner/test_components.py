"""Which components of a learner's state are given."""

import pytest

from tflearner.errors import UnknownModuleError, UsageError
from tflearner.learner.restoring import checked_state

WEIGHTS = {"p0": {"000/kernel": 1}}


@pytest.mark.parametrize(
    "state",
    [
        {"rl_module": WEIGHTS},
        WEIGHTS,
        {"rl_module": {"rl_module": WEIGHTS, "weights_seq_no": 3}},
    ],
)
def test_weights_are_found_in_every_shape(state):
    assert checked_state(state, ["p0", "p1"]) == {"rl_module": WEIGHTS}


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        (None, UsageError, "NoneType.*a dict"),
        ({"rl_modul": {}}, UnknownModuleError, "did you mean 'rl_module'"),
        ({"playr": {}}, UnknownModuleError, "'playr'.*did you mean 'player'"),
        ({"player": {}, "q": {}}, UnknownModuleError, "'player'"),
        ({"optimizer": None}, UsageError, "'optimizer'.*NoneType.*a dict"),
        ({"weights_seq_no": "3"}, UsageError, "'weights_seq_no'.*'3'.*an int"),
    ],
)
def test_what_is_no_state(state, error, text):
    with pytest.raises(error, match=text):
        checked_state(state, ["player"])
