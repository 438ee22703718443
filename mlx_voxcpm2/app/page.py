"""How the page looks, and the server that shows it. Nothing of it comes from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Before Gradio is imported, which would report home.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Nor shall browsers keep all that was ever asked for.
os.environ["GRADIO_RUN_HISTORY"] = "False"
# Gradio asks at the first click which one Matplotlib has, which takes seconds to be found out.
os.environ.setdefault("MPLBACKEND", "agg")

import gradio
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .events import SETTINGS, Events
from .inputs import FIELDS, MODES
from .live_sound import LiveSounds
from .speaker import Speaker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TITLE = "VoxCPM2"
FIRST_MODE = MODES["zero-shot"]
# Whoever waits for the model holds a thread of Gradio's, which has forty.
MOST_WAITING = 16

# What the browser may load: from here, and made by the page itself. Gradio has fonts and scripts
# that it would fetch from others.
CONTENT_POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)


def theme() -> gradio.themes.Base:
    """With the system's fonts, and hints that are dark enough to be read."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gradio.themes.Default(**fonts).set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300"
    )


class ContentPolicy:
    """Puts it on every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


class Page:
    """The fields, by name, and what connects them with `Events`."""

    def __init__(self, events: Events):
        self.events = events
        with gradio.Blocks(title=TITLE, analytics_enabled=False) as self.blocks:
            self.history = gradio.State([])
            # Filled by player.js when Speak is pressed.
            self.token = gradio.Textbox(visible=False)
            with gradio.Row():
                with gradio.Column(scale=3):
                    self._add_inputs()
                    self._add_settings(events.options)
                with gradio.Column(scale=2):
                    self._add_output()
            self._connect()

    def _add_inputs(self) -> None:
        self.text = gradio.Textbox(label="What to say", lines=5, max_lines=20, autofocus=True)
        self.mode = gradio.Radio(
            [(mode.title, mode.name) for mode in MODES.values()], value=FIRST_MODE.name,
            label="In which voice",
        )  # fmt: skip
        self.advice = gradio.Markdown(FIRST_MODE.advice)
        clip = {
            "sources": ["upload", "microphone"], "type": "filepath", "visible": False,
            "buttons": ["download"],  # and none that publishes it
        }  # fmt: skip
        made = {
            "voice": gradio.Dropdown([], label="Kept voices", visible=False),
            "ref_audio": gradio.Audio(label="The voice", elem_id="ref_audio", **clip),
            "prompt_audio": gradio.Audio(
                label="The speech to go on from", elem_id="prompt_audio", **clip
            ),
            "prompt_text": gradio.Textbox(label="What the clip says", lines=2, visible=False),
            "instruct": gradio.Textbox(label="The voice or manner", visible=False),
        }
        self.fields = [made[name] for name in FIELDS]
        with gradio.Accordion("Keep this clip's voice", open=False, visible=False) as self.keeping:
            with gradio.Row(equal_height=True):
                self.clip_name = gradio.Textbox(label="Name of the clip's voice", scale=3)
                self.keep_clip = gradio.Button("Keep the clip's voice", scale=2)

    def _add_settings(self, options: dict[str, object]) -> None:
        def value(name: str, otherwise: object) -> object:
            return options[name] if options.get(name) is not None else otherwise

        with gradio.Row():
            self.speak = gradio.Button("Speak", variant="primary", scale=3)
            self.stop = gradio.Button("Stop", variant="stop", scale=1)
        self.is_streamed = gradio.Checkbox(
            True, label="Play while it is spoken",
            info="Otherwise a take that goes wrong is spoken again, twice at most.",
        )  # fmt: skip
        with gradio.Accordion("Settings", open=False):
            made = {
                "seed": gradio.Textbox(
                    str(value("seed", "")), label="Seed",
                    info="Makes the same take again; empty: another one each time.",
                ),
                "cfg_value": gradio.Slider(
                    0.1, 10, value("cfg_value", 2.0), step=0.1, label="Guidance",
                    info="How closely the voice follows the text; 1.5 to 1.6 is steadier.",
                ),
                "inference_timesteps": gradio.Slider(
                    1, 100, value("inference_timesteps", 10), step=1, label="Solver steps",
                    info="More are slower; 10 are usual.",
                ),
                "temperature": gradio.Slider(
                    0, 2, value("temperature", 1.0), step=0.05, label="Temperature",
                    info="How much takes differ.",
                ),
                "fade_in": gradio.Slider(
                    0, max(0.1, value("fade_in", 0.0)), value("fade_in", 0.0), step=0.005,
                    label="Fade in (s)",
                    info="0.015 to 0.05 hide a click at the start.",
                ),
                "trim_silence": gradio.Checkbox(
                    bool(value("trim_silence", False)), label="Cut silence off both ends"
                ),
            }  # fmt: skip
        self.settings = [made[name] for name in SETTINGS]

    def _add_output(self) -> None:
        self.status = gradio.Textbox(
            "Write a text and press Speak.", label="Status", lines=3, max_lines=12,
            interactive=False, elem_id="status",
        )  # fmt: skip
        self.player = gradio.Audio(
            label="The take", interactive=False, buttons=["download"], elem_id="take"
        )
        self.takes = gradio.Radio([], label="Takes, the newest first", visible=False)
        self.same_seed = gradio.Button("Use this take's seed again", size="sm")
        with gradio.Accordion("Keep this take's voice", open=False):
            self.take_name = gradio.Textbox(label="Name of the take's voice")
            self.keep_take = gradio.Button("Keep the take's voice")
        gradio.Markdown("Clone only voices whose owners agree; say that the speech is synthetic.")

    def _connect(self) -> None:
        events, private = self.events, {"api_visibility": "private"}
        chosen = [self.takes, self.history]
        voices = self.fields[FIELDS.index("voice")]
        self.mode.change(
            events.choose_mode, self.mode, [self.advice, *self.fields, self.keeping],
            show_progress="hidden", **private,
        )  # fmt: skip
        self.speak.click(
            events.speak,
            [
                self.token, self.is_streamed, self.history, self.mode, self.text,
                *self.fields, *self.settings,
            ],
            [self.status, self.player, self.takes, self.history],
            js="(token, isStreamed, ...rest) => "
            "[isStreamed ? speechPlayer.start() : '', isStreamed, ...rest]",
            show_progress="hidden", concurrency_limit=MOST_WAITING, **private,
        )  # fmt: skip
        self.stop.click(None, js="() => speechPlayer.stop()", **private)
        self.stop.click(events.stop, queue=False, show_progress="hidden", **private)
        self.blocks.unload(events.stop)
        self.takes.input(
            events.choose_take, chosen, [self.status, self.player],
            show_progress="hidden", **private,
        )  # fmt: skip
        self.same_seed.click(
            events.same_seed, chosen, self.settings[SETTINGS.index("seed")],
            show_progress="hidden", **private,
        )  # fmt: skip
        self.keep_take.click(
            events.keep_take, [self.take_name, *chosen], [self.status, self.take_name, voices],
            **private,
        )  # fmt: skip
        self.keep_clip.click(
            events.keep_clip, [self.clip_name, self.mode, *self.fields],
            [self.status, self.clip_name, voices], **private,
        )  # fmt: skip


def head(sample_rate: int) -> str:
    """What the page's head holds."""
    player = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    return f"<script>const speechRate = {sample_rate};\n{player}</script>"


