"""How to train: checked once, then passed along."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from ..schema import require
from ..weights.adapter_files import LoRASettings

# Options that change nothing of what is learnt; they may be others when a run goes on.
_FREE = (
    "gradient_checkpointing", "log_interval", "valid_interval", "save_interval",
    "keep_checkpoints", "sample_interval", "sample_texts",
)  # fmt: skip


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
    """Its peak: it rises from 0 for `warmup_steps`, then falls to 0 as a cosine. Upstream's is a
    tenth of this where all weights are learnt."""
    warmup_steps: int | None = None
    """None is upstream's 100, but never more than a tenth of all steps."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    lambdas: LossWeights = LossWeights()
    condition_dropout: float = 0.1
    """How often a patch is learnt without what the language models say, for guidance."""
    precision: str = "bfloat16"
    """bfloat16 or float32, to compute in; what is learnt is float32 always."""
    gradient_checkpointing: bool = False
    """Compute layers a second time instead of keeping what they gave: less memory, more time."""
    seed: int = 0
    log_interval: int = 10
    valid_interval: int = 100
    save_interval: int = 100
    keep_checkpoints: int = 3
    """The latest ones that stay; 0 keeps all."""
    sample_interval: int = 0
    """Speak every so many steps; 0 never."""
    sample_texts: tuple[str, ...] = ()
    """What to speak; without any, the first two texts of the validation or else the training."""

    def __post_init__(self):
        positive = (
            "max_steps", "batch_size", "grad_accum_steps", "max_batch_tokens", "log_interval",
            "valid_interval", "save_interval",
        )  # fmt: skip
        for name in (*positive, "seed", "keep_checkpoints", "sample_interval"):
            value, least = getattr(self, name), int(name in positive)
            require(value >= least, name, value, f"at least {least}")
        require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "over 0, up to 1")
        require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "from 0 to 1")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "more than 0")
        dropout = self.condition_dropout
        require(0 <= dropout < 1, "condition_dropout", dropout, "at least 0 and below 1")
        precisions = ("bfloat16", "float32")
        require(self.precision in precisions, "precision", self.precision, " or ".join(precisions))
        require(
            0 <= self.warmup < self.max_steps, "warmup_steps", self.warmup,
            f"at least 0 and less than max_steps ({self.max_steps})",
        )  # fmt: skip
        for text in self.sample_texts:
            require(bool(text.strip()), "sample_texts", text, "texts that say something")

    @property
    def warmup(self) -> int:
        """Steps."""
        return min(100, self.max_steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def longest(self) -> int:
        """Positions of an example."""
        return self.max_batch_tokens // self.batch_size


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides what a run does. Raises ValueError for a value out of range."""

    model: str
    """A folder or hub repository."""
    train: str
    """The manifest."""
    validation: str | None = None
    """Another manifest; else `validation_split` of the first one's lines, drawn by the seed."""
    validation_split: float = 0.0
    lora: LoRASettings | None = field(default_factory=LoRASettings)
    """None trains the model itself, all but the AudioVAE."""
    options: TrainingOptions = field(default_factory=TrainingOptions)
    revision: str | None = None

    def __post_init__(self):
        for name in ("model", "train", "validation", "revision"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name in ("model", "train")):
                raise ValueError(f"{name} is {value!r}; it must be a string")
        split = self.validation_split
        if not isinstance(split, int | float) or not 0 <= split <= 0.5:
            raise ValueError(f"validation_split is {split!r}; it must be from 0 to 0.5")

    @property
    def decisive(self) -> dict:
        """What a run must not be gone on with otherwise, by name."""
        named = asdict(self)
        options, lora = named.pop("options"), named.pop("lora")
        named |= {name: value for name, value in options.items() if name not in _FREE}
        named["warmup_steps"] = self.options.warmup
        named["kind"] = "full" if lora is None else "lora"
        return named | {f"lora.{name}": value for name, value in (lora or {}).items()}
