"""Times RLlib's own learner connector pipeline, with its PyTorch PPO."""

import logging
import warnings

import gymnasium as gym
import made_episodes
import numpy as np
import torch
import worker
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode


def build_learner(s: dict):
    """Returns RLlib's PPO learner with all modules, in this process."""
    # Its convolutions take floats, as its environments' connectors make of pixels.
    spec = RLModuleSpec(
        observation_space=gym.spaces.Box(-np.inf, np.inf, tuple(s["obs_shape"])),
        action_space=gym.spaces.Discrete(s["num_actions"]),
        model_config=DefaultModelConfig(
            fcnet_hiddens=s["hiddens"],
            conv_filters=s["conv_filters"],
            vf_share_layers=s["share_layers"],
            use_lstm=bool(s["lstm_units"]),
            lstm_cell_size=s["lstm_units"] or 1,
        ),
    )
    specs = {name: spec for name in made_episodes.names_of_modules(s)}
    config = (
        PPOConfig()
        .framework("torch")
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .multi_agent(
            policies=set(specs),
            policy_mapping_fn=lambda *args, **kwargs: next(iter(specs)),
        )
        .debugging(seed=0)
    )
    # Built already: `build` would add the pipeline's last pieces a second time.
    return config.build_learner(
        spaces={
            name: (own.observation_space, own.action_space)
            for name, own in specs.items()
        }
    )


def make_episodes(s: dict, columns: list[dict]) -> list[SingleAgentEpisode]:
    """Returns episodes that hold arrays.

    New ones for each call: the pipeline adds a step to them, and to their ids.
    """
    several = s["num_modules"] > 1  # One alone acts for no agent in particular.
    return [
        SingleAgentEpisode(
            id_=str(index),
            module_id=made_episodes.module_of(index, s) if several else None,
            agent_id=str(index) if several else None,
            multi_agent_episode_id=str(index) if several else None,
            observations=own["obs"],
            actions=own["actions"],
            rewards=own["rewards"],
            infos=[{}] * len(own["obs"]),
            terminated=own["end"] == "terminated",
            truncated=own["end"] == "truncated",
            extra_model_outputs=outputs_of(own),
            len_lookback_buffer=0,
        ).to_numpy()
        for index, own in enumerate(columns)
    ]


def outputs_of(columns: dict) -> dict:
    """Returns what the module put out; RLlib's LSTM states have an axis of layers."""
    outputs = dict(columns["outputs"])
    if "state_out" in outputs:
        states = outputs["state_out"]
        outputs["state_out"] = {name: x[:, None] for name, x in states.items()}
    return outputs


def main() -> None:
    """Times the pipeline alone, from episodes to tensors."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    s = worker.settings()
    learner = build_learner(s)
    columns = made_episodes.make_columns(s)
    if s["obs_dtype"] == "uint8":
        for own in columns:
            own["obs"] = own["obs"].astype(np.float32) / 255

    def prepare() -> list[SingleAgentEpisode]:
        return make_episodes(s, columns)

    def call(episodes: list[SingleAgentEpisode]) -> dict:
        return learner._learner_connector(
            rl_module=learner.module,
            batch={},
            episodes=episodes,
            shared_data={},
            metrics=learner.metrics,
        )

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        call(prepare())

    batch = call(prepare())
    rows = {name: int(own["loss_mask"].sum()) for name, own in batch.items()}
    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)
    worker.report(
        ["ray", "torch", "gymnasium", "numpy"],
        threads=num_threads,
        rows=rows,
        **made_episodes.time_calls(prepare, call, s["seconds"]),
    )


if __name__ == "__main__":
    main()
