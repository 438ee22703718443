"""Training in PyTorch of the voice for any English text (benchmarks/demo_voice)."""

import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

# ruff: noqa: E402  # what follows needs PyTorch
torch = pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

import spelling
from acoustic_latents import LATENTS
from evaluate_vae import load
from labels import PHONEMES, Reading
from reader import REPLACED, Batch, Reader, edits
from sizes import SPEECH_VAE, speech_config
from spoken_batches import Spoken, SpokenBatch
from timing import PATCH
from train_voice import Draws, Speaker, speech_loss
from training_torch import Run, load_from_8_bits, optimizers_of, orthogonal, store_at_8_bits
from vae_torch import Decoder, Encoder, export
from voice_torch import Network

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.models.voxcpm2.network import VoxCPM2Model
from mlx_voxcpm2.training import losses
from mlx_voxcpm2.training.sequences import Example, Sequences


@pytest.fixture(scope="module")
def config() -> VoxCPM2Config:
    """The voice's configuration with fewer layers and tokens."""
    settings = speech_config(200)
    settings["lm_config"]["num_hidden_layers"] = 3
    return VoxCPM2Config.from_dict(settings)


@pytest.fixture(scope="module")
def speaker(config) -> Speaker:
    torch.manual_seed(0)
    return Speaker(config)


@pytest.fixture(scope="module")
def speller(tmp_path_factory) -> spelling.Speller:
    folder = tmp_path_factory.mktemp("tokenizer")
    spelling.write_tokenizer(folder, spelling.learn_pairs(["Anna said no."] * 9, 9))
    return spelling.Speller(folder)


@pytest.fixture(scope="module")
def spoken(speller) -> list[Spoken]:
    random, rows = np.random.default_rng(0), []
    for text, patches in (("No go.", 3), ("Anna said it.", 5)):
        latents = random.standard_normal((patches, PATCH, LATENTS)).astype(np.float32)
        phonemes = random.integers(PHONEMES, size=(patches, PATCH))
        rows.append(Spoken(speller(text)[0], latents, phonemes))
    return rows


@pytest.mark.parametrize("reference", [None, slice(2)], ids=["text alone", "with a reference"])
def test_losses_are_those_of_fine_tuning_in_the_package(config, speaker, spoken, reference):
    """With the same weights by the same names, and no noise in the context."""
    weights = {name: mx.array(each.numpy()) for name, each in speaker.network.state_dict().items()}
    model = VoxCPM2Model(config)
    model.load_weights(list(weights.items()), strict=False)
    expected = {name for name, _ in tree_flatten(model.parameters())}
    assert weights.keys() == {name for name in expected if not name.startswith("audio_vae.")}

    if reference is not None:
        spoken = [replace(spoken[0], reference=spoken[1].patches[reference]), spoken[1]]
    batch = SpokenBatch(spoken)
    draws = Draws.random(batch, 1, torch.zeros(LATENTS), share=1)
    _, parts = speech_loss(speaker, batch, draws, variation=1)
    examples = [Example(each.tokens, each.patches, each.reference) for each in spoken]
    drawn = (mx.array(each.numpy()) for each in (draws.times, draws.noise, draws.keep))
    expected = losses.losses(model, Sequences.of(examples), losses.Draws(*drawn))
    assert parts[:2].tolist() == pytest.approx([each.item() for each in expected], rel=1e-4)


