"""Times the same update as one `tf.function` call per minibatch.

The way a Keras loop is usually written: networks and Adam are Keras', minibatches are cut
on the host with NumPy, and forward, backward, clip and apply are one traced function.
"""

import keras
import numpy as np
import tensorflow as tf
import worker


def make_mlp(s: dict, outputs: int) -> keras.Model:
    """Returns a dense network from observations to `outputs` numbers."""
    hidden = [keras.layers.Dense(n, s["activation"]) for n in s["hiddens"]]
    return keras.Sequential(
        [keras.Input(s["obs_shape"]), *hidden, keras.layers.Dense(outputs)]
    )


def make_step(s: dict):
    """Returns the traced step: {column: array [B, ...]} to the terms of the loss."""
    pi, vf = make_mlp(s, s["num_actions"]), make_mlp(s, 1)
    variables = pi.trainable_variables + vf.trainable_variables
    optimizer = keras.optimizers.Adam(s["lr"])
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(rows):
        with tf.GradientTape() as tape:
            log_probs = tf.nn.log_softmax(pi(rows["obs"]))
            logp = tf.gather(log_probs, rows["actions"], axis=1, batch_dims=1)
            ratio = tf.exp(logp - rows["logp"])
            clipped = tf.clip_by_value(ratio, 1 - s["clip_param"], 1 + s["clip_param"])
            advantages = rows["advantages"]
            policy_loss = -tf.reduce_mean(
                tf.minimum(ratio * advantages, clipped * advantages)
            )
            vf_loss = tf.reduce_mean(
                tf.square(vf(rows["obs"])[:, 0] - rows["value_targets"])
            )
            entropy = -tf.reduce_mean(
                tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=1)
            )
            loss = (
                policy_loss
                + s["vf_loss_coeff"] * vf_loss
                - s["entropy_coeff"] * entropy
            )
        gradients = tape.gradient(loss, variables)
        gradients, norm = tf.clip_by_global_norm(gradients, s["grad_clip"])
        optimizer.apply(gradients, variables)
        kl = tf.reduce_mean(rows["logp"] - logp)
        return tf.stack([policy_loss, vf_loss, entropy, kl, norm])

    return step


def main() -> None:
    """Times updates from NumPy rows to NumPy results."""
    s = worker.settings()
    num_threads = s["chosen_threads"]["tf-loop"]
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    keras.utils.set_random_seed(0)
    batch = worker.make_shape_batch(s)
    rng = np.random.default_rng(0)
    step = make_step(s)

    def one_update() -> np.ndarray:
        own = {**batch, "advantages": worker.standardized(batch["advantages"])}
        terms = []
        for _ in range(s["num_epochs"]):
            order = rng.permutation(s["rows"])
            for chosen in np.split(order, s["rows"] // s["minibatch_size"]):
                rows = {name: tf.constant(own[name][chosen]) for name in own}
                terms.append(step(rows))
        return tf.reduce_mean(tf.stack(terms), axis=0).numpy()

    worker.report(
        ["tensorflow", "keras", "numpy"],
        threads=num_threads,
        **worker.time_updates(one_update, s["seconds"]),
    )


if __name__ == "__main__":
    main()
