"""Names of settings in other libraries, and the hints that errors give for them.

Each table maps a foreign name to the name of a setting here, or to a sentence where a
name is not enough. `None` means that there is no equivalent: no hint is better than a
wrong one. The names come from RLlib (former and current), Stable-Baselines3, CleanRL,
Keras and Spinning Up.
"""

import difflib
from collections.abc import Callable, Collection, Mapping

Names = Mapping[str, str | None]

# Less similar names are not taken for misspellings of each other.
ALIKE = 0.8

_ENV_RUNNERS = "environments are stepped in this process; num_envs_per_env_runner=... sets how many"
_ASYNC = 'gym_env_vectorize_mode="async" steps each environment in a process of its own'
_EVALUATION = "drop it: evaluation runs in this process, between iterations"
_FILTER = "env_to_module_connector=tfl.MeanStdFilter normalises observations"
_STACKS = "env_to_module_connector=tfl.FrameStacking stacks observations"
_PREV = "env_to_module_connector=tfl.PrevActionsPrevRewards puts them into observations"
_FIT_STEPS = "pass it to fit: fit(total_steps=...)"
_FIT_LOG_DIR = "pass the directory of results to fit: fit(total_steps, log_dir=...)"
_GPUS = "num_gpus_per_learner=0 learns on the CPU; the first GPU is the default"
_NEW_STACK = "drop it: learners, modules and connectors are always RLlib's new ones"
_OPTIMIZER = (
    "the optimizer is Adam; override configure_optimizers_for_module() of a learner "
    "class for another one, or for its options"
)
_LOSS = "override compute_loss_for_module() of a learner class"
_SCHEDULE = "lr takes a schedule: lr=[[0, 3e-4], [100_000, 0.0]]"
_NETWORKS = "a Keras model goes to model=, settings of the networks go to model_config="
_CHECKPOINTS = "pass a callback to fit: tfl.CheckpointCallback(directory, every=...)"
_EPISODE_LENGTH = "limit episodes in the environment, such as by env_config={'max_episode_steps': 200}"
_ONE_PROCESS = "drop it: sampling and learning share this process"

