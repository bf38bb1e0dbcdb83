import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tflearner.env import vector_env
from tflearner.env.vector_stepper import VectorStepper, info_of
from tflearner.errors import EnvContractError
from tflearner.testing import CountingVectorEnv


class Changed(gym.vector.VectorWrapper):
    """Changes one of the five values of a step."""

    def __init__(self, index, change, mode=AutoresetMode.SAME_STEP):
        super().__init__(CountingVectorEnv(2, mode, ends=[(1, "terminated")]))
        self.index, self.change = index, change

    def step(self, actions):
        result = list(super().step(actions))
        result[self.index] = self.change(result[self.index])
        return tuple(result)


@pytest.mark.parametrize(
    ("index", "change", "text"),
    [
        (1, lambda rewards: rewards[:, None], r"rewards of shape \(2, 1\)"),
        (2, lambda flags: flags[:1], r"terminations of shape \(1,\)"),
        (3, lambda flags: None, r"truncations of shape \(\)"),
        (4, lambda infos: [infos], "infos in a list"),
        (4, lambda infos: {}, "without infos.'final_obs'"),
        (4, lambda infos: {"final_obs": np.zeros((2, 5))}, "final_obs.* another form"),
        (4, lambda infos: {"final_obs": 3}, "final_obs.* another form"),
        (1, lambda rewards: rewards * np.nan, "environment 0, episode step 1.*nan"),
    ],
)
def test_steps_that_break_the_contract(index, change, text):
    stepper = VectorStepper(Changed(index, change))
    stepper.reset()
    with pytest.raises(EnvContractError, match=text):
        stepper.step(np.zeros(2, int))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_errors_count_the_steps_of_the_episode(mode):
    rewards = iter([0.0] * 4 + [np.inf])
    stepper = VectorStepper(Changed(1, lambda _: np.full(2, next(rewards)), mode))
    stepper.reset()
    with pytest.raises(EnvContractError, match="episode step 1: got reward = inf"):
        for _ in range(5):
            stepper.step(np.zeros(2, int))


def test_wrong_arity_of_a_vector_environment():
    env = CountingVectorEnv()
    env.step = lambda actions: (1, 2, 3, 4)
    env.reset = lambda **kwargs: np.zeros((2, 3))
    stepper = VectorStepper(env)
    with pytest.raises(
        EnvContractError, match=r"reset\(\) with ndarray, want 2 values"
    ):
        stepper.reset()
    with pytest.raises(EnvContractError, match=r"step\(\) with 4, want 5 values"):
        stepper.step(np.zeros(2))


def test_final_obs_as_objects():
    def as_objects(infos):
        final_obs = np.full(2, None, object)
        final_obs[1] = [7.0, 8.0, 9.0]
        return {"final_obs": final_obs, "_final_obs": np.array([False, True])}

    env = Changed(4, as_objects)
    env.env.envs[0].ends = ((5, "terminated"),)
    stepper = VectorStepper(env)
    stepper.reset()
    step = stepper.step(np.zeros(2, int))
    assert step.done.tolist() == [1]
    assert step.final_obs.tolist() == [[7.0, 8.0, 9.0]]
    assert step.final_obs.dtype == np.float32
    assert step.infos == {}


def test_reset_steps_are_not_env_steps():
    stepper = VectorStepper(
        Changed(1, lambda rewards: rewards, AutoresetMode.NEXT_STEP)
    )
    stepper.reset()
    steps = [stepper.step(np.ones(2, int)) for _ in range(3)]
    assert [step.num_env_steps for step in steps] == [2, 0, 2]
    assert steps[1].rewards.tolist() == [0.0, 0.0]
    assert not steps[1].done.size


def test_info_of_one_environment():
    infos = {
        "a": np.array([1, 2]),
        "b": {"c": np.array([3, 4]), "_c": np.array([True, False])},
        "_b": np.array([True, True]),
        "_hidden": np.array([5, 6]),
    }
    assert info_of(infos, 0) == {"a": 1, "b": {"c": 3}, "_hidden": 5}
    assert info_of(infos, 1) == {"a": 2, "b": {}, "_hidden": 6}
    assert info_of([{}, {"x": 1}], 1) == {"x": 1}


@pytest.mark.parametrize("mode", AutoresetMode)
def test_starting_are_those_whose_observation_is_the_first(mode):
    stepper = VectorStepper(CountingVectorEnv(3, mode))
    stepper.reset()
    num_starts = 0
    for _ in range(20):
        step = stepper.step(np.zeros(3, int))
        assert step.starting.tolist() == np.flatnonzero(step.obs[:, 2] == 0).tolist()
        num_starts += len(step.starting)
    assert num_starts > 5


class Discretely(gym.Env):
    """Observes what it is told, at the third step at the latest."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space, bad):
        self.observation_space, self.bad = space, bad

    def reset(self, *, seed=None, options=None):
        self._step = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self._step += 1
        is_bad = action == 1 and self._step == 3
        observation = self.bad if is_bad else self.observation_space.sample()
        return observation, 0.0, is_bad, False, {}


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
@pytest.mark.parametrize(
    ("space", "bad", "text"),
    [
        (gym.spaces.Discrete(3), 3, "observation = 3, want an element of Discrete"),
        (gym.spaces.Discrete(3, start=2), 1, "observation = 1"),
        (gym.spaces.MultiDiscrete([2, 3]), np.array([0, 3]), r"observation\[1\] = 3"),
        (gym.spaces.MultiBinary(2), np.array([2, 0], np.int8), r"observation\[0\] = 2"),
        # 256 would be 0 in the dtype of the space.
        (gym.spaces.MultiBinary(2), np.array([0, 256]), "MultiBinary"),
        (
            gym.spaces.Dict({"a": gym.spaces.Tuple([gym.spaces.Discrete(2)])}),
            {"a": (-1,)},
            r"observation\['a'\]\[0\] = -1",
        ),
    ],
)
def test_whole_numbers_out_of_range(space, bad, text, mode):
    make_env = lambda: Discretely(space, bad)
    stepper = VectorStepper(
        vector_env.make_vector_env(make_env, num_envs=3, autoreset_mode=mode)
    )
    stepper.reset()
    for _ in range(2):
        stepper.step(np.array([0, 1, 0]))
    with pytest.raises(
        EnvContractError, match=f"environment 1, episode step 3: got .*{text}"
    ):
        stepper.step(np.array([0, 1, 0]))
