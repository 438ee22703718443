"""Training data and losses of the voice for any English text (benchmarks/demo_voice).

No test needs the teacher, WordNet or Whisper; one needs PyTorch and is skipped without it.
"""

import sys
from itertools import product
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error
from mlx.utils import tree_flatten

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

import sentences
import spelling
from acoustic_latents import LATENTS, Basis
from acoustics import BANDS, HOP, LATENT, POINTS, SAMPLE_RATE, Acoustics, synthesize
from evaluate_vae import fill
from labels import PATCH, PHONEMES, SILENCE, SPACE, Reading, reading
from reader import Batch, Reader
from sizes import SPEECH_VAE, speech_config
from speech_corpus import LEVEL, TRAINED
from train_reader import edits, read_aloud
from train_voice import CONTEXT_NOISE, Speaker, batch_of, loss_of
from whole_cycles import cycles_of, phase_of

from mlx_voxcpm2.models.voxcpm2.audio_vae import AudioVAE
from mlx_voxcpm2.models.voxcpm2.config import AudioVAEConfig, VoxCPM2Config
from mlx_voxcpm2.schema import read_dataclass
from mlx_voxcpm2.text.tokenizer import Tokenizer
from mlx_voxcpm2.training.losses import losses
from mlx_voxcpm2.training.sequences import Example


def vowel(latents: int, level: float = -6.0) -> Acoustics:
    """A flat spectrum, voiced but for its highest bands."""
    points = latents * POINTS
    aperiodicity = np.tile([0.0, 0.0, 0.1, 0.3, 0.6, 1.0], (points, 1))
    return Acoustics(np.full((points, BANDS), level), aperiodicity, np.full(points, 200.0))


class TestText:
    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (0, "zero"),
            (21, "twenty-one"),
            (105, "one hundred and five"),
            (2_030, "two thousand and thirty"),
            (910_500, "nine hundred and ten thousand five hundred"),
        ],
    )
    def test_a_number_is_said_in_words(self, value, words):
        assert sentences.number(value) == words

    @pytest.mark.parametrize(
        ("value", "words"), [(1, "first"), (12, "twelfth"), (30, "thirtieth"), (31, "thirty-first")]
    )
    def test_a_day_of_the_month_is_said_in_words(self, value, words):
        assert sentences.ordinal(value) == words

    def test_composed_sentences_leave_no_field_open_and_are_the_same_each_time(self):
        composed = sentences.composed_sentences(200)
        assert not any("{" in each for each in composed)
        assert composed == sentences.composed_sentences(200)

    def test_200_sentences_of_known_words_and_50_with_unknown_ones_are_held_out(self):
        known, unknown = sentences.held_out()
        assert (len(known), len(unknown)) == (200, 50)
        assert len({*known, *unknown}) == 250
        assert all(spelling.is_spellable(each) for each in [*known, *unknown])

    def test_a_word_that_occurs_once_makes_a_sentence_unknown(self):
        choices = product(("cat", "dog"), ("here", "there"), ("again", "twice"), ("today", "now"))
        common = ["The {} was {} {} {}.".format(*each) for each in choices]
        single = "The cat was unruly again today."
        known, unknown = sentences.choose_held_out([*common, single], {"unruly"})
        assert unknown == [single]
        assert sorted(known) == sorted(common)


def test_each_character_is_a_token_of_its_own(tmp_path):
    spelling.write_tokenizer(tmp_path)
    text = 'Anna said: "No, that\'s 42!"'
    assert Tokenizer(tmp_path / "tokenizer.json")(text) == spelling.spell(text)


class TestCycles:
    def test_a_steady_pitch_gets_the_nearest_whole_number(self):
        assert cycles_of(np.full(40, 208.0)).tolist() == [8.0] * 10

    def test_a_latent_without_a_voice_passes_from_one_pitch_to_the_next(self):
        pitch = np.repeat([200.0] * 5 + [0.0] * 4 + [300.0] * 5, POINTS)
        cycles = cycles_of(pitch)
        assert (cycles[0], cycles[-1]) == (8, 12)
        assert np.all(np.diff(cycles) >= 0)

    def test_silence_has_a_pitch_too(self):
        assert cycles_of(np.zeros(8)).tolist() == [8.0, 8.0]

    def test_every_latent_ends_with_a_whole_cycle(self):
        phase, frequency = phase_of(np.array([8.0, 8, 9, 12, 7]))
        assert phase[LATENT - 1 :: LATENT] == pytest.approx([8, 16, 25, 37, 44])
        slope = np.diff(phase) * SAMPLE_RATE
        assert slope == pytest.approx((frequency[1:] + frequency[:-1]) / 2, rel=1e-3)


