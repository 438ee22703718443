"""Training data and losses of the voice for any English text (benchmarks/demo_voice).

None needs the teacher, WordNet or Whisper. test_english_voice_training.py has what needs PyTorch.
"""

import json
import random
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

import composed
import pronunciations
import sentences
import spelling
from acoustic_latents import LATENTS, Basis
from acoustics import BANDS, HOP, LATENT, POINTS, SAMPLE_RATE, Acoustics, centres, synthesize
from evaluate_vae import load
from labels import reading
from spectra import FRAME, Spectra
from speech_corpus import LEVEL, TRAINED
from timing import AHEAD, PATCH, SILENCE, SPACE, Timing, sounds_of
from voices import TEACHER, VOICES, Voice, in_voice
from whole_cycles import cycles_of, phase_of

from mlx_voxcpm2.text.tokenizer import Tokenizer
from mlx_voxcpm2.weights.hub import BUILT_IN


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
        assert composed.number(value) == words

    @pytest.mark.parametrize(
        ("value", "words"), [(1, "first"), (12, "twelfth"), (30, "thirtieth"), (31, "thirty-first")]
    )
    def test_a_day_of_the_month_is_said_in_words(self, value, words):
        assert composed.ordinal(value) == words

    @pytest.mark.parametrize(("templates", "_"), sentences.COMPOSED)
    def test_composed_sentences_are_readable_and_the_same_each_time(self, templates, _):
        found = composed.composed_sentences(templates, 200, 1)
        assert all(spelling.is_spellable(each) for each in found)  # no field is left open
        assert found == composed.composed_sentences(templates, 200, 1)

    def test_only_the_beginning_of_a_sentence_gets_a_capital(self):
        said = ("come at four p.m. on monday. is it late?",)
        assert composed.composed_sentences(said, 1, 1) == [
            "Come at four p.m. on monday. Is it late?"
        ]

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


class TestSpelling:
    @pytest.fixture
    def folder(self, tmp_path):
        pairs = spelling.learn_pairs(["Anna said no."] * 9 + ["Nobody said so."] * 9, 12)
        spelling.write_tokenizer(tmp_path, pairs)
        return tmp_path

    def test_the_package_spells_alike(self, folder):
        text = 'Anna said: "No, that\'s 42!"'
        assert Tokenizer(folder / "tokenizer.json")(text) == spelling.Speller(folder)(text)[0]

    def test_a_common_word_is_one_token_and_any_other_is_spelt(self, folder):
        speller = spelling.Speller(folder)
        ids, places = speller("said sad")
        assert Tokenizer(folder / "tokenizer.json")("said") == ids[:1]
        assert places[:2] == [(0, 4), (4, 5)] and len(places) > 3
        assert max(ids) < spelling.VOCABULARY

    def test_no_token_goes_beyond_a_word(self, folder):
        pairs = spelling.learn_pairs(["so, so"] * 9, 9)
        assert all((first + second).isalpha() for first, second in pairs)

    def test_a_varied_spelling_has_the_same_letters(self, folder):
        speller, lengths = spelling.Speller(folder), set()
        for _ in range(200):
            _, places = speller("Anna said no.", varied=True)
            assert [begin for begin, _ in places] == [0, *(end for _, end in places[:-1])]
            lengths.add(len(places))
        assert len(lengths) > 1


