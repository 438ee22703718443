"""RoPE and attention of a few tokens in one kernel, as the local DiT has it (11 tokens)."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .. import kernels
from .kernel import CHOICES, TYPES, CustomKernel, Examples, Variant, size_class

# A thread group computes one query head of one row: it rotates the keys into shared memory, then
# each warp attends for some of the queries. A lane holds every 32nd number of a query, and later
# the attention weight of the key that has its number.
_BODY = """
    constexpr int WIDTH = (HEADS + 2 * KV_HEADS) * SIZE;
    constexpr int HALF = SIZE / 2;
    SHARED float keys[TOKENS * SIZE];
    SHARED float values[TOKENS * SIZE];
    const int head = group.x, row = group.y;
    const int lane = member % 32, warp = member / 32;
    const int key_head = HEADS + head / (HEADS / KV_HEADS);
    auto tokens = qkv + row * TOKENS * WIDTH;

    for (int i = member; i < TOKENS * HALF; i += 32 * WARPS) {
        const int token = i / HALF, place = i % HALF;
        auto key = tokens + token * WIDTH + key_head * SIZE + place;
        float low = static_cast<float>(key[0]), high = static_cast<float>(key[HALF]);
        if (ROTATES) {
            const int angle = max(starts[row] + token, 0) * HALF + place;
            const float rotated = low * cosines[angle] - high * sines[angle];
            high = static_cast<float>(
                static_cast<T>(high * cosines[angle] + low * sines[angle]));
            low = static_cast<float>(static_cast<T>(rotated));
        }
        keys[token * SIZE + place] = low;
        keys[token * SIZE + place + HALF] = high;
        values[token * SIZE + place] = static_cast<float>(key[KV_HEADS * SIZE]);
        values[token * SIZE + place + HALF] = static_cast<float>(key[KV_HEADS * SIZE + HALF]);
    }
    SYNC;

    for (int output = warp; output < OUTPUTS; output += WARPS) {
        const int token = FIRST + output;
        auto source = tokens + token * WIDTH + head * SIZE;
        float query[SIZE / 32];
        UNROLL
        for (int i = 0; i < SIZE / 64; i++) {
            const int place = lane + 32 * i;
            float low = static_cast<float>(source[place]);
            float high = static_cast<float>(source[place + HALF]);
            if (ROTATES) {
                const int angle = max(starts[row] + token, 0) * HALF + place;
                const float rotated = low * cosines[angle] - high * sines[angle];
                high = static_cast<float>(
                    static_cast<T>(high * cosines[angle] + low * sines[angle]));
                low = static_cast<float>(static_cast<T>(rotated));
            }
            query[i] = low;
            query[i + SIZE / 64] = high;
        }
        float score = -1e30f;
        for (int key = 0; key < TOKENS; key++) {
            float product = 0;
            UNROLL
            for (int i = 0; i < SIZE / 32; i++)
                product += query[i] * keys[key * SIZE + lane + 32 * i];
            product = lane_sum(product);
            if (lane == key) score = product * scale[0];
        }
        const float largest = lane_max(score);  // by all lanes, also those without a key
        float weight = lane < TOKENS ? exp(score - largest) : 0.0f;
        weight /= lane_sum(weight);
        float mixed[SIZE / 32] = {0};
        for (int key = 0; key < TOKENS; key++) {
            const float share = from_lane(weight, key);
            UNROLL
            for (int i = 0; i < SIZE / 32; i++)
                mixed[i] += share * values[key * SIZE + lane + 32 * i];
        }
        auto target = mixtures + ((row * OUTPUTS + output) * HEADS + head) * SIZE;
        UNROLL
        for (int i = 0; i < SIZE / 32; i++) target[lane + 32 * i] = static_cast<T>(mixed[i]);
    }
