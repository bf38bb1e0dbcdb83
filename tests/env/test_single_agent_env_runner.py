"""The runner against a single environment that plain Python plays."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tflearner.columns import Columns
from tflearner.errors import EnvContractError, EnvStepError, ModuleError, UsageError
from tflearner.testing import CountingEnv, CountingVectorEnv, EvilEnv

MODES = ("same_step", "next_step", "disabled")


class Stateless:
    """The base of modules that are no `RLModule` and carry no state."""

    def is_stateful(self):
        return False


SOURCES = [(source, mode) for source in ("sync", "custom") for mode in MODES]


def settings_for(source, mode, **kwargs):
    if source == "custom":
        return {"env": CountingVectorEnv(3, AutoresetMode[mode.upper()], **kwargs)}
    return {
        "env_config": kwargs,
        "gym_env_vectorize_mode": source,
        "autoreset_mode": mode,
    }


def play(tag, num_turns, mode, **kwargs):
    """The oracle: plays episodes as `CountingModule` does. A turn is a vector step."""
    env, episodes, turn = CountingEnv(tag=tag, **kwargs), [], 0
    while turn < num_turns:
        if episodes and mode == "next_step":
            turn += 1  # Spent on the reset.
            if turn == num_turns:
                break
        obs, info = env.reset()
        episode = {"obs": [obs.tolist()], "infos": [info], "steps": []}
        episodes.append(episode)
        done = False
        while not done and turn < num_turns:
            _, number, step = map(int, obs)
            action = (tag + 2 * number + step) % 3
            logp, value = float(np.log1p(np.float32(step))), -float(step)
            obs, reward, *ends, info = env.step(action)
            done, turn = any(ends), turn + 1
            episode["obs"].append(obs.tolist())
            episode["infos"].append(info)
            episode["steps"].append((action, reward, value, logp))
            episode["ends"] = ends
    return episodes


def joined(chunks):
    """Joins chunks to episodes in the oracle's form, by tag; checks that they fit."""
    episodes = {}
    for chunk in chunks:
        episode = episodes.setdefault(
            chunk.id_, {"obs": [], "infos": [], "steps": [], "ends": [False, False]}
        )
        assert chunk.is_numpy
        assert chunk.t_started == len(episode["steps"])
        assert not any(episode["ends"])
        observations, infos = chunk.get_observations().tolist(), chunk.get_infos()
        if episode["obs"]:
            assert episode["obs"].pop() == observations[0]
            assert episode["infos"].pop() == infos[0]
        outputs = chunk.get_extra_model_outputs()
        columns = [chunk.get_actions(), chunk.get_rewards()]
        columns += [outputs[Columns.VF_PREDS], outputs[Columns.ACTION_LOGP]]
        episode["obs"] += observations
        episode["infos"] += infos
        episode["steps"] += zip(*(column.tolist() for column in columns), strict=True)
        episode["ends"] = [chunk.is_terminated, chunk.is_truncated]
    by_tag = {}
    for episode in episodes.values():
        by_tag.setdefault(int(episode["obs"][0][0]), []).append(episode)
    return by_tag


def check_against_oracle(runner, mode, sizes=(7, 1, 10, 4, 23, 2), **kwargs):
    module, chunks, num_taken = runner.module, [], 0
    first_calls = module.num_calls
    for size in sizes:
        new = runner.sample(num_timesteps=size)
        assert size <= sum(map(len, new)) < size + runner.num_envs
        chunks += new
    num_turns = module.num_calls - first_calls
    by_tag = joined(chunks)
    assert len(by_tag) == runner.num_envs
    for tag, episodes in by_tag.items():
        assert episodes == play(tag, num_turns, mode, **kwargs)
        num_taken += sum(len(episode["steps"]) for episode in episodes)
    return num_taken


@pytest.mark.parametrize(("source", "mode"), SOURCES)
def test_every_step_is_returned_exactly_once(make_runner, source, mode):
    runner = make_runner(**settings_for(source, mode))
    num_taken = check_against_oracle(runner, mode)
    results = runner.get_metrics()
    assert results["num_env_steps_sampled"] == num_taken
    is_reset_free = num_taken == runner.module.num_calls * runner.num_envs
    assert is_reset_free == (mode != "next_step")


@pytest.mark.parametrize(("source", "mode"), SOURCES)
def test_infos_stay_with_their_observations(make_runner, source, mode):
    runner = make_runner(**settings_for(source, mode, with_infos=True))
    check_against_oracle(runner, mode, with_infos=True)


