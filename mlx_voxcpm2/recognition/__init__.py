"""Speech recognition: transcripts of clips, and checks of what was spoken."""
