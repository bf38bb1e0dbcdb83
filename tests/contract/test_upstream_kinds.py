"""Cases that RLlib's own tests hold of learners with states, images and many agents."""

import gymnasium as gym
import numpy as np
import pytest

from tflearner.columns import Columns
from tflearner.constants import ALL_MODULES, DEFAULT_MODULE_ID
from tflearner.data.multi_agent_episode import MultiAgentEpisode
from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.modules import acting
from tflearner.testing import random_batch, random_episodes

PAIR = ["p0", "p1"]
LSTM = {"use_lstm": True, "lstm_cell_size": 3, "max_seq_len": 4}
ENDS = ((6, "terminated"), (3, "truncated"), (5, "cut"))


def outputs_of(module, rng):
    """What a module puts out along with an action, as acting keeps it."""
    outputs = {
        "action_logp": np.float32(-0.5),
        "action_dist_inputs": rng.standard_normal(2, np.float32),
    }
    if module.is_stateful():
        outputs["state_out"] = {
            name: rng.standard_normal(x.shape, np.float32)
            for name, x in module.get_initial_state().items()
        }
    return outputs


def single_episodes(module, module_id=None, ends=ENDS):
    rng = np.random.default_rng(0)
    episodes = []
    for length, end in ends:
        episode = SingleAgentEpisode(module_id=module_id)
        episode.add_env_reset(rng.uniform(-1, 1, 4).astype("f"))
        for t in range(length):
            episode.add_env_step(
                rng.uniform(-1, 1, 4).astype("f"),
                int(rng.integers(2)),
                float(rng.normal()),
                terminated=t == length - 1 and end == "terminated",
                truncated=t == length - 1 and end == "truncated",
                extra_model_outputs=outputs_of(module, rng),
            )
        episodes.append(episode)
    return episodes


# States.


def test_module_with_a_state_learns_from_episodes_of_any_length(make_ppo, differ):
    learner = make_ppo(model=LSTM)
    module = learner.module[DEFAULT_MODULE_ID]
    before = module.get_state()
    results = learner.update(episodes=single_episodes(module), minibatch_size=8)
    own = results[DEFAULT_MODULE_ID]
    assert own["num_module_steps_trained"] == 14
    assert results[ALL_MODULES]["num_env_steps_trained"] == 14
    assert np.isfinite(own["total_loss"])
    assert all(
        differ(before[key], weight) for key, weight in module.get_state().items()
    )


def test_minibatches_of_a_module_with_a_state_are_whole_sequences(make_learner):
    learner = make_learner(model=LSTM)
    batch = {
        "obs": np.zeros((10, 4), np.float32),
        "rewards": np.arange(1, 11),
        "seq_lens": np.int32([4, 1, 3, 2]),
    }
    learner.update({DEFAULT_MODULE_ID: batch}, minibatch_size=5)
    steps = [rows[DEFAULT_MODULE_ID].tolist() for rows in learner.steps]
    assert steps == [
        [[1, 2, 3, 4], [5, 0, 0, 0]],
        [[6, 7, 8, 0], [9, 10, 0, 0]],
    ]


def test_padding_does_not_reach_the_weights(make_ppo):
    """What stands behind a sequence's length is nobody's business."""

    def weights_after(padding):
        learner = make_ppo(model=LSTM)
        module = learner.module[DEFAULT_MODULE_ID]
        batch = random_batch(module, 6)
        assert batch["seq_lens"].tolist() == [4, 2]
        for name in ("obs", "rewards", "advantages", "value_targets", "action_logp"):
            batch[name][1, 2:] = padding
        learner.update({DEFAULT_MODULE_ID: batch})
        return module.get_state()

    zeros, others = weights_after(0.0), weights_after(0.5)
    for key, weight in zeros.items():
        np.testing.assert_allclose(others[key], weight, rtol=1e-5, atol=1e-7)


def test_module_with_images_learns(make_ppo, differ):
    spaces = (gym.spaces.Box(0, 255, (10, 10, 3), np.uint8), gym.spaces.Discrete(2))
    model = {
        "conv_filters": [(4, 4, 2)],
        "fcnet_hiddens": [4],
        "conv_activation": "tanh",
    }
    learner = make_ppo(spaces=spaces, model=model)
    module = learner.module[DEFAULT_MODULE_ID]
    before = module.get_state()
    learner.update(episodes=random_episodes(*spaces), minibatch_size=4)
    assert all(
        differ(before[key], weight) for key, weight in module.get_state().items()
    )


# Many agents.


def joint_episode(modules, num_steps=6):
    """Agent "a" steps always and has p0; "b" every other time and has p1."""
    rng = np.random.default_rng(0)
    episode = MultiAgentEpisode(
        agent_to_module_mapping_fn=lambda agent, _: {"a": "p0", "b": "p1"}[agent]
    )

    def seen(agents):
        return {agent: rng.uniform(-1, 1, 4).astype("f") for agent in agents}

    episode.add_env_reset(seen("ab"))
    for t in range(num_steps):
        acting = "ab" if t % 2 == 0 else "a"
        extra = {
            agent: outputs_of(modules[{"a": "p0", "b": "p1"}[agent]], rng)
            for agent in acting
        }
        last = t == num_steps - 1
        episode.add_env_step(
            seen("a" if t % 2 == 0 else "ab"),
            {agent: int(rng.integers(2)) for agent in acting},
            {agent: float(rng.normal()) for agent in "ab"},
            terminateds={"__all__": last},
            extra_model_outputs=extra,
        )
    return episode


