"""Text before it is spoken: tokenizer, normalization, segments."""
