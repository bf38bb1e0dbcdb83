"""Which components of a state are asked for, and which are given."""

import pytest

from tflearner.errors import UnknownModuleError, UsageError
from tflearner.learner.components import Components, checked_state


@pytest.mark.parametrize(
    ("wanted", "unwanted", "included"),
    [
        (None, None, True),
        ("rl_module", None, True),
        ("rl_module/p0", None, True),
        (["optimizer", "rl_module"], None, True),
        ("optimizer", None, False),
        ("rl_module2", None, False),
        ([], None, False),
        (None, "rl_module", False),
        (None, "rl_module/p0", True),
        ("rl_module", ["rl_module"], False),
    ],
)
def test_include(wanted, unwanted, included):
    assert Components(wanted, unwanted).include("rl_module") == included


@pytest.mark.parametrize(
    ("wanted", "unwanted", "below"),
    [
        (None, None, (None, ())),
        ("rl_module", "rl_module/p1", (None, ("p1",))),
        (["rl_module/p0", "optimizer"], None, (("p0",), ())),
        (["rl_module", "rl_module/p0"], None, (None, ())),
    ],
)
def test_below(wanted, unwanted, below):
    inside = Components(wanted, unwanted).below("rl_module")
    assert (inside.wanted, inside.unwanted) == below


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
