"""What people type who come from other libraries, and what they are told."""

import dataclasses

import pytest

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.impala import IMPALAConfig
from tflearner.algorithms.marwil import MARWILConfig
from tflearner.algorithms.ppo import PPOConfig
from tflearner.algorithms.sac import SACConfig
from tflearner.config import AlgorithmConfig
from tflearner.errors import ConfigError
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.settings import names

# Typed name -> what the hint has to hold; `None` for no hint at all.
EVERYWHERE = {
    # RLlib, former and current.
    "num_env_runners": "num_envs_per_env_runner=",
    "num_workers": "num_envs_per_env_runner=",
    "num_rollout_workers": "num_envs_per_env_runner=",
    "num_envs_per_worker": "called 'num_envs_per_env_runner'",
    "batch_mode": "drop it",
    "evaluation_parallel_to_training": "between iterations",
    "evaluation_num_env_runners": "between iterations",
    "evaluation_num_workers": "between iterations",
    "evaluation_duration_unit": "counts episodes",
    "evaluation_config": "greedily",
    "evaluation_sample_timeout_s": None,
    "custom_evaluation_function": "callback",
    "exploration_config": "=",
    "observation_filter": "MeanStdFilter",
    "framestack": "tfl.FrameStacking stacks",
    "lstm_use_prev_action": "tfl.PrevActionsPrevRewards",
    "create_env_on_local_worker": "drop it",
    "num_gpus": "called 'num_gpus_per_learner'",
    "num_cpus_per_learner": "drop it",
    "num_gpus_per_env_runner": "drop it",
    "remote_worker_envs": "async",
    "enable_rl_module_and_learner": "drop it",
    "enable_env_runner_and_connector_v2": "drop it",
    "train_batch_size": "called 'train_batch_size_per_learner'",
    "sgd_minibatch_size": "called 'minibatch_size'",
    "num_sgd_iter": "called 'num_epochs'",
    "lr_schedule": "lr=[[0",
    "optimizer": "configure_optimizers_for_module",
    "model_config_dict": "called 'model_config'",
    "framework": "called 'framework_str'",
    "eager_tracing": "run_eagerly=True",
    "torch_skip_nan_gradients": "non_finite_updates",
    "torch_compile_learner": "jit_compile",
    "torch_compile_worker_dynamo_mode": None,
    "clip_rewards": "wrapper",
    "render_env": None,
    "disable_env_checking": None,
    "is_atari": None,
    "action_mask_key": "action_mask",
    "callbacks_class": "fit(total_steps, callbacks=",
    "count_steps_by": None,
    "policy_map_capacity": None,
    "min_time_s_per_iteration": None,
    "min_train_timesteps_per_iteration": None,
    "log_level": None,
    "input_": None,
    "restart_failed_env_runners": None,
    "placement_strategy": None,
    "export_native_model_files": None,
    "_disable_preprocessor_api": None,
    # Stable-Baselines3.
    "n_envs": "called 'num_envs_per_env_runner'",
    "env_kwargs": "called 'env_config'",
    "vec_env_cls": "async",
    "policy": "model_config=",
    "policy_kwargs": "model_config=",
    "net_arch": "'fcnet_hiddens'",
    "activation_fn": "'fcnet_activation'",
    "share_features_extractor": "'vf_share_layers'",
    "learning_rate": "called 'lr'",
    "max_grad_norm": "called 'grad_clip'",
    "use_sde": None,
    "stats_window_size": "called 'metrics_num_episodes_for_smoothing'",
    "tensorboard_log": "fit(total_steps, log_dir=",
    "total_timesteps": "fit(total_steps=",
    "verbose": "fit(total_steps, verbose=",
    "device": "num_gpus_per_learner",
    "eval_freq": "evaluation_interval",
    "n_eval_episodes": "called 'evaluation_duration'",
    "norm_obs": "MeanStdFilter",
    "norm_reward": None,
    # CleanRL.
    "num_envs": "called 'num_envs_per_env_runner'",
    "env_id": "called 'env'",
    "anneal_lr": "lr=[[0",
    "cuda": "num_gpus_per_learner",
    "track": None,
    "capture_video": None,
    "torch_deterministic": None,
    # Keras.
    "epochs": "called 'num_epochs'",
    "shuffle": "called 'shuffle_batch_per_epoch'",
    "callbacks": "fit(total_steps, callbacks=",
    "clipnorm": 'grad_clip_by="norm"',
    "clipvalue": 'grad_clip_by="value"',
    "global_clipnorm": "called 'grad_clip'",
    "weight_decay": "configure_optimizers_for_module",
    "loss": "compute_loss_for_module",
    "metrics": None,
    "units": "'fcnet_hiddens'",
    "validation_split": None,
    "mixed_precision": "set_dtype_policy",
    "distribute_strategy": "called 'strategy'",
    # Spinning Up and others.
    "hidden_sizes": "'fcnet_hiddens'",
    "max_ep_len": "max_episode_steps",
    "discount_factor": "called 'gamma'",
    "save_freq": "CheckpointCallback",
    "random_seed": "called 'seed'",
    # Settings of the networks, where the algorithm's are expected.
    "vf_share_layers": "model_config={'vf_share_layers': ...}",
    "fcnet_hiddens": "model_config={'fcnet_hiddens': ...}",
    "use_lstm": "model_config={'use_lstm': ...}",
    "fcnet_hidens": "model_config={'fcnet_hiddens': ...}",
    # Misspellings.
    "sed": "did you mean 'seed'",
    "gama": "did you mean 'gamma'",
    "num_envs_per_env_runer": "did you mean 'num_envs_per_env_runner'",
    "enviroment": "called 'env'",
    "leraning_rate": "called 'lr'",
    # Nothing that anybody could have meant.
    "": None,
    "x": None,
    "learner_wide": None,
    "renamed": None,
    "module_settings": None,
    "zzzzzzzz": None,
}
OF_PPO = {
    "use_gae": "always GAE's",
    "use_critic": "drop it",
    "lambda": "called 'lambda_'",
    "gae_lambda": "called 'lambda_'",
    "n_steps": "train_batch_size_per_learner=",
    "num_steps": "train_batch_size_per_learner=",
    "steps_per_epoch": "train_batch_size_per_learner=",
    "batch_size": "called 'minibatch_size'",
    "n_epochs": "called 'num_epochs'",
    "update_epochs": "called 'num_epochs'",
    "num_minibatches": "minibatch_size=",
    "clip_range": "called 'clip_param'",
    "clip_coef": "called 'clip_param'",
    "clip_ratio": "called 'clip_param'",
    "clip_range_vf": "vf_clip_param=",
    "clip_vloss": "vf_clip_param=",
    "normalize_advantage": "always standardised",
    "norm_adv": "always standardised",
    "ent_coef": "called 'entropy_coeff'",
    "vf_coef": "called 'vf_loss_coeff'",
    "target_kl": "kl_target=",
    "entropy_coeff_schedule": "entropy_coeff=[[0",
    "tau": None,
    "n_step": None,
    "epsilon": None,
    "buffer_size": None,
    "learning_starts": None,
    "twin_q": None,
    "target_network_update_freq": None,
    "replay_buffer_config": None,
}
OF_BOTH = {
    "buffer_size": '"capacity"',
    "learning_starts": "called 'num_steps_sampled_before_learning_starts'",
    "train_freq": "called 'rollout_fragment_length'",
    "gradient_steps": "training_intensity=",
    "target_update_interval": "called 'target_network_update_freq'",
    "target_network_frequency": "called 'target_network_update_freq'",
    "batch_size": "called 'train_batch_size_per_learner'",
    "polyak": "1 - polyak",
    "n_steps": "called 'n_step'",
    "prioritized_replay_alpha": '"alpha"',
    "optimize_memory_usage": "drop it",
    "clip_range": None,
    "use_gae": None,
    "kl_coeff": None,
    "gae_lambda": None,
    "lambda_": None,
    "vf_loss_coeff": None,
}
OF_DQN = OF_BOTH | {
    "exploration_fraction": "epsilon=[[0",
    "exploration_final_eps": "epsilon=[[0",
    "start_e": "epsilon=[[0",
    "epsilon_timesteps": "epsilon=[[0",
    "double_dqn": "called 'double_q'",
    "n_atoms": "called 'num_atoms'",
    "noisy": None,
    "actor_lr": None,
    "tua": None,
    "ent_coef": None,
    "twin_q": None,
}
OF_SAC = OF_BOTH | {
    "ent_coef": "called 'initial_alpha'",
    "entropy_coeff": "called 'initial_alpha'",
    "alpha": "called 'initial_alpha'",
    "autotune": "alpha_lr=0.0",
    "policy_lr": "called 'actor_lr'",
    "q_lr": "called 'critic_lr'",
    "optimization_config": "critic_lr",
    "q_model_config": "called 'model_config'",
    "action_noise": None,
    "epsilon": None,
    "double_q": None,
}
OF_IMPALA = {
    "ent_coef": "called 'entropy_coeff'",
    "vf_coef": "called 'vf_loss_coeff'",
    "unroll_length": "called 'rollout_fragment_length'",
    "clip_rho_threshold": "called 'vtrace_clip_rho_threshold'",
    "gae_lambda": "V-trace has none",
    "learner_queue_size": "share this process",
    "tau": None,
    "clip_param": None,
}
OF_MARWIL = {
    "input_": "data=episodes",
    "batch_size": "called 'train_batch_size_per_learner'",
    "vf_loss_coeff": "called 'vf_coeff'",
    "bc_logstd_coeff": None,
    "buffer_size": None,
}
TYPED = {
    IMPALAConfig: EVERYWHERE | OF_IMPALA,
    MARWILConfig: EVERYWHERE | OF_MARWIL,
    PPOConfig: EVERYWHERE | OF_PPO,
    DQNConfig: EVERYWHERE | OF_DQN,
    SACConfig: EVERYWHERE | OF_SAC,
    AlgorithmConfig: EVERYWHERE,
}
OF_NETWORKS = {
    "hidden_sizes": "called 'fcnet_hiddens'",
    "activation": "called 'fcnet_activation'",
    "post_fcnet_hiddens": "called 'head_fcnet_hiddens'",
    "fcnet_hidden": "did you mean 'fcnet_hiddens'",
    "custom_model": "called 'model'",
    "use_attention": None,
    "dim": None,
    "lstm_use_prev_action": None,
}
OF_BUFFER = {
    "size": "called 'capacity'",
    "prioritized_replay_beta": "called 'beta'",
    "learning_starts": "num_steps_sampled_before_learning_starts",
    "capcity": "did you mean 'capacity'",
    "replay_sequence_length": None,
}


