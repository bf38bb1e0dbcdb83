"""Tests for `tflearner.networks.product_distributions`."""

import copy
import gc
import itertools
import weakref

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import tree

from tflearner.errors import SpaceError
from tflearner.modules.rl_module import action_dist_class
from tflearner.networks.distributions import Categorical, DiagGaussian
from tflearner.networks.product_distributions import (
    MultiBernoulli,
    MultiCategorical,
    MultiDistribution,
)
from tflearner.testing import assert_close

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
MultiDiscrete, MultiBinary = gym.spaces.MultiDiscrete, gym.spaces.MultiBinary
Dict, Tuple = gym.spaces.Dict, gym.spaces.Tuple


def softmax(logits):
    weights = np.exp(np.float64(logits) - np.max(logits))
    return weights / weights.sum()


def gaussian(inputs, other, action):
    """(log p(x), entropy, KL), float64, of one action."""
    (loc, log_std), (loc_2, log_std_2) = (
        np.split(np.float64(x), 2) for x in (inputs, other)
    )
    var, var_2 = np.exp(2 * log_std), np.exp(2 * log_std_2)
    logp = -0.5 * (np.ravel(action) - loc) ** 2 / var - 0.5 * np.log(2 * np.pi * var)
    entropy = 0.5 * np.log(2 * np.pi * np.e * var)
    kl = log_std_2 - log_std + (var + (loc - loc_2) ** 2) / (2 * var_2) - 0.5
    return logp.sum(), entropy.sum(), kl.sum()


def tables(space, inputs):
    """The probabilities of each component of a space without parts, float64 each."""
    if isinstance(space, Discrete):
        return [softmax(inputs)]
    if isinstance(space, MultiBinary):
        return [softmax([0.0, x]) for x in inputs]
    ends = np.cumsum(np.ravel(space.nvec))
    return [softmax(x) for x in np.split(inputs, ends[:-1])]


def enumerated(space, inputs, other, action):
    """(log p(a), -sum p log p, sum p log p/q) over all actions that there are."""
    p, q = tables(space, inputs), tables(space, other)
    total = np.zeros(3)
    for joint in itertools.product(*(range(len(table)) for table in p)):
        prob, prob_2 = (
            np.prod([own[i] for own, i in zip(x, joint, strict=True)]) for x in (p, q)
        )
        if joint == tuple(np.ravel(action).tolist()):
            total[0] = np.log(prob)
        total[1] -= prob * np.log(prob)
        total[2] += prob * np.log(prob / prob_2)
    return total


def parts_of(space):
    """Key and space of each part, in their order."""
    is_dict = isinstance(space, Dict)
    return list(space.spaces.items() if is_dict else enumerate(space.spaces))


def num_inputs(space):
    if isinstance(space, Dict | Tuple):
        return sum(num_inputs(part) for _, part in parts_of(space))
    if isinstance(space, Box):
        return 2 * int(np.prod(space.shape))
    sizes = {Discrete: "n", MultiDiscrete: "nvec"}
    if type(space) in sizes:
        return int(np.sum(getattr(space, sizes[type(space)])))
    return int(np.prod(space.shape))


def oracle(space, inputs, other, action):
    if isinstance(space, Box):
        return np.array(gaussian(inputs, other, action))
    if not isinstance(space, Dict | Tuple):
        return enumerated(space, inputs, other, action)
    total, start = np.zeros(3), 0
    for key, part in parts_of(space):
        own = slice(start, start + num_inputs(part))
        total += oracle(part, inputs[own], other[own], action[key])
        start = own.stop
    return total


def rows(actions, index):
    return tree.map_structure(lambda x: x[index], actions)


def case(space, seed=0, num=32):
    """Inputs of two distributions, float32 [num, inputs], and actions."""
    rng = np.random.default_rng(seed)
    inputs, other = rng.normal(size=(2, num, num_inputs(space))).astype(np.float32)
    return inputs, other, action_dist_class(space).sample_np(inputs, rng)


def test_sums_over_all_actions(compiled, action_space):
    dist_class = action_dist_class(action_space)
    inputs, other, actions = case(action_space)

    def evaluate(inputs, other):
        dist = dist_class.from_logits(inputs)
        kl = dist.kl(dist_class.from_logits(other))
        return dist.logp(actions), dist.entropy(), kl

    got = compiled(evaluate)(inputs=inputs, other=other)
    pairs = zip(inputs, other)
    want = [oracle(action_space, *xs, rows(actions, i)) for i, xs in enumerate(pairs)]
    assert_close(np.transpose(got), want, rtol=1e-5, atol=1e-5)


