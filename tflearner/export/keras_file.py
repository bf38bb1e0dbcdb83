"""A greedy policy as Keras file, made of Keras' own layers and `keras.ops` alone."""

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf
import tree

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.errors import TFLearnerError
from tflearner.export import staging
from tflearner.export.endpoints import ACT_GREEDY, Program, check_is_plain, named
from tflearner.networks.keras_forms import KerasForm, check_is_keras_own, refusal
from tflearner.networks.numpy_forms import definer


def write_keras_file(file: pathlib.Path, program: Program) -> None:
    """Writes a model from observations to actions.

    A module with a state makes it a model from a dict to a dict, under the names of the
    endpoint's signature; nested observations one from such a dict.

    Raises:
        ExportError: If a part cannot be written in Keras' own layers.
    """
    model = _model(program)
    check_is_keras_own(model)
    with warnings.catch_warnings():
        # Keras reads TensorFlow's tensors in a way that NumPy is about to change.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept")
        model.save(file)
    staging.mark_file(file)


def load_keras_file(file: pathlib.Path, program: Program) -> Mapping[str, Callable]:
    """Returns the endpoint of a file that was written a moment ago.

    Raises:
        ExportError: If Keras cannot load it.
    """
    greedy = program.endpoints[0]
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        raise refusal("the file", f"{type(error).__name__}: {error}") from error

    def call(named_inputs):
        if program.policy.is_stateful:
            return model(named_inputs)
        is_nested = not isinstance(greedy.endpoint.inputs["obs"], tf.TensorSpec)
        return {"actions": model(named_inputs if is_nested else named_inputs["obs"])}

    return {ACT_GREEDY: greedy.called_by_name(call)}


def _model(program: Program) -> keras.Model:
    policy, greedy = program.policy, program.endpoints[0]
    inputs = {
        name: keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name)
        for name, spec in greedy.named_inputs().items()
    }
    nests = tree.unflatten_as([*greedy.endpoint.inputs.values()], [*inputs.values()])
    obs, state = (*nests, None)[:2]
    with _connecting(policy.on_way_in):
        columns, memory = policy.columns(obs, state)
    outputs, state = policy.module.keras_form(
        KerasForm(), columns[Columns.OBS], columns.get(Columns.STATE_IN)
    )
    chosen, actions = _actions(program, outputs)
    if policy.is_stateful:
        with _connecting(policy.on_way_in):
            state = policy.state(state, memory, chosen)
        results = named({"actions": actions, "state": state})
        return keras.Model(inputs, results, name="policy")
    is_one = [*inputs] == ["obs"]
    return keras.Model(inputs["obs"] if is_one else inputs, actions, name="policy")


@contextlib.contextmanager
def _connecting(pieces: Iterable[Any]) -> Iterator[None]:
    """Names pieces if one of them does something that Keras alone cannot."""
    try:
        yield
    except TFLearnerError:
        raise
    except Exception as error:
        names = " or ".join(type(piece).__name__ for piece in pieces)
        raise refusal(
            f"connector piece {names}",
            f"{type(error).__name__} in its rule, which has to be made of keras.ops",
        ) from error


def _actions(program: Program, outputs: Any) -> tuple[Any, Any]:
    """Returns the most likely actions, and these as the environment wants them."""
    policy = program.policy
    dist_class = policy.module.get_inference_action_dist_cls()
    chosen = actions = None
    for piece in policy.on_way_out:
        if isinstance(piece, GetActions):
            check_is_plain(piece)
            is_own = definer(dist_class, "most_likely") is definer(
                dist_class, "to_deterministic"
            )
            if is_own:
                chosen = dist_class.most_likely(outputs, policy.action_space)
            if chosen is None:
                got = f"{policy.action_space} with the distribution "
                raise refusal("action space", got + dist_class.__name__)
            actions = chosen
        elif chosen is None:
            raise refusal(
                f"connector piece {type(piece).__name__}", "a place before GetActions"
            )
        else:
            with _connecting([piece]):
                actions = piece.to_tensors(actions)
    return chosen, actions
