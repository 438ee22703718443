"""Web page for speaking: `mlx-voxcpm2 app`.

`inputs` parses the fields, `worker` runs the model in a thread of its own, `history` has the
generated speech, `live_audio` streams it to the browser, where `player.js` plays it. Only
`widgets`, `page`, `events` and `serving` import Gradio.
"""

import os

# Gradio reads these when it is imported: no telemetry, and no history of requests in browsers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
# Gradio asks Matplotlib for its backend at the first click, which takes seconds to find out.
os.environ.setdefault("MPLBACKEND", "agg")
