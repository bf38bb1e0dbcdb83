"""Times acting: what a runner does of a vector step besides stepping environments."""

import contextlib
import json
import os
import statistics
import subprocess
import sys

if json.loads(sys.argv[1])["one_thread"]:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # Read when NumPy is imported.

import worker

from tflearner.algorithms.ppo import PPOConfig
from tflearner.env.single_agent_env_runner import SingleAgentEnvRunner

BUSY = "while True: sum(range(10_000))"


def main() -> None:
    """Times acting in CartPole, with the given network and number of environments."""
    s = worker.settings()
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_envs_per_env_runner=s["num_envs"],
            gym_env_vectorize_mode="vector_entry_point",
        )
        .rl_module(model_config={"fcnet_hiddens": s["hiddens"]})
        .debugging(seed=0)
    )
    algo = config.build_algo()
    spaces = algo.get_module().observation_space, algo.get_module().action_space
    runner = SingleAgentEnvRunner(
        config=config,
        module=algo.get_module(),
        env_to_module=config.build_env_to_module_connector(*spaces),
        module_to_env=config.build_module_to_env_connector(*spaces),
    )
    steps = s["vector_steps"] * s["num_envs"]
    runner.sample(num_timesteps=steps)
    runner.get_metrics()
    act_ms = []
    with _busy_programs(s["busy_programs"]):
        for _ in range(s["repeats"]):
            runner.sample(num_timesteps=steps)
            act_ms.append(1e3 * runner.get_metrics()["timers"]["act_s"])
    runner.stop()
    algo.stop()
    worker.report(
        ["numpy", "gymnasium"], act_ms=act_ms, median_ms=statistics.median(act_ms)
    )


@contextlib.contextmanager
def _busy_programs(number: int):
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait(10)


if __name__ == "__main__":
    main()