# Of all algorithms.
ANY: Names = {
    # Environments and sampling.
    "environment": "env",
    "env_id": "env",
    "env_name": "env",
    "env_kwargs": "env_config",
    "env_args": "env_config",
    "render_mode": "it is the environment's: env_config={'render_mode': ...}",
    "render_env": None,
    "render": None,
    "disable_env_checking": None,
    "is_atari": None,
    "horizon": _EPISODE_LENGTH,
    "max_episode_steps": _EPISODE_LENGTH,
    "max_ep_len": _EPISODE_LENGTH,
    "clip_rewards": "clip rewards in a wrapper of the environment",
    "clip_reward": "clip rewards in a wrapper of the environment",
    "clip_obs": None,
    "action_mask_key": 'drop it: masks are read from "action_mask"',
    "num_envs": "num_envs_per_env_runner",
    "n_envs": "num_envs_per_env_runner",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_env_runners": _ENV_RUNNERS,
    "num_workers": _ENV_RUNNERS,
    "n_workers": _ENV_RUNNERS,
    "num_rollout_workers": _ENV_RUNNERS,
    "remote_worker_envs": _ASYNC,
    "vec_env_cls": _ASYNC,
    "vectorization_mode": "gym_env_vectorize_mode",
    "vectorize_mode": "gym_env_vectorize_mode",
    "batch_mode": 'drop it: batches end in mid-episode, as with "truncate_episodes"',
    "create_env_on_local_worker": _ONE_PROCESS,
    "create_local_env_runner": _ONE_PROCESS,
    "num_cpus_per_env_runner": _ONE_PROCESS,
    "num_gpus_per_env_runner": _ONE_PROCESS,
    "custom_resources_per_env_runner": _ONE_PROCESS,
    "num_cpus_per_worker": _ONE_PROCESS,
    "num_gpus_per_worker": _ONE_PROCESS,
    "num_cpus_per_learner": _ONE_PROCESS,
    "sample_timeout_s": None,
    "compress_observations": None,
    "preprocessor_pref": None,
    "exploration_config": "explore=False switches exploration off",
    "observation_filter": _FILTER,
    "norm_obs": _FILTER,
    "normalize_obs": _FILTER,
    "normalize_observations": _FILTER,
    "obs_norm": _FILTER,
    "framestack": _STACKS,
    "frame_stack": _STACKS,
    "lstm_use_prev_action": _PREV,
    "lstm_use_prev_reward": _PREV,
    "norm_reward": None,
    "normalize_reward": None,
    "normalize_rewards": None,
    # Learning.
    "learning_rate": "lr",
    "adam_lr": "lr",
    "step_size": "lr",
    "lr_schedule": _SCHEDULE,
    "lr_decay": _SCHEDULE,
    "learning_rate_schedule": _SCHEDULE,
    "anneal_lr": _SCHEDULE,
    "discount": "gamma",
    "discount_factor": "gamma",
    "discount_rate": "gamma",
    "optimizer": _OPTIMIZER,
    "optimizers": _OPTIMIZER,
    "optimizer_class": _OPTIMIZER,
    "optimizer_kwargs": _OPTIMIZER,
    "optimization_config": _OPTIMIZER,
    "adam_epsilon": _OPTIMIZER,
    "adam_eps": _OPTIMIZER,
    "weight_decay": _OPTIMIZER,
    "momentum": _OPTIMIZER,
    "loss": _LOSS,
    "loss_fn": _LOSS,
    "metrics": None,
    "max_grad_norm": "grad_clip",
    "clip_grad": "grad_clip",
    "clip_grad_norm": "grad_clip",
    "grad_norm_clip": "grad_clip",
    "gradient_clip": "grad_clip",
    "gradient_clipping": "grad_clip",
    "gradient_clip_norm": "grad_clip",
    "global_clipnorm": "grad_clip",
    "clipnorm": 'grad_clip=... with grad_clip_by="norm" does it',
    "clipvalue": 'grad_clip=... with grad_clip_by="value" does it',
    "train_batch_size": "train_batch_size_per_learner",
    "sgd_minibatch_size": "minibatch_size",
    "mini_batch_size": "minibatch_size",
    "num_sgd_iter": "num_epochs",
    "n_epochs": "num_epochs",
    "update_epochs": "num_epochs",
    "epochs": "num_epochs",
    "shuffle": "shuffle_batch_per_epoch",
    "shuffle_sequences": "shuffle_batch_per_epoch",
    # Networks.
    "policy": _NETWORKS,
    "policy_kwargs": _NETWORKS,
    "network": _NETWORKS,
    "encoder": _NETWORKS,
    "model_config_dict": "model_config",
    "custom_model": "model",
    "mixed_precision": "call keras.config.set_dtype_policy() before anything is built",
    "dtype": "call keras.config.set_dtype_policy() before anything is built",
    # Where it runs.
    "device": _GPUS,
    "cuda": _GPUS,
    "use_cuda": _GPUS,
    "num_gpus": "num_gpus_per_learner",
    "distribute_strategy": "strategy",
    "framework": "framework_str",
    "eager_tracing": "run_eagerly=True does what eager_tracing=False did",
    "eager": "run_eagerly",
    "jit": "jit_compile",
    "xla": "jit_compile",
    "torch_compile_learner": "jit_compile=True compiles updates",
    "torch_skip_nan_gradients": 'non_finite_updates="skip" leaves such steps out',
    "enable_rl_module_and_learner": _NEW_STACK,
    "enable_env_runner_and_connector_v2": _NEW_STACK,
    # Running, evaluating, reporting.
    "total_steps": _FIT_STEPS,
    "total_timesteps": _FIT_STEPS,
    "num_timesteps": _FIT_STEPS,
    "max_steps": _FIT_STEPS,
    "callbacks": "pass Keras callbacks to fit: fit(total_steps, callbacks=[...])",
    "callbacks_class": "pass Keras callbacks to fit: fit(total_steps, callbacks=[...])",
    "callback": "pass Keras callbacks to fit: fit(total_steps, callbacks=[...])",
    "verbose": "pass it to fit: fit(total_steps, verbose=...)",
    "log_dir": _FIT_LOG_DIR,
    "logdir": _FIT_LOG_DIR,
    "tensorboard_log": _FIT_LOG_DIR,
    "logger_config": _FIT_LOG_DIR,
    "log_level": None,
    "checkpoint_freq": _CHECKPOINTS,
    "checkpoint_frequency": _CHECKPOINTS,
    "checkpoint_at_end": _CHECKPOINTS,
    "save_freq": _CHECKPOINTS,
    "evaluation_num_env_runners": _EVALUATION,
    "evaluation_num_workers": _EVALUATION,
    "evaluation_parallel_to_training": _EVALUATION,
    "evaluation_config": "drop it: evaluation acts greedily, with these settings",
    "evaluation_duration_unit": "drop it: evaluation_duration counts episodes",
    "evaluation_sample_timeout_s": None,
    "evaluation_force_reset_envs_before_iteration": None,
    "custom_evaluation_function": "evaluate in a Keras callback of fit",
    "eval_freq": "evaluation_interval=... counts iterations",
    "eval_interval": "evaluation_interval",
    "n_eval_episodes": "evaluation_duration",
    "num_eval_episodes": "evaluation_duration",
    "eval_episodes": "evaluation_duration",
    "stats_window_size": "metrics_num_episodes_for_smoothing",
    "min_time_s_per_iteration": None,
    "min_train_timesteps_per_iteration": None,
    "min_sample_timesteps_per_iteration": None,
    "random_seed": "seed",
    "random_state": "seed",
    # Of other algorithms than the one that was meant.
    "n_step": None,
    "noisy": None,
    "use_sde": None,
    "sde_sample_freq": None,
    "action_noise": None,
    "count_steps_by": None,
    "observation_fn": None,
    "policy_map_capacity": None,
}

