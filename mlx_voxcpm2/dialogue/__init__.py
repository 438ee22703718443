"""Dialogues: a script of several speakers, spoken by VoxCPM2 turn by turn or by VibeVoice."""