def test_numpy_equals_tensorflow(action_space):
    dist_class = action_dist_class(action_space)
    inputs, _, actions = case(action_space)
    dist = dist_class.from_logits(tf.constant(inputs))
    got = dist_class.logp_np(inputs, actions)
    assert got.dtype == np.float32
    assert_close(got, dist.logp(actions), rtol=1e-6, atol=1e-6)
    likeliest = dist_class.deterministic_np(inputs)
    for numpy, tensors in (
        (likeliest, dist.to_deterministic().sample()),
        (actions, dist.sample(seed=tf.constant([1, 2]))),
    ):
        tensors = tree.map_structure(np.asarray, tensors)
        tree.assert_same_structure(numpy, tensors)
        for one, two in zip(tree.flatten(numpy), tree.flatten(tensors)):
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
            if numpy is likeliest:
                assert_close(one, two)


def test_likeliest_action_is_as_likely_as_any(action_space):
    dist_class = action_dist_class(action_space)
    inputs, *_ = case(action_space)
    best = dist_class.logp_np(inputs, dist_class.deterministic_np(inputs))
    rng = np.random.default_rng(1)
    for _ in range(20):
        draws = dist_class.sample_np(inputs, rng)
        assert (dist_class.logp_np(inputs, draws) <= best + 1e-6).all()


def test_actions_are_those_of_the_space_counted_from_0(action_space):
    inputs, _, actions = case(action_space, num=200)
    assert (
        action_dist_class(action_space).required_input_dim(action_space)
        == inputs.shape[1]
    )

    def check(space, actions):
        if isinstance(space, Dict | Tuple):
            assert type(actions) is (dict if isinstance(space, Dict) else tuple)
            assert len(actions) == len(parts_of(space))
            for key, part in parts_of(space):
                check(part, actions[key])
        elif isinstance(space, Box):
            assert (actions.dtype, actions.ndim) == (np.float32, 2)
        else:
            is_bits = isinstance(space, MultiBinary)
            assert actions.dtype == (np.int8 if is_bits else np.int32)
            assert actions.shape == (200, *space.shape)
            most = (
                (space.n if isinstance(space, Discrete) else space.nvec) - 1
                if (not is_bits)
                else 1
            )
            assert (actions.min(0) == 0).all() and (actions.max(0) == most).all()

    check(action_space, actions)


def test_any_leading_dimensions(action_space):
    dist_class = action_dist_class(action_space)
    inputs, _, actions = case(action_space, num=12)
    sequences = inputs.reshape(3, 4, -1)
    of_sequences = tree.map_structure(lambda x: x.reshape(3, 4, *x.shape[1:]), actions)
    want = dist_class.logp_np(inputs, actions).reshape(3, 4)
    assert_close(dist_class.logp_np(sequences, of_sequences), want)
    dist = dist_class.from_logits(tf.constant(sequences))
    assert_close(dist.logp(of_sequences), want, rtol=1e-5)
    assert dist.entropy().shape == (3, 4)
    for draws in (
        dist.sample(seed=tf.constant([1, 2])),
        dist_class.sample_np(sequences, np.random.default_rng(0)),
        dist_class.deterministic_np(sequences),
    ):
        for got, one in zip(tree.flatten(draws), tree.flatten(of_sequences)):
            assert got.shape == one.shape


def test_draws_repeat_with_their_seed(action_space):
    dist_class = action_dist_class(action_space)
    inputs, *_ = case(action_space)
    dist = dist_class.from_logits(tf.constant(inputs))
    for draw in (
        lambda seed: dist.sample(seed=tf.constant([0, seed])),
        lambda seed: dist_class.sample_np(inputs, np.random.default_rng(seed)),
    ):
        one, again, two = (
            np.concatenate([np.ravel(x) for x in tree.flatten(draw(seed))])
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, again)
        assert (one != two).any()


@pytest.mark.parametrize("name", ["numbers", "matrix", "bits"])
def test_draws_have_the_right_frequencies(name, action_spaces):
    space, num = action_spaces[name], 20_000
    dist_class = action_dist_class(space)
    inputs = np.tile(case(space)[0][:1], (num, 1))
    want = tables(space, inputs[0])
    dist = dist_class.from_logits(tf.constant(inputs))
    for draws in (
        dist_class.sample_np(inputs, np.random.default_rng(0)),
        dist.sample(seed=tf.constant([1, 2])).numpy(),
    ):
        for component, probs in zip(draws.reshape(num, -1).T, want, strict=True):
            got = np.bincount(component, minlength=len(probs)) / num
            assert (np.abs(got - probs) <= 4 * np.sqrt(probs * (1 - probs) / num)).all()
        # Components are drawn independently of each other.
        pairs = np.corrcoef(draws.reshape(num, -1)[:, :2].T)
        assert abs(pairs[0, 1]) < 0.03


def test_parts_of_a_nest_are_drawn_independently():
    space = Tuple([Box(-1, 1, (1,)), Box(-1, 1, (1,))])
    dist = action_dist_class(space).from_logits(tf.zeros([5_000, 4]))
    one, two = dist.sample(seed=tf.constant([1, 2]))
    assert abs(np.corrcoef(one[:, 0], two[:, 0])[0, 1]) < 0.05


