"""Training in PyTorch of the voice for any English text (benchmarks/demo_voice)."""

import json
import sys
from collections import Counter
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
from acoustics import LATENT
from evaluate_vae import load
from export_speech import mean
from labels import PHONEMES, Reading, joined
from predicted_speech import GUIDANCE, STEPS, sampled
from reader import REPLACED, Batch, Reader, draw_rows, edits
from safetensors.torch import load_file
from sizes import SPEECH_VAE, speech_config
from spoken_batches import Corpus, Spoken, SpokenBatch
from timing import PATCH, Timing
from train_vae_halves import CLIP, Clips, packaged_half
from train_voice import HEADS, PACKAGED, Draws, Speaker, speech_loss
from training_torch import Run, optimizers_of, orthogonal
from vae_torch import Decoder, Encoder, export
from voice_torch import Network
from voices import VOICES

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.models.voxcpm2.flow import Schedule
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
    draws = Draws.random(batch, 1, torch.zeros(LATENTS))
    _, parts = speech_loss(speaker, batch, draws, variation=1)
    examples = [Example(each.tokens, each.patches, each.reference) for each in spoken]
    drawn = (mx.array(each.numpy()) for each in (draws.times, draws.noise, draws.keep))
    expected = losses.losses(model, Sequences.of(examples), losses.Draws(*drawn))
    assert parts[:2].tolist() == pytest.approx([each.item() for each in expected], rel=1e-4)


def test_the_flow_learns_a_part_of_the_deviation_from_the_mean(speaker, spoken, monkeypatch):
    batch = SpokenBatch(spoken)
    draws = Draws.random(batch, 2, torch.zeros(LATENTS))
    patches = batch.patches[batch.targets]
    monkeypatch.setattr(Network, "velocity", lambda *_: draws.noise - 3)  # of patches of 3
    monkeypatch.setattr(Speaker, "mean_patches", lambda *_: torch.full_like(patches, 3.0))
    for variation in (0, 0.5, 1):
        _, parts = speech_loss(speaker, batch, draws, variation)
        expected = (variation * (patches - 3)).square().mean()
        assert parts[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_context_is_the_networks_own_speech_but_for_what_is_given(speaker, spoken, monkeypatch):
    first, second = spoken
    batch = SpokenBatch([replace(first, given=1), replace(second, reference=first.patches[:2])])
    draws, contexts, forward = Draws.random(batch, 2, torch.zeros(LATENTS)), [], Network.forward

    def listen(self, tokens, is_audio, context):
        contexts.append(context.clone())
        return forward(self, tokens, is_audio, context)

    monkeypatch.setattr(Network, "forward", listen)
    speech_loss(speaker, batch, draws, 0.5)
    before, after = contexts
    assert torch.equal(before, batch.patches)
    changed = (after != before).flatten(1).any(1).nonzero().flatten()
    assert changed.tolist() == [1, 2, *range(5, 10)] == batch.targets.tolist()


def test_a_given_beginning_is_not_learnt(spoken):
    batch = SpokenBatch([replace(spoken[0], given=2), spoken[1]])
    assert batch.targets.tolist() == list(range(2, 8))
    assert batch.is_first.tolist() == [False, True, *[False] * 4]
    assert batch.is_last.tolist() == [True, *[False] * 4, True]
    assert batch.phonemes[0].tolist() == spoken[0].phonemes[2].tolist()
    assert len(batch.phonemes) == len(batch.targets) == len(batch.before)


def test_patches_are_sampled_as_in_the_package(config, speaker):
    weights = {name: mx.array(each.numpy()) for name, each in speaker.network.state_dict().items()}
    model = VoxCPM2Model(config)
    model.load_weights(list(weights.items()), strict=False)
    random = torch.Generator().manual_seed(0)
    noise, cond = (torch.randn(3, PATCH, LATENTS, generator=random) for _ in range(2))
    mu = torch.randn(3, 2, config.dit_config.hidden_dim, generator=random)
    with torch.no_grad():
        found = sampled(speaker.network, mu, cond, noise)
    given = (mx.array(each.numpy()) for each in (mu, cond, noise))
    schedule = Schedule.of("euler", STEPS)
    times = model.feat_decoder.time_tokens(schedule)
    expected = model.feat_decoder(*given, schedule, times, GUIDANCE)
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-4)


class TestCorpus:
    """Two sentences in all voices, the latents of others from 100 on."""

    @pytest.fixture
    def corpus(self, tmp_path, speller) -> Corpus:
        for part in ("acoustics", "labels", *(f"latents/{voice}" for voice in VOICES)):
            (tmp_path / part).mkdir(parents=True)
        Timing({}, {56: 2, 57: 3, 4: 2}).save(tmp_path / "labels" / "timing.json")
        facts = [
            {"text": text, "phonemes": [0, 56, 57, 4, 0], "durations": [9, 3, 5, 4, 1]}
            for text in ("No.", "Anna.")
        ]
        np.savez(tmp_path / "acoustics" / "0000.npz", facts=json.dumps(facts))
        latents = np.arange(24, dtype=np.float32)[:, None].repeat(LATENTS, 1)
        for number, voice in enumerate(VOICES):
            path = tmp_path / "latents" / voice / "0000.npz"
            np.savez(path, latents=latents + 100 * number, ends=[12, 24])
        return Corpus(tmp_path, ["0000"], speller, list(VOICES))

    def test_sentences_are_joined(self, corpus, speller):
        both = corpus.plain(1, 0)
        assert both.tokens == speller("Anna. No.")[0]
        assert both.patches[:, :, 0].ravel().tolist() == [*range(12, 24), *range(12)]
        assert both.phonemes.shape == (6, PATCH)

    def test_a_description_says_the_voice(self, corpus, speller, monkeypatch):
        monkeypatch.setitem(VOICES, "man", replace(VOICES["man"], descriptions=("man",)))
        said = corpus.described(0, "man", np.random.default_rng(0))
        assert said.tokens == speller("(man)No.")[0]
        assert said.patches[0, 0, 0] == 100

    def test_a_voice_other_than_the_teachers_can_always_be_known(self, corpus, speller):
        """A description, a reference or the beginning of the speech tells it."""
        random, kinds = np.random.default_rng(0), Counter()
        begin = speller("(")[0][0]
        for _ in range(200):
            said = corpus.varied(0, 1, random=random)
            is_other = said.patches[0, 0, 0] >= 100
            described = said.tokens[0] == begin
            assert said.reference is None or (said.reference[0, 0, 0] >= 100) == is_other
            assert said.given in (0, 3)
            kinds[is_other, described, said.reference is not None, bool(said.given)] += 1
        assert not any(kind[0] and not any(kind[1:]) for kind in kinds)
        assert {kind[1:] for kind in kinds} >= {
            (False, False, False),
            (True, False, False),
            (False, True, False),
            (False, False, True),
            (False, True, True),
        }