class TestSynthesis:
    def test_equal_latents_sound_equal_sample_for_sample(self):
        audio = synthesize(vowel(6), *phase_of(np.full(6, 8.0)))
        second, third = audio[2 * LATENT : 3 * LATENT], audio[3 * LATENT : 4 * LATENT]
        assert np.abs(second).max() > 0.01
        assert third == pytest.approx(second, abs=1e-6)

    def test_its_pitch_is_that_of_the_cycles(self):
        audio = synthesize(vowel(8), *phase_of(np.full(8, 9.0)))[2 * LATENT :]
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
        harmonic = (hertz > 50) & (hertz < 320)
        assert hertz[harmonic][spectrum[harmonic].argmax()] == pytest.approx(225, abs=8)

    def test_a_sample_depends_on_no_later_point_than_the_next(self):
        quiet = vowel(4)
        louder = quiet.envelope.copy()
        louder[2 * POINTS :] += 3
        phase = phase_of(np.full(4, 8.0))
        changed = synthesize(Acoustics(louder, quiet.aperiodicity, quiet.pitch), *phase)
        same = slice(0, 2 * LATENT)  # where the first louder point's window begins
        assert changed[same] == pytest.approx(synthesize(quiet, *phase)[same])

    def test_its_power_is_that_of_the_envelope(self):
        """White noise of density exp(e) has that variance."""
        noisy = vowel(40)
        noise = Acoustics(noisy.envelope, np.ones_like(noisy.aperiodicity), noisy.pitch)
        power = np.var(synthesize(noise, *phase_of(np.full(40, 8.0))))
        assert np.log(power) == pytest.approx(-6.0, abs=0.3)


@pytest.fixture(scope="module")
def spoken() -> Acoustics:
    """50 latents of an envelope that changes in five ways."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(5, BANDS))
    curves = random.normal(size=(50 * POINTS, 5)).cumsum(0) / 8
    aperiodicity = np.tile([0.0, 0.0, 0.1, 0.3, 0.6, 1.0], (50 * POINTS, 1))
    return Acoustics(-6 + curves @ weights / 3, aperiodicity, np.full(50 * POINTS, 200.0))


class TestLatents:
    def test_they_encode_the_acoustics_and_the_cycles(self, spoken):
        cycles = np.resize([8.0, 9, 9, 7], 50)
        basis = Basis.of([spoken])
        latents = basis.latents(spoken, cycles)
        assert latents.shape == (50, LATENTS)
        decoded, decoded_cycles = basis.acoustics(latents)
        assert decoded_cycles.tolist() == cycles.tolist()
        assert decoded.envelope == pytest.approx(spoken.envelope, abs=0.05)
        assert decoded.aperiodicity == pytest.approx(spoken.aperiodicity, abs=0.05)

    def test_the_second_says_how_the_pitch_continues(self, spoken):
        cycles = np.resize([8.0, 10], 50)
        latents = Basis.of([spoken]).latents(spoken, cycles)
        assert latents[:3, 1].tolist() == [2, -2, 2]

    def test_a_basis_is_saved_in_a_file(self, spoken, tmp_path):
        basis = Basis.of([spoken])
        basis.save(tmp_path / "basis.npz")
        cycles = np.full(50, 8.0)
        read = Basis.load(tmp_path / "basis.npz")
        assert read.latents(spoken, cycles) == pytest.approx(basis.latents(spoken, cycles))


class TestLabels:
    # "No go." as silence, n, o, space, g, o, silence; units of 25 ms.
    PHONEMES, DURATIONS = [0, 56, 57, SPACE, 92, 57, 0], [2, 8, 8, 1, 8, 8, 9]

    def test_each_latent_has_the_phoneme_of_its_middle(self):
        said = reading("No go.", self.PHONEMES, self.DURATIONS)
        assert said.phonemes.shape[1] == PATCH
        flat = said.phonemes.ravel().tolist()
        # 40 ms each: silence until 50 ms, n until 250, o until 450, g (and the space) until 675.
        assert flat[:7] == [SILENCE, 56, 56, 56, 56, 56, 57]
        assert flat[11] == 92 and SPACE not in flat
        assert flat[-1] == SILENCE

    def test_each_patch_names_the_characters_that_are_read(self):
        said = reading("No go.", self.PHONEMES, self.DURATIONS)
        read = ["No go."[first:behind] for first, behind in said.read]
        assert read[0].startswith("N") and "g" in "".join(read)
        firsts = said.read[:, 0].tolist()
        assert firsts == sorted(firsts)

    def test_words_that_do_not_match_the_phonemes_are_not_placed(self):
        assert reading("Nogo.", self.PHONEMES, self.DURATIONS).read is None


def test_a_latent_is_whole_points():
    assert POINTS * HOP == LATENT


@pytest.fixture(scope="module")
def small_config() -> VoxCPM2Config:
    """The voice's configuration with fewer layers."""
    settings = speech_config(spelling.VOCABULARY)
    settings["lm_config"]["num_hidden_layers"] = 3
    return VoxCPM2Config.from_dict(settings)


