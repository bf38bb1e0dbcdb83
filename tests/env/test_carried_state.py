"""Modules with a state in the environment runner."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.connectors.actions import GetActions
from tflearner.connectors.pipeline import ConnectorPipelineV2
from tflearner.errors import EnvStepError, ModuleError
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.rl_module import RLModule
from tflearner.testing import CountingEnv, EvilEnv, assert_close

MODES = ("same_step", "next_step", "disabled")
every_mode = pytest.mark.parametrize("mode", MODES)


class Remembering(RLModule):
    """Counts the steps of an episode and adds up its observations, in its state."""

    def get_initial_state(self):
        return {"steps": np.float32(0), "inner": {"sum": np.zeros(3, np.float32)}}

    def _forward(self, batch, **kwargs):
        obs, state = batch[Columns.OBS], batch[Columns.STATE_IN]
        assert obs.shape[1:] == (1, 3) and state["steps"].shape == (len(obs),)
        return {
            Columns.ACTIONS: np.zeros(obs.shape[:2], int),
            Columns.STATE_OUT: {
                "steps": state["steps"] + 1,
                "inner": {"sum": state["inner"]["sum"] + obs[:, 0]},
            },
        }

    def get_state(self, components=None, *, not_components=None, inference_only=False):
        return {}

    def set_state(self, state):
        pass


def check_states(chunk):
    """The state of each step, lookback included, has seen its episode so far."""
    lookback = chunk.rewards.lookback
    states = chunk.extra_model_outputs[Columns.STATE_OUT].data
    first = chunk.t_started - lookback
    assert states["steps"].tolist() == [*range(first + 1, chunk.t + 1)]
    observations = chunk.observations.data[:-1]
    sums = observations * (np.arange(first, chunk.t) + 1.0)[:, None]
    sums[:, 2] = np.cumsum(np.arange(chunk.t))[first:]  # The environment counts too.
    assert states["inner"]["sum"].tolist() == sums.tolist()


@every_mode
@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_states_go_on_within_an_episode_and_start_anew(make_runner, mode, horizon):
    runner = make_runner(
        Remembering(), autoreset_mode=mode, episode_lookback_horizon=horizon
    )
    num_continued = 0
    for size in (7, 1, 10, 4, 23, 2, 1, 1, 1, 1):
        for chunk in runner.sample(num_timesteps=size):
            check_states(chunk)
            assert chunk.rewards.lookback == min(chunk.t_started, max(horizon, 1))
            num_continued += chunk.t_started > 0
    assert num_continued > 3 and runner.get_metrics()["num_episodes"] > 3


@every_mode
def test_whole_episodes_and_forced_resets(make_runner, mode):
    runner = make_runner(Remembering(), autoreset_mode=mode)
    for arguments in (
        {"num_timesteps": 5},
        {"num_episodes": 4},
        {"num_timesteps": 5},
        {"num_timesteps": 5, "force_reset": True},
        {"num_episodes": 2, "explore": False},
    ):
        for chunk in runner.sample(**arguments):
            check_states(chunk)


@every_mode
def test_after_random_actions_episodes_are_new(make_runner, mode):
    runner = make_runner(Remembering(), autoreset_mode=mode)
    runner.sample(num_timesteps=5)
    for chunk in runner.sample(num_timesteps=5, random_actions=True):
        assert not chunk.extra_model_outputs
    for chunk in runner.sample(num_timesteps=5):
        assert chunk.t_started == 0 or chunk.rewards.lookback
        check_states(chunk)


def test_a_stateless_module_goes_on_after_random_actions(make_runner):
    runner = make_runner(env_config={"ends": [(99, "terminated")]})
    runner.sample(num_timesteps=6, random_actions=True)
    assert {e.t_started for e in runner.sample(num_timesteps=6)} == {2}


def test_new_episodes_after_an_error_have_the_initial_state(make_runner):
    runner = make_runner(Remembering(), env=lambda: EvilEnv("raise", 4, on_action=0))
    runner.sample(num_timesteps=6)
    with pytest.raises(EnvStepError):
        runner.sample(num_timesteps=30)
    for chunk in runner.sample(num_timesteps=6):
        assert chunk.t_started == 0
        check_states(chunk)


def test_a_module_that_keeps_its_state_to_itself_is_an_error(make_runner):
    class Forgetful(Remembering):
        def _forward(self, batch, **kwargs):
            outputs = super()._forward(batch, **kwargs)
            return {Columns.ACTIONS: outputs[Columns.ACTIONS]}

    with pytest.raises(ModuleError, match="'state_out' among them.*get_initial_state"):
        make_runner(Forgetful()).sample()


@pytest.mark.parametrize(
    ("mode", "cell"),
    [("same_step", "use_lstm"), ("next_step", "use_gru"), ("disabled", "use_lstm")],
)
def test_training_passes_see_what_acting_computed(make_runner, mode, cell):
    """A part of an episode, run from the state in its lookback, gives its outputs."""
    module = PPOTfRLModule(
        CountingEnv.observation_space,
        gym.spaces.Discrete(3),
        model_config={cell: True, "lstm_cell_size": 4, "vf_share_layers": False},
        seed=0,
    )
    runner = make_runner(
        module,
        module_to_env=ConnectorPipelineV2([GetActions()]),
        autoreset_mode=mode,
        episode_lookback_horizon=0,
    )
    chunks = [chunk for _ in range(2) for chunk in runner.sample(num_timesteps=7)]
    assert any(chunk.t_started for chunk in chunks)
    for chunk in chunks:
        state = module.get_initial_state()
        if chunk.t_started:
            outputs = chunk.get_extra_model_outputs(
                neg_index_as_lookback=True, indices=-1
            )
            state = outputs[Columns.STATE_OUT]
        state = {
            part: {key: value[None] for key, value in inner.items()}
            for part, inner in state.items()
        }
        observations = chunk.get_observations(slice(0, len(chunk)))[None]
        want = module.forward_train(
            {Columns.OBS: observations, Columns.STATE_IN: state}
        )
        got = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
        wanted = want[Columns.ACTION_DIST_INPUTS][0]
        assert_close(got, wanted, rtol=1e-5, atol=1e-5)
