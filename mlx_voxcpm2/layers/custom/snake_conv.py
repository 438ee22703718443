"""Snake, depthwise causal convolution and snake in one kernel, as in the AudioVAE's units."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .. import kernels
from .kernel import CHOICES, CustomKernel, Examples, Variant, size_class

# Extended by the state before them, a channel's inputs are DILATION interleaved sequences. A thread
# computes STEPS successive outputs of one of them: each input passes its activation once, into a
# window of KERNEL. The state's inputs are activated already, and so are those that are stored.
_BODY = """
    constexpr int CONTEXT = (KERNEL - 1) * DILATION;
    const int channel = group.x * 32 * WARPS + member;
    const int row = group.z;
    const int begin = group.y / DILATION * (DILATION * STEPS) + group.y % DILATION;
    if (channel >= CHANNELS) return;

    const float bias_in = biases_in[channel], bias_out = biases_out[channel];
    const float alpha_in = alphas_in[channel], alpha_out = alphas_out[channel];
    const float amplitude_in = amplitudes_in[channel];
    const float amplitude_out = amplitudes_out[channel];
    auto past = state + row * CONTEXT * CHANNELS + channel;
    auto next = new_state + row * CONTEXT * CHANNELS + channel;
    auto source = x + row * LENGTH * CHANNELS + channel;
    auto target = y + row * LENGTH * CHANNELS + channel;

    float taps[KERNEL], window[KERNEL];
    UNROLL
    for (int tap = 0; tap < KERNEL; tap++) taps[tap] = weight[tap * CHANNELS + channel];
    UNROLL
    for (int tap = 0; tap < KERNEL - 1; tap++) {
        const int place = begin + tap * DILATION;  // in the extended inputs
        float value = 0;
        if (place < CONTEXT) {
            value = past[place * CHANNELS];
        } else if (place - CONTEXT < LENGTH) {
            const float sum = source[(place - CONTEXT) * CHANNELS] + bias_in;
            const float wave = sin(alpha_in * sum);
            value = sum + amplitude_in * (wave * wave);
        }
        window[tap] = value;
    }
    for (int step = 0; step < STEPS; step++) {
        const int place = begin + step * DILATION;
        if (place >= LENGTH) break;
        const float sum = source[place * CHANNELS] + bias_in;
        const float wave_in = sin(alpha_in * sum);
        window[KERNEL - 1] = sum + amplitude_in * (wave_in * wave_in);
        if (place >= LENGTH - CONTEXT)
            next[(place - LENGTH + CONTEXT) * CHANNELS] = window[KERNEL - 1];
        float total = bias_out;
        UNROLL
        for (int tap = 0; tap < KERNEL; tap++) total += taps[tap] * window[tap];
        const float wave_out = sin(alpha_out * total);
        target[place * CHANNELS] = total + amplitude_out * (wave_out * wave_out);
        UNROLL
        for (int tap = 1; tap < KERNEL; tap++) window[tap - 1] = window[tap];
    }
    // What a chunk shorter than the context leaves of the old state.
    if (group.y == 0)
        for (int place = 0; place < CONTEXT - LENGTH; place++)
            next[place * CHANNELS] = past[(place + LENGTH) * CHANNELS];
"""

_CONSTANTS = (
    *("biases_in", "alphas_in", "amplitudes_in", "weight"),
    *("biases_out", "alphas_out", "amplitudes_out"),
)
KERNEL = CustomKernel("snake_conv", ("x", "state", *_CONSTANTS), ("y", "new_state"), _BODY)


@dataclass(frozen=True)
class SnakeConv:
    """x (B, L, C) -> snake, convolution by channel, snake; float32."""

    batch: int
    """Class of the number of rows."""
    length: int
    channels: int
    width: int
    """Of the convolution's kernel."""
    dilation: int

    @property
    def kernel(self) -> CustomKernel:
        return KERNEL

    @property
    def variants(self) -> list[Variant]:
        return [(("WARPS", 2), ("STEPS", steps)) for steps in (4, 16)]

    def example(self) -> list[mx.array]:
        """x (B, L, C), state (B, context, C), and what `kernels.snake` and the convolution take."""
        random = Examples()
        context, shape = (self.width - 1) * self.dilation, (self.channels,)
        arrays = [
            random.normal(self.batch, self.length, self.channels),
            random.normal(self.batch, context, self.channels),
        ]
        for _ in range(2):
            alpha = random.uniform(0.5, 3, *shape)
            constants = kernels.SnakeConstants.of(alpha)
            arrays += [random.normal(*shape), constants.alpha, constants.amplitude]
        arrays.insert(5, random.normal(self.width, self.channels, scale=0.4))
        return arrays

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        """-> y (B, L, C) and the next state (B, context, C)."""
        x, state, bias, alpha, amplitude, weight, bias_out, alpha_out, amplitude_out = arrays
        y = _snake(x, bias, alpha, amplitude)
        extended = mx.concatenate([state, y], axis=1)
        context, length = (self.width - 1) * self.dilation, x.shape[1]
        places = range(0, context + 1, self.dilation)
        terms = [extended[:, place : place + length] for place in places]
        y = kernels.weighted_sum(mx.split(weight, self.width), terms)
        return [_snake(y, bias_out, alpha_out, amplitude_out), extended[:, length:]]

    def custom(self, variant: Variant, *arrays: mx.array) -> list[mx.array]:
        """As `plain`."""
        x, state = arrays[:2]
        sizes = {"LENGTH": x.shape[1], "CHANNELS": self.channels, "KERNEL": self.width}
        choice = dict(variant)
        blocks = -(-x.shape[1] // (self.dilation * choice["STEPS"])) * self.dilation
        return KERNEL(
            arrays,
            {**sizes, "DILATION": self.dilation, **choice},
            (-(-self.channels // (32 * choice["WARPS"])), blocks, len(x)),
            32 * choice["WARPS"],
            [(x.shape, mx.float32), (state.shape, mx.float32)],
        )


def _snake(x: mx.array, bias: mx.array, alpha: mx.array, amplitude: mx.array) -> mx.array:
    return kernels.snake(x, bias, kernels.SnakeConstants.of(alpha)._replace(amplitude=amplitude))


def snake_conv(
    x: mx.array,
    state: mx.array | None,
    first: tuple[mx.array, kernels.SnakeConstants],
    conv: tuple[mx.array, mx.array, int],
    last: kernels.SnakeConstants,
) -> list[mx.array] | None:
    """x (B, L, C) -> the result (B, L, C) and the next state (B, context, C).

    state: None for silence; first: the bias that x still lacks, and the snake's constants; conv:
    weight (kernel, C), bias and dilation. None if no custom kernel is to be used.
    """
    if not CHOICES.are_asked or x.dtype != mx.float32:
        return None
    (bias, snake), (weight, conv_bias, dilation) = first, conv
    (batch, length, channels), width = x.shape, len(weight)
    operation = SnakeConv(size_class(batch), length, channels, width, dilation)
    variant = CHOICES.variant(operation)
    if variant is None:
        return None
    if state is None:
        state = mx.zeros((batch, (width - 1) * dilation, channels))
    before = bias, snake.alpha, snake.amplitude, weight
    arrays = x, state, *before, conv_bias, last.alpha, last.amplitude
    return operation.custom(variant, *arrays)
