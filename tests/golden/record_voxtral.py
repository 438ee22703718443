"""Records what transformers and mistral-common make of the tiny Voxtral checkpoints.

They need an environment of their own, and run from the folder `tests`:

    pip install torch transformers==5.23.0 mistral-common==1.13.1 numpy safetensors soundfile soxr
    python -m golden.record_voxtral

Written are `voxtral.safetensors`, float32, and `voxtral.json`. Sounds and weights are not stored,
they are those of `voxtral_checkpoints`. Letters: H width of the decoder, V vocabulary.

    mel.{name}          frames FRAMES of the log-mel spectrogram of SOUNDS[name], (frames, 128)
    {variant}.stem, .layer.{i}, .encoder    states of `short_mel()`, every 25th
    {variant}.projector [50, H]  embeddings of `short_mel()`
    {variant}.epsilon   first layer's output for the stem * 0.003, every 25th
    {variant}.encoder_norm  the encoder's last norm of the stem * 0.003, every 25th
    {variant}.decoder_norm [36, H]  the decoder's, of control tokens' embeddings * 0.003
    {variant}.audio     embeddings of the sound of 31 s, every 25th
    {variant}.logits    [3, V]   the last ones of the prompt for that sound's transcript, in en
    {variant}.text      [L, V]   of the question without a sound
    own_head.ask        [2, V]   the last ones of the question about the sound of 3 s
    own_head.end_row    [H]      the output head's row of </s>, by which a transcript ends
    own_head.score      of SCORED after the prompt of the sound of 3 s, and of </s>
"""

import base64
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
import voxtral_checkpoints as made
from mistral_common.protocol.instruct.chunk import AudioChunk, TextChunk
from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from safetensors.torch import load_file, save_file
from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

HERE = Path(__file__).parent
FRAMES = [0, 1, 2, 3, 150, 299, 300, 301, 900, 2998, 2999, 3000, 3001, 3050, 3098, 3101, 4000, 5999]
TEXTS = [
    "Hello world.", " and so, my fellow Americans", "naïve café, 12.5 %", "今天天气很好。",
    "नमस्ते दुनिया", "line one\nline two\r\n\n  indented", "👩‍👩‍👧 emoji", "", " ", "don't I'LL",
    "a" * 40, "[INST] is text <s>",
]  # fmt: skip
QUESTION, SCORED = "What is said?", "Hello, 今天."


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    golden: dict[str, torch.Tensor] = {}
    sounds = {"click": made.sound(0.01), "31s": made.sound(31.0), "quiet": made.quiet_beginning()}
    for name, samples in sounds.items():
        mel = log_mel(samples).transpose(1, 2).reshape(-1, 128)
        golden[f"mel.{name}"] = mel[[i for i in FRAMES if i < len(mel)]]
    notes: dict = {"frames": FRAMES, "ranks": first_ranks()}
    with tempfile.TemporaryDirectory() as scratch:
        for variant in made.VARIANTS:
            folder = made.write_checkpoint(Path(scratch) / variant, variant, notes["ranks"])
            record(variant, folder, golden, notes)
    golden = {name: value.contiguous().clone() for name, value in sorted(golden.items())}
    save_file(golden, HERE / "voxtral.safetensors")
    text = json.dumps(notes, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / "voxtral.json").write_text(text + "\n", encoding="utf-8")


def first_ranks() -> list[str]:
    """The first tokens of the tokenizer that mistral-common ships (Apache-2.0), in base64."""
    import mistral_common

    file = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["config"]["pattern"] == made.PATTERN, data["config"]["pattern"]
    return [each["token_bytes"] for each in data["vocab"][: made.RANKS]]