@pytest.mark.parametrize("mode", MODES)
def test_arrays_that_an_environment_reuses_are_copied(make_runner, mode):
    runner = make_runner(**settings_for("sync", mode, reuse_array=True))
    check_against_oracle(runner, mode)


def test_async_environments_give_the_same(make_runner):
    settings = settings_for("async", "same_step", with_infos=True)
    runner = make_runner(num_envs_per_env_runner=2, **settings)
    check_against_oracle(runner, "same_step", with_infos=True)


@pytest.mark.parametrize("end", ["terminated", "truncated", "both"])
def test_the_kinds_of_end_are_kept_apart(make_runner, end):
    runner = make_runner(env_config={"ends": [(2, end)]})
    episode, *_ = runner.sample(num_timesteps=6)
    assert episode.is_terminated == (end in ("terminated", "both"))
    assert episode.is_truncated == (end in ("truncated", "both"))
    assert episode.get_observations(-1)[1:].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("horizon", [0, 2, 100])
def test_lookback_holds_the_steps_before(make_runner, mode, horizon):
    env_config = {"ends": [(9, "terminated")]}
    runner = make_runner(
        autoreset_mode=mode, env_config=env_config, episode_lookback_horizon=horizon
    )
    for _ in range(6):
        for chunk in runner.sample(num_timesteps=3 * 4):
            lookback = min(horizon, chunk.t_started, 4 if horizon == 2 else 9)
            assert chunk.rewards.lookback == chunk.observations.lookback == lookback
            steps = chunk.observations.data[:, 2].tolist()
            assert steps == list(range(chunk.t_started - lookback, chunk.t + 1))
            values = chunk.extra_model_outputs[Columns.VF_PREDS].data
            assert (-values).tolist() == steps[:-1]


@pytest.mark.parametrize(("source", "mode"), SOURCES)
def test_num_episodes_gives_so_many_whole_new_ones(make_runner, source, mode):
    runner = make_runner(**settings_for(source, mode))
    runner.sample(num_timesteps=5)
    episodes = runner.sample(num_episodes=7)
    assert len(episodes) == 7
    assert all(e.is_done and e.t_started == 0 for e in episodes)
    for tag, whole in joined(episodes).items():
        oracle = play(tag, 60, mode)
        assert whole in [oracle[i : i + len(whole)] for i in range(4)]
    after = runner.sample(num_timesteps=3)
    assert [e.get_observations()[:, 2].tolist() for e in after] == [[0.0, 1.0]] * 3


def test_num_episodes_does_not_prefer_short_ones(make_runner):
    lengths = iter([1, 50, 50])

    def make_env():
        return CountingEnv(ends=[(next(lengths), "terminated")])

    episodes = make_runner(env=make_env).sample(num_episodes=6)
    assert sorted(map(len, episodes)) == [1, 1, 50, 50, 50, 50]


def test_default_is_a_fragment_of_each_environment(make_runner):
    episodes = make_runner(rollout_fragment_length=11).sample()
    assert sum(map(len, episodes)) == 11 * 3


def test_force_reset_abandons_unfinished_episodes(make_runner):
    runner = make_runner(env_config={"ends": [(100, "terminated")]})
    ids = {e.id_ for e in runner.sample(num_timesteps=6)}
    again = runner.sample(num_timesteps=6, force_reset=True)
    assert ids.isdisjoint(e.id_ for e in again)
    assert all(e.t_started == 0 for e in again)
    assert {e.get_observations(0)[1] for e in again} == {1.0}  # Not seeded again.


def test_metrics_are_those_of_the_raw_episodes(make_runner):
    runner = make_runner()
    num_steps = sum(
        len(e) for n in (5, 1, 9, 14) for e in runner.sample(num_timesteps=n)
    )
    results, turns = runner.get_metrics(), runner.module.num_calls
    tags = runner._rollout.obs[:, 0].astype(int).tolist()
    whole = [e for tag in tags for e in play(tag, turns, "same_step") if any(e["ends"])]
    returns = [sum(reward for _, reward, *_ in e["steps"]) for e in whole]
    assert results["episode_return_mean"] == pytest.approx(np.mean(returns))
    assert results["episode_return_min"] == min(returns)
    assert results["episode_return_max"] == max(returns)
    assert results["episode_len_mean"] == pytest.approx(
        np.mean([len(e["steps"]) for e in whole])
    )
    assert results["num_episodes"] == results["num_episodes_lifetime"] == len(whole)
    assert results["num_env_steps_sampled"] == num_steps == 3 * turns
    assert results["timers"].keys() == {"env_step_s", "act_s", "sample_s"}
    assert all(value > 0 for value in results["timers"].values())