"""

KERNEL = CustomKernel(
    "rope_attention",
    ("qkv", "cosines", "sines", "starts", "scale"),
    ("mixtures",),
    _BODY,
)


@dataclass(frozen=True)
class RopeAttention:
    """Attention among all tokens of a row, without a mask, after RoPE if there is one."""

    batch: int
    """Class of the number of rows."""
    tokens: int
    first: int
    outputs: int
    """Of the tokens, `outputs` from `first` on are computed."""
    heads: int
    kv_heads: int
    size: int
    scale: float
    rotates: bool
    dtype: mx.Dtype

    @property
    def kernel(self) -> CustomKernel:
        return KERNEL

    @property
    def variants(self) -> list[Variant]:
        return [(("WARPS", 4),), (("WARPS", 8),)]

    @property
    def is_supported(self) -> bool:
        """Whether a lane per key, pairs of numbers in one lane, and shared memory are enough."""
        fits = self.tokens <= 32 and self.size % 64 == 0 and self.tokens * self.size <= 3584
        return fits and self.heads % self.kv_heads == 0 and self.outputs > 0 and self.dtype in TYPES

    def example(self) -> list[mx.array]:
        """qkv (B * L, (heads + 2 kv_heads) * size), cosines, sines (positions, size / 2), (B,)."""
        random = Examples()
        width = (self.heads + 2 * self.kv_heads) * self.size
        angles = mx.outer(mx.arange(self.tokens), 10.0 ** -mx.linspace(0, 4, self.size // 2))
        qkv = random.normal(self.batch * self.tokens, width, dtype=self.dtype)
        return [qkv, mx.cos(angles), mx.sin(angles), mx.zeros(self.batch, dtype=mx.int32)]

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        """-> (B * R, heads * size); the rotation by `mx.fast.rope`, as at 16 bits on a GPU."""
        qkv, cosines, sines, starts = arrays
        rotates = self.rotates and len(sines) > 1  # a single row is of position 0: no rotation

        def rope(x: mx.array) -> mx.array:
            angle = mx.arctan2(sines[1], cosines[1])  # of position 1
            return kernels.rope(x, starts, 1 / angle, (cosines, sines))

        sizes = len(starts), self.heads, self.kv_heads
        queries, keys, values = kernels.split_heads(qkv, *sizes, rope if rotates else None)
        queries = queries[:, :, self.first : self.first + self.outputs]
        return [kernels.attend(queries, keys, values, self.scale)]

    def custom(self, variant: Variant, *arrays: mx.array) -> list[mx.array]:
        """As `plain`."""
        batch, warps = len(arrays[3]), dict(variant)["WARPS"]
        sizes = {"TOKENS": self.tokens, "FIRST": self.first, "OUTPUTS": self.outputs}
        sizes |= {"HEADS": self.heads, "KV_HEADS": self.kv_heads, "SIZE": self.size}
        return KERNEL(
            [*arrays, mx.array([self.scale])],
            {"T": self.dtype, **sizes, "ROTATES": self.rotates, **dict(variant)},
            (self.heads, batch, 1),
            32 * warps,
            [((batch * self.outputs, self.heads * self.size), self.dtype)],
        )


def rope_attention(
    qkv: mx.array,
    batch: int,
    heads: int,
    kv_heads: int,
    scale: float,
    outputs: slice,
    table: tuple[mx.array, mx.array] | None,
) -> mx.array | None:
    """qkv (B * L, (heads + 2 kv_heads) * size), at positions from 0 -> (B * R, heads * size).

    table: cosines and sines (positions, size / 2) if there is RoPE. None if no custom kernel is to
    be used.
    """
    if not CHOICES.are_asked:
        return None
    tokens, width = len(qkv) // batch, qkv.shape[1]
    first, last, _ = outputs.indices(tokens)
    size, rest = divmod(width, heads + 2 * kv_heads)
    if rest:
        return None
    sizes = size_class(batch), tokens, first, last - first, heads, kv_heads, size
    operation = RopeAttention(*sizes, scale, table is not None, qkv.dtype)
    if not operation.is_supported:
        return None
    angles = table or (mx.zeros((1, 1)), mx.zeros((1, 1)))
    found = CHOICES.result(operation, qkv, *angles, mx.array([0] * batch))
    return None if found is None else found[0]