def log_mel(samples: np.ndarray) -> torch.Tensor:
    """(chunks, 128, 3000), of a sound padded as mistral-common pads it."""
    padded = np.pad(samples, (0, -len(samples) % (30 * made.RATE)))
    options = {"padding": True, "truncation": False, "pad_to_multiple_of": 480000}
    extractor = WhisperFeatureExtractor(feature_size=128)
    mel = extractor(padded, sampling_rate=made.RATE, return_tensors="pt", **options)
    return mel["input_features"].reshape(128, -1, 3000).transpose(0, 1).contiguous()


def build(variant: str, folder: Path) -> VoxtralForConditionalGeneration:
    """The model, loaded strictly by the names that transformers has in memory."""
    config = VoxtralConfig(**json.loads((folder / "config.json").read_text()))
    model = VoxtralForConditionalGeneration(config).eval().float()
    weights = {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("language_model.") if "lm_head" in name else f"model.{name}"
        weights[name.replace("language_model.model.", "language_model.")] = value
    if made.VARIANTS[variant]["tied"]:
        weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    model.load_state_dict(weights, strict=True)
    return model


class Prompts:
    """mistral-common's tokenizer of a tekken.json."""

    def __init__(self, file: Path):
        self.all = MistralTokenizer.from_file(str(file))
        self.tekken = self.all.instruct_tokenizer.tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tekken.encode(text, bos=False, eos=False)

    def transcribe(self, samples: np.ndarray, language: str | None) -> list[int]:
        request = TranscriptionRequest(audio=wav_base64(samples), language=language)
        return self.all.encode_transcription(request).tokens

    def ask(self, *parts: str | np.ndarray) -> list[int]:
        content = [
            TextChunk(text=part)
            if isinstance(part, str)
            else AudioChunk(input_audio=wav_base64(part))
            for part in parts
        ]
        request = ChatCompletionRequest(messages=[UserMessage(content=content)])
        return self.all.encode_chat_completion(request).tokens


def wav_base64(samples: np.ndarray) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, made.RATE, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()


@torch.no_grad()
def record(variant: str, folder: Path, golden: dict, notes: dict) -> None:
    model, prompts = build(variant, folder), Prompts(folder / "tekken.json")
    stages(variant, model, golden)
    brief, long = made.sound(3.0), made.sound(31.0)
    mel = log_mel(long)
    features = model.get_audio_features(mel, return_dict=True).pooler_output
    golden[f"{variant}.audio"] = features[::25]
    if variant == "own_head":
        record_end(model, prompts.transcribe(brief, "en"), log_mel(brief), golden)
    golden[f"{variant}.logits"] = logits(model, prompts.transcribe(long, "en"), mel)[-3:]
    golden[f"{variant}.text"] = logits(model, prompts.ask(QUESTION), None)
    if variant == "own_head":
        record_texts(model, prompts, brief, long, golden, notes)


def stages(variant: str, model: VoxtralForConditionalGeneration, golden: dict) -> None:
    """Every stage of the encoder, and the projector."""
    tower, gelu = model.model.audio_tower, torch.nn.functional.gelu
    mel = torch.from_numpy(made.short_mel()).transpose(1, 2)
    x = gelu(tower.conv2(gelu(tower.conv1(mel)))).transpose(1, 2)
    stem = x = x + tower.embed_positions.weight[: x.shape[1]]
    golden[f"{variant}.stem"] = x[:, ::25]
    for i, layer in enumerate(tower.layers):
        x = output(layer(x, None))
        golden[f"{variant}.layer.{i}"] = x[:, ::25]
    x = tower.layer_norm(x)
    golden[f"{variant}.encoder"] = x[:, ::25]
    inner = model.config.audio_config.intermediate_size
    golden[f"{variant}.projector"] = model.model.multi_modal_projector(x.reshape(-1, inner))
    golden[f"{variant}.epsilon"] = output(tower.layers[0](stem * 0.003, None))[:, ::25]
    golden[f"{variant}.encoder_norm"] = tower.layer_norm(stem * 0.003)[:, ::25]
    decoder = model.model.language_model
    few = decoder.embed_tokens.weight[: made.SPECIALS] * 0.003
    golden[f"{variant}.decoder_norm"] = decoder.norm(few)


def output(x: torch.Tensor | tuple) -> torch.Tensor:
    return x[0] if isinstance(x, tuple) else x


def logits(model: VoxtralForConditionalGeneration, ids: list[int], mel) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), input_features=mel).logits[0]


