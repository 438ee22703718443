"""How to train: checked once, then passed along."""

from __future__ import annotations

from dataclasses import dataclass

from ..schema import require


@dataclass(frozen=True)
class LossWeights:
    """Upstream's `lambdas`."""

    diff: float = 1.0
    stop: float = 1.0

    def __post_init__(self):
        for name in ("diff", "stop"):
            value = getattr(self, name)
            require(value >= 0, f"lambdas: loss/{name}", value, "0 or more")
        require(self.diff + self.stop > 0, "lambdas", "0 for both losses", "more than 0 for one")


@dataclass(frozen=True)
class TrainingOptions:
    """Upstream's names and defaults (conf/voxcpm_v2), where it has them.

    Raises ValueError for a value out of range.
    """

    max_steps: int = 1000
    """Updates of the weights."""
    batch_size: int = 2
    """Examples side by side, over all processes."""
    grad_accum_steps: int = 8
    """Batches whose gradients are averaged for one update."""
    max_batch_tokens: int = 8192
    """Positions of a batch; a longer example than its share of them is refused."""
    learning_rate: float = 1e-4
    """Its peak: it rises from 0 for `warmup_steps`, then falls to 0 as a cosine."""
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    lambdas: LossWeights = LossWeights()
    condition_dropout: float = 0.1
    """How often a patch is learnt without what the language models say, for guidance."""
    precision: str = "bfloat16"
    """What is computed in; what is learnt is float32 always."""
    gradient_checkpointing: bool = False
    """Compute layers a second time instead of keeping what they gave: less memory, a third
    slower."""
    seed: int = 0
    log_interval: int = 10
    valid_interval: int = 100
    save_interval: int = 100
    keep_checkpoints: int = 3
    """The latest ones that stay; 0 keeps all."""
    sample_interval: int = 0
    """Speak the sample texts every so many steps; 0 never."""
    sample_texts: tuple[str, ...] = ()

    def __post_init__(self):
        at_least = {
            "max_steps": 1, "batch_size": 1, "grad_accum_steps": 1, "max_batch_tokens": 1,
            "warmup_steps": 0, "seed": 0, "log_interval": 1, "valid_interval": 1,
            "save_interval": 1, "keep_checkpoints": 0, "sample_interval": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            require(value >= least, name, value, f"at least {least}")
        require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "over 0, up to 1")
        require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "from 0 to 1")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "more than 0")
        dropout = self.condition_dropout
        require(0 <= dropout < 1, "condition_dropout", dropout, "at least 0 and below 1")
        precisions = ("bfloat16", "float16", "float32")
        require(self.precision in precisions, "precision", self.precision, " or ".join(precisions))
        require(
            self.warmup_steps < self.max_steps, "warmup_steps", self.warmup_steps,
            f"less than max_steps ({self.max_steps})",
        )  # fmt: skip

    @property
    def longest(self) -> int:
        """Positions of an example."""
        return self.max_batch_tokens // self.batch_size
