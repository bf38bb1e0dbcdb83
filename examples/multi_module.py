"""Several policies in one learner: who learns, who is frozen, who comes and goes.

Two agents balance a CartPole each, with a policy of their own. One learner trains both
policies, from the episodes of both agents. At first the right one is frozen; then a
guest joins and learns; then it leaves again; at last left and right both learn.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import numpy as np

import tflearner as tfl


def agent_for(learner: tfl.Learner, module_id: str) -> tfl.SingleAgentEnvRunner:
    """Returns an agent: eight CartPoles, and one of the learner's modules to act."""
    config, module = learner.config, learner.module[module_id]
    return tfl.SingleAgentEnvRunner(
        config=config,
        module=module,
        module_to_env=config.build_module_to_env_connector(
            module.observation_space, module.action_space
        ),
    )


def train(learner: tfl.Learner, agents: dict, num_updates: int) -> str:
    """Trains from the episodes of all agents; returns what came of it, in words."""
    before = {name: learner.module[name].get_state() for name in agents}
    for _ in range(num_updates):
        episodes = []
        for module_id, agent in agents.items():
            for episode in agent.sample(num_timesteps=1000):
                episode.module_id = module_id  # Whose episode it is.
                episodes.append(episode)
        results = learner.update_from_episodes(
            episodes, num_epochs=10, minibatch_size=125, shuffle_batch_per_epoch=True
        )
    notes = []
    for name in [key for key in results if key != tfl.ALL_MODULES]:
        after = learner.module[name].get_state()
        same = all(np.array_equal(before[name][key], after[key]) for key in after)
        mean = agents[name].get_metrics()["episode_return_mean"]
        notes.append(f"{name} {mean:.0f}{' (frozen)' if same else ''}")
    return f"{', '.join(notes)}; traces so far: {learner.num_traces}"


def main() -> None:
    """Goes through four phases and prints the mean returns at the end of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60_000, help="of each agent")
    args = parser.parse_args()

    started = time.perf_counter()
    num_updates = max(1, args.steps // 4000)
    env = gym.make("CartPole-v1")
    config = (
        tfl.PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=8, gym_env_vectorize_mode="vector_entry_point"
        )
        .training(lr=1e-3, lambda_=0.95, vf_clip_param=float("inf"), grad_clip=0.5)
        .rl_module(
            model_config=tfl.DefaultModelConfig(
                fcnet_hiddens=[64, 64], vf_share_layers=False
            )
        )
        .multi_agent(policies=["left", "right"], policies_to_train=["left"])
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=args.seed)
    )
    learner = config.build_learner(env=env)
    agents = {name: agent_for(learner, name) for name in ("left", "right")}
    print("left learns:", train(learner, agents, num_updates))

    learner.add_module(
        module_id="guest",
        module_spec=config.get_rl_module_spec(env=env),
        new_should_module_be_updated=["left", "guest"],
    )
    agents["guest"] = agent_for(learner, "guest")
    print("a guest learns, too:", train(learner, agents, num_updates))

    # What was traced for the left one alone is still there, and used again.
    agents.pop("guest").stop()
    learner.remove_module("guest", new_should_module_be_updated=["left"])
    print("the guest is gone:", train(learner, agents, num_updates))

    learner.config.multi_agent(policies_to_train=["left", "right"])
    print("both learn:", train(learner, agents, num_updates))

    reached = {}
    for name, agent in agents.items():
        episodes = agent.sample(num_episodes=20, explore=False)
        reached[name] = np.mean([episode.get_return() for episode in episodes])
        agent.stop()
    print(
        f"result: left={reached['left']:.1f} right={reached['right']:.1f} "
        f"traces={learner.num_traces} seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