def test_intervals_and_lifetimes(make_runner):
    runner = make_runner(metrics_num_episodes_for_smoothing=1)
    results = runner.get_metrics()
    assert math.isnan(results["episode_return_mean"])
    assert math.isnan(results["episode_len_mean"])
    assert results["num_episodes"] == results["num_env_steps_sampled_lifetime"] == 0
    runner.sample(num_episodes=2)
    first = runner.get_metrics()
    *_, last = runner.sample(num_episodes=3)
    second = runner.get_metrics()
    assert (first["num_episodes"], second["num_episodes"]) == (2, 3)
    assert second["num_episodes_lifetime"] == 5
    assert second["episode_return_mean"] == last.get_return()
    lifetimes = [r["num_env_steps_sampled_lifetime"] for r in (first, second)]
    assert lifetimes[1] - lifetimes[0] == second["num_env_steps_sampled"]


def test_returns_and_lengths_span_sample_calls(make_runner):
    runner = make_runner(
        env_config={"ends": [(5, "truncated")]}, num_envs_per_env_runner=1
    )
    for _ in range(5):
        assert math.isnan(runner.get_metrics()["episode_return_mean"])
        runner.sample(num_timesteps=1)
    (episode,) = play(
        int(runner._rollout.obs[0, 0]), 5, "same_step", ends=[(5, "truncated")]
    )
    results = runner.get_metrics()
    assert results["episode_len_mean"] == 5
    assert results["episode_return_mean"] == sum(r for _, r, *_ in episode["steps"])


class Doubled:
    """An env-to-module pipeline with one piece."""

    observation_space = None

    def __len__(self):
        return 1

    def __call__(self, *, batch, episodes, metrics, shared_data, **kwargs):
        assert episodes == []
        metrics.log_value("doubled", 1, reduce="sum")
        assert isinstance(shared_data["rng"], np.random.Generator)
        return {Columns.OBS: 2.0 * batch[Columns.OBS]}


class Shifted(Doubled):
    """A module-to-env pipeline: what the environment gets is one more."""

    def __call__(self, *, rl_module, batch, explore, **kwargs):
        for_env = (batch[Columns.ACTIONS] + 1) % 3
        return batch | {Columns.ACTIONS_FOR_ENV: for_env, "explored": for_env * explore}


@pytest.mark.parametrize("mode", MODES)
def test_episodes_hold_what_the_module_saw(make_runner, mode):
    runner = make_runner(env_to_module=Doubled(), autoreset_mode=mode)
    for episode in runner.sample(num_timesteps=60):
        assert episode.get_observations()[:, 2].tolist() == [
            2.0 * t for t in range(episode.t_started, episode.t + 1)
        ]
        actions = (
            episode.get_observations().sum(axis=1) + episode.get_observations()[:, 1]
        )
        assert episode.get_actions().tolist() == (actions[:-1] % 3).tolist()
    assert runner.get_metrics()["doubled"] > 0


@pytest.mark.parametrize("explore", [True, False])
def test_environments_get_actions_for_env(make_runner, explore):
    runner = make_runner(module_to_env=Shifted())
    for episode in runner.sample(num_timesteps=30, explore=explore):
        outputs = episode.get_extra_model_outputs()
        for_env = outputs[Columns.ACTIONS_FOR_ENV]
        assert for_env.tolist() == ((episode.get_actions() + 1) % 3).tolist()
        assert (episode.get_rewards() % 10).tolist() == for_env.tolist()
        assert outputs["explored"].any() <= explore
        assert (Columns.ACTION_LOGP in outputs) == explore


def test_random_actions_need_no_module_call(make_runner):
    runner = make_runner()
    random = runner.sample(num_timesteps=30, random_actions=True)
    assert runner.module.num_calls == 0
    assert {a for e in random for a in e.get_actions().tolist()} == {0, 1, 2}
    # The lookback would lack the module's outputs.
    assert all(e.rewards.lookback == 0 for e in runner.sample(num_timesteps=6))


def trajectories(runner, **kwargs):
    episodes = runner.sample(**kwargs)
    return [(e.get_observations().tolist(), e.get_actions().tolist()) for e in episodes]


def test_a_seed_fixes_environments_and_random_actions(make_runner):
    first, same, other = (
        trajectories(make_runner(seed=seed), num_timesteps=30, random_actions=True)
        for seed in (1, 1, 2)
    )
    assert first == same != other


