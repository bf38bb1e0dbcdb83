"""Tests for `tflearner.env.masked_env`, through the environment runner."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tflearner.columns import Columns
from tflearner.env.masked_env import INFO, METHOD, MaskedEnv, find_masks
from tflearner.env.vector_env import make_vector_env
from tflearner.errors import EnvContractError, EnvError, EnvStepError, SpaceError

Box, Dict, Discrete = gym.spaces.Box, gym.spaces.Dict, gym.spaces.Discrete
MultiBinary, MultiDiscrete = gym.spaces.MultiBinary, gym.spaces.MultiDiscrete
TAXI = max(name for name in gym.registry if name.startswith("Taxi-v"))
MODES = ("same_step", "next_step", "disabled")


class Turns(gym.Env):
    """Allows action `step % 3` alone, and lasts 4 steps; others are an error.

    Args:
        where: Where its masks are: "obs", "info", "method" or "nowhere".
        is_dict: Whether observations without masks are a Dict.
        ends: "terminated" or "truncated".
        last: Whether an episode's last step has a mask.
        spoil: Function of (step, mask) that returns another mask.
        action_space: That of the actions.
    """

    def __init__(
        self,
        where="info",
        is_dict=False,
        ends="terminated",
        last=True,
        spoil=None,
        action_space=None,
    ):
        self.where, self.ends, self.last, self.spoil = where, ends, last, spoil
        self.action_space = action_space or Discrete(3)
        space = Box(0, 10, (1,), np.float32)
        self.is_dict = is_dict or where == "obs"
        if self.is_dict:
            parts = {"z": space, "b": Discrete(2)}
            masks = {"action_mask": MultiBinary(3)} if where == "obs" else {}
            space = Dict(parts | masks)
        self.observation_space = space
        self.num_resets = 0
        if where == "method":
            self.action_masks = self._method

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_resets += 1
        self.t = 0
        return self._obs(), self._info()

    def step(self, action):
        if isinstance(self.action_space, Discrete) and action != self.t % 3:
            raise ValueError(f"{action} is not allowed")
        self.t += 1
        done = self.t == 4
        flags = done and self.ends == "terminated", done and self.ends == "truncated"
        return self._obs(), 1.0, *flags, self._info()

    def _mask(self):
        if self.t == 4 and not self.last:
            return None
        mask = np.arange(3) == self.t % 3
        return self.spoil(self.t, mask) if self.spoil else mask

    def _obs(self):
        number = np.float32([self.t])
        if not self.is_dict:
            return number
        obs = {"z": number, "b": self.t % 2}
        return obs | (
            {"action_mask": np.int8(self._mask())} if self.where == "obs" else {}
        )

    def _info(self):
        mask = self._mask()
        has_mask = self.where == "info" and mask is not None
        return {"action_mask": np.int8(mask)} if has_mask else {"other": 1}

    def _method(self):
        if self.t == 4 and self.ends == "terminated":
            raise RuntimeError("called in a state in which nothing can be done")
        return list(self._mask())


class Obedient:
    """A module that takes the first action that is allowed."""

    def forward_inference(self, batch):
        return {Columns.ACTIONS: batch[Columns.OBS]["action_mask"].argmax(1)}

    forward_exploration = forward_inference

    def is_stateful(self):
        return False


class Jumpy(Turns):
    """Needs no seed to be known by its first observation."""

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        self.first = self.np_random.random()
        return obs, info


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ends", ["terminated", "truncated"])
@pytest.mark.parametrize("where", ["obs", "info", "method"])
def test_modules_see_masks_wherever_they_are(make_runner, where, ends, mode):
    runner = make_runner(
        Obedient(), env=lambda: Turns(where, ends=ends), autoreset_mode=mode
    )
    episodes = runner.sample(num_timesteps=40)
    assert sum(map(len, episodes)) == 42 and episodes[0].is_done
    for episode in episodes:
        masks = np.stack([obs["action_mask"] for obs in _rows(episode)])
        t = np.arange(len(masks)) + episode.t_started
        want = t[:, None] % 3 == np.arange(3)
        is_over = episode.is_terminated and where == "method"
        if is_over:  # It is not asked any more.
            want[-1] = True
        np.testing.assert_array_equal(masks, want)
        assert masks.dtype == np.int8
        key = "z" if where == "obs" else "observations"
        numbers = np.stack([obs[key] for obs in _rows(episode)])
        np.testing.assert_array_equal(numbers[:, 0], t)


def _rows(episode):
    obs = episode.get_observations(slice(0, len(episode) + 1))
    if isinstance(obs, list):
        return obs
    return [{k: v[i] for k, v in obs.items()} for i in range(len(episode) + 1)]


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
@pytest.mark.parametrize("mode", MODES)
def test_last_observation_without_a_mask_allows_everything(make_runner, mode, ends):
    runner = make_runner(
        Obedient(), env=lambda: Turns(last=False, ends=ends), autoreset_mode=mode
    )
    for episode in runner.sample(num_episodes=4):
        assert _rows(episode)[-1]["action_mask"].all()


@pytest.mark.parametrize("mode", MODES)
def test_last_observation_may_allow_nothing(make_runner, mode):
    def nothing_at_the_end(t, mask):
        return mask & (t < 4)

    runner = make_runner(
        Obedient(), env=lambda: Turns(spoil=nothing_at_the_end), autoreset_mode=mode
    )
    for episode in runner.sample(num_episodes=4):
        assert not _rows(episode)[-1]["action_mask"].any()


def test_dict_observations_get_one_more_key():
    env = MaskedEnv(Turns(is_dict=True), INFO)
    assert list(env.observation_space.spaces) == ["b", "z", "action_mask"]
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)


def test_flat_observations_are_put_beside_the_mask():
    env = MaskedEnv(Turns("method"), METHOD)
    assert list(env.observation_space.spaces) == ["observations", "action_mask"]
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)


def test_taxi_is_masked(make_runner):
    runner = make_runner(Obedient(), env=TAXI)
    space = runner.env.single_observation_space
    assert list(space.spaces) == ["observations", "action_mask"]
    episodes = runner.sample(num_timesteps=30)
    assert _rows(episodes[0])[0]["action_mask"].shape == (6,)


def test_masks_in_processes_of_their_own(make_runner):
    runner = make_runner(
        Obedient(),
        env=TAXI,
        num_envs_per_env_runner=2,
        gym_env_vectorize_mode="async",
    )
    episodes = runner.sample(num_timesteps=10)
    assert _rows(episodes[0])[0]["action_mask"].any()


def test_processes_that_step_environments_need_no_tensorflow():
    """It takes seconds to start and 300 MB in each."""
    code = "import sys, tflearner.env.vector_env, tflearner.testing; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_actions_are_allowed_ones(make_runner):
    runner = make_runner(Obedient(), env=Turns)  # Others would raise.
    episodes = runner.sample(num_timesteps=40, random_actions=True)
    assert sum(map(len, episodes)) >= 40


# Where masks are looked for.


@pytest.mark.parametrize(
    ("settings", "wanted", "found"),
    [
        ({"where": "info"}, "auto", INFO),
        ({"where": "info"}, True, INFO),
        ({"where": "info"}, False, None),
        ({"where": "method"}, "auto", METHOD),
        ({"where": "method"}, False, None),
        ({"where": "obs"}, "auto", None),
        ({"where": "obs"}, True, None),
        ({"where": "nowhere"}, "auto", None),
        ({"where": "info", "action_space": Box(-1, 1, (3,))}, "auto", None),
        ({"where": "method", "action_space": MultiBinary(3)}, "auto", None),
    ],
    ids=str,
)
def test_place_of_masks(settings, wanted, found):
    assert find_masks(Turns(**settings), wanted, "it") == found


def test_nothing_is_reset_for_actions_that_cannot_be_masked_or_without_a_look():
    for env, wanted in (
        (Turns(action_space=Box(-1, 1, (3,))), "auto"),
        (Turns("obs"), "auto"),
        (Turns(), False),
    ):
        find_masks(env, wanted, "it")
        assert env.num_resets == 0


def test_environment_that_fails_in_the_look_fails_in_its_reset(make_runner):
    class Broken(Turns):
        def reset(self, **kwargs):
            raise ValueError("no power")

    runner = make_runner(Obedient(), env=Broken)
    with pytest.raises(EnvStepError, match="environment 0, reset: .*no power"):
        runner.sample(num_timesteps=5)


@pytest.mark.parametrize("wanted", ["auto", False])
def test_looking_does_not_change_what_a_seed_leads_to(make_runner, wanted):
    runner = make_runner(Obedient(), env=lambda: Jumpy("obs"), action_masks=wanted)
    other = make_runner(Obedient(), env=lambda: Jumpy("info"))
    for each in (runner, other):
        each._reset(True)
    firsts = [
        [env.unwrapped.first for env in each.env.envs] for each in (runner, other)
    ]
    assert firsts[0] == firsts[1]


@pytest.mark.parametrize(
    ("env", "match"),
    [
        (lambda: Turns("nowhere"), "no mask of actions: .*nor has the info of a reset"),
        (lambda: Turns(action_space=Box(-1, 1, (3,))), "want discrete actions"),
        (lambda: SyncVectorEnv([lambda: Turns("info")]), "vector environments are not"),
    ],
    ids=["nowhere", "box", "vector"],
)
def test_masks_that_are_demanded(env, match):
    with pytest.raises(EnvContractError, match=match):
        make_vector_env(env, action_masks=True)


def test_masks_of_vector_environments_are_in_observations():
    made = make_vector_env(
        lambda: SyncVectorEnv([lambda: Turns("obs")]), action_masks=True
    )
    assert "action_mask" in made.single_observation_space.spaces


def test_mask_in_observations_that_does_not_fit_is_refused_if_demanded():
    with pytest.raises((SpaceError, EnvError), match=r"want .*shape \(2,\)"):
        make_vector_env(
            lambda: Turns("obs", action_space=Discrete(2)), action_masks=True
        )


# Bad masks.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["obs", "info", "method"])
def test_mask_that_forbids_everything_is_found_while_acting(make_runner, where, mode):
    def nothing_at(t, mask):
        return mask & (t != 2)

    runner = make_runner(
        Obedient(), env=lambda: Turns(where, spoil=nothing_at), autoreset_mode=mode
    )
    with pytest.raises(
        EnvContractError, match="environment 0, episode step 2: .*forbids"
    ):
        runner.sample(num_timesteps=40)


def test_mask_that_forbids_everything_is_found_in_a_reset(make_runner):
    runner = make_runner(
        Obedient(), env=lambda: Turns("obs", spoil=lambda t, mask: mask & (t > 0))
    )
    with pytest.raises(EnvContractError, match="environment 0, reset: .*forbids"):
        runner.sample(num_timesteps=5)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda mask: mask[:2], r"info\['action_mask'\] int8 \(2,\), want .*\(3,\)"),
        (lambda mask: None, r"no mask of actions in info\['action_mask'\], want one"),
    ],
    ids=["shape", "missing"],
)
def test_wrong_mask_is_named_with_its_step(make_runner, spoil, match):
    class Forgets(Turns):
        def _info(self):
            mask = self._mask()
            return {} if mask is None else {"action_mask": np.int8(mask)}

    def from_step_1(t, mask):
        return spoil(mask) if t == 1 else mask

    runner = make_runner(Obedient(), env=lambda: Forgets(spoil=from_step_1))
    match = rf"environment 0, episode step 1: got step\(\) with {match}"
    with pytest.raises(EnvContractError, match=match):
        runner.sample(num_timesteps=5)


def test_method_that_raises_is_named_with_its_step(make_runner):
    def raise_at(t, mask):
        if t == 3:
            raise KeyError("no idea")
        return mask

    runner = make_runner(Obedient(), env=lambda: Turns("method", spoil=raise_at))
    with pytest.raises(EnvStepError, match="episode step 3: .*no idea"):
        runner.sample(num_timesteps=12)


@pytest.mark.parametrize("kind", ["arity", "info"])
def test_what_is_wrong_beside_the_mask_is_reported_as_ever(make_runner, kind):
    class Wrong(Turns):
        def step(self, action):
            result = super().step(action)
            return result[:4] if kind == "arity" else (*result[:4], None)

    runner = make_runner(Obedient(), env=Wrong)
    match = "4 values, want 5" if kind == "arity" else "the info None"
    with pytest.raises(EnvContractError, match=f"environment 0, .*{match}"):
        runner.sample(num_timesteps=5)


@pytest.mark.parametrize(
    ("obs", "match"),
    [
        (
            {"z": np.zeros(2, np.float32), "b": 0},
            r"\['z'\] float32 \(2,\), want .*\(1,\)",
        ),
        ({"z": np.zeros(1, np.float32)}, r"want a dict with keys \['b', 'z', 'ac"),
        ({"z": np.zeros(1, np.float32), "b": 0.5}, r"\['b'\] float64"),
    ],
    ids=["shape", "key", "dtype"],
)
def test_wrong_entry_of_a_dict_is_named_with_its_step(make_runner, obs, match):
    class Wrong(Turns):
        def step(self, action):
            return (obs, *super().step(action)[1:])

    runner = make_runner(Obedient(), env=lambda: Wrong(is_dict=True))
    with pytest.raises(
        EnvContractError, match=f"environment 0, episode step 1: .*{match}"
    ):
        runner.sample(num_timesteps=5)
