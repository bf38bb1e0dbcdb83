"""Names of modules, components and metrics that appear in state and result dicts.

The string values are RLlib's, so that code reading results needs no change.

Here are the names that several parts of the library use. The key of a metric that one
algorithm alone reports is in its file in `algorithms/`. Labels of metrics for people
are in `metric_labels` of the learner that reports them.
"""

FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127  # 3.4e38

# Modules and optimizers.
DEFAULT_MODULE_ID = "default_policy"
ALL_MODULES = "__all_modules__"  # Aggregates, and optimizers bound to no one module.
DEFAULT_OPTIMIZER = "default_optimizer"
INPUT_ENV_SINGLE_SPACES = "__env_single__"  # The spaces of one environment.

# Components of a state dict.
COMPONENT_LEARNER = "learner"
COMPONENT_LEARNER_GROUP = "learner_group"
COMPONENT_RL_MODULE = "rl_module"
COMPONENT_OPTIMIZER = "optimizer"
COMPONENT_METRICS_LOGGER = "metrics_logger"
COMPONENT_LEARNER_CONNECTOR = "learner_connector"
COMPONENT_ENV_RUNNER = "env_runner"
COMPONENT_REPLAY_BUFFER = "replay_buffer"
COMPONENT_ENV_TO_MODULE_CONNECTOR = "env_to_module_connector"
COMPONENT_MODULE_TO_ENV_CONNECTOR = "module_to_env_connector"
WEIGHTS_SEQ_NO = "weights_seq_no"

# Losses.
TOTAL_LOSS_KEY = "total_loss"
REGULARIZATION_LOSS_KEY = "regularization_loss"  # Where Keras layers have losses.
POLICY_LOSS_KEY = "policy_loss"
VF_LOSS_KEY = "vf_loss"
ENTROPY_KEY = "entropy"
CURR_ENTROPY_COEFF_KEY = "curr_entropy_coeff"
QF_LOSS_KEY = "qf_loss"
QF_MEAN_KEY = "qf_mean"
QF_MIN_KEY = "qf_min"
QF_MAX_KEY = "qf_max"
TD_ERROR_KEY = "td_error"  # Of rows: in `row_outputs`, not in results.
TD_ERROR_MEAN_KEY = "td_error_mean"
LR_KEY = "learning_rate"  # Reported as f"{optimizer_name}_{LR_KEY}".

# Results of an update.
NUM_ENV_STEPS_TRAINED = "num_env_steps_trained"
NUM_ENV_STEPS_TRAINED_LIFETIME = "num_env_steps_trained_lifetime"
NUM_MODULE_STEPS_TRAINED = "num_module_steps_trained"
NUM_MODULE_STEPS_TRAINED_LIFETIME = "num_module_steps_trained_lifetime"
MODULE_TRAIN_BATCH_SIZE_MEAN = "module_train_batch_size_mean"
NUM_TARGET_UPDATES = "num_target_updates"
LAST_TARGET_UPDATE_TS = "last_target_update_ts"
DATASET_NUM_ITERS_TRAINED = "dataset_num_iters_trained"
DATASET_NUM_ITERS_TRAINED_LIFETIME = "dataset_num_iters_trained_lifetime"
DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY = "diff_num_grad_updates_vs_sampler_policy"
NUM_LOST_REFERENCES_LIFETIME = "num_lost_references_lifetime"
NUM_TRAINABLE_PARAMETERS = "num_trainable_parameters"
NUM_NON_TRAINABLE_PARAMETERS = "num_non_trainable_parameters"
LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME = (
    "learner_update_skipped_empty_batch_lifetime"
)
NUM_NON_FINITE_UPDATES_LIFETIME = "num_non_finite_updates_lifetime"

# Results of sampling.
ENV_RUNNER_RESULTS = "env_runners"
LEARNER_RESULTS = "learners"
TIMERS = "timers"
EVALUATION_RESULTS = "evaluation"
EPISODE_RETURN_MEAN = "episode_return_mean"
EPISODE_RETURN_MIN = "episode_return_min"
EPISODE_RETURN_MAX = "episode_return_max"
EPISODE_LEN_MEAN = "episode_len_mean"
NUM_EPISODES = "num_episodes"
NUM_EPISODES_LIFETIME = "num_episodes_lifetime"
NUM_ENV_STEPS_SAMPLED = "num_env_steps_sampled"
NUM_ENV_STEPS_SAMPLED_LIFETIME = "num_env_steps_sampled_lifetime"
TRAINING_ITERATION = "training_iteration"
TIME_TOTAL_S = "time_total_s"