def reach_ourselves(host: str) -> None:
    """Gradio asks its own server whether it has started, which a proxy could not tell."""
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name) or os.environ.get("no_proxy")
        os.environ[name] = ",".join(filter(None, [known, "localhost", "127.0.0.1", host]))


def serve(speaker: Speaker, options: dict[str, object], host: str, port: int, share: bool) -> str:
    """Starts the server in threads of its own; the address of the page.

    Takes must lie in the folder that GRADIO_TEMP_DIR names, the only one that visitors see.
    options: what the fields hold at first, and what has no field, by names of GenerationOptions.
    Raises OSError if the port is taken.
    """
    sounds = LiveSounds()

    def live_sound(request: Request) -> StreamingResponse:
        sound = sounds.read(request.path_params["token"])
        return StreamingResponse(
            sound, media_type="application/octet-stream", headers={"cache-control": "no-store"}
        )

    page = Page(Events(speaker, sounds, options))
    reach_ourselves(host)
    _, local, shared = page.blocks.launch(
        server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True,
        inbrowser=False, show_error=False, footer_links=[], ssr_mode=False,
        mcp_server=False, pwa=False, enable_monitoring=False,
        theme=theme(), head=head(speaker.sample_rate),
        app_kwargs={
            "routes": [Route("/speech/{token:str}", live_sound)],
            "middleware": [Middleware(ContentPolicy)],
            "docs_url": None, "redoc_url": None,
        },
    )  # fmt: skip
    return shared or local
