"""Advantages and value targets against those of RLlib."""

import numpy as np
import pytest
import tensorflow as tf

from tflearner.data.single_agent_episode import SingleAgentEpisode
from tflearner.losses import returns

CASES = (
    "discrete",
    "discrete_td",
    "discrete_monte_carlo",
    "discrete_lstm",
    "box_separate",
)
COLUMNS = ("obs", "value_targets", "advantages")


def make_episodes(settings, columns):
    """Returns the recorded episodes in our form."""
    episodes, row, last = [], 0, 0
    for length, end in settings["ends"]:
        steps = settings["lookback"] + length
        own = {name: values[row : row + steps] for name, values in columns.items()}
        episodes.append(
            SingleAgentEpisode(
                observations=list(columns["obs"][last : last + steps + 1]),
                actions=list(own["actions"]),
                rewards=own["rewards"].tolist(),
                terminated=end in ("terminated", "both"),
                truncated=end in ("truncated", "both"),
                extra_model_outputs=extra_outputs(own, steps),
                len_lookback_buffer=settings["lookback"],
            )
        )
        row, last = row + steps, last + steps + 1
    return episodes


def extra_outputs(columns, steps):
    """Returns what the module put out beside actions, a list of steps by name."""
    outputs = {
        name: list(columns[name]) for name in ("action_logp", "action_dist_inputs")
    }
    if "state_out/h" in columns:
        # States of torch have an axis for layers.
        h, c = (columns[f"state_out/{part}"][:, 0] for part in "hc")
        outputs["state_out"] = [{"h": h[t], "c": c[t]} for t in range(steps)]
    return outputs


@pytest.fixture(scope="module", params=CASES)
def both(request, load, make_learner):
    """The batch that RLlib made of episodes, and the rows that count of ours."""
    name = request.param
    settings, arrays = load("gae.json")["cases"][name], load("gae.npz")
    prefixes = f"{name}/episodes/", f"{name}/batch/"
    episodes, recorded = (
        {k.removeprefix(p): x for k, x in arrays.items() if k.startswith(p)}
        for p in prefixes
    )
    weights = {"default_policy": arrays[f"{name}/weights"]}
    learner = make_learner(settings, weights, run_eagerly=True)
    learner.update_from_episodes(make_episodes(settings, episodes))
    (batch,) = learner.batches
    ours = {column: np.asarray(batch[column]) for column in COLUMNS}
    if "loss_mask" in batch:
        real = np.asarray(batch["loss_mask"])
        ours = {column: values[real] for column, values in ours.items()}
    return recorded, ours


def test_observations_are_those_of_rllibs_real_rows(both):
    recorded, ours = both
    np.testing.assert_array_equal(ours["obs"], recorded["obs"][recorded["loss_mask"]])


def test_value_targets_are_those_of_rllib(both, assert_parity):
    recorded, ours = both
    wanted = recorded["value_targets"][recorded["loss_mask"]]
    assert_parity(ours["value_targets"], wanted, tolerance=1e-6)


def test_advantages_are_those_of_rllib_before_they_are_standardised(
    both, assert_parity
):
    """RLlib's mean and deviation take in the artificial rows; ours do not."""
    recorded, ours = both
    real, rows = recorded["loss_mask"], np.ones(len(recorded["obs"]), bool)
    if "seq_lens" in recorded:
        rows = np.arange(real.shape[1]) < recorded["seq_lens"][:, None]
    raw = recorded["value_targets"] - recorded["values"]
    rllibs = (raw[rows] - raw[rows].mean()) / raw[rows].std()
    assert_parity(rllibs, recorded["advantages"][rows], "RLlib's own", tolerance=1e-6)
    wanted = (raw[real] - raw[real].mean()) / raw[real].std()
    assert_parity(ours["advantages"], wanted, tolerance=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_formula_is_that_of_rllib(load, convert, assert_parity):
    arrays, pairs = load("gae.npz"), load("gae.json")["gammas_and_lambdas"]
    columns = ("values", "rewards", "terminateds", "truncateds")
    values, rewards, terminateds, truncateds = (
        arrays[f"formula/{column}"] for column in columns
    )
    for recorded, (gamma, lambda_) in zip(
        arrays["formula/value_targets"], pairs, strict=True
    ):
        advantages = returns.generalized_advantages(
            rewards=convert(rewards),
            values=convert(values),
            next_values=convert(np.append(values[1:], np.float32(0.0))),
            terminateds=convert(terminateds),
            ends=convert(terminateds | truncateds),
            gamma=gamma,
            lambda_=lambda_,
        )
        what = f"gamma {gamma}, lambda {lambda_}"
        assert_parity(advantages + values, recorded, what, tolerance=1e-6)
