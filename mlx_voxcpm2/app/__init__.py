"""The page in the browser: `mlx-voxcpm2 app`.

`inputs` says what the fields mean, `speaker` owns the model and its thread, `takes` keeps what was
spoken, `live_sound` hands it to the browser as it is spoken, `player.js` plays it there. Only
`page` and `events` know Gradio.
"""
