"""Tests for `tflearner.modules.default_model_config`."""

import pytest

from tflearner.errors import ConfigError
from tflearner.modules.default_model_config import DefaultModelConfig


def test_a_dict_and_its_dataclass_are_equal():
    settings = {"fcnet_hiddens": (8,), "vf_share_layers": False}
    made = DefaultModelConfig.make(settings)
    assert made == DefaultModelConfig(**settings)
    assert DefaultModelConfig.make(made) is made
    assert DefaultModelConfig.make(None) == DefaultModelConfig()


def test_unknown_setting_is_refused_with_the_closest_name():
    match = "unknown setting 'fcnet_hidens', want one of .*did you mean 'fcnet_hiddens'"
    with pytest.raises(ConfigError, match=match):
        DefaultModelConfig.make({"fcnet_hidens": (8,)})


@pytest.mark.parametrize("name", ["fcnet_hiddens", "head_fcnet_hiddens"])
@pytest.mark.parametrize("sizes", [(8, 0), (-1,), (1.5,), (True,), "64"])
def test_sizes_must_be_positive_integers(name, sizes):
    with pytest.raises(ConfigError, match=f"{name}: got .*want positive integers"):
        DefaultModelConfig(**{name: sizes})