def test_the_decoder_learns_from_predicted_latents_too(tmp_path):
    for part in ("latents/woman", "sound/woman", "predicted/woman"):
        (tmp_path / part).mkdir(parents=True)
    latents = np.zeros((3 * CLIP, LATENTS), np.float32)
    np.savez(tmp_path / "latents/woman/0000.npz", latents=latents, ends=[3 * CLIP])
    np.savez(tmp_path / "sound/woman/0000.npz", sound=np.zeros(3 * CLIP * LATENT, np.int16))
    np.savez(tmp_path / "predicted/woman/0000.npz", latents=latents + 1)
    for predicted, share in ((True, 0.5), (False, 0)):
        clips = Clips(tmp_path, [("0000", "woman")], predicted)
        found, audio = clips.batch(400, np.random.default_rng(0))
        assert audio.shape == (400, 1, CLIP * LATENT)
        assert found[:, 0, 0].mean().item() == pytest.approx(share, abs=0.08)


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

    def test_joined_sentences_are_read_where_they_stand(self):
        texts, places = ["No go.", "Anna said it."], [[(0, 3), (3, 6)], [(0, 5), (5, 10), (9, 13)]]
        parts = [
            Reading(text, np.full((len(spans), PATCH), number), np.array(spans))
            for number, (text, spans) in enumerate(zip(texts, places, strict=True))
        ]
        row = joined(parts)
        read = [row.text[first:behind] for first, behind in row.read]
        assert read == ["No ", "go.", "Anna ", "said ", " it."]
        assert row.phonemes[:, 0].tolist() == [0, 0, 1, 1, 1]
        assert joined([*parts, replace(parts[0], read=None)]).read is None

    def test_batches_have_rows_of_one_to_eight_sentences(self):
        draws = [draw_rows(np.random.default_rng(seed), 99, 16) for seed in range(50)]
        assert {rows.shape for rows in draws} == {(16, 1), (8, 2), (4, 4), (2, 8)}
        assert all(len(set(rows.flat)) == 16 and rows.max() < 99 for rows in draws)

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

    def test_a_resumed_run_has_the_rate_that_it_is_given(self, config, tmp_path):
        rates = []
        for rate in (0.02, 0.01):
            reader = Reader(config)
            run = Run(reader, tmp_path / "state", optimizers_of(reader, rate), 10**9, warm_up=1)
            run.learn(reader.head(reader.base_lm.embed_tokens.weight).square().mean())
            run.save()
            rates.append(run.optimizers[0].param_groups[0]["lr"])
        assert rates == pytest.approx([0.02, 0.01])


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


def test_the_packages_weights_are_those_that_training_goes_on_from():
    """All of them, and no discarded layer is missing."""
    speaker = Speaker(VoxCPM2Config.from_dict(speech_config(spelling.VOCABULARY)))
    network = load_file(PACKAGED)
    assert network.keys() == speaker.network.state_dict().keys()
    assert load_file(HEADS).keys() == speaker.heads().keys()
    assert {name.split(".")[0] for name in speaker.heads()} == {"names", "means", "reader"}
    for half, module in (("encoder", Encoder), ("decoder", Decoder)):
        module(SPEECH_VAE).load_state_dict(packaged_half(half))


def test_the_mean_of_two_networks_is_not_rounded_to_16_bits():
    weights, stored = torch.tensor([1.0, 0.1]), torch.tensor([3.0, 0.1]).half()
    found = mean({"a": weights}, {"a": stored})["a"]
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([2.0, 0.1], rel=1e-3)


def rates_of(state: Path, steps: int, until: int) -> list[float]:
    """Learning rates of a run of `steps` steps that stops at one of them, and stores its state."""
    layer, found = torch.nn.Linear(1, 1), []
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1.0)
    run = Run(layer, state, [optimizer], steps, warm_up=4)
    while run.step < until:
        run.learn(layer(torch.ones(1, 1)).sum())
        found.append(optimizer.param_groups[0]["lr"])
    run.save()
    return found


def test_a_run_that_was_stopped_keeps_its_schedule_and_further_steps_begin_one(tmp_path):
    whole = rates_of(tmp_path / "whole", 20, 20)
    stopped = rates_of(tmp_path / "stopped", 20, 7) + rates_of(tmp_path / "stopped", 20, 20)
    assert stopped == pytest.approx(whole)
    assert whole[-1] < 0.03 < max(whole)
    assert rates_of(tmp_path / "whole", 40, 40) == pytest.approx(whole)
