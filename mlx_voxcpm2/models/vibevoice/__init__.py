"""VibeVoice: long dialogues of up to four speakers. Peng et al. 2025, arXiv 2508.19205."""
