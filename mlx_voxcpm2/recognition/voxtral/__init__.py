"""Voxtral as a recogniser: its prompts, its decoding loop, and long recordings."""
