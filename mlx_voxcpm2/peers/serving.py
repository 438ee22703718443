"""Flags of other servers and pages: `mlx_audio.server`, upstream's app.py, Gradio's.

mlx-audio 0.6.2: server.py. Upstream: app.py.
"""

from __future__ import annotations

from .names import GRADIO, MLX_AUDIO, VOXCPM, alias, built_in, of_program, refused, same, table
from .speech import MODEL, OPTIONS

_NO_REALTIME = "there is no realtime API; --asr_model transcribes clips"

SERVE = table(
    of_program(
        MLX_AUDIO,
        same("allowed_origins host port"),
        alias("batch_size", "tts_max_batch_size"),
        refused(
            "reload", "the server has no reload; start it again", neutral=("False", "false", "")
        ),
        refused("start_ui", "the page is `mlx-voxcpm2 app`", has_value=False),
        refused("log_dir", "messages go to standard error; redirect it to a file"),
        refused("realtime_model realtime_transcription_delay_ms vad_model", _NO_REALTIME),
        refused("realtime", _NO_REALTIME, has_value=False),
        built_in("workers", "one process speaks, several requests at once"),
    ),
    OPTIONS,
    MODEL,
)
APP = table(
    of_program(VOXCPM, same("host port"), alias("model", "model_id")),
    of_program(
        GRADIO,
        alias("host", "server_name"),
        alias("port", "server_port"),
        refused(
            "share",
            "no server of others is used; give --host 0.0.0.0 and --password, or a tunnel of yours "
            "with --allowed_hosts",
            has_value=False,
        ),
    ),
    OPTIONS,
    MODEL,
)
