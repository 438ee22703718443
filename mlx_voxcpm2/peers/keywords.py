"""Keyword arguments of other programs, in Python and in requests to the server."""

from __future__ import annotations

from .speech import GENERATE

COUNTERPARTS = {
    "ref_text": "prompt_text",
    "prompt_wav_path": "prompt_audio",
    "reference_wav_path": "ref_audio",
    "control_instruction": "instruct",
    "instructions": "instruct",
    "cfg": "cfg_value",
} | {
    each.name: each.ours
    for each in GENERATE.values()
    if each.effect == "alias" and not each.is_short
}
"""Name there -> name here."""

ADVICE = {
    each.name: each.text.replace("--", "") for each in GENERATE.values() if each.effect == "refused"
} | {
    "retry_badcase_max_times": "there are three attempts; retry_badcase=False turns them off",
    "retry_badcase_ratio_threshold": "it is upstream's 6; retry_badcase=False turns it off",
    "verbose": "set the level of the logger mlx_voxcpm2",
    "stream": "only generate streams",
    "batch_size": "only generate_batch has it",
    "lang_code": "VoxCPM2 finds the language in the text; leave it out",
}
"""Names without a counterpart, and what to do instead."""