def test_agents_train_the_modules_they_are_mapped_to(make_ppo, differ):
    learner = make_ppo(policies=PAIR)
    before = learner.module.get_state()
    episodes = [joint_episode(learner.module), joint_episode(learner.module, 4)]
    states = [repr(episode.get_state()) for episode in episodes]
    results = learner.update(episodes=episodes, minibatch_size=4)
    assert results["p0"]["num_module_steps_trained"] == 6 + 4
    assert results["p1"]["num_module_steps_trained"] == 3 + 2
    assert results[ALL_MODULES]["num_env_steps_trained"] == 6 + 4
    assert results[ALL_MODULES]["num_module_steps_trained"] == 15
    assert all(differ(before[m], learner.module[m].get_state()) for m in PAIR)
    assert [repr(episode.get_state()) for episode in episodes] == states


def test_agents_that_may_not_learn_leave_their_module_alone(make_ppo, assert_same):
    learner = make_ppo(policies=PAIR, policies_to_train=["p0"])
    before = learner.module["p1"].get_state()
    results = learner.update(episodes=[joint_episode(learner.module)])
    assert "total_loss" in results["p0"] and "total_loss" not in results["p1"]
    assert_same(learner.module["p1"].get_state(), before)


def test_agents_with_and_without_a_state_train_together(make_ppo, make_config):
    learner = make_ppo(policies=["p0"])
    spec = make_config(model=LSTM).get_rl_module_spec()
    learner.add_module(module_id="p1", module_spec=spec)
    episodes = [joint_episode(learner.module)]
    episodes += single_episodes(learner.module["p1"], "p1")
    results = learner.update(episodes=episodes)
    assert results["p0"]["num_module_steps_trained"] == 6
    assert results["p1"]["num_module_steps_trained"] == 3 + 14
    assert results[ALL_MODULES]["num_env_steps_trained"] == 6 + 14


# Learning.


class Player:
    """One agent: a CartPole and the module that balances it."""

    def __init__(self, module, seed):
        self.env = gym.make("CartPole-v1")
        self.module, self.actor = module, acting.make_actor(module)
        self.rng, self.seed = np.random.default_rng(seed), seed

    def reset(self):
        obs, _ = self.env.reset(seed=self.seed)
        self.seed = None  # Only once: later episodes begin elsewhere.
        return obs

    def act(self, obs):
        inputs = self.actor({Columns.OBS: obs[None]}, explore=True, rng=self.rng)
        inputs = inputs[Columns.ACTION_DIST_INPUTS]
        dist_class = self.module.get_exploration_action_dist_cls()
        action = dist_class.sample_np(inputs, self.rng)
        logp = dist_class.logp_np(inputs, action)
        return int(action[0]), {
            "action_logp": logp[0],
            "action_dist_inputs": inputs[0],
        }


def play(players):
    """Returns one joint episode: each agent goes on until its own pole falls."""
    episode = MultiAgentEpisode(agent_to_module_mapping_fn=lambda agent, _: agent)
    seen = {agent: player.reset() for agent, player in players.items()}
    episode.add_env_reset(seen)
    while not episode.is_done:
        chosen = {agent: players[agent].act(seen[agent]) for agent in seen}
        steps = {agent: players[agent].env.step(a) for agent, (a, _) in chosen.items()}
        episode.add_env_step(
            {agent: step[0] for agent, step in steps.items()},
            {agent: action for agent, (action, _) in chosen.items()},
            {agent: step[1] for agent, step in steps.items()},
            terminateds={agent: step[2] for agent, step in steps.items()},
            truncateds={agent: step[3] for agent, step in steps.items()},
            extra_model_outputs={agent: extra for agent, (_, extra) in chosen.items()},
        )
        seen = {a: s[0] for a, s in steps.items() if not (s[2] or s[3])}
    return episode


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_policies_learn_to_balance_two_poles(make_ppo):
    """From returns of about 20 to 400 of 500, in the mean of 10 joint episodes."""
    space = gym.spaces.Box(-10.0, 10.0, (4,), np.float32)
    learner = make_ppo(
        spaces=(space, gym.spaces.Discrete(2)),
        model={"fcnet_hiddens": [32], "vf_share_layers": False},
        policies=PAIR,
        run_eagerly=False,
        lr=0.003,
        lambda_=0.95,
        entropy_coeff=0.0,
        vf_clip_param=1e6,
    )
    players = {mid: Player(learner.module[mid], i) for i, mid in enumerate(PAIR)}
    num_steps, played = 0, []
    returns = dict.fromkeys(PAIR, 0.0)
    while num_steps < 60_000 and min(returns.values()) < 400.0:
        episodes = []
        while sum(map(len, episodes)) < 1_000:
            episodes.append(play(players))
        num_steps += sum(map(len, episodes))
        played = [*played, *episodes][-10:]
        for mid in PAIR:
            own = [episode.agent_episodes[mid].get_return() for episode in played]
            returns[mid] = float(np.mean(own))
        learner.update(
            episodes=episodes,
            num_epochs=6,
            minibatch_size=128,
            shuffle_batch_per_epoch=True,
        )
        for player in players.values():
            player.actor.refresh()
    for player in players.values():
        player.env.close()
    assert min(returns.values()) >= 400.0, (num_steps, returns)