def greedy(model, ids: list[int], mel, count: int) -> tuple[list[int], list[float], torch.Tensor]:
    """Tokens, their log-probabilities and the hidden states before them, without a cache.

    Two best ones that are nearly equal would make a golden value that says nothing: they raise.
    """
    tokens, scores, hidden = [], [], []
    while len(tokens) < count and 2 not in tokens:
        whole = torch.tensor([ids + tokens])
        state = model.model(input_ids=whole, input_features=mel).last_hidden_state[0, -1]
        log_probs = torch.log_softmax(model.lm_head(state), -1)
        first, second = log_probs.topk(2).values.tolist()
        assert first - second > 1e-3, "a near tie: change the sound"
        tokens.append(int(log_probs.argmax()))
        scores.append(first)
        hidden.append(state)
    return tokens, scores, torch.stack(hidden)


def record_end(model, ids: list[int], mel, golden: dict) -> None:
    """Has the row of </s> point to where the state is after some tokens, so far that they end."""
    _, _, hidden = greedy(model, ids, mel, 12)
    for count in range(5, 12):
        way = hidden[count] - hidden[:count].mean(0)
        for size in (2.0, 3.0, 4.0, 6.0, 8.0):
            model.lm_head.weight[2] = golden["own_head.end_row"] = size * way / way.norm()
            tokens, _, _ = greedy(model, ids, mel, 12)
            if tokens[-1] == 2 and len(tokens) > 4:
                return
    raise SystemExit("no text ends: change the sound")


def record_texts(
    model, prompts: Prompts, brief: np.ndarray, long: np.ndarray, golden: dict, notes: dict
) -> None:
    notes["encoded"] = [{"text": text, "ids": prompts.encode(text)} for text in TEXTS]
    ids = prompts.encode("今天 नमस्ते 👩‍👩‍👧")
    notes["decoded"] = [
        {"ids": part, "text": prompts.tekken.decode(part)}
        for part in (ids, [1, 3, *ids, 2], ids[:-1], ids[1:], [24, 25, 34])
    ]
    notes["prompts"] = [
        {"chunks": count, "language": language, "ids": short(prompts.transcribe(x, language))}
        for count, x in ((1, brief), (2, long))
        for language in ("en", None, "hi")
    ]
    notes["asks"] = [
        {"parts": [p if isinstance(p, str) else -(-len(p) // 480000) for p in parts],
         "ids": short(prompts.ask(*parts))}
        for parts in ((QUESTION,), (brief, QUESTION), (brief, long, "Same?"), ("Listen: ", long))
    ]  # fmt: skip
    mel = log_mel(brief)
    golden["own_head.ask"] = logits(model, prompts.ask(brief, QUESTION), mel)[-2:]
    ids = prompts.transcribe(brief, "en")
    tokens, scores, _ = greedy(model, ids, mel, 12)
    assert tokens[-1] == 2, "the text does not end"
    notes["transcript"] = {
        "tokens": tokens, "log_probs": scores, "text": prompts.tekken.decode(tokens)
    }  # fmt: skip
    target = [*prompts.encode(SCORED), 2]
    rows = torch.log_softmax(logits(model, ids + target[:-1], mel), -1)[len(ids) - 1 :]
    golden["own_head.score"] = rows[torch.arange(len(target)), torch.tensor(target)]


def short(ids: list[int]) -> list:
    """Runs of [AUDIO] as [count]."""
    result: list = []
    for each in ids:
        if each != made.AUDIO:
            result.append(each)
        elif result and isinstance(result[-1], list):
            result[-1][0] += 1
        else:
            result.append([1])
    return result


if __name__ == "__main__":
    main()
