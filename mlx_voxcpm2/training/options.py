"""Options of a training run, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from ..models.voxcpm2.lora import LoRASettings
from ..schema import require

_MUTABLE = (
    "gradient_checkpointing",
    "log_interval",
    "valid_interval",
    "save_interval",
    "keep_checkpoints",
    "sample_interval",
    "sample_texts",
)
"""Options that may change when a run is resumed: the weights do not depend on them."""
_POSITIVE = (
    "max_steps",
    "batch_size",
    "grad_accum_steps",
    "max_batch_tokens",
    "log_interval",
    "valid_interval",
    "save_interval",
)


@dataclass(frozen=True)
class LossWeights:
    """Weights of a family's two losses, upstream's `lambdas`; None for its default."""

    diff: float | None = None
    """Of the velocity's error."""
    stop: float | None = None
    """Of VoxCPM2's stop head."""
    ce: float | None = None
    """Of the cross entropy of VibeVoice's tokens."""

    def __post_init__(self):
        for name, value in vars(self).items():
            require(value is None or value >= 0, f"lambdas: loss/{name}", value, "0 or more")

    def of(self, defaults: Mapping[str, float]) -> dict[str, float]:
        """Weights of the losses that have these defaults, in their order.

        Raises ValueError if another one is given, or if all are 0.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        if other := [name for name in given if name not in defaults]:
            names = " and ".join(defaults)
            raise ValueError(f"lambdas: this model has no loss {other[0]}; it has {names}")
        found = {**defaults, **given}
        require(any(found.values()), "lambdas", "0 for both losses", "more than 0 for one")
        return {name: found[name] for name in defaults}


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the optimisation, with upstream's names and defaults (conf/voxcpm_v2).

    Raises ValueError for a value out of range.
    """

    max_steps: int = 1000
    """Number of updates of the weights."""
    batch_size: int = 2
    """Number of examples in a batch, over all processes."""
    grad_accum_steps: int = 8
    """Number of batches whose gradients are averaged for one update."""
    max_batch_tokens: int = 8192
    """Maximum number of positions in a batch; an example longer than its share is an error."""
    learning_rate: float = 1e-4
    """Peak: it rises from 0 for `warmup_steps`, then decays to 0 as a cosine. Upstream's is a
    tenth of this for full fine-tuning."""
    warmup_steps: int | None = None
    """Number of warm-up steps; None is upstream's 100, or a tenth of all steps if that is less."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    """Largest norm of the gradient, which is scaled down to it; 0 leaves it as it is."""
    lambdas: LossWeights = LossWeights()
    condition_dropout: float = 0.1
    """Probability that a patch is learnt without the language models' condition, for guidance."""
    precision: Literal["bfloat16", "float32"] | None = None
    """Type of the computation, see `dtype`; trained weights are always float32."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations in the backward pass: less memory, more time."""
    seed: int = 0
    log_interval: int = 10
    valid_interval: int = 100
    save_interval: int = 100
    keep_checkpoints: int = 3
    """Number of latest checkpoints to keep; 0 keeps all."""
    sample_interval: int = 0
    """Number of steps between spoken samples; 0 for none."""
    sample_texts: tuple[str, ...] = ()
    """Texts of the samples; by default the first two of the validation or else training data."""

    def __post_init__(self):
        for name in (*_POSITIVE, "seed", "keep_checkpoints", "sample_interval"):
            value, least = getattr(self, name), int(name in _POSITIVE)
            require(value >= least, name, value, f"at least {least}")
        require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "over 0, up to 1")
        require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "from 0 to 1")
        require(self.max_grad_norm >= 0, "max_grad_norm", self.max_grad_norm, "0 (off) or more")
        dropout = self.condition_dropout
        require(0 <= dropout < 1, "condition_dropout", dropout, "at least 0 and below 1")
        precisions = ("bfloat16", "float32")
        require(
            self.precision in (None, *precisions),
            "precision",
            self.precision,
            " or ".join(precisions),
        )
        limits = f"at least 0 and less than max_steps ({self.max_steps})"
        require(0 <= self.warmup < self.max_steps, "warmup_steps", self.warmup, limits)
        for text in self.sample_texts:
            require(bool(text.strip()), "sample_texts", text, "texts that say something")

    @property
    def warmup(self) -> int:
        """`warmup_steps`, or its default."""
        return min(100, self.max_steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def dtype(self) -> Literal["bfloat16", "float32"]:
        """`precision`, by default float32 on a CPU, which is slow at 16 bits, and else bfloat16."""
        if self.precision is not None:
            return self.precision
        from ..layers.device import on_cpu

        return "float32" if on_cpu() else "bfloat16"

    @property
    def longest(self) -> int:
        """Maximum number of positions of an example."""
        return self.max_batch_tokens // self.batch_size


@dataclass(frozen=True)
class TrainingSettings:
    """Model, data, adapter and options of a run. Raises ValueError for a value out of range."""

    model: str
    """Folder or hub repository."""
    train: str
    """Path of the manifest."""
    validation: str | None = None
    """Path of a validation manifest."""
    validation_split: float = 0.0
    """Without one, fraction of the training lines to hold out, drawn with the seed."""
    lora: LoRASettings | None = field(default_factory=LoRASettings)
    """Settings of the adapter; None trains all weights but the AudioVAE's."""
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
    def resume_key(self) -> dict:
        """Settings that must match for a run to be resumed, by name."""
        named = asdict(self)
        options, lora = named.pop("options"), named.pop("lora")
        named |= {name: value for name, value in options.items() if name not in _MUTABLE}
        named["warmup_steps"], named["precision"] = self.options.warmup, self.options.dtype
        named["kind"] = "full" if lora is None else "lora"
        return named | {f"lora.{name}": value for name, value in (lora or {}).items()}