def hint_of(call):
    with pytest.raises(ConfigError) as error:
        call()
    return error.value.hint


def misled(table, hint):
    """What is told wrongly: {name: (hint, what it should hold)}."""
    told = {name: hint(name) for name in table}
    return {
        name: (told[name], part)
        for name, part in table.items()
        if (told[name] is not None if part is None else part not in (told[name] or ""))
    }


@pytest.mark.parametrize("config", TYPED, ids=lambda config: config.__name__)
def test_what_people_type_gets_the_right_hint_or_none(config):
    by_dict = lambda name: hint_of(lambda: config().update_from_dict({name: 1}))
    assert misled(TYPED[config], by_dict) == {}
    by_section = lambda name: hint_of(lambda: config().debugging(**{name: 1}))
    assert misled(TYPED[config], by_section) == {}


def test_settings_of_networks_and_buffers_get_the_right_hint_or_none():
    of_networks = lambda name: hint_of(lambda: DefaultModelConfig.make({name: 1}))
    assert misled(OF_NETWORKS, of_networks) == {}

    def of_buffer(name):
        config = DQNConfig().training(replay_buffer_config={name: 1})
        return hint_of(config.validate)

    assert misled(OF_BUFFER, of_buffer) == {}


def test_hints_name_the_section_of_the_setting():
    hint = hint_of(lambda: PPOConfig().training(n_envs=4))
    assert hint == "it is called 'num_envs_per_env_runner' here, in .env_runners()"
    hint = hint_of(lambda: PPOConfig().training(sed=4))
    assert hint == "did you mean 'seed', in .debugging()?"