class TestPronunciations:
    @pytest.fixture
    def said(self) -> dict[str, tuple[int, ...]]:
        """Phonemes of each letter in an invented language: x has two, a final e none."""
        return {"e": (), "x": (60, 61)} | {each: (ord(each) - 70,) for each in "adlosty"}

    @pytest.fixture
    def words(self, said) -> dict[str, tuple[int, ...]]:
        draw = random.Random(1)
        words = ["".join(draw.sample("adlostyx", draw.randint(2, 6))) for _ in range(300)]
        words += [word + "e" for word in words[::5]]
        return {word: sum((said[letter] for letter in word), ()) for word in words}

    def test_letters_are_aligned_with_their_phonemes(self, said, words):
        found = pronunciations.align(words)
        assert all(found[word] == [said[letter] for letter in word] for word in words)

    def test_a_word_of_more_phonemes_than_its_letters_can_have_is_left_out(self, words):
        assert "do" not in pronunciations.align({**words, "do": (1, 2, 3, 4, 5)})

    def test_a_part_of_a_word_has_the_phonemes_that_it_has_within_words(
        self, said, words, tmp_path
    ):
        spelling.write_tokenizer(tmp_path, spelling.learn_pairs(["sad sadly oddly"] * 9, 9))
        words = {**words, "sadly": said["s"] + said["a"] + said["d"] + said["l"] + said["y"]}
        alone = (70, 71)
        labels = {
            "sentences": [["Sadly ly.", [SILENCE, *words["sadly"], SPACE, *alone, SILENCE], []]],
            "words": [
                [word, [SILENCE, *phonemes, SILENCE], []] for word, phonemes in words.items()
            ],
        }
        (tmp_path / "labels").mkdir()
        for name, rows in labels.items():
            (tmp_path / "labels" / f"{name}.json").write_text(json.dumps(rows))
        speller = spelling.Speller(tmp_path)
        found = pronunciations.pronunciations(tmp_path, speller)
        assert found[speller("ly")[0][0]] == [*said["l"], *said["y"]]
        assert found[speller("sadly")[0][0]] == list(words["sadly"])
        assert found[speller("x")[0][0]] == [60, 61]
        assert found[speller("X")[0][0]] == [60, 61], "any word may begin a sentence"


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


STOP, STRESSED = 4, 156
# "No go." as silence, n, o, space, g, stressed o, pause, silence.
SAID = [SILENCE, 56, 57, SPACE, 92, STRESSED, 57, STOP, SILENCE]
DURATIONS = [14, 2, 4, 2, 1, 2, 13, 6, 1]
"""Durations of the phonemes in units of 25 ms."""
LENGTHS = {56: 2, 57: 3, 92: 1, STOP: 2}
"""Lengths by phoneme in latents of 40 ms."""


