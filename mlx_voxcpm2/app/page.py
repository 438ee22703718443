"""Layout of the page, and the connections of its fields with their handlers."""

from __future__ import annotations

import gradio

from .events import Events
from .inputs import FIELDS, MODES
from .widgets import SETTINGS, setting_widgets

TITLE = "VoxCPM2"
FIRST_MODE = MODES["zero-shot"]
# A request that waits for the model occupies one of Gradio's forty threads.
MAX_WAITING = 16

# Called when Speak is pressed: the token under which the browser asks for the live audio.
START_PLAYER = """(token, isStreamed, ...rest) =>
[isStreamed ? speechPlayer.start() : '', isStreamed, ...rest]"""

PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}


class Page:
    """Fields of the page, connected with `Events`."""

    def __init__(self, events: Events):
        self.events = events
        with gradio.Blocks(title=TITLE, analytics_enabled=False) as self.blocks:
            self.history = gradio.State([])
            self.token = gradio.Textbox(visible=False)
            with gradio.Row():
                with gradio.Column(scale=3):
                    self._add_inputs()
                    self._add_settings()
                with gradio.Column(scale=2):
                    self._add_output()
            self._connect()

    def _add_inputs(self) -> None:
        self.text = gradio.Textbox(label="Text to speak", lines=5, max_lines=20, autofocus=True)
        modes = [(mode.title, mode.name) for mode in MODES.values()]
        self.mode = gradio.Radio(modes, value=FIRST_MODE.name, label="Voice")
        self.advice = gradio.Markdown(FIRST_MODE.advice)
        hidden = {"visible": False}
        # Download only: Gradio's other buttons would publish the clip.
        clip = {"type": "filepath", "sources": ["upload", "microphone"], "buttons": ["download"]}
        made = {
            "voice": gradio.Dropdown([], label="Saved voices", **hidden),
            "ref_audio": gradio.Audio(elem_id="ref_audio", **clip, **hidden),
            "prompt_audio": gradio.Audio(elem_id="prompt_audio", **clip, **hidden),
            "prompt_text": gradio.Textbox(lines=2, **hidden),
            "instruct": gradio.Textbox(**hidden),
        }
        self.fields = [made[name] for name in FIELDS]
        self.voices = made["voice"]
        self.saving = gradio.Accordion("Save this clip's voice", open=False, visible=False)
        with self.saving, gradio.Row(equal_height=True):
            self.clip_name = gradio.Textbox(label="Name of the clip's voice", scale=3)
            self.save_clip = gradio.Button("Save clip's voice", scale=2)

    def _add_settings(self) -> None:
        with gradio.Row():
            self.speak = gradio.Button("Speak", variant="primary", scale=3)
            self.stop = gradio.Button("Stop", variant="stop", scale=1)
        self.is_streamed = gradio.Checkbox(
            True,
            label="Play while generating",
            info="Otherwise speech that goes wrong is generated again, twice at most.",
        )
        with gradio.Accordion("Settings", open=False):
            self.settings = setting_widgets(self.events.options)

    def _add_output(self) -> None:
        self.status = gradio.Textbox(
            "Write a text and press Speak.",
            label="Status",
            lines=3,
            max_lines=12,
            interactive=False,
            elem_id="status",
        )
        self.player = gradio.Audio(
            label="Generated speech", interactive=False, buttons=["download"], elem_id="speech"
        )
        self.entries = gradio.Radio([], label="History, newest first", visible=False)
        self.reuse_seed = gradio.Button("Use this seed again", size="sm")
        with gradio.Accordion("Save this voice", open=False):
            self.speech_name = gradio.Textbox(label="Name of the voice")
            self.save_speech = gradio.Button("Save voice")
        gradio.Markdown("Clone only voices whose owners agree; say that the speech is synthetic.")

    def _connect(self) -> None:
        self._connect_speech()
        self._connect_history()
        events, fields = self.events, self.fields
        updated = [self.advice, *fields, self.saving]
        self.mode.change(events.choose_mode, self.mode, updated, **QUIET)
        given, updated = [self.clip_name, self.mode, *fields], [self.clip_name, self.voices]
        self.save_clip.click(events.save_voice, given, [self.status, *updated], **PRIVATE)

    def _connect_speech(self) -> None:
        events = self.events
        given = [self.token, self.is_streamed, self.history, self.mode, self.text]
        given += [*self.fields, *self.settings]
        updated = [self.status, self.player, self.entries, self.history]
        once = {"js": START_PLAYER, "concurrency_limit": MAX_WAITING, **QUIET}
        self.speak.click(events.speak, given, updated, **once)
        self.stop.click(None, js="() => speechPlayer.stop()", **PRIVATE)
        self.stop.click(events.stop, queue=False, **QUIET)
        self.blocks.unload(events.stop)

    def _connect_history(self) -> None:
        events, chosen = self.events, [self.entries, self.history]
        self.entries.input(events.choose_entry, chosen, [self.status, self.player], **QUIET)
        seed = self.settings[SETTINGS.index("seed")]
        self.reuse_seed.click(events.reuse_seed, chosen, seed, **QUIET)
        given, updated = [self.speech_name, *chosen], [self.speech_name, self.voices]
        self.save_speech.click(events.save_voice_of, given, [self.status, *updated], **PRIVATE)