class TestReader:
    def test_reading_alone_begins_like_the_trained_prediction(self, small_config):
        """The cached pass and the training batch agree on the first patch."""
        mx.random.seed(0)
        reader = Reader(small_config)
        random = np.random.default_rng(0)
        texts = ["No go.", "Anna said it again."]
        shape = (3, PATCH)
        readings = [Reading(text, random.integers(PHONEMES, size=shape), None) for text in texts]
        logits, attention = reader(*Batch(readings).inputs)
        assert attention.shape == (2, logits.shape[1], logits.shape[1])
        for row, each in enumerate(readings):
            expected = logits[row, len(each.text)].argmax(-1).tolist()
            assert read_aloud(reader, each)[0].tolist() == expected

    @pytest.mark.parametrize(
        ("wanted", "got", "count"),
        [("abc", "abc", 0), ("abc", "axc", 1), ("abc", "bcd", 2), ("", "ab", 2)],
    )
    def test_edits_count_insertions_deletions_and_substitutions(self, wanted, got, count):
        assert edits(wanted, got) == count


class TestSpeaker:
    @pytest.fixture
    def spoken_rows(self):
        random = np.random.default_rng(0)
        rows = []
        for text, patches in (("No go.", 3), ("Anna said it.", 5)):
            latents = random.standard_normal((patches, PATCH, LATENTS)).astype(np.float32)
            phonemes = random.integers(PHONEMES, size=(patches, PATCH))
            rows.append((Example(spelling.spell(text), latents), phonemes))
        return rows

    def test_flow_and_stop_losses_are_those_of_fine_tuning(self, small_config, spoken_rows):
        mx.random.seed(0)
        speaker = Speaker(small_config)
        batch = batch_of(spoken_rows, np.random.default_rng(1), noise=0)
        _, parts = loss_of(speaker, *batch)
        _, sequences, _, draws = batch
        expected = losses(speaker.network, sequences, draws)
        assert parts[:2].tolist() == pytest.approx([each.item() for each in expected], rel=1e-5)

    def test_noise_is_added_to_the_context_and_not_to_the_targets(self, spoken_rows):
        context, sequences, phonemes, _ = batch_of(spoken_rows, np.random.default_rng(1))
        assert sequences.patches[:3].tolist() == spoken_rows[0][0].patches.tolist()
        noise = np.array(context.patches - sequences.patches)
        assert noise.std() == pytest.approx(CONTEXT_NOISE, rel=0.1)
        assert phonemes[3:8].tolist() == spoken_rows[1][1].tolist()


def test_the_exported_audio_vae_computes_what_pytorch_computed(tmp_path):
    torch = pytest.importorskip("torch")
    from evaluate_vae import load
    from vae_torch import Decoder, Encoder, export

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


def test_the_stored_decoder_makes_the_audio_that_its_latents_define():
    """On latents near those of speech; with random weights it is as far off as silence, 1."""
    vae = AudioVAE(read_dataclass(AudioVAEConfig, SPEECH_VAE, []))
    condition = {
        name: mx.ones_like(value) if "scale" in name else mx.zeros_like(value)
        for name, value in tree_flatten(vae.decoder.parameters())
        if name.startswith("sr_cond_model.")
    }
    stored = mx.load(str(TRAINED / "decoder.safetensors"))
    stored = {name: value.astype(mx.float32) for name, value in stored.items()}
    boundaries = {"sr_bin_boundaries": vae.decoder.sr_bin_boundaries}
    fill(vae.decoder, stored | condition | boundaries)
    basis, random = Basis.load(TRAINED / "basis.npz"), np.random.default_rng(0)
    latents = np.cumsum(0.3 * random.standard_normal((40, LATENTS)), axis=0).astype(np.float32)
    latents[:, :2] = 0
    wanted = LEVEL * basis.audio(latents)
    assert relative_error(vae.decode(mx.array(latents[None]))[0], wanted) < 0.5
