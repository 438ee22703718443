"""Generation of a text that is too long to be spoken in one go, with its files and its report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from .cue_maker import CueMaker
from .output import Sample
from .progress import SpeechBar
from .report import print_report

if TYPE_CHECKING:
    import numpy as np

    from ..long_form.cache import SegmentCache
    from ..long_form.cues import Cue
    from ..long_form.speak import SpokenSegment
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from ..recognition.word_times import WordTimer
    from ..speech.options import GenerationOptions
    from ..text.segments import Segment
    from .asr_flags import RecogniserChoice
    from .generate_arguments import GenerateArguments
    from .model_flags import ModelChoice
    from .output import OutputTargets

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True)
class LongTextPlan:
    """Segments of a long text, and the cache of those that are finished."""

    segments: list[Segment]
    cache: SegmentCache | None
    """Cache beside the output file, so that a stopped run can be resumed; None without a file."""

    @property
    def words(self) -> str:
        return "".join(segment.text for segment in self.segments)

    def with_seed(self, options: GenerationOptions) -> GenerationOptions:
        """Options with a seed: if none is given, that of the stopped run."""
        if options.seed is None and self.cache is not None:
            options = replace(options, seed=self.cache.seed())
        return options.with_seed()


def plan_long_text(arguments: GenerateArguments) -> LongTextPlan | None:
    """Plan of a long text, made before a model is loaded; None for one spoken in one go.

    Raises ValueError for a pause that can't be read, or a cache that can't be a folder.
    """
    from ..text.segments import is_one_segment, split_text

    text, options, targets = arguments.text, arguments.long_form, arguments.targets
    if targets.subtitles is None and is_one_segment(text, options.segment_length):
        return None
    length, pause = options.segment_length, options.paragraph_pause
    segments = split_text(text, length, pause, options.language)
    return LongTextPlan(segments, segment_cache(targets, arguments.model, arguments.recogniser))


def segment_cache(
    targets: OutputTargets, model: ModelChoice, recogniser: RecogniserChoice
) -> SegmentCache | None:
    """Cache of finished segments beside the output file, None without a file.

    Raises ValueError or OSError if it can't be a folder.
    """
    from ..long_form.cache import SegmentCache

    if targets.file is None:
        return None
    settings = model.cache_key()
    if recogniser.verify or recogniser.best_of > 1:
        settings["recogniser"] = recogniser.recogniser_key()
    return SegmentCache(f"{targets.file}.parts", settings)


def long_text(
    model: VoxCPM2,
    plan: LongTextPlan,
    arguments: GenerateArguments,
    verify: Verification | None,
    word_timer: WordTimer | None = None,
    best_of: BestOf | None = None,
) -> LongText:
    """Generation of a long text, started. word_timer: see `CueMaker`.

    Raises what `speak_long` raises.
    """
    from ..long_form.speak import speak_long

    options, bar = plan.with_seed(arguments.options), SpeechBar(plan.words)
    spoken = speak_long(
        model,
        plan.segments,
        options=options,
        cache=plan.cache,
        verify=verify,
        best_of=best_of,
        progress=bar,
        **arguments.voice.given(),
        **asdict(arguments.long_form),
    )
    cues = CueMaker(arguments.long_form.language, word_timer, options.speed)
    return LongText(spoken, plan, arguments.targets, model.sample_rate, options.seed, bar, cues)


class LongText:
    """Segments under generation, which `write` writes and reports."""

    def __init__(
        self,
        spoken: Iterator[SpokenSegment],
        plan: LongTextPlan,
        targets: OutputTargets,
        sample_rate: int,
        seed: int | None,
        bar: SpeechBar,
        cue_maker: CueMaker,
    ):
        """seed: for the report. bar: the one that is called during the generation."""
        self.segments, self.cache, self.targets = plan.segments, plan.cache, targets
        self.sample_rate, self.seed = sample_rate, seed
        self._spoken, self._bar, self._cue_maker = spoken, bar, cue_maker
        self._cues: list[Cue] = []
        self._sample: Sample | None = None
        """Speech of the first segment that is long enough to save its voice, or the longest."""

    def write(self) -> Sample:
        """Generate and write the audio and the subtitles, and report on them.

        Returns the speech of one segment, whose voice can be saved.
        """
        from ..long_form.subtitles import write_subtitles

        begin = time.perf_counter()
        with self.targets.open(self.sample_rate) as write:
            written, length = self._write_segments(write)
        if self.targets.subtitles is not None:
            write_subtitles(self.targets.subtitles, self._cues)
        if self.cache is not None:
            self.cache.remove()
        _report(written, self.targets.name, length, time.perf_counter() - begin, self.seed)
        assert self._sample is not None
        return self._sample

    def _write_segments(
        self, write: Callable[[np.ndarray], None]
    ) -> tuple[list[SpokenSegment], float]:
        """Segments with words, without their audio, and the seconds of all. Shows a bar."""
        import numpy as np

        total = sum(bool(segment.text) for segment in self.segments)
        written: list[SpokenSegment] = []
        samples = 0
        try:
            with self._bar:
                self._bar.describe(f"0 of {total} segments")
                for segment in self._spoken:
                    self._write_segment(segment, write)
                    if self.targets.subtitles is not None and segment.text:
                        self._cues += self._cue_maker.cues_of(segment, samples)
                    samples += len(segment.audio)
                    if segment.text:
                        self._count(segment)
                        written.append(replace(segment, audio=np.zeros(0), unstretched=None))
                        self._bar.describe(f"{len(written)} of {total} segments")
        except KeyboardInterrupt:
            if self.cache is not None and self.cache.folder.is_dir():
                folder = self.cache.folder
                print(f"{folder}: cached; the same command resumes the run", file=sys.stderr)
            raise
        return written, samples / self.sample_rate

    def _count(self, segment: SpokenSegment) -> None:
        """Tell the bar about a finished segment."""
        if segment.was_cached:
            self._bar.leave_out(segment.text)
        else:
            self._bar.finish(segment.text, segment.end - segment.start)

    def _write_segment(self, segment: SpokenSegment, write: Callable[[np.ndarray], None]) -> None:
        from ..text.segments import is_better_sample

        if len(segment.audio):
            write(segment.audio)
        if is_better_sample(segment.text, "" if self._sample is None else self._sample.text):
            speech = segment.speech_as_generated
            self._sample = Sample(speech, segment.text, segment.finish_reason)


def _report(
    segments: Sequence[SpokenSegment], name: str, length: float, seconds: float, seed: int | None
) -> None:
    """Report the segments with words, written to `name`, `length` s long, in so many seconds."""
    import mlx.core as mx

    fresh = [segment for segment in segments if not segment.was_cached]
    cached = len(segments) - len(fresh)
    counted = f"{len(segments)} segments"
    if cached:
        counted += f", {cached} of them from an earlier run"
    speech = sum(segment.end - segment.start for segment in fresh)
    memory = f"peak memory {mx.get_peak_memory() / 1e9:.2f} GB"
    details = [counted, memory, f"seed {seed}"]
    print_report(name, speech, seconds, details, length if cached else None)
    scores = [segment.score for segment in segments if segment.score is not None]
    if scores:
        mean, worst = sum(scores) / len(scores), min(scores)
        print(f"takes: those used score {mean:.3f}, at worst {worst:.3f}", file=sys.stderr)
    _report_errors([segment for segment in segments if segment.error_rate is not None])
    for segment in segments:
        if segment.guards:
            guards = "; ".join(segment.guards)
            print(f"guards at {segment.start:.1f} s: {guards}", file=sys.stderr)
    if cut := [segment for segment in segments if segment.finish_reason != "stop"]:
        logger.warning(
            "%d segments were cut at their limit or fell silent, and may be incomplete, the "
            "first at %.1f s: %.40r; try another --seed",
            len(cut),
            cut[0].start,
            cut[0].text,
        )


def _report_errors(segments: Sequence[SpokenSegment]) -> None:
    """Report the word error rates of segments that a recogniser checked."""
    if not segments:
        return
    worst = max(segments, key=lambda segment: segment.error_rate or 0)
    letters = sum(len(segment.text) for segment in segments)
    mean = sum((segment.error_rate or 0) * len(segment.text) for segment in segments) / letters
    print(
        f"recognised: {mean:.0%} of it wrong, at most {worst.error_rate:.0%} of a segment, at "
        f"{worst.start:.1f} s",
        file=sys.stderr,
    )