class TestTiming:
    @pytest.fixture
    def timing(self) -> Timing:
        return Timing({}, LENGTHS)

    def test_spaces_and_stress_marks_belong_to_the_next_sound(self):
        sounds = sounds_of(SAID, DURATIONS)
        assert [each.kind for each in sounds] == [
            (56, False, False, "phoneme"),
            (57, False, False, "space"),
            (92, False, True, "phoneme"),
            (57, True, False, "pause"),
            (STOP, False, False, "end"),
        ]
        assert [each.begin for each in sounds[:4]] == [14, 16, 20, 23]

    def test_silence_after_the_last_sound_is_not_a_part_of_it(self):
        """The teacher's durations give the last sound 13 units, of which 5 are heard."""
        last, pause = sounds_of(SAID, DURATIONS)[-2:]
        assert (last.begin, last.end, pause.end) == (23, 30, 33)

    def test_a_sound_lasts_as_long_as_its_kind_does_on_average(self):
        spoken = [([0, 56, 57, 0], [9, length, 3, 1]) for length in [2, 6] * 20 + [4]]
        spoken += [([0, STRESSED, 56, 57, 0], [9, 1, 8, 3, 1])] * 29
        timing = Timing.of(spoken)
        plain, _ = sounds_of(*spoken[0])
        stressed, _ = sounds_of(*spoken[-1])
        # 4 units of 25 ms, and 1.1 times as slow: 2.75 latents of 40 ms.
        assert timing.latents(plain) == 3
        # 29 occurrences are too few for the kind, so that it has the phoneme's: 6.1 units.
        assert timing.latents(stressed) == 4

    def test_a_stored_timing_is_read_again(self, tmp_path):
        timing = Timing({(56, True, False, "space"): 2}, LENGTHS)
        timing.save(tmp_path / "timing.json")
        assert vars(Timing.load(tmp_path / "timing.json")) == vars(timing)

    def test_each_sound_has_whole_latents(self, timing):
        said = reading("No go.", SAID, DURATIONS, timing)
        flat = [SILENCE, 56, 56, 57, 57, 57, 92, 57, 57, 57, STOP, STOP, *[SILENCE] * 4]
        assert said.phonemes.shape == (4, PATCH)
        assert said.phonemes.ravel().tolist() == flat

    def test_the_teachers_durations_change_to_it(self, timing):
        """3.2, 4.8 and 1.6 units; the last sound and the pause stay."""
        durations = timing.durations(SAID, DURATIONS)
        assert durations[:3] == [14, 3, 5]
        assert sum(durations[3:5]) == 2
        assert durations[5:] == DURATIONS[5:]

    def test_what_rounding_leaves_out_is_made_up_for_by_the_next_sounds(self, timing):
        """Sounds of 3.2 units each."""
        said = [SILENCE, 56, 56, 56, 56, 57, STOP, SILENCE]
        durations = timing.durations(said, [14, 2, 2, 2, 2, 5, 6, 1])
        assert durations == [14, 3, 3, 4, 3, 5, 6, 1]

    @pytest.mark.parametrize("natural", [[2, 1, 1], [1, 5, 5], [5, 5, 1]])
    def test_each_mark_and_sound_has_a_unit(self, timing, natural):
        """A phoneme of 1.6 units behind a space and a stress mark."""
        said = [SILENCE, 92, SPACE, STRESSED, 92, 57, STOP, SILENCE]
        durations = timing.durations(said, [14, 2, *natural, 5, 6, 1])
        assert durations == [14, 2, 1, 1, 1, 5, 6, 1]

    def test_speech_is_stretched_to_its_labels(self, timing):
        """The first and the last sound are heard at their time in the teacher's speech."""
        seconds = timing.seconds(SAID, DURATIONS)
        ends = np.array([14, 16, 20, 23, 30, 33]) * 0.025 - AHEAD
        latents = np.array([1, 3, 6, 7, 10, 12])
        assert seconds.shape == (16 * POINTS,)
        assert seconds[latents * POINTS - 1] == pytest.approx(ends)
        assert seconds[2 * POINTS - 1] == pytest.approx((ends[0] + ends[1]) / 2)
        around = np.diff(seconds[[*range(POINTS), *range(12 * POINTS, 16 * POINTS)]])
        assert np.delete(around, POINTS - 1) == pytest.approx(HOP / SAMPLE_RATE)

    def test_each_patch_names_the_characters_that_are_read(self, timing):
        said = reading("No go.", SAID, DURATIONS, timing)
        read = ["No go."[first:behind] for first, behind in said.read]
        assert read == ["No", "o g", "o.", "."]

    def test_words_that_do_not_match_the_phonemes_are_not_placed(self, timing):
        assert reading("Nogo.", SAID, DURATIONS, timing).read is None


