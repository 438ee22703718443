"""What `generate` does with a text that is too long to be spoken in one go."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .model_flags import chosen_weights
from .option_flags import chosen_options
from .shell import Parser, flag

if TYPE_CHECKING:
    import numpy as np

    from ..long_form.speak import SpokenSegment
    from ..model import VoxCPM2
    from ..text.segments import Segment

logger = logging.getLogger("mlx_voxcpm2")


def add_long_text_flags(parser: Parser) -> None:
    long = parser.add_argument_group(
        "long texts: split at sentences, spoken in one voice; a run that was stopped goes on"
    )
    flag(long, "parallel", type=int, default=1, metavar="N", help="speak N segments at once")
    flag(
        long, "continue_segments", action="store_true",
        help="each goes on from the sound and words of the one before (not with --parallel)",
    )  # fmt: skip
    flag(long, "subtitles", metavar="PATH", help="write the segments' times, .srt or .vtt")
    flag(
        long, "segment_length", type=int, metavar="LETTERS",
        help="of a segment at most; a Chinese character counts as three (default 300; 0, and with "
        "--stream or --play the default: never split)",
    )  # fmt: skip
    flag(
        long, "paragraph_pause", type=float, default=0.5, metavar="SECONDS",
        help="between paragraphs (default %(default)s); [pause:0.8] in the text makes others",
    )  # fmt: skip
    flag(
        long, "crossfade", type=float, default=0, metavar="MS",
        help="milliseconds that neighbouring segments share (default 0)",
    )  # fmt: skip
    flag(long, "match_level", action="store_true", help="make all as loud as the first one")
    flag(long, "language", metavar="CODE",
         help="of the text, such as de: for abbreviations, numbers and recognisers")  # fmt: skip


class LongText:
    """One run: plan, speak, finish. Between the last two the sound is written."""

    def __init__(self, segments: list[Segment], args: argparse.Namespace, output: str | None):
        from ..long_form.cache import SegmentCache
        from ..text.segments import anchor_of

        self.segments, self.args, self.output = segments, args, output
        self.parts: SegmentCache | None = None
        if output not in (None, "-"):
            self.parts = SegmentCache(f"{output}.parts", chosen_weights(args))
        self.sample: tuple[np.ndarray, str, str] | None = None
        """Sound, words and why it ended, of the segment that is long enough to keep its voice."""
        self._sample_index = anchor_of(segments)
        self.seed: int | None = None
        self._spoken: list[SpokenSegment] = []
        """Without their sound."""

    @classmethod
    def planned(cls, text: str, args: argparse.Namespace, output: str | None) -> LongText | None:
        """None for a text that is spoken in one go. Raises ValueError or FileNotFoundError."""
        from ..long_form.options import LongFormOptions
        from ..long_form.subtitles import check_subtitles
        from ..schema import check_integer, check_number
        from ..text.segments import LONGEST_PAUSE, SEGMENT_LENGTH, is_one_segment, split_text

        check_integer("parallel", args.parallel, 1, None)
        LongFormOptions(args.parallel, args.continue_segments)
        check_number("crossfade", args.crossfade, 0, 1000)
        if args.subtitles is not None:
            check_subtitles(args.subtitles)
        length = args.segment_length
        if length is None:
            # A listener hears the first sound after a patch, but of segments after a whole one.
            length = 0 if args.stream or args.play else SEGMENT_LENGTH
        check_integer("segment_length", length, 0, None)
        check_number("paragraph_pause", args.paragraph_pause, 0, LONGEST_PAUSE)
        if args.subtitles is None and is_one_segment(text, length):
            return None
        segments = split_text(text, length, args.paragraph_pause, args.language)
        return cls(segments, args, output)

    def start(
        self, model: VoxCPM2, _text: str, args: argparse.Namespace
    ) -> Iterator[SpokenSegment]:
        """Raises ValueError or FileNotFoundError at once."""
        from ..long_form.speak import speak_long

        self.seed = args.seed
        if self.seed is None:
            self.seed = self.parts.seed() if self.parts is not None else secrets.randbits(32)
        options = replace(chosen_options(args), seed=self.seed)
        return speak_long(
            model, self.segments, instruct=args.instruct, ref_audio=args.ref_audio,
            prompt_audio=args.prompt_audio, prompt_text=args.prompt_text, voice=args.voice,
            options=options, parallel=args.parallel, continue_segments=args.continue_segments,
            crossfade=args.crossfade / 1000, match_level=args.match_level, cache=self.parts,
            verify=args.verification,
        )  # fmt: skip

    def speak(self, pieces: Iterator[SpokenSegment], take: Callable[[np.ndarray], None]) -> None:
        """Hands the sound to `take`; with a bar of sentences on a terminal."""
        from tqdm import tqdm

        self._begin = time.perf_counter()
        total = sum(segment.sentences for segment in self.segments)
        try:
            with tqdm(
                total=total, unit="sentence", disable=None, file=sys.stderr, leave=False
            ) as bar:
                for piece in pieces:
                    self._take(piece, take)
                    bar.set_postfix_str(f"{piece.end:.1f} s of speech", refresh=False)
                    bar.update(piece.sentences)
        except KeyboardInterrupt:
            if self.parts is not None and self.parts.folder.is_dir():
                print(f"{self.parts.folder}: kept; the same command goes on", file=sys.stderr)
            raise

    def _take(self, piece: SpokenSegment, take: Callable[[np.ndarray], None]) -> None:
        if len(piece.audio):
            take(piece.audio)
        if piece.index == self._sample_index:
            speech = piece.audio[: round((piece.end - piece.start) * piece.sample_rate)]
            self.sample = speech, piece.text, piece.finish_reason
        self._spoken.append(replace(piece, audio=None))

    def finish(self) -> None:
        """Everything is written: subtitles, then the parts go, then the report."""
        import mlx.core as mx

        from ..long_form.subtitles import write_subtitles

        spoken = [piece for piece in self._spoken if piece.text]
        if self.args.subtitles is not None:
            write_subtitles(
                self.args.subtitles, ((piece.text, piece.start, piece.end) for piece in spoken)
            )
        if self.parts is not None:
            self.parts.remove()
        fresh = [piece for piece in spoken if not piece.was_cached]
        seconds = time.perf_counter() - self._begin
        speech = sum(piece.end - piece.start for piece in fresh)
        name = {None: "played", "-": "standard output"}.get(self.output, self.output)
        kept = len(spoken) - len(fresh)
        print(
            f"{name}: {self._spoken[-1].end:.2f} s in {len(spoken)} segments"
            + (f", {kept} of them spoken before" if kept else "")
            + f"; {speech:.2f} s of speech in {seconds:.2f} s, {speech / seconds:.2f} times as "
            f"fast as real time; peak memory {mx.get_peak_memory() / 1e9:.2f} GB; seed "
            f"{self.seed}",
            file=sys.stderr,
        )
        if heard := [piece for piece in spoken if piece.error_rate is not None]:
            worst = max(heard, key=lambda piece: piece.error_rate)
            letters = sum(len(piece.text) for piece in heard)
            mean = sum(piece.error_rate * len(piece.text) for piece in heard) / letters
            print(
                f"heard: {mean:.0%} of it wrong, at most {worst.error_rate:.0%} of a segment, at "
                f"{worst.start:.1f} s", file=sys.stderr,
            )  # fmt: skip
        for piece in spoken:
            if piece.guards:
                print(f"guards at {piece.start:.1f} s: {'; '.join(piece.guards)}", file=sys.stderr)
        if cut := [piece for piece in spoken if piece.finish_reason != "stop"]:
            logger.warning(
                "%d segments were cut at their limit or fell silent, and may be incomplete, the "
                "first at %.1f s: %.40r; try another --seed", len(cut), cut[0].start, cut[0].text,
            )  # fmt: skip
