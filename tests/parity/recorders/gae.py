"""What RLlib makes of episodes: advantages and value targets."""

import collections
import zlib

import numpy as np
import torch
import tree
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets
from recorders import learners, ppo

GAE_CASES = {
    "discrete": {"gamma": 0.9, "lambda_": 0.8, "lookback": 0},
    "discrete_td": {"gamma": 0.99, "lambda_": 0.0, "lookback": 0},
    "discrete_monte_carlo": {"gamma": 1.0, "lambda_": 1.0, "lookback": 2},
    "discrete_lstm": {"gamma": 0.9, "lambda_": 0.8, "lookback": 0},
    "box_separate": {"gamma": 0.95, "lambda_": 0.95, "lookback": 2},
}
ENDS = [
    [4, "terminated"],
    [1, "terminated"],
    [6, "truncated"],
    [5, "cut"],
    [1, "cut"],
    [3, "both"],
    [9, "terminated"],
]


def make_episodes(case, rng, module):
    """Returns episodes in RLlib's form, and their numbers one after the other."""
    kind, size = case["action"]
    episodes, columns = [], collections.defaultdict(list)
    for length, end in case["ends"]:
        steps = case["lookback"] + length
        shape = () if kind == "discrete" else (size,)
        actions = rng.integers(size, size=steps)
        if shape:
            actions = rng.normal(size=(steps, size)).astype(np.float32)
        num_inputs = size if kind == "discrete" else 2 * size
        own = {
            "obs": rng.normal(size=(steps + 1, learners.OBSERVATION_SIZE)).astype(
                np.float32
            ),
            "actions": actions,
            "rewards": rng.normal(size=steps).astype(np.float32),
            "action_logp": -rng.random(steps).astype(np.float32),
            "action_dist_inputs": rng.normal(size=(steps, num_inputs)).astype("f4"),
        }
        outputs = ["action_logp", "action_dist_inputs"]
        if module.is_stateful():
            own["state_out"] = ppo.make_states(module, steps, rng)["state_in"]
            outputs.append("state_out")
        for path, values in tree.flatten_with_path(own):
            columns["/".join(path)].append(values)
        episodes.append(
            SingleAgentEpisode(
                observations=list(own["obs"]),
                actions=list(own["actions"]),
                rewards=own["rewards"].tolist(),
                terminated=end in ("terminated", "both"),
                truncated=end in ("truncated", "both"),
                extra_model_outputs={
                    name: [step_of(own[name], t) for t in range(steps)]
                    for name in outputs
                },
                len_lookback_buffer=case["lookback"],
            )
        )
    return episodes, {name: np.concatenate(own) for name, own in columns.items()}


def step_of(arrays, t):
    return tree.map_structure(lambda x: x[t], arrays)


def record():
    """Returns what PPO's connector pipeline makes of episodes, and the bare formula."""
    settings, arrays = {}, {}
    for name, own in GAE_CASES.items():
        case = ppo.ALGORITHM.full_case(ppo.BOX if name.startswith("box") else {})
        if name.endswith("separate"):
            case["model"] = dict(ppo.SEPARATE)
        if name.endswith("lstm"):
            case["model"] = {**ppo.LSTM, "max_seq_len": 3}
        case |= {"ends": ENDS, "lookback": own["lookback"]}
        case["training"] |= {"gamma": own["gamma"], "lambda_": own["lambda_"]}
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        learner = learners.make_learner(ppo.ALGORITHM, case, rng)
        module = learner.module["default_policy"].unwrapped()
        episodes, columns = make_episodes(case, rng, module)
        # The learner has put GAE behind it while it was built.
        by_module = learner._learner_connector(
            rl_module=learner.module,
            batch={},
            episodes=episodes,
            shared_data={},
            metrics=learner.metrics,
        )
        batch = by_module["default_policy"]
        with torch.no_grad():
            values = module.compute_values(batch)
        for column, numbers in columns.items():
            arrays[f"{name}/episodes/{column}"] = numbers
        for column in ("obs", "rewards", "loss_mask", "advantages", "value_targets"):
            arrays[f"{name}/batch/{column}"] = batch[column].numpy()
        if "seq_lens" in batch:
            arrays[f"{name}/batch/seq_lens"] = batch["seq_lens"].numpy()
        arrays[f"{name}/batch/values"] = values.numpy()
        arrays[f"{name}/weights"] = learner.weights()["default_policy"]
        for unused in ("updates", "masked", "steps"):
            case.pop(unused)
        parameters = learner.parameters_of("default_policy")
        case["parameters"] = {"default_policy": learners.names_and_shapes(parameters)}
        settings[name] = case

    rng = np.random.default_rng(0)
    rows = 40
    formula = {
        "values": rng.normal(size=rows).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminateds": rng.random(rows) < 0.15,
        "truncateds": rng.random(rows) < 0.15,
    }
    arrays |= {f"formula/{column}": numbers for column, numbers in formula.items()}
    pairs = [[g, lam] for g in (0.0, 0.9, 1.0) for lam in (0.0, 0.7, 1.0)]
    arrays["formula/value_targets"] = np.stack(
        [compute_value_targets(**formula, gamma=g, lambda_=lam) for g, lam in pairs]
    )
    return {"cases": settings, "gammas_and_lambdas": pairs}, arrays
