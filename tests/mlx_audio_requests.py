"""Sends requests to mlx-audio's own server code, after `register()`, as its HTTP route does.

Writes the responses to files in FOLDER, and prints their names or errors as JSON. Runs in a process
of its own: python mlx_audio_requests.py CHECKPOINT FOLDER
"""

import json
import os
import sys
from pathlib import Path

from mlx_voxcpm2.mlx_audio import PluginModel, register


def answers(handle) -> list:
    """Responses to one request: the contents of files, or the error's message."""
    found = []
    while (chunk := handle.result_queue.get(timeout=60)).kind != "done":
        found.append(str(chunk.error) if chunk.kind == "error" else chunk.payload)
    return found


def main(checkpoint: str, folder: str) -> None:
    register()
    from mlx_audio import server

    broker = server.get_inference_broker()

    def ask(text: str, **fields: object):
        request = server.SpeechRequest(
            model=checkpoint, input=text, response_format="wav", **fields
        )
        payload = server.SpeechTaskPayload(request=request)
        return broker.submit(endpoint_kind="tts", model_name=checkpoint, payload=payload)

    asked = {
        "plain": ask("Hello there.", max_tokens=3),
        "beside": ask("Hello there.", max_tokens=3, voice="anna"),
        "design": ask("Hello there.", max_tokens=3, instruct="An old man"),
        "stream": ask("Hello there.", max_tokens=3, stream=True, streaming_interval=0.2),
        "clip": ask("Hello there.", max_tokens=3, ref_audio=f"{folder}/clip.wav"),
        "unknown": ask("Hello there.", voice="alloy"),
        "path": ask("Hello there.", voice=f"{folder}/voices/anna.safetensors"),
        "fast": ask("Hello there.", max_tokens=3, speed=2.0),
        "too fast": ask("Hello there.", speed=9.0),
        "empty": ask(" "),
    }
    gone = ask("Hello there. " * 20, max_tokens=4096)
    gone.cancel()
    report = {}
    for name, handle in asked.items():
        report[name] = []
        for index, answer in enumerate(answers(handle)):
            if isinstance(answer, bytes):
                file = Path(folder) / f"{name}-{index}.wav"
                file.write_bytes(answer)
                answer = str(file)
            report[name].append(answer)
    plugin = server.model_provider.models[checkpoint]
    report["is_ours"] = isinstance(plugin, PluginModel)
    print(json.dumps(report), flush=True)
    os._exit(0)  # the broker's thread has the model


if __name__ == "__main__":
    main(*sys.argv[1:])
