"""Which components of a state are asked for."""

import pytest

from tflearner.checkpoint.components import Components
from tflearner.errors import UsageError


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


@pytest.mark.parametrize("path", ["optimiser", "optimizer/p0", 3])
def test_what_is_no_component(path):
    known = ("rl_module", "optimizer")
    Components("rl_module/p0").check(known, with_parts=("rl_module",))
    with pytest.raises(UsageError, match="components: got "):
        Components(path).check(known, with_parts=("rl_module",))
