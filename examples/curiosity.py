"""Curiosity: rewards for surprise lead through a maze where nothing else is to be had.

A second module predicts the next cell of the maze. It brings its own loss, so PPO's
learner trains it in the same gradient steps as the policy, and a piece of the learner
connector pipeline adds its error to the rewards. The maze's own reward alone, 1 at the
end of a way of 30 steps, is one that PPO never finds.
"""

import argparse
import time

import _quiet  # noqa: F401  (first: keeps TensorFlow's start-up lines off the screen)
import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

import tflearner as tfl

MAZE = (
    "S......",
    "######.",
    ".......",
    ".######",
    ".......",
    "######.",
    "G......",
)
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Maze(gym.Env):
    """From S to G in at most 100 steps."""

    observation_space = gym.spaces.Discrete(len(MAZE) * len(MAZE[0]))
    action_space = gym.spaces.Discrete(len(MOVES))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place, self._steps = (0, 0), 0
        return 0, {}

    def step(self, action):
        row, column = np.add(self._place, MOVES[action])
        inside = 0 <= row < len(MAZE) and 0 <= column < len(MAZE[0])
        if inside and MAZE[row][column] != "#":
            self._place = row, column
        self._steps += 1
        row, column = self._place
        arrived = MAZE[row][column] == "G"
        cell = int(row * len(MAZE[0]) + column)
        return cell, float(arrived), arrived, self._steps == 100, {}


class ForwardModel(tfl.TfRLModule, tfl.SelfSupervisedLossAPI):
    """Predicts the cell that follows on a cell and an action."""

    def setup(self):
        self.num_cells = int(self.observation_space.n)
        init = keras.initializers.GlorotUniform
        self.hidden = keras.layers.Dense(64, "relu", kernel_initializer=init(self.seed))
        self.out = keras.layers.Dense(
            self.num_cells, kernel_initializer=init(self.seed)
        )

    def _forward(self, batch, **kwargs):
        cell = tf.one_hot(batch[tfl.Columns.OBS], self.num_cells)
        action = tf.one_hot(batch[tfl.Columns.ACTIONS], len(MOVES))
        return {"logits": self.out(self.hidden(tf.concat([cell, action], -1)))}

    def surprise(self, batch, fwd_out):
        """Returns how unlikely the next cells were: minus log-probabilities [B]."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=batch[tfl.Columns.NEXT_OBS], logits=fwd_out["logits"]
        )

    def compute_self_supervised_loss(
        self, *, learner, module_id, config, batch, fwd_out
    ):
        return tf.reduce_mean(self.surprise(batch, fwd_out))


class AddSurpriseToRewards(tfl.ConnectorV2):
    """Rewards the policy for surprise, and gives the forward model its batch."""

    def __call__(self, *, rl_module, batch, metrics, **kwargs):
        policy, model = batch[tfl.DEFAULT_MODULE_ID], rl_module["forward_model"]
        names = (tfl.Columns.OBS, tfl.Columns.ACTIONS, tfl.Columns.NEXT_OBS)
        # PPO's pipeline gives each episode an artificial last row, which is no step.
        is_step = policy[tfl.Columns.LOSS_MASK]
        steps = {name: policy[name][is_step] for name in names}
        surprise = model.surprise(steps, model.forward_train(steps)).numpy()
        policy[tfl.Columns.REWARDS][is_step] += 0.1 * surprise
        key = (tfl.DEFAULT_MODULE_ID, "surprise")
        metrics.log_value(key, surprise.mean(), window=1)
        return batch | {"forward_model": steps}


class CuriousPPO(tfl.PPOTfLearner):
    """PPO whose advantages take surprise into account."""

    def build(self):
        super().build()
        piece = AddSurpriseToRewards()
        self._learner_connector.insert_before("GeneralAdvantageEstimation", piece)


def main() -> None:
    """Trains without and with curiosity, for as many steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60_000, help="of each run")
    args = parser.parse_args()

    started = time.perf_counter()
    plain = (
        tfl.PPOConfig()
        .environment(Maze)
        .env_runners(num_envs_per_env_runner=10)
        .training(
            lr=1e-3,
            train_batch_size_per_learner=1000,
            minibatch_size=125,
            num_epochs=8,
            gamma=0.98,
            lambda_=0.95,
            vf_clip_param=float("inf"),
            entropy_coeff=0.01,
            use_kl_loss=False,
        )
        .rl_module(model_config=tfl.DefaultModelConfig(fcnet_hiddens=[64]))
        .debugging(seed=args.seed)
    )
    forward_model = tfl.RLModuleSpec(module_class=ForwardModel, learner_only=True)
    curious = (
        plain.copy()
        .training(
            learner_class=CuriousPPO,
            learner_connector=lambda *_: (
                tfl.AddNextObservationsFromEpisodesToTrainBatch()
            ),
        )
        .multi_agent(
            policies={tfl.DEFAULT_MODULE_ID: None, "forward_model": forward_model}
        )
    )
    arrived = {}
    for name, config in (("plain", plain), ("curious", curious)):
        algo = config.build_algo()
        history = algo.fit(total_steps=args.steps).history
        algo.stop()
        arrived[name] = history["episode_return"][-1]
        print(f"{name}: of the last 100 episodes {arrived[name]:.0%} arrived")
    surprise = history["surprise"]
    print(f"surprise per step: {surprise[0]:.2f} -> {surprise[-1]:.2f}")
    print(
        f"result: plain={arrived['plain']:.2f} curious={arrived['curious']:.2f} "
        f"seconds={time.perf_counter() - started:.1f}"
    )


if __name__ == "__main__":
    main()
