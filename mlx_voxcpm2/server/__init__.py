"""HTTP server with OpenAI's speech API."""
