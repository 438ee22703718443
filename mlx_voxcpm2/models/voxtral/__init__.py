"""Voxtral, a recogniser: Whisper's encoder, a projector and a Llama decoder."""
