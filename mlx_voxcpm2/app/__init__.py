"""Web page for speaking: `mlx-voxcpm2 app`.

`inputs` parses what the page sends, `speaker` has the
model's thread speak it, `takes` holds the results and `visitors`
who they belong to; `streaming` sends speech while it is generated. `routes` is the page's HTTP
interface, `protection` decides who may use it, and `static` holds what runs in the browser.
"""
