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


@pytest.mark.parametrize(
    "filters", [[(16, 3)], [(16, 3, 0)], [(16, (3, 3, 3), 1)], [16, 3, 1], "abc"]
)
def test_filters_are_triples(filters):
    match = r"conv_filters: got .*want \(filters, kernel, stride\) for each layer"
    with pytest.raises(ConfigError, match=match):
        DefaultModelConfig(conv_filters=filters)


def test_filters_may_be_lists_of_lists_with_pairs():
    filters = [[16, [3, 2], 1], [8, 2, [1, 2]]]
    assert DefaultModelConfig(conv_filters=filters).conv_filters == filters
    assert DefaultModelConfig(conv_filters=[]).conv_filters == []


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"use_lstm": True, "use_gru": True}, "use_lstm and use_gru"),
        ({"conv_filters": [(1, 1, 1)], "model": 1}, "beside an own model"),
        ({"max_seq_len": 0}, "max_seq_len: got 0, want a positive integer"),
        ({"lstm_cell_size": 2.5}, "lstm_cell_size: got 2.5"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        DefaultModelConfig(**settings)


@pytest.mark.parametrize("name", ["fcnet_hiddens", "head_fcnet_hiddens"])
@pytest.mark.parametrize("sizes", [(8, 0), (-1,), (1.5,), (True,), "64"])
def test_sizes_must_be_positive_integers(name, sizes):
    with pytest.raises(ConfigError, match=f"{name}: got .*want positive integers"):
        DefaultModelConfig(**{name: sizes})