_STEPS = (
    "train_batch_size_per_learner=... counts the steps of all environments together"
)
_ADVANTAGES = "drop it: advantages are always standardised"

# Of algorithms that learn from what they have just sampled.
ON_POLICY: Names = {
    **ANY,
    "n_steps": _STEPS,
    "num_steps": _STEPS,
    "steps_per_epoch": _STEPS,
    "timesteps_per_iteration": _STEPS,
    "min_sample_timesteps_per_iteration": _STEPS,
    "batch_size": "minibatch_size",
    "ppo_epochs": "num_epochs",
    "noptepochs": "num_epochs",
    "num_minibatches": "minibatch_size=... sets their size",
    "nminibatches": "minibatch_size=... sets their size",
    "ent_coef": "entropy_coeff",
    "entropy_coef": "entropy_coeff",
    "entropy_cost": "entropy_coeff",
    "entropy_coeff_schedule": (
        "entropy_coeff takes a schedule: entropy_coeff=[[0, 0.01], [100_000, 0.0]]"
    ),
    "vf_coef": "vf_loss_coeff",
    "value_coef": "vf_loss_coeff",
    "value_loss_coef": "vf_loss_coeff",
    "value_loss_coeff": "vf_loss_coeff",
    "tau": None,
    "epsilon": None,
}

PPO: Names = {
    **ON_POLICY,
    "lambda": "lambda_",
    "lam": "lambda_",
    "gae_lambda": "lambda_",
    "use_gae": "drop it: advantages are always GAE's; lambda_=1.0 makes them Monte Carlo's",
    "use_critic": "drop it: there always is a value function",
    "rollout_length": _STEPS,
    "unroll_length": _STEPS,
    "clip_range": "clip_param",
    "cliprange": "clip_param",
    "clip_coef": "clip_param",
    "clip_ratio": "clip_param",
    "clip_eps": "clip_param",
    "clip_epsilon": "clip_param",
    "eps_clip": "clip_param",
    "clip_range_vf": "vf_clip_param=... caps the squared value error instead",
    "clip_vloss": "vf_clip_param=... caps the squared value error instead",
    "target_kl": "kl_target=... adapts the weight of a KL penalty; updates never end early",
    "normalize_advantage": _ADVANTAGES,
    "normalize_advantages": _ADVANTAGES,
    "norm_adv": _ADVANTAGES,
}

