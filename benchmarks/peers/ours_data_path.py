"""Times tflearner's way from episodes to a train batch that is ready to train on."""

import gymnasium as gym
import made_episodes
import numpy as np
import tensorflow as tf
import worker

from tflearner import (
    DefaultModelConfig,
    PPOConfig,
    RLModuleSpec,
    SingleAgentEpisode,
    TfLearner,
)
from tflearner.columns import Columns
from tflearner.intake import train_batch


def build_learner(s: dict) -> TfLearner:
    """Returns a PPO learner with all modules."""
    space = gym.spaces.Box(-np.inf, np.inf, tuple(s["obs_shape"]))
    if s["obs_dtype"] == "uint8":
        space = gym.spaces.Box(0, 255, tuple(s["obs_shape"]), np.uint8)
    actions = gym.spaces.Discrete(s["num_actions"])
    names = made_episodes.names_of_modules(s)
    config = (
        PPOConfig()
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=s["hiddens"],
                conv_filters=s["conv_filters"],
                vf_share_layers=s["share_layers"],
                use_lstm=bool(s["lstm_units"]),
                lstm_cell_size=s["lstm_units"] or 1,
            )
        )
        .debugging(seed=0)
    )
    if len(names) > 1:
        config.multi_agent(policies={name: RLModuleSpec() for name in names})
    return config.build_learner(spaces={name: (space, actions) for name in names})


def make_episodes(s: dict) -> list[SingleAgentEpisode]:
    """Returns episodes that hold arrays."""
    return [
        SingleAgentEpisode(
            id_=str(index),
            module_id=made_episodes.module_of(index, s),
            observations=own["obs"],
            actions=own["actions"],
            rewards=own["rewards"],
            terminated=own["end"] == "terminated",
            truncated=own["end"] == "truncated",
            extra_model_outputs=own["outputs"],
            len_lookback_buffer=0,
        )
        for index, own in enumerate(made_episodes.make_columns(s))
    ]


def main() -> None:
    """Times the pipeline and the checks at the learner's door."""
    s = worker.settings()
    tf.config.threading.set_intra_op_parallelism_threads(s["chosen_threads"]["ours"])
    learner = build_learner(s)
    episodes = make_episodes(s)

    def call(episodes: list[SingleAgentEpisode]) -> dict:
        batch = train_batch.from_episodes(
            episodes, learner._learner_connector, learner.module, learner.metrics
        )
        return learner._checked_columns(batch)

    rows = {
        name: int(np.sum(own.get(Columns.LOSS_MASK, np.ones(len(own[Columns.OBS])))))
        for name, own in call(episodes).items()
    }
    worker.report(
        ["tensorflow", "keras", "numpy"],
        rows=rows,
        **made_episodes.time_calls(lambda: episodes, call, s["seconds"]),
    )


if __name__ == "__main__":
    main()