def test_forbidden_numbers(compiled):
    """Logits of -inf: never drawn, with finite terms and gradients."""
    dist_class = action_dist_class(MultiDiscrete([2, 3]))
    logits = np.float32([[0.3, -np.inf, 0.1, -np.inf, -0.5]])
    actions = np.int32([[0, 2]])

    def evaluate(logits):
        old = dist_class.from_logits(logits)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            new = dist_class.from_logits(logits)
            terms = new.logp(actions), new.entropy(), old.kl(new)
        return terms, [tape.gradient(term, logits) for term in terms]

    terms, gradients = compiled(evaluate)(logits=logits)
    for array in (*terms, *gradients):
        assert np.isfinite(array).all()
    assert_close(dist_class.logp_np(logits, actions), terms[0], rtol=1e-6)
    many = np.tile(logits, (500, 1))
    draws = dist_class.sample_np(many, np.random.default_rng(0))
    assert {*map(tuple, draws.tolist())} == {(0, 0), (0, 2)}


def test_gradients_are_those_of_the_terms(action_space):
    dist_class = action_dist_class(action_space)
    inputs, other, actions = case(action_space, num=4)
    inputs = tf.constant(inputs, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        dist = dist_class.from_logits(inputs)
        total = tf.reduce_sum(
            dist.logp(actions) + dist.entropy() + dist.kl(dist_class.from_logits(other))
        )
    got = tape.gradient(total, inputs).numpy()
    step = 1e-4
    for index in np.ndindex(got.shape):
        ends = []
        for sign in (-1, 1):
            moved = inputs.numpy().astype(np.float64)
            moved[index] += sign * step
            i = index[0]
            ends.append(
                oracle(action_space, moved[i], other[i], rows(actions, i)).sum()
            )
        assert_close(got[index], (ends[1] - ends[0]) / step / 2, rtol=1e-3, atol=1e-3)


def test_draws_of_rsample_carry_gradients_where_all_parts_have_them():
    inputs = tf.constant([[0.1, 0.2, 0.3, 0.4]])
    boxes = action_dist_class(Tuple([Box(-1, 1, (1,)), Box(-1, 1, (1,))]))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        draws = boxes.from_logits(inputs).rsample(tf.constant([1, 2]))
    assert (tape.gradient(draws, inputs).numpy()[:, [0, 2]] == 1.0).all()
    mixed = action_dist_class(Dict({"a": Box(-1, 1, (1,)), "b": Discrete(2)}))
    with pytest.raises(NotImplementedError, match="Categorical"):
        mixed.from_logits(inputs).rsample()


def test_log_standard_deviations_are_found(action_spaces):
    got = action_dist_class(action_spaces["tuple"]).log_std_inputs()
    assert np.flatnonzero(got).tolist() == [4]
    got = action_dist_class(action_spaces["deep"]).log_std_inputs()
    assert np.flatnonzero(got).tolist() == [4, 5, 6, 7]  # gymnasium sorts a dict.


# Classes.


def test_equal_spaces_have_one_class(action_space, action_spaces):
    dist_class = action_dist_class(action_space)
    assert action_dist_class(copy.deepcopy(action_space)) is dist_class
    assert copy.deepcopy(dist_class) is dist_class
    others = [each for each in action_spaces.values() if each != action_space]
    assert dist_class not in map(action_dist_class, others)


def test_classes_are_of_their_kinds(action_spaces):
    kinds = {MultiDiscrete: MultiCategorical, MultiBinary: MultiBernoulli}
    for space in action_spaces.values():
        kind = kinds.get(type(space), MultiDistribution)
        assert issubclass(action_dist_class(space), kind)
        assert action_dist_class(space).__name__ == kind.__name__
    assert action_dist_class(Discrete(2)) is Categorical
    assert action_dist_class(Box(-1, 1, ())) is DiagGaussian


def test_classes_of_many_spaces_are_not_kept_for_ever():
    first = weakref.ref(MultiBernoulli.of((5, 4, 3)))
    for n in range(1, 1_100):
        MultiBernoulli.of((n,))
    gc.collect()
    assert first() is None


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (gym.spaces.Text(3), r"action space: got Text"),
        (None, "action space: got None"),
        (Dict({}), r"action space: got Dict\(\)"),
        (Tuple([]), r"action space: got Tuple\(\)"),
        (Dict({"a": Discrete(2), "b": gym.spaces.Text(3)}), "leaf 'b': got Text"),
        (
            Tuple([Discrete(2), Dict({"g": gym.spaces.Graph(Box(0, 1, (2,)), None)})]),
            "leaf '1/g': got Graph",
        ),
        (Dict({"s": gym.spaces.Sequence(Discrete(2))}), "leaf 's': got Sequence"),
        (Dict({"a": Discrete(2), "b": Tuple([])}), r"leaf 'b': got Tuple\(\)"),
    ],
    ids=str,
)
def test_unsupported_leaves_are_named(space, text):
    with pytest.raises(SpaceError, match=f"{text}.*MultiDiscrete, MultiBinary"):
        action_dist_class(space)