@pytest.mark.parametrize("config", TYPED, ids=lambda config: config.__name__)
def test_tables_lead_to_settings(config):
    fields = {field.name for field in dataclasses.fields(config)}
    networks = {field.name for field in dataclasses.fields(DefaultModelConfig)}
    for name, told in config.renamed.items():
        if told is not None and " " not in told and config is not AlgorithmConfig:
            assert told in fields, name
    for name, told in names.NETWORKS.items():
        assert name not in networks and (told is None or told in networks)


@pytest.mark.parametrize("name", [5, None, ("lr",), 10**5000, b"lr", 0.5], ids=type)
def test_names_that_are_no_text_are_refused(name):
    for call in (
        lambda: PPOConfig().update_from_dict({name: 1}),
        lambda: PPOConfig().multi_agent(
            algorithm_config_overrides_per_module={"p": {name: 1}}
        ),
        lambda: DefaultModelConfig.make({name: 1}),
        lambda: DQNConfig().training(replay_buffer_config={name: 1}).validate(),
    ):
        assert hint_of(call) is None


@pytest.mark.parametrize("name", ["renamed", "learner_wide", "module_settings"])
def test_class_variables_are_no_settings(name):
    for call in (
        lambda: DQNConfig().training(**{name: ()}),
        lambda: DQNConfig().update_from_dict({name: ()}),
        lambda: DQNConfig.overrides(**{name: ()}),
        lambda: setattr(DQNConfig(), name, ()),
    ):
        assert hint_of(call) is None
    assert name not in DQNConfig().settings()


def test_class_variables_in_files_of_former_versions_are_ignored():
    config = DQNConfig.from_settings(renamed={}, learner_wide=("lr",), lr=0.5)
    assert config.lr == 0.5 and config.learner_wide == DQNConfig.learner_wide
