"""Saved voices: encoded clips to speak with again."""
