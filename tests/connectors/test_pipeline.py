"""Tests for `tflearner.connectors.pipeline`."""

import gymnasium as gym
import pytest

from tflearner.connectors.connector import ConnectorV2
from tflearner.connectors.pipeline import ConnectorPipelineV2, as_connectors
from tflearner.errors import ConfigError


class Note(ConnectorV2):
    """Writes into the batch that it was called, and with what."""

    def __call__(self, *, batch, shared_data, **kwargs):
        shared_data.setdefault("order", []).append(type(self).__name__)
        return batch | {type(self).__name__: kwargs}


class A(Note):
    pass


class B(Note):
    pass


class C(Note):
    pass


class Halved(Note):
    """Halves the number of observations."""

    @property
    def observation_space(self):
        return gym.spaces.Discrete(self.input_observation_space.n // 2)


def call(pipeline, **kwargs):
    defaults = {"rl_module": "module", "batch": {}, "episodes": ["episode"]}
    return pipeline(**defaults | kwargs)


def names(pipeline):
    return [type(piece).__name__ for piece in pipeline]


def test_pieces_are_called_in_order_with_everything():
    shared_data = {}
    batch = call(
        ConnectorPipelineV2([A(), B(), C()]),
        batch={"obs": 1},
        explore=True,
        shared_data=shared_data,
        metrics="metrics",
        later="addition",
    )
    assert shared_data["order"] == ["A", "B", "C"]
    assert list(batch) == ["obs", "A", "B", "C"]
    assert batch["B"] == {
        "rl_module": "module",
        "episodes": ["episode"],
        "explore": True,
        "metrics": "metrics",
        "later": "addition",
    }


def test_shared_data_is_made_anew_for_each_call():
    pipeline = ConnectorPipelineV2([A(), B()])
    assert list(call(pipeline)) == list(call(pipeline)) == ["A", "B"]


def test_a_pipeline_is_a_piece():
    inner = ConnectorPipelineV2([A(), B()])
    assert list(call(ConnectorPipelineV2([C(), inner]))) == ["C", "A", "B"]


def test_an_empty_pipeline_returns_the_batch():
    pipeline, batch = ConnectorPipelineV2(), {"obs": 1}
    assert len(pipeline) == 0 and call(pipeline, batch=batch) is batch


def test_append_and_prepend():
    pipeline = ConnectorPipelineV2([B()])
    pipeline.append(C())
    pipeline.prepend(A())
    assert names(pipeline) == ["A", "B", "C"] and len(pipeline) == 3


@pytest.mark.parametrize("key", [B, "B"])
def test_insert_and_remove_by_class_or_name(key):
    pipeline = ConnectorPipelineV2([A(), B(), B()])
    pipeline.insert_before(key, C())
    assert names(pipeline) == ["A", "C", "B", "B"]
    pipeline.insert_after(key, C())
    assert names(pipeline) == ["A", "C", "B", "C", "B"]
    pipeline.remove(key)
    assert names(pipeline) == ["A", "C", "C", "B"]


@pytest.mark.parametrize("key", [C, "C", Note])
def test_unknown_piece_is_refused_with_the_known_ones(key):
    pipeline = ConnectorPipelineV2([A(), B()])
    for change in (
        lambda: pipeline.insert_before(key, A()),
        lambda: pipeline.insert_after(key, A()),
        lambda: pipeline.remove(key),
    ):
        with pytest.raises(ConfigError, match=r"no piece .* want one of \['A', 'B'\]"):
            change()
    assert names(pipeline) == ["A", "B"]


@pytest.mark.parametrize("piece", [A, None, lambda **kwargs: kwargs["batch"]])
def test_only_connectors_are_pieces(piece):
    with pytest.raises(ConfigError, match="want an instance of ConnectorV2"):
        ConnectorPipelineV2([piece])


def test_a_piece_that_returns_no_batch_is_named():
    class Forgetful(Note):
        def __call__(self, *, batch, **kwargs):
            batch["obs"] = 2

    match = "piece Forgetful: got a returned NoneType, want the batch.*return batch"
    with pytest.raises(ConfigError, match=match):
        call(ConnectorPipelineV2([A(), Forgetful(), B()]))


def test_observation_space_is_that_of_the_last_piece_that_has_one():
    space = gym.spaces.Discrete(8)
    assert ConnectorPipelineV2().observation_space is None
    assert ConnectorPipelineV2([A()], space).observation_space == space
    pipeline = ConnectorPipelineV2([Halved(space), A()], space)
    assert pipeline.observation_space == gym.spaces.Discrete(4)


def test_what_a_connector_function_returns():
    piece = A()
    assert as_connectors(None) == []
    assert as_connectors(piece) == as_connectors([piece]) == as_connectors((piece,))
    assert as_connectors(piece) == [piece]


# State.


class Remembering(Note):
    """Has one number as its state."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def get_state(self):
        return {"value": self.value}

    def set_state(self, state):
        if state["value"] < 0:
            raise ConfigError("Remembering", "a number below 0")
        self.value = state["value"]


class Remembering_1(Remembering):
    pass


def remembering(*values):
    return ConnectorPipelineV2([A(), *map(Remembering, values), B()])


def test_state_is_that_of_pieces_that_have_one():
    assert ConnectorPipelineV2([A(), B()]).get_state() == {}
    state = {"Remembering": {"value": 3}, "Remembering_1": {"value": 4}}
    assert remembering(3, 4).get_state() == state
    pipeline = remembering(0, 0)
    pipeline.set_state(state)
    assert pipeline.get_state() == state


def test_names_of_pieces_are_unique():
    pieces = [Remembering(0), Remembering_1(1), Remembering(2), Remembering_1(3)]
    state = ConnectorPipelineV2(pieces).get_state()
    assert [part["value"] for part in state.values()] == [0, 1, 2, 3]


def test_pipelines_in_pipelines_have_a_state():
    outer = ConnectorPipelineV2([A(), remembering(5), ConnectorPipelineV2([B()])])
    state = {"ConnectorPipelineV2": {"Remembering": {"value": 5}}}
    assert outer.get_state() == state
    outer.set_state({"ConnectorPipelineV2": {"Remembering": {"value": 6}}})
    assert outer.get_state()["ConnectorPipelineV2"] == {"Remembering": {"value": 6}}


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({}, r"unknown pieces \[\], missing pieces \['Remembering', 'Remembering_1'\]"),
        (
            {"Remembering": {"value": 1}, "Other": {}, "Remembering_1": {"value": 1}},
            r"unknown pieces \['Other'\], missing pieces \[\]",
        ),
        ({"Remembering": {"value": 1}, "Remembering_1": {"value": -1}}, "below 0"),
        ({"Remembering": {"value": 1}, "A": {"x": 1}}, r"missing .*_1"),
        (
            {"Remembering": {"value": 1}, "Remembering_1": {"value": 1}, "A": {"x": 1}},
            r"piece A: got a state \['x'\], want none",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state, match):
    pipeline = remembering(3, 4)
    with pytest.raises(ConfigError, match=match):
        pipeline.set_state(state)
    assert [piece.value for piece in pipeline.connectors[1:3]] == [3, 4]