IMPALA: Names = {
    **ON_POLICY,
    "unroll_length": "rollout_fragment_length",
    "rollout_length": "rollout_fragment_length",
    "baseline_cost": "vf_loss_coeff",
    "clip_rho_threshold": "vtrace_clip_rho_threshold",
    "clip_pg_rho_threshold": "vtrace_clip_pg_rho_threshold",
    "lambda_": "drop it: V-trace has none",
    "gae_lambda": "drop it: V-trace has none",
    "learner_queue_size": _ONE_PROCESS,
    "num_gpu_loader_threads": _ONE_PROCESS,
}

_DATA = "pass the data themselves: data=episodes, or columns, or batches"

# Of algorithms that learn from data.
OFFLINE: Names = {
    **ANY,
    "input_": _DATA,
    "input": _DATA,
    "dataset": _DATA,
    "episodes": _DATA,
    "batch_size": "train_batch_size_per_learner",
    "num_iters": "dataset_num_iters_per_learner",
    "vf_loss_coeff": "vf_coeff",
    "vf_coef": "vf_coeff",
    "lam": "lambda_",
    "bc_logstd_coeff": None,
    "burnin_len": None,
}

_CAPACITY = 'it is a part of the buffer: replay_buffer_config={"capacity": ...}'
_PRIORITIES = (
    'it is a part of the buffer: replay_buffer_config={"alpha": ..., "beta": ...}'
)
_INTENSITY = (
    "training_intensity=... counts rows per environment step: gradient steps per step "
    "times train_batch_size_per_learner"
)

OFF_POLICY: Names = {
    **ANY,
    "batch_size": "train_batch_size_per_learner",
    "buffer_size": _CAPACITY,
    "capacity": _CAPACITY,
    "replay_size": _CAPACITY,
    "memory_size": _CAPACITY,
    "memmap_dir": 'it is a part of the buffer: replay_buffer_config={"memmap_dir": ...}',
    "replay_buffer_class": 'replay_buffer_config={"type": ...} names the buffer',
    "replay_buffer_kwargs": "replay_buffer_config",
    "prioritized_replay": (
        'replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer"} does it'
    ),
    "prioritized_replay_alpha": _PRIORITIES,
    "prioritized_replay_beta": _PRIORITIES,
    "prioritized_replay_eps": None,
    "beta": _PRIORITIES,
    "optimize_memory_usage": "drop it: observations are always kept once",
    "learning_starts": "num_steps_sampled_before_learning_starts",
    "learning_start": "num_steps_sampled_before_learning_starts",
    "start_steps": "num_steps_sampled_before_learning_starts",
    "warmup_steps": "num_steps_sampled_before_learning_starts",
    "train_freq": "rollout_fragment_length",
    "train_frequency": "rollout_fragment_length",
    "update_every": "rollout_fragment_length",
    "gradient_steps": _INTENSITY,
    "utd_ratio": _INTENSITY,
    "replay_ratio": _INTENSITY,
    "target_update_interval": "target_network_update_freq",
    "target_network_frequency": "target_network_update_freq",
    "target_update_freq": "target_network_update_freq",
    "target_update_frequency": "target_network_update_freq",
    "target_update_period": "target_network_update_freq",
    "polyak": "tau=... is 1 - polyak",
    "n_steps": "n_step",
    "nstep": "n_step",
    "timesteps_per_iteration": "min_sample_timesteps_per_iteration",
}

_EPSILON = "epsilon takes a schedule: epsilon=[[0, 1.0], [10_000, 0.05]]"

DQN: Names = {
    **OFF_POLICY,
    "alpha": _PRIORITIES,
    "exploration_config": _EPSILON,
    "exploration_fraction": _EPSILON,
    "exploration_initial_eps": _EPSILON,
    "exploration_final_eps": _EPSILON,
    "initial_epsilon": _EPSILON,
    "final_epsilon": _EPSILON,
    "epsilon_timesteps": _EPSILON,
    "epsilon_start": _EPSILON,
    "epsilon_end": _EPSILON,
    "epsilon_decay": _EPSILON,
    "eps_start": _EPSILON,
    "eps_end": _EPSILON,
    "eps_decay": _EPSILON,
    "start_e": _EPSILON,
    "end_e": _EPSILON,
    "double_dqn": "double_q",
    "dueling_dqn": "dueling",
    "n_atoms": "num_atoms",
}

