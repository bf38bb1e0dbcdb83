"""Tests for `tflearner.networks.observation_encoding`."""

from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest

from tflearner.errors import SpaceError
from tflearner.networks.observation_encoding import ObservationEncoding
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
Dict, Tuple = gym.spaces.Dict, gym.spaces.Tuple
MultiBinary, MultiDiscrete = gym.spaces.MultiBinary, gym.spaces.MultiDiscrete


@pytest.mark.parametrize(
    ("space", "observations", "want"),
    [
        (Box(-1, 1, (2,), np.float64), [[0.5, 1.0]], [[0.5, 1.0]]),
        (Box(0, 255, (1, 2), np.uint8), [[[0, 255]]], [[[0.0, 255.0]]]),
        (Box(-1, 1, ()), [0.5, -0.5], [0.5, -0.5]),
        (MultiBinary([1, 2]), [[[0, 1]], [[1, 1]]], [[[0, 1]], [[1, 1]]]),
        (Discrete(3), [0, 2], [[1, 0, 0], [0, 0, 1]]),
        (Discrete(3, start=-1), [-1, 1], [[1, 0, 0], [0, 0, 1]]),
        (MultiDiscrete([2, 3]), [[1, 0], [0, 2]], [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
        (MultiDiscrete([2, 3], start=[5, -1]), [[6, -1]], [[0, 1, 1, 0, 0]]),
        (
            MultiDiscrete([[2, 3], [1, 2]]),
            [[[1, 2], [0, 1]]],
            [[0, 1, 0, 0, 1, 1, 0, 1]],
        ),
        (
            MultiDiscrete([[2, 3], [1, 2]], start=[[1, 0], [7, 1]]),
            [[[2, 0], [7, 1]]],
            [[0, 1, 1, 0, 0, 1, 1, 0]],
        ),
    ],
)
def test_encoding_and_its_numpy_twin(compiled, space, observations, want):
    encoding = ObservationEncoding(space)
    observations = np.array(observations, space.dtype)
    for index in range(len(observations)):
        assert space.contains(observations[index, ...])
    got = compiled(lambda x: encoding(x))(x=observations)
    for encoded in (got, encoding.numpy_form(observations)):
        np.testing.assert_array_equal(encoded, want)
        assert encoded.dtype == np.float32 and encoded.shape == np.shape(want)
    assert encoding.encoded_shape == np.shape(want)[1:]


def batch_of(space, num=5):
    """Elements of a space, as a vector environment stacks them. [num, ...]."""
    space.seed(0)
    batch = gym.vector.utils.create_empty_array(space, num)
    return gym.vector.utils.concatenate(
        space, [space.sample() for _ in range(num)], batch
    )


# Keys out of order, of both kinds; a mask that is read by no network, and one that is.
NESTED = {
    "sorted": Dict({"b": Box(-1, 1, (2, 2)), "a": Discrete(3, start=1)}),
    "as_given": Dict([("b", Box(-1, 1, (2, 2))), ("a", Discrete(3, start=1))]),
    "ordered": Dict(OrderedDict(b=MultiBinary(2), a=MultiDiscrete([2, 3]))),
    "tuple": Tuple([Box(-1, 1, ()), Discrete(2), MultiBinary([2, 1])]),
    "deep": Dict([("z", Tuple([Discrete(2), Dict({"action_mask": MultiBinary(2)})]))]),
    "masked": Dict({"observations": Discrete(4), "action_mask": MultiBinary(2)}),
}


def oracle(space, element, at_top=True):
    """What one element becomes, by gymnasium's own rules for flattening."""
    if isinstance(space, Dict):
        parts = [
            oracle(own, element[key], False)
            for key, own in space.spaces.items()
            if not (at_top and key == "action_mask")
        ]
        return np.concatenate(parts)
    if isinstance(space, Tuple):
        return np.concatenate(
            [oracle(own, element[i], False) for i, own in enumerate(space.spaces)]
        )
    return gym.spaces.flatten(space, element)


@pytest.mark.parametrize("space", NESTED.values(), ids=NESTED)
def test_nested_observations_go_side_by_side(compiled, space):
    encoding = ObservationEncoding(space)
    batch = batch_of(space)
    elements = list(
        gym.vector.utils.iterate(gym.vector.utils.batch_space(space, 5), batch)
    )
    want = np.stack([oracle(space, element) for element in elements])
    got = compiled(lambda x: encoding(x))(x=batch)
    for encoded in (got, encoding.numpy_form(batch)):
        np.testing.assert_array_equal(encoded, want)
        assert encoded.dtype == np.float32 and encoded.shape == want.shape
    assert encoding.encoded_shape == want.shape[1:]


def test_order_of_keys_is_that_of_the_space():
    """Not that of the observation, which nobody promises."""
    first, second = NESTED["sorted"], NESTED["as_given"]
    assert list(first.spaces) == ["a", "b"] and list(second.spaces) == ["b", "a"]
    batch = batch_of(first)
    turned = {key: batch[key] for key in ("b", "a")}
    for space in (first, second):
        encode = ObservationEncoding(space).numpy_form
        np.testing.assert_array_equal(encode(batch), encode(turned))
    a, b = slice(0, 3), slice(3, None)
    by_first = ObservationEncoding(first).numpy_form(batch)
    by_second = ObservationEncoding(second).numpy_form(batch)
    np.testing.assert_array_equal(
        np.concatenate([by_first[:, b], by_first[:, a]], 1), by_second
    )


def test_leaves_stay_apart_beside_images(compiled):
    space = Dict(
        {
            "camera": Box(0, 255, (4, 5, 3), np.uint8),
            "arm": Tuple([Discrete(2), Box(-1, 1, (2, 2))]),
            "grey": Box(0, 255, (4, 5), np.uint8),
        }
    )
    encoding = ObservationEncoding(space, image=True, apart=True)
    batch = batch_of(space)
    got = compiled(lambda x: encoding(x))(x=batch)
    for encoded in (got, encoding.numpy_form(batch)):
        assert list(encoding.encoded_shape) == ["arm.0", "arm.1", "camera", "grey"]
        assert set(encoded) == set(encoding.encoded_shape)
        assert_close(encoded["camera"], batch["camera"] / 255.0, rtol=1e-6)
        np.testing.assert_array_equal(encoded["grey"], batch["grey"])
        np.testing.assert_array_equal(encoded["arm.1"], batch["arm"][1])
        for name, shape in encoding.encoded_shape.items():
            assert encoded[name].shape == (5, *shape)


@pytest.mark.parametrize(
    ("space", "leaf"),
    [
        (Dict({"a": Discrete(2), "cam": gym.spaces.Text(3)}), "leaf 'cam': Text"),
        (Tuple([gym.spaces.Sequence(Discrete(2))]), "leaf '0': Sequence"),
        (Dict(), "Dict"),
        (Dict({"action_mask": MultiBinary(2)}), "leaf 'action_mask'"),
        (gym.spaces.Text(3), "Text"),
        (None, "None"),
    ],
)
def test_unsupported_spaces_are_named(space, leaf):
    match = (
        f"camera.*{leaf}.*want Box, .* or a Dict or Tuple of them.*FlattenObservation"
    )
    with pytest.raises(SpaceError, match=match):
        ObservationEncoding(space, where="camera")


def test_leaves_of_one_name_are_refused():
    space = Dict({"a.0": Discrete(2), "a": Tuple([Discrete(2)])})
    with pytest.raises(SpaceError, match=r"called \['a.0', 'a.0'\]"):
        ObservationEncoding(space)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
def test_images_of_uint8_are_scaled_to_one(compiled, shape, dtype):
    space = Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)
    encoding = ObservationEncoding(space, image=True)
    images = np.random.default_rng(0).uniform(0, space.high.max(), (6, *shape))
    images = images.astype(dtype)
    want = images.reshape(6, 4, 5, -1) / (255.0 if dtype == np.uint8 else 1.0)
    got = compiled(lambda x: encoding(x))(x=images)
    for encoded in (got, encoding.numpy_form(images)):
        assert_close(encoded, want, rtol=1e-6)
        assert encoded.dtype == np.float32
    assert encoding.encoded_shape == want.shape[1:]
