"""Times the same update as a hand-written eager PyTorch loop.

Same networks, loss, clipping and optimizer, as one would write it: rows in tensors once
per update, a permutation per epoch, and per minibatch forward, backward, clip, Adam.
Terms are added up on the way and read at the end.
"""

import torch
import worker
from torch import nn

NATURE_FILTERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Encoder(nn.Module):
    """Convolutions for images, dense layers, an LSTM for sequences."""

    def __init__(self, s: dict):
        super().__init__()
        self.is_image = s["obs_dtype"] == "uint8"
        layers: list[nn.Module] = []
        if self.is_image:
            height, width, channels = s["obs_shape"]
            for filters, kernel, stride in NATURE_FILTERS:
                layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
                height, width = ((n - kernel) // stride + 1 for n in (height, width))
                channels = filters
            layers.append(nn.Flatten())
            size = height * width * channels
        else:
            (size,) = s["obs_shape"]
        for units in s["hiddens"]:
            layers += [nn.Linear(size, units), ACTIVATIONS[s["activation"]]()]
            size = units
        self.layers = nn.Sequential(*layers)
        self.lstm = None
        if s["lstm_units"]:
            self.lstm = nn.LSTM(size, s["lstm_units"], batch_first=True)
            size = s["lstm_units"]
        self.size = size

    def forward(self, rows: dict) -> torch.Tensor:
        """Embeds observations: [B, ...], or [S, T, ...] with a state."""
        x = rows["obs"]
        if self.is_image:
            x = x.permute(0, 3, 1, 2).float() / 255.0
        x = self.layers(x)
        if self.lstm is not None:
            state = (rows["h"][None], rows["c"][None])
            x, _ = self.lstm(x, state)
        return x


class ActorCritic(nn.Module):
    """Two heads on one encoder, or on one each."""

    def __init__(self, s: dict):
        super().__init__()
        self.actor = Encoder(s)
        self.critic = None if s["share_layers"] else Encoder(s)
        self.pi = nn.Linear(self.actor.size, s["num_actions"])
        self.vf = nn.Linear(self.actor.size, 1)

    def forward(self, rows: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits [..., A] and values [...]."""
        embedding = self.actor(rows)
        logits = self.pi(embedding)
        if self.critic is not None:
            embedding = self.critic(rows)
        return logits, self.vf(embedding)[..., 0]


def compute_loss(model: ActorCritic, rows: dict, s: dict) -> tuple:
    """Returns the PPO loss and its terms."""
    logits, values = model(rows)
    log_probs = torch.log_softmax(logits, -1)
    logp = log_probs.gather(-1, rows["actions"][..., None])[..., 0]
    log_ratio = logp - rows["logp"]
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - s["clip_param"], 1 + s["clip_param"])
    advantages = rows["advantages"]

    def mean(x: torch.Tensor) -> torch.Tensor:
        mask = rows.get("loss_mask")
        return x.mean() if mask is None else (x * mask).sum() / mask.sum()

    policy_loss = -mean(torch.minimum(ratio * advantages, clipped * advantages))
    vf_loss = mean(torch.square(values - rows["value_targets"]))
    entropy = mean(-(log_probs.exp() * log_probs).sum(-1))
    loss = policy_loss + s["vf_loss_coeff"] * vf_loss - s["entropy_coeff"] * entropy
    return loss, torch.stack((policy_loss, vf_loss, entropy, -mean(log_ratio)))


def main() -> None:
    """Times updates from NumPy rows to NumPy results."""
    s = worker.settings()
    batch = worker.make_shape_batch(s)
    per_minibatch = s["minibatch_size"]
    if s["sequence_length"]:
        num_sequences = len(batch["obs"])
        per_minibatch //= s["sequence_length"]
        state = torch.zeros(num_sequences, s["lstm_units"]).numpy()
        mask = torch.ones(num_sequences, s["sequence_length"]).numpy()
        batch |= {"h": state, "c": state.copy(), "loss_mask": mask}
    torch.manual_seed(0)
    model = ActorCritic(s)
    if s["obs_dtype"] == "uint8":
        # As images come: NHWC. Converting them to NCHW takes longer on every round.
        model = model.to(memory_format=torch.channels_last)
    params = list(model.parameters())
    optimizer = torch.optim.Adam(params, lr=s["lr"], eps=1e-7, fused=True)

    def one_update(num_epochs: int = s["num_epochs"]):
        own = {**batch, "advantages": worker.standardized(batch["advantages"])}
        columns = {name: torch.from_numpy(column) for name, column in own.items()}
        totals, num_steps = torch.zeros(5), 0
        for _ in range(num_epochs):
            for chosen in torch.randperm(len(own["obs"])).split(per_minibatch):
                rows = {name: column[chosen] for name, column in columns.items()}
                loss, terms = compute_loss(model, rows, s)
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(params, s["grad_clip"], foreach=True)
                optimizer.step()
                totals += torch.cat((terms.detach(), norm[None]))
                num_steps += 1
        return (totals / num_steps).numpy()

    def attempt(num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        one_update(num_epochs=1)

    first = worker.time_first(one_update)
    num_threads = worker.fastest(s["threads"], attempt)
    torch.set_num_threads(num_threads)
    worker.report(
        ["torch", "numpy"],
        threads=num_threads,
        **worker.time_updates(one_update, s["seconds"]) | first,
    )


if __name__ == "__main__":
    main()