SAC: Names = {
    **OFF_POLICY,
    "ent_coef": "initial_alpha",
    "entropy_coeff": "initial_alpha",
    "entropy_coef": "initial_alpha",
    "alpha": "initial_alpha",
    "init_alpha": "initial_alpha",
    "temperature": "initial_alpha",
    "autotune": "drop it: the temperature is always learned; alpha_lr=0.0 keeps it",
    "automatic_entropy_tuning": (
        "drop it: the temperature is always learned; alpha_lr=0.0 keeps it"
    ),
    "policy_lr": "actor_lr",
    "pi_lr": "actor_lr",
    "lr_actor": "actor_lr",
    "actor_learning_rate": "actor_lr",
    "optimization_config": "actor_lr, critic_lr and alpha_lr set the learning rates",
    "q_lr": "critic_lr",
    "qf_lr": "critic_lr",
    "lr_critic": "critic_lr",
    "critic_learning_rate": "critic_lr",
    "lr_alpha": "alpha_lr",
    "ent_coef_lr": "alpha_lr",
    "n_critics": "twin_q",
    "twin_critic": "twin_q",
    "q_model_config": "model_config",
    "policy_model_config": "model_config",
    "log_std_min": "log_std_bounds",
    "log_std_max": "log_std_bounds",
    "policy_frequency": None,
    "use_sde_at_warmup": None,
    "epsilon": None,
}

# Of `DefaultModelConfig`.
NETWORKS: Names = {
    "hiddens": "fcnet_hiddens",
    "hidden": "fcnet_hiddens",
    "hidden_sizes": "fcnet_hiddens",
    "hidden_layers": "fcnet_hiddens",
    "hidden_units": "fcnet_hiddens",
    "net_arch": "fcnet_hiddens",
    "layers": "fcnet_hiddens",
    "units": "fcnet_hiddens",
    "activation": "fcnet_activation",
    "activation_fn": "fcnet_activation",
    "hidden_activation": "fcnet_activation",
    "fcnet_bias_initializer": None,
    "post_fcnet_hiddens": "head_fcnet_hiddens",
    "post_fcnet_activation": "head_fcnet_activation",
    "filters": "conv_filters",
    "cnn_filters": "conv_filters",
    "lstm": "use_lstm",
    "gru": "use_gru",
    "lstm_hidden_size": "lstm_cell_size",
    "lstm_use_prev_action": None,
    "lstm_use_prev_reward": None,
    "use_attention": None,
    "layer_norm": "fcnet_use_layernorm",
    "use_layernorm": "fcnet_use_layernorm",
    "share_features_extractor": "vf_share_layers",
    "shared_layers": "vf_share_layers",
    "features_extractor_class": "model",
    "custom_model": "model",
    "dim": None,
    "grayscale": None,
    "framestack": None,
}

# Of `replay_buffer_config`.
BUFFER: Names = {
    "size": "capacity",
    "buffer_size": "capacity",
    "max_size": "capacity",
    "prioritized_replay_alpha": "alpha",
    "prioritized_replay_beta": "beta",
    "prioritized_replay_eps": None,
    "learning_starts": (
        "it goes to .training(num_steps_sampled_before_learning_starts=...)"
    ),
    "replay_sequence_length": None,
    "storage_unit": None,
    "worker_side_prioritization": None,
}


def hint_for(
    name: object,
    known: Collection[str],
    foreign: Names,
    where: Callable[[str], str] = lambda told: "",
) -> str | None:
    """Returns a hint for an unknown name of a setting, or `None`.

    >>> hint_for("clip_parm", ["clip_param"], {})
    "did you mean 'clip_param'?"
    >>> hint_for("learning_rate", ["lr"], {"learning_rate": "lr"})
    "it is called 'lr' here"

    Args:
        name: The unknown name.
        known: The names of settings.
        foreign: One of the tables above.
        where: Function of a setting, returning a text to put after its name.
    """
    if not isinstance(name, str):
        return None
    meant = (
        name if name in foreign else _closest(name, known) or _closest(name, foreign)
    )
    if meant is None:
        return None
    told = meant if meant in known else foreign[meant]
    if told is None or told not in known:
        return told if told is not None and " " in told else None
    if meant in known:
        return f"did you mean {told!r}{where(told)}?"
    return f"it is called {told!r} here{where(told)}"


def _closest(name: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, 1, ALIKE)), None)