def test_state_carries_random_numbers_counters_and_weights(make_runner):
    runner, other = make_runner(seed=1), make_runner(seed=2)
    runner.sample(num_timesteps=30)
    runner.module.state = {"w": np.full(2, 7.0)}
    state = runner.get_state()
    other.set_state(state)
    assert other.module.state["w"].tolist() == [7.0, 7.0]
    assert other.get_metrics()["num_env_steps_sampled_lifetime"] == 30
    random = {"num_timesteps": 9, "random_actions": True, "force_reset": True}
    actions = [[a for _, a in trajectories(r, **random)] for r in (runner, other)]
    assert "rl_module" not in runner.get_state(not_components="rl_module")
    assert "rl_module" not in runner.get_state(components=["metrics_logger"])
    other.set_state({"rng": state["rng"]})
    assert other.get_state()["rng"] == state["rng"]
    assert len(actions[0]) == len(actions[1])


def test_actions_are_copied_before_an_environment_spoils_them(make_runner):
    class Spoils(gym.Env):
        observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (2,))

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert action.dtype == np.float32
            action *= 0.0
            return np.zeros(2, np.float32), 0.0, False, False, {}

    class Ones(Stateless):
        def forward_exploration(self, batch):
            return {Columns.ACTIONS: np.ones((3, 2), np.float32)}

    for episode in make_runner(module=Ones(), env=Spoils).sample(num_timesteps=6):
        assert episode.get_actions().tolist() == [[1.0, 1.0]] * 2


def test_nested_observations(make_runner):
    class Nested(gym.ObservationWrapper):
        def __init__(self):
            super().__init__(CountingEnv())
            space = self.env.observation_space
            self.observation_space = gym.spaces.Dict(
                {"all": space, "step": gym.spaces.Discrete(9)}
            )

        def observation(self, observation):
            return {"all": observation, "step": int(observation[2])}

    class Zeros(Stateless):
        def forward_exploration(self, batch):
            assert batch[Columns.OBS]["all"].shape == (3, 3)
            return {Columns.ACTIONS: np.zeros(3, int)}

    runners = [make_runner(Zeros(), env=Nested, autoreset_mode=mode) for mode in MODES]
    for runner in runners:
        for episode in runner.sample(num_timesteps=30):
            observations = episode.get_observations()
            steps = list(range(episode.t + 1))
            assert observations["step"].tolist() == steps
            assert observations["all"][:, 2].tolist() == steps


# Errors.


def evil(kind, at=2, **kwargs):
    return {"env": lambda: EvilEnv(kind, at, on_action=2, **kwargs)}


class Acts2Last(Stateless):
    """Environment 2 gets the action 2, on which evil environments wait."""

    def forward_exploration(self, batch):
        return {Columns.ACTIONS: np.arange(len(batch[Columns.OBS]))}


@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_raises_is_named(make_runner, mode):
    runner = make_runner(Acts2Last(), autoreset_mode=mode, **evil("raise", 4))
    with pytest.raises(
        EnvStepError, match="environment 2, episode step 4: .*100 % evil"
    ) as e:
        runner.sample(num_timesteps=30)
    assert isinstance(e.value.__cause__, ValueError)
    assert e.value.__cause__.__traceback__ is not None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("nan_observation", r"observation\[2\] = nan"),
        ("inf_reward", "reward = inf"),
        ("arity", "4 values, want 5"),
        ("no_reward", "the reward None"),
        ("no_flag", "terminated=None"),
        ("no_info", "the info None"),
        ("wrong_shape", r"float32 \(2,\), want float32 \(3,\)"),
        ("wrong_dtype", r"complex64 \(3,\), want float32 \(3,\)"),
    ],
)
def test_a_broken_contract_names_environment_and_step(make_runner, kind, text):
    runner = make_runner(Acts2Last(), **evil(kind))
    with pytest.raises(
        EnvContractError, match=f"environment 2, episode step 2: .*{text}"
    ):
        runner.sample(num_timesteps=30)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("raise", r"reset\(\) raised ValueError"),
        ("arity", "1 values, want 2"),
        ("nan_observation", "observation"),
        ("wrong_dtype", "complex64"),
    ],
)
def test_errors_in_reset_are_named(make_runner, kind, text):
    envs = iter([CountingEnv(), EvilEnv(kind, at=0), CountingEnv()])
    runner = make_runner(env=lambda: next(envs))
    with pytest.raises(
        (EnvStepError, EnvContractError), match=f"environment 1, reset: .*{text}"
    ):
        runner.sample(num_timesteps=30)