class TestSpectra:
    """Spectra of sounds whose power is known, made into audio as hibari does."""

    FRAMES = 80

    @pytest.fixture
    def quiet(self) -> Spectra:
        nothing = np.full((601, self.FRAMES), -20.0)
        return Spectra(nothing, 0 * nothing, nothing, nothing, np.zeros(self.FRAMES))

    @staticmethod
    def audio(spectra: np.ndarray) -> np.ndarray:
        """Inverse short-time Fourier transform (601, F) -> 24 kHz, without its borders."""
        window = np.hanning(1201)[:-1]
        total = np.zeros((2, 300 * (spectra.shape[1] + 3)))
        for frame, spectrum in enumerate(spectra.T):
            place = slice(300 * frame, 300 * frame + 1200)
            total[:, place] += window * np.fft.irfft(spectrum), window**2
        return (total[0] / np.maximum(total[1], 1e-9))[1200:-1200]

    @pytest.mark.parametrize(("part", "variance"), [("noise", 2.0), ("free", 1.0)])
    def test_its_power_is_that_of_the_noise(self, quiet, part, variance):
        """Two thirds are below 8 kHz. The free part's phases are as good as random."""
        random = np.random.default_rng(0)
        shape = (601, self.FRAMES)
        noise = np.exp(1j * 2 * np.pi * random.random(shape)) * (variance * np.exp(2 * 3.0)) ** 0.5
        power = np.var(self.audio(noise)) * 2 / 3
        found = replace(quiet, **{part: np.full(shape, 3.0)}).envelope
        assert found == pytest.approx(np.full(found.shape, np.log(power)), abs=0.1)

    def test_its_power_is_that_of_the_harmonics(self, quiet):
        """A harmonic at 1 kHz stands for the 200 Hz around it, of 8,000."""
        tone = np.cos(2 * np.pi * 1000 / 24_000 * np.arange(300 * (self.FRAMES + 3)))
        window = np.hanning(1201)[:-1] / 300
        frames = np.lib.stride_tricks.sliding_window_view(tone, 1200)[::300] * window
        power = np.var(self.audio(np.exp(3.0) * np.fft.rfft(frames).T)) * 8000 / 200
        pitch = np.full(self.FRAMES, 200.0)
        loud = np.full((601, self.FRAMES), 3.0)
        found = replace(quiet, harmonic=loud, pitch=pitch).envelope
        assert found == pytest.approx(np.full(found.shape, np.log(power)), abs=0.02)

    def test_half_of_a_frame_at_the_edge_of_a_voiced_sound_is_voiced(self, quiet):
        pitch = np.where(np.arange(self.FRAMES) < 40, 0.0, 200.0)
        found = replace(quiet, harmonic=np.full((601, self.FRAMES), 3.0), pitch=pitch).envelope[9]
        assert found[40] - found[50] == pytest.approx(np.log(0.5))
        assert found[39] == found[0] < -15

    def test_amplitudes_between_harmonics_are_ignored(self, quiet):
        comb = np.where(np.arange(601) % 10 == 0, 3.0, 9.0)[:, None].repeat(self.FRAMES, 1)
        flat = replace(quiet, harmonic=np.full_like(comb, 3.0), pitch=np.full(self.FRAMES, 200.0))
        assert replace(flat, harmonic=comb).envelope == pytest.approx(flat.envelope)

    def test_pitch_and_envelope_are_read_at_any_time(self, quiet):
        pytest.importorskip("pyworld")
        rising = np.linspace(0, 2, self.FRAMES)[None].repeat(601, 0)
        frames = np.arange(self.FRAMES)
        spectra = replace(quiet, noise=rising, pitch=np.where(frames < 40, 0.0, 100.0 + frames))
        seconds = np.array([0.2, 0.2625, 0.7])
        found = spectra.acoustics(np.zeros(16_000), seconds)
        assert found.pitch == pytest.approx([0, 0, 100 + 0.7 / FRAME - 0.5])
        assert found.aperiodicity[:2].tolist() == [[1.0] * 6] * 2
        wanted = np.interp(seconds, np.arange(self.FRAMES) * FRAME, spectra.envelope[5])
        assert found.envelope[:, 5] == pytest.approx(wanted)


def test_a_latent_is_whole_points():
    assert POINTS * HOP == LATENT


def test_the_packages_decoder_makes_the_audio_that_its_latents_define():
    """On latents near those of speech; with random weights it is as far off as silence, 1."""
    vae = load(BUILT_IN["english"] / "audiovae.safetensors")
    vae.set_dtype(mx.float32)
    basis, random = Basis.load(TRAINED / "basis.npz"), np.random.default_rng(0)
    latents = np.cumsum(0.3 * random.standard_normal((40, LATENTS)), axis=0).astype(np.float32)
    latents[:, :2] = 0
    wanted = LEVEL * basis.audio(latents)
    assert relative_error(vae.decode(mx.array(latents[None]))[0], wanted) < 0.5


class TestVoices:
    def test_a_peak_of_the_envelope_moves_with_the_formants(self):
        envelope = np.full((4, BANDS), -9.0)
        envelope[:, 16] = 0
        said = Acoustics(envelope, np.zeros((4, 6)), np.full(4, 200.0))
        moved = in_voice(said, Voice(0.5, 0.8, (), 0.0))
        place = centres()[moved.envelope[0].argmax()]
        assert place == pytest.approx(0.8 * centres()[16], rel=0.07)
        assert moved.pitch.tolist() == [100.0] * 4

    def test_the_teachers_own_is_as_it_is(self):
        said = vowel(2)
        assert in_voice(said, VOICES[TEACHER]) is said

    def test_their_shares_are_the_whole(self):
        assert sum(each.share for each in VOICES.values()) == pytest.approx(1)