def test_the_flow_learns_a_part_of_the_deviation_from_the_mean(speaker, spoken, monkeypatch):
    batch = SpokenBatch(spoken)
    draws = Draws.random(batch, 2, torch.zeros(LATENTS))
    monkeypatch.setattr(Network, "velocity", lambda *_: draws.noise - 3)  # of patches of 3
    wanted = batch.patches[batch.targets[draws.chosen]]
    for variation in (0, 0.5, 1):
        _, parts = speech_loss(speaker, batch, draws, variation)
        expected = (variation * (wanted - 3)).square().mean()
        assert parts[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_half_of_the_context_is_the_networks_own_speech(speaker, spoken, monkeypatch):
    batch, contexts, forward = SpokenBatch(spoken), [], Network.forward
    draws = Draws.random(batch, 2, torch.zeros(LATENTS))

    def listen(self, tokens, is_audio, context):
        contexts.append(context.clone())
        return forward(self, tokens, is_audio, context)

    monkeypatch.setattr(Network, "forward", listen)
    speech_loss(speaker, batch, draws, 0.5)
    before, after = contexts
    assert torch.equal(before, batch.patches)
    changed = (after != before).flatten(1).any(1).nonzero().flatten()
    assert len(draws.chosen) == len(batch.targets) // 2
    assert torch.equal(changed, batch.targets[draws.chosen])


def test_labels_are_those_of_the_patch_to_come(spoken):
    batch = SpokenBatch(spoken)
    positions = batch.is_audio.flatten().nonzero()[:, 0]
    assert batch.before.tolist() == (positions - 1).tolist()
    assert batch.is_first.tolist() == [True, False, False, True] + [False] * 4
    assert batch.is_last.tolist() == [False, False, True] + [False] * 4 + [True]
    assert batch.targets.tolist() == list(range(8))
    assert batch.phonemes.tolist() == np.concatenate([e.phonemes for e in spoken]).tolist()


@pytest.fixture(scope="module")
def reader(config) -> Reader:
    torch.manual_seed(0)
    return Reader(config)


class TestReader:
    def test_reading_aloud_begins_like_the_trained_prediction(self, reader, speller):
        random = np.random.default_rng(0)
        texts, shape = ["No go.", "Anna said it again."], (3, PATCH)
        readings = [Reading(text, random.integers(PHONEMES, size=shape), None) for text in texts]
        logits, scores = reader(*Batch(readings, speller).inputs)
        assert scores.shape == (2, logits.shape[1], logits.shape[1])
        spelt = [speller(text)[0] for text in texts]
        read = reader.read_aloud(spelt, [3, 3])
        for row, text in enumerate(spelt):
            assert read[row].shape == shape
            assert read[row][0].tolist() == logits[row, len(text)].argmax(-1).tolist()

    def test_reading_aloud_hears_what_it_has_read(self, reader, speller):
        """Given its own phonemes as if they were the teacher's, it predicts the same ones."""
        text = "Anna said it again."
        spelt = speller(text)[0]
        (read,) = reader.read_aloud([spelt], [4])
        logits, _ = reader(*Batch([Reading(text, read, None)], speller).inputs)
        assert logits[0, len(spelt) : len(spelt) + 4].argmax(-1).tolist() == read.tolist()

    def test_training_replaces_some_of_the_phonemes_that_it_hears(self, speller):
        readings = [Reading("No go.", np.zeros((50, PATCH), int), None)] * 20
        batch = Batch(readings, speller, np.random.default_rng(0))
        _, is_audio, previous = batch.inputs
        replaced = (previous[is_audio] != 0).any(-1).float().mean().item()
        assert replaced == pytest.approx(REPLACED, abs=0.03)
        assert not batch.wanted.any()

    def test_a_token_begins_with_its_phonemes(self, config):
        """Equal phonemes at equal places are equal numbers, whatever the word."""
        reader = Reader(config)
        reader.pronounce({150: [5, 6, 7], 151: [9, 6]})
        first, second = reader.base_lm.embed_tokens.weight[150:152].detach()
        assert torch.equal(first[20:40], second[20:40])
        assert not torch.equal(first[:20], second[:20])
        assert not second[40:240].any()

    @pytest.mark.parametrize(
        ("wanted", "got", "count"),
        [("abc", "abc", 0), ("abc", "axc", 1), ("abc", "bcd", 2), ("", "ab", 2)],
    )
    def test_edits_count_insertions_deletions_and_substitutions(self, wanted, got, count):
        assert edits(wanted, got) == count


class TestRun:
    @pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
    def test_muons_updates_have_singular_values_near_1(self, shape):
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonal(torch.randn(3, *shape)))
        assert values.min() > 0.5 and values.max() < 1.5

    def test_a_resumed_run_ends_as_one_that_was_not_interrupted(self, config, tmp_path):
        def weights(name: str, *stops: int) -> list:
            for stop in stops:
                torch.manual_seed(0)
                reader = Reader(config)
                run = Run(reader, tmp_path / name, optimizers_of(reader, 0.02), steps=6)
                while run.step < stop:
                    run.learn(reader.head(reader.base_lm.embed_tokens.weight).square().mean())
                run.save()
            return [*reader.parameters(), *run.average]

        for one, other in zip(weights("a", 6), weights("b", 3, 6), strict=True):
            assert torch.equal(one, other)


def test_the_exported_audio_vae_computes_what_pytorch_computed(tmp_path):
    torch.manual_seed(0)
    encoder, decoder = Encoder(SPEECH_VAE), Decoder(SPEECH_VAE)
    export(encoder, decoder, SPEECH_VAE, tmp_path / "audiovae.safetensors")
    vae = load(tmp_path / "audiovae.safetensors")
    latents = torch.randn(1, LATENTS, 5)
    with torch.no_grad():
        audio = decoder(latents)
        encoded = encoder(audio)
    assert np.array(vae.decode(mx.array(latents.numpy().swapaxes(1, 2)))) == pytest.approx(
        audio[:, 0].numpy(), abs=1e-5
    )
    assert np.array(vae.encode(mx.array(audio[:, 0].numpy()))) == pytest.approx(
        encoded.numpy().swapaxes(1, 2), abs=1e-5
    )


def test_weights_stored_at_8_bits_are_near_what_they_were(reader, config, tmp_path):
    store_at_8_bits(reader, tmp_path / "reader.safetensors")
    read = Reader(config)
    load_from_8_bits(read, tmp_path / "reader.safetensors")
    for one, other in zip(reader.parameters(), read.parameters(), strict=True):
        assert (one - other).abs().max() <= one.abs().max() / 250
    size = (tmp_path / "reader.safetensors").stat().st_size
    assert size < 1.1 * sum(weight.numel() for weight in reader.parameters())