def test_a_bad_last_observation_is_found(make_runner):
    runner = make_runner(
        Acts2Last(), **evil("nan_observation", 2, ends=[(2, "terminated")])
    )
    with pytest.raises(EnvContractError, match="environment 2, episode step 2: .*nan"):
        runner.sample(num_timesteps=30)


def test_a_bad_reset_inside_a_step_is_found(make_runner):
    class FailsLater(CountingEnv):
        def reset(self, **kwargs):
            if self._episode == 1:
                raise OSError("no more episodes")
            return super().reset(**kwargs)

    for mode in MODES:
        runner = make_runner(env=FailsLater, autoreset_mode=mode)
        with pytest.raises(
            EnvStepError, match="environment ., reset: .*no more episodes"
        ):
            runner.sample(num_timesteps=60)


def test_a_custom_vector_environment_that_raises(make_runner):
    env = CountingVectorEnv(3)
    runner = make_runner(env=env)
    runner.sample(num_timesteps=3)
    env.envs[1]._running = False
    with pytest.raises(EnvStepError, match="vector environment: .*without reset") as e:
        runner.sample(num_timesteps=30)
    assert isinstance(e.value.__cause__, RuntimeError)
    assert all(e.t_started == 0 for e in runner.sample(num_timesteps=9))


def test_sampling_goes_on_after_an_error(make_runner):
    made = []

    def make_env():
        made.append(EvilEnv("raise", 4) if len(made) == 1 else CountingEnv())
        return made[-1]

    runner = make_runner(env=make_env)
    first = runner.sample(num_timesteps=6)
    before = runner.get_metrics()["num_env_steps_sampled_lifetime"]
    with pytest.raises(EnvStepError):
        runner.sample(num_timesteps=30)
    assert runner.env is None
    after = runner.sample(num_timesteps=6)
    assert len(made) == 6
    assert all(e.t_started == 0 for e in after)
    assert {e.id_ for e in first}.isdisjoint(e.id_ for e in after)
    assert runner.get_metrics()["num_env_steps_sampled_lifetime"] == before + 6


def test_an_interrupt_leaves_a_runner_that_works(make_runner):
    class Interrupted(Acts2Last):
        interrupt = True

        def forward_exploration(self, batch):
            if self.interrupt and batch[Columns.OBS][0, 2] == 2:
                raise KeyboardInterrupt
            return super().forward_exploration(batch)

    runner = make_runner(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        runner.sample(num_timesteps=30)
    runner.module.interrupt = False
    assert sum(map(len, runner.sample(num_timesteps=30))) == 30
    assert runner.get_metrics()["num_env_steps_sampled_lifetime"] == 30


def test_errors_of_other_processes_arrive(make_runner):
    runner = make_runner(
        Acts2Last(), gym_env_vectorize_mode="async", **evil("raise_odd", 2)
    )
    with pytest.raises(
        EnvStepError, match="environment 2, episode step 2: .*OddError"
    ) as e:
        runner.sample(num_timesteps=30)
    assert "on purpose" in str(e.value.__cause__)
    assert "in _spoiled" in "".join(e.value.__cause__.__notes__)  # Its traceback.


def test_a_process_that_dies_is_named_and_replaced(make_runner):
    runner = make_runner(Acts2Last(), gym_env_vectorize_mode="async", **evil("exit", 2))
    with pytest.raises(EnvStepError, match="environment 2, episode step 2: .*code 13"):
        runner.sample(num_timesteps=30)
    assert len(runner.sample(num_timesteps=3)) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_timesteps": 1, "num_episodes": 1},
        {"num_timesteps": 0},
        {"num_episodes": -1},
        {"num_timesteps": 2.5},
    ],
)
def test_arguments_that_do_not_fit(make_runner, arguments):
    with pytest.raises(UsageError):
        make_runner().sample(**arguments)


def test_a_module_without_actions_is_an_error(make_runner):
    class NoActions(Stateless):
        def forward_exploration(self, batch):
            return {"action_dist_inputs": np.zeros((3, 3))}

    with pytest.raises(ModuleError, match="'actions' among them"):
        make_runner(NoActions()).sample()


def test_stop_closes_what_the_runner_made(make_runner):
    runner = make_runner()
    env = runner.env
    runner.stop()
    runner.stop()
    assert env.closed
    with pytest.raises(UsageError, match="after stop"):
        runner.sample()


def test_stop_leaves_a_given_vector_environment_open(make_runner):
    env = CountingVectorEnv()
    make_runner(env=env).stop()
    assert not env.closed
