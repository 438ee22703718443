"""The AudioVAE in PyTorch, as upstream's (modules/audiovae/audio_vae_v2.py), for training.

It has no weight normalisation, variance or sample-rate condition; the last is exported as identity.
Tensors have upstream's names. Audio is (B, 1, samples), latents are (B, D, L).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class _SnakeFunction(torch.autograd.Function):
    """Snake, x + sin(a x)^2 / a, and its gradient in fewer passes over memory than autograd."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:
        versine = torch.cos(x * (2 * slope)).neg_().add_(1)
        ctx.save_for_backward(x, slope, versine)
        return torch.addcmul(x, versine, 0.5 / slope)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope, versine = ctx.saved_tensors
        sine = torch.sin(x * (2 * slope)).mul_(gradient)
        by_place = torch.einsum("bcl,bcl->c", sine, x) / slope.view(-1)
        by_height = torch.einsum("bcl,bcl->c", gradient, versine) / (2 * slope.view(-1) ** 2)
        return sine.add_(gradient), (by_place - by_height).view(1, -1, 1)


class Snake(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _SnakeFunction.apply(x, self.alpha)


class CausalConv(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        stride, dilation = self.stride[0], self.dilation[0]
        past = (self.kernel_size[0] - 1) * dilation + 1 - stride
        if dilation == 1:
            return super().forward(functional.pad(x, (past, 0)))
        # One convolution per position modulo the dilation takes half the time of a dilated one.
        batch, channels, length = x.shape
        fill = -length % dilation
        columns = functional.pad(x, (past + fill, 0)).view(batch, channels, -1, dilation)
        made = functional.conv2d(columns, self.weight[..., None], self.bias)
        return made.reshape(batch, channels, -1)[..., fill:]


class CausalTransposeConv(nn.ConvTranspose1d):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, 2 * stride, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : -self.stride[0]]


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            CausalConv(channels, channels, 7, dilation=dilation),
            Snake(channels),
            CausalConv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def _units(channels: int) -> list[ResidualUnit]:
    return [ResidualUnit(channels, dilation) for dilation in (1, 3, 9)]


class EncoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int):
        super().__init__()
        down = CausalConv(channels, 2 * channels, 2 * stride, stride=stride)
        self.block = nn.Sequential(*_units(channels), Snake(channels), down)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class DecoderBlock(nn.Module):
    def __init__(self, channels: int, stride: int):
        super().__init__()
        up = CausalTransposeConv(channels, channels // 2, stride)
        self.block = nn.Sequential(Snake(channels), up, *_units(channels // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Encoder(nn.Module):
    def __init__(self, settings: dict):
        """settings: config.json's `audio_vae_config`."""
        super().__init__()
        channels, layers = settings["encoder_dim"], [CausalConv(1, settings["encoder_dim"], 7)]
        for stride in settings["encoder_rates"]:
            layers.append(EncoderBlock(channels, stride))
            channels *= 2
        self.block = nn.Sequential(*layers)
        self.fc_mu = CausalConv(channels, settings["latent_dim"], 3)

    def forward(self, audio: Tensor) -> Tensor:
        return self.fc_mu(self.block(audio))


class Decoder(nn.Module):
    def __init__(self, settings: dict):
        super().__init__()
        channels = settings["decoder_dim"]
        layers = [CausalConv(settings["latent_dim"], channels, 7)]
        for stride in settings["decoder_rates"]:
            layers.append(DecoderBlock(channels, stride))
            channels //= 2
        self.model = nn.Sequential(*layers, Snake(channels), CausalConv(channels, 1, 7), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        return self.model(latents)


def export(encoder: Encoder, decoder: Decoder, settings: dict, path: Path) -> None:
    """Writes audiovae.safetensors in upstream's layout."""
    from safetensors.torch import save_file

    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    boundaries = settings["sr_bin_boundaries"]
    tensors["decoder.sr_bin_boundaries"] = torch.tensor(boundaries, dtype=torch.int32)
    channels = settings["decoder_dim"]
    for index in range(1, 1 + len(settings["decoder_rates"])):
        condition = f"decoder.sr_cond_model.{index}"
        tensors[f"{condition}.scale_embed.weight"] = torch.ones(len(boundaries) + 1, channels)
        tensors[f"{condition}.bias_embed.weight"] = torch.zeros(len(boundaries) + 1, channels)
        channels //= 2
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
