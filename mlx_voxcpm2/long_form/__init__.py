"""Texts of any length: segments, their cache on disk, joins, subtitles."""
