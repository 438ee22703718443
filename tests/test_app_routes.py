"""HTTP interface of the page, without a browser: speech, takes, clips, voices, and their limits."""

import asyncio
import json
import threading

import checkpoints
import mlx.core as mx
import pytest
import soundfile
from starlette.testclient import TestClient
from voice_clips import RATE, speech

from mlx_voxcpm2 import load_model, speak_dialogue
from mlx_voxcpm2.app import visitors
from mlx_voxcpm2.app.about import about
from mlx_voxcpm2.app.protection import Password
from mlx_voxcpm2.app.routes import PageRoutes
from mlx_voxcpm2.app.serving import page_application
from mlx_voxcpm2.app.speaker import Speaker
from mlx_voxcpm2.server import connection
from mlx_voxcpm2.server.access import Access
from mlx_voxcpm2.server.model_thread import ModelThread
from mlx_voxcpm2.text.vocabulary import KnownWords

OPTIONS = {"inference_timesteps": 2, "min_tokens": 4}
HOST = "http://127.0.0.1"


@pytest.fixture(scope="module")
def speaker(make_case, tmp_path_factory):
    """Speaker whose model ends as soon as it may."""
    case = make_case("released")

    def load():
        model = load_model(case.folder, dtype="float32")
        model.stop_head.weight = mx.array(checkpoints.stop_head("always", case.config))
        return model

    speaker = Speaker(ModelThread(load), tmp_path_factory.mktemp("takes"))
    yield speaker
    speaker.thread.close()


@pytest.fixture
def page(speaker, voice_folder):
    return PageRoutes(speaker, OPTIONS, "released")


@pytest.fixture
def app(page):
    return page_application(page, Access())


@pytest.fixture
def browser(app):
    """Client that has opened the page."""
    with TestClient(app, HOST) as client:
        assert client.get("/").status_code == 200
        yield client


def speak(client, text="Hello there.", voice=None, stream=True, **settings):
    """Lines of the answer to a request for speech."""
    body = {"text": text, "voice": voice or {"kind": "any"}, "settings": settings, "stream": stream}
    answer = client.post("/page/speech", json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def error_of(answer, status=422):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert "\n" not in error["message"] and "/tmp" not in error["message"]
    return error["field"], error["message"]


def uploaded(client, tmp_path, samples=None, name="clip.wav"):
    soundfile.write(tmp_path / name, speech(2.53) if samples is None else samples, RATE)
    data = (tmp_path / name).read_bytes()
    return client.post("/page/clips", params={"name": name}, content=data)


def test_the_page_loads_nothing_from_elsewhere_and_tells_what_speaks(browser):
    page = browser.get("/")
    assert "https://" not in page.text and 'lang="en"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    told = browser.get("/page/about").json()
    assert (told["model"], told["precision"]) == ("released", "float32") and told["device"]
    assert told["examples"] and told["settings"][0]["name"] in ("speed", "normalize")
    for file in ("main.js", "style.css", "icons.svg"):
        assert browser.get(f"/static/{file}").headers["cache-control"] == "no-cache"


def test_the_page_is_told_whether_a_text_alone_has_the_models_own_voice(speaker, monkeypatch):
    model = speaker.thread.model
    assert about(model, "released", OPTIONS, None)["has_own_voice"] is False
    known = KnownWords(["one"], ["woman", "man"])
    monkeypatch.setattr(model.request_builder, "vocabulary", known)
    assert about(model, "english", OPTIONS, None)["has_own_voice"] is True


def test_speech_comes_as_lines_and_becomes_a_take(browser):
    lines = speak(browser, seed="7")
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "job" and kinds[-1] == "take" and kinds.count("audio") >= 4
    take = lines[-1]["take"]
    assert take["seed"] == "7" and take["settings"] == {"seed": "7"} and take["mode"] == "zero-shot"
    assert browser.get("/page/takes").json() == [take]
    sound = browser.get(f"/page/takes/{take['id']}/speech.wav")
    assert sound.content[:4] == b"RIFF" and "zero-shot-seed-7.wav" in str(sound.headers)
    assert browser.get(f"/page/takes/{take['id']}/subtitles.vtt").text.startswith("WEBVTT")
    for name in ("speech.exe", "subtitles.wav", "speech"):
        assert browser.get(f"/page/takes/{take['id']}/{name}").status_code == 404
    assert browser.delete(f"/page/takes/{take['id']}").status_code == 200
    error_of(browser.delete(f"/page/takes/{take['id']}"), 404)
    assert browser.get("/page/takes").json() == []


def test_what_a_voice_leaves_out_is_found_outside_the_event_loop(browser, speaker, monkeypatch):
    threads = {}

    def faults(task):
        threads["faults"] = threading.get_ident()
        return ["this voice leaves out '你'"]

    def speak_there(task):
        threads["loop"] = threading.get_ident()
        return speak_of(task)

    speak_of = speaker.thread.speak
    monkeypatch.setattr(speaker.thread, "faults", faults)
    monkeypatch.setattr(speaker.thread, "speak", speak_there)
    assert "this voice leaves out '你'" in speak(browser)[-1]["take"]["remarks"]
    assert threads["faults"] != threads["loop"]


def test_speech_that_is_not_streamed_has_no_audio_lines(browser):
    kinds = {line["type"] for line in speak(browser, stream=False)}
    assert "audio" not in kinds and "take" in kinds


def test_takes_belong_to_one_visitor(app, browser):
    take = speak(browser)[-1]["take"]
    with TestClient(app, HOST) as other:
        error_of(other.get("/page/takes"))  # it has not opened the page
        other.get("/")
        assert other.get("/page/takes").json() == []
        error_of(other.get(f"/page/takes/{take['id']}/speech.wav"), 404)


def test_a_page_that_is_open_goes_on_after_a_restart(browser, speaker):
    restarted = page_application(PageRoutes(speaker, OPTIONS, "released"), Access())
    with TestClient(restarted, HOST, cookies=browser.cookies) as client:
        assert client.get("/page/takes").json() == []
        assert speak(client)[-1]["type"] == "take"
        assert len(client.get("/page/takes").json()) == 1


def test_those_who_were_not_here_for_the_longest_are_forgotten(app, browser, page, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_VISITORS", 2)
    take = speak(browser)[-1]["take"]
    file = next(iter(page.visitors.find_or_add(visitor_of(browser)).takes.values())).file
    for _ in range(2):
        with TestClient(app, HOST) as other:
            other.get("/")
            other.get("/page/takes")
    error_of(browser.get(f"/page/takes/{take['id']}/speech.wav"), 404)
    assert not file.exists()


def visitor_of(client):
    """Id in the client's cookie."""
    return next(iter(client.cookies.values()))


def test_a_program_that_only_looks_at_the_page_displaces_nobody(app, browser, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_VISITORS", 2)
    take = speak(browser)[-1]["take"]
    for _ in range(3):
        with TestClient(app, HOST) as monitor:
            assert "composer" in monitor.get("/").text
            assert monitor.get("/page/about").status_code == 200
    assert browser.get("/page/takes").json() == [take]


def test_a_browser_keeps_its_identity_when_it_opens_the_page_again(browser):
    first = visitor_of(browser)
    browser.get("/")
    assert visitor_of(browser) == first


@pytest.mark.parametrize("chosen", ["", "admin", "0" * 31, "0" * 33, "A" * 32, "٠" * 32, "../x"])
def test_a_cookie_that_no_page_has_set_is_refused_and_replaced(app, browser, page, chosen):
    take = speak(browser)[-1]["take"]
    name = next(iter(browser.cookies))
    header = {"cookie": f"{name}={chosen}".encode()}
    with TestClient(app, HOST) as other:
        for _ in range(2):
            error_of(other.get("/page/takes", headers=header))
            error_of(other.get(f"/page/takes/{take['id']}/speech.wav", headers=header))
        other.get("/", headers=header)
        assert len(bytes.fromhex(visitor_of(other))) == 16
        assert visitor_of(other) not in (chosen, visitor_of(browser))
    assert list(page.visitors._visitors) == [visitor_of(browser)]


def test_a_cookie_of_an_unknown_visitor_has_nothing_of_the_others(app, browser):
    take = speak(browser)[-1]["take"]
    with TestClient(app, HOST, cookies={next(iter(browser.cookies)): "0" * 32}) as other:
        assert other.get("/page/takes").json() == []
        error_of(other.get(f"/page/takes/{take['id']}/speech.wav"), 404)
    assert browser.get("/page/takes").json() == [take]


def test_the_oldest_take_goes(browser, speaker, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_TAKES", 2)
    before = set(speaker.folder.iterdir())
    takes = [speak(browser, f"Number {number}.")[-1]["take"] for number in range(3)]
    shown = [take["id"] for take in browser.get("/page/takes").json()]
    assert shown == [takes[2]["id"], takes[1]["id"]]
    assert len(set(speaker.folder.iterdir()) - before) == 2


SCRIPT = "Anna: Hello there.\n(A door.)\nBen (sad): Hi.\nAnna: Bye."


def dialogue(client, script=SCRIPT, voices=None, **settings):
    body = {"script": script, "voices": voices or {}, "settings": {"seed": "7"} | settings}
    return client.post("/page/speech", json=body)


def test_a_dialogue_becomes_one_take_with_its_speakers(browser, speaker):
    voices = {"Ben": {"kind": "described", "description": "An old man"}, "Gone": {"kind": "saved"}}
    answer = dialogue(browser, voices=voices)
    take = json.loads(answer.text.splitlines()[-1])["take"]
    assert (take["text"], take["mode"], take["voice_label"]) == (SCRIPT, "dialogue", "Anna, Ben")
    assert take["voices"]["Ben"]["description"] == "An old man" and [*take["voices"]] == [
        "Anna",
        "Ben",
    ]
    vtt = browser.get(f"/page/takes/{take['id']}/subtitles.vtt").text
    assert [line for line in vtt.splitlines() if line.startswith("<v")] == [
        "<v Anna>Hello there.",
        "<v Ben>Hi.",
        "<v Anna>Bye.",
    ]
    sound = browser.get(f"/page/takes/{take['id']}/speech.wav")
    assert "dialogue-seed-7.wav" in str(sound.headers)
    error_of(browser.post("/page/voices", json={"name": "anna", "take": take["id"]}))
    options = {"inference_timesteps": 2, "min_tokens": 4, "seed": 7}
    wanted = list(
        speaker.thread.submit(
            lambda model: list(
                speak_dialogue(model, SCRIPT, {"Ben": "design: An old man"}, **options)
            )
        ).result()
    )
    assert take["duration"] == round(sum(len(each.audio) for each in wanted) / 48000, 2)


def test_speakers_are_told_while_a_script_is_written(browser):
    def found(script):
        return browser.post("/page/script", json={"script": script}).json()

    assert found(SCRIPT) == {
        "speakers": [
            {"name": "Anna", "line": 1, "turns": 2},
            {"name": "Ben", "line": 3, "turns": 1},
        ],
        "left_out": [[2, "(A door.)"]],
        "error": "",
    }
    assert found(" ") == {"speakers": [], "left_out": [], "error": ""}
    assert found("Hello.")["speakers"] == [{"name": "Speaker 1", "line": 1, "turns": 1}]
    wrong = found("Anna: Hello.\nBen:\nAnna: Yes.")
    assert wrong["speakers"] is None and "line 2: Ben says nothing" in wrong["error"]
    assert error_of(browser.post("/page/script", json={"script": 5}))[0] == ""
    assert error_of(browser.post("/page/script", json={"script": "a" * 200_001}))[0] == "script"


@pytest.mark.parametrize(
    ("script", "voices", "field", "words"),
    [
        (" ", {}, "script", "in lines such as"),
        ("Anna: Hi.\nBen:\nAnna: Yes.", {}, "script", "line 2: Ben says nothing"),
        ("Anna: Hi [pause:x]", {}, "script", "line 1: [pause:x] is no pause"),
        (SCRIPT, {"Ben": {"kind": "described"}}, "speaker Ben", "Say what the voice is like"),
        (SCRIPT, {"Ben": {"kind": "saved", "voice": "/etc/x"}}, "speaker Ben", "There is no voice"),
        (
            SCRIPT,
            {"Anna": {"kind": "clip", "clip": "gone"}},
            "speaker Anna",
            "is not here any more",
        ),
        (SCRIPT, {"Anna": {"kind": "clip"}}, "speaker Anna", "Record the voice"),
        (SCRIPT, {"Anna": 5}, "speaker Anna", "reload the page"),
        (SCRIPT, [5], "", "reload the page"),
    ],
)
def test_errors_of_a_dialogue_are_those_of_the_script_or_a_speaker(
    browser, script, voices, field, words
):
    found, message = error_of(dialogue(browser, script, voices))
    assert found == field and words in message


def test_a_clip_is_the_voice_of_a_speaker_and_settings_hold_for_dialogues(browser, tmp_path):
    clip = uploaded(browser, tmp_path).json()["id"]
    voices = {"Speaker 1": {"kind": "clip", "clip": clip}}
    one, two = (
        json.loads(
            dialogue(browser, "1: Hi.\n2: Yes.", voices, turn_pause=pause).text.splitlines()[-1]
        )
        for pause in ("0.1", "0.6")
    )
    assert round(two["take"]["duration"] - one["take"]["duration"], 2) == 0.5
    assert error_of(dialogue(browser, turn_pause="x"))[0] == "turn_pause"


def test_errors_name_their_field(browser):
    body = {"text": " ", "voice": {"kind": "any"}, "settings": {}}
    assert error_of(browser.post("/page/speech", json=body))[0] == "text"
    body = {"text": "Hi.", "voice": {"kind": "described"}, "settings": {}}
    assert error_of(browser.post("/page/speech", json=body))[0] == "description"
    body = {"text": "Hi.", "voice": {"kind": "any"}, "settings": {"seed": "x"}}
    assert error_of(browser.post("/page/speech", json=body))[0] == "seed"


@pytest.mark.parametrize("data", [b"", b"{", b"[1", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_an_error(browser, data):
    headers = {"content-type": "application/json"}
    error_of(browser.post("/page/speech", content=data, headers=headers))


def test_json_needs_its_content_type(browser):
    """A page of another site can send only other types without asking first."""
    text = json.dumps({"text": "Hi."})
    headers = {"content-type": "text/plain"}
    answer = browser.post("/page/speech", content=text, headers=headers)
    assert "Content-Type" in error_of(answer, 415)[1]


def test_a_clip_is_uploaded_heard_and_spoken_in(browser, tmp_path):
    clip = uploaded(browser, tmp_path).json()
    assert (clip["name"], clip["seconds"], clip["problems"]) == ("clip.wav", 2.5, [])
    assert browser.get(f"/page/clips/{clip['id']}").json() == clip
    assert browser.get(f"/page/clips/{clip['id']}/sound").content[:4] == b"RIFF"
    voice = {"kind": "clip", "clip": clip["id"], "style": "sad"}
    assert speak(browser, voice=voice)[-1]["take"]["mode"] == "reference"
    error_of(browser.get("/page/clips/none"), 404)


def test_a_clips_faults_are_told_when_it_is_uploaded(browser, tmp_path):
    assert "quiet" in uploaded(browser, tmp_path, speech(level=0.01)).json()["problems"][0]
    field, message = error_of(uploaded(browser, tmp_path, 0 * speech()))
    assert field == "clip" and "silence" in message
    field, message = error_of(browser.post("/page/clips", content=b"no sound at all"))
    assert field == "clip" and "ref_audio" not in message
    assert error_of(browser.post("/page/clips", content=b""))[0] == "clip"


def test_an_upload_is_bounded(browser, page, monkeypatch):
    monkeypatch.setattr(page.bodies._clips, "limit", 1000)
    assert error_of(browser.post("/page/clips", content=b"x" * 1001), 413)[0] == "clip"
    chunks = (b"x" * 100 for _ in range(11))  # without a Content-Length
    assert error_of(browser.post("/page/clips", content=chunks), 413)[0] == "clip"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/page/speech", {"text": "Once. "}), ("/page/script", {"script": "Anna: Once.\n"})],
)
def test_a_text_that_is_longer_than_a_body_is_told_the_limit_of_texts(browser, path, body):
    novel = {name: text * 200_000 for name, text in body.items()}
    field, message = error_of(browser.post(path, json=novel), 413)
    assert field == "" and "200000 characters" in message and "clip" not in message


def test_a_text_and_a_clip_that_come_too_slowly_have_errors_of_their_own(app, browser, page):
    page.bodies._json.seconds = page.bodies._clips.seconds = 0.05
    client = Client(app, f"{next(iter(browser.cookies))}={visitor_of(browser)}")
    for path, field in (("/page/speech", ""), ("/page/clips", "clip")):
        answer = []

        async def note(message, answer=answer):
            answer.append(message)

        asyncio.run(client.request("POST", path, receive=never, send=note))
        start, *chunks = answer
        error = json.loads(b"".join(chunk["body"] for chunk in chunks))["error"]
        assert start["status"] == 408 and error["field"] == field


def test_clips_of_all_visitors_are_bounded(app, browser, tmp_path, monkeypatch):
    old = uploaded(browser, tmp_path).json()["id"]
    monkeypatch.setattr(visitors, "MOST_CLIP_BYTES", 4 * 2.6 * 16000)
    with TestClient(app, HOST) as other:
        other.get("/")
        new = uploaded(other, tmp_path).json()["id"]
        assert other.get(f"/page/clips/{new}").status_code == 200
    error_of(browser.get(f"/page/clips/{old}"), 404)


def test_words_are_filled_in_by_a_recogniser(browser, tmp_path, monkeypatch):
    place = "mlx_voxcpm2.app.transcription.load_recogniser"
    monkeypatch.setattr(place, lambda name: lambda audio, rate: " What it says. ")
    clip = uploaded(browser, tmp_path).json()["id"]
    assert browser.post(f"/page/clips/{clip}/words").json() == {"words": "What it says."}


def test_a_recogniser_that_is_missing_is_an_error_at_the_words(browser, tmp_path, monkeypatch):
    def missing(name):
        raise ValueError("speech recognition needs mlx-audio")

    monkeypatch.setattr("mlx_voxcpm2.app.transcription.load_recogniser", missing)
    clip = uploaded(browser, tmp_path).json()["id"]
    field, message = error_of(browser.post(f"/page/clips/{clip}/words"))
    assert field == "words" and "needs mlx-audio" in message


def test_voices_are_kept_listed_heard_renamed_and_deleted(browser, tmp_path):
    take = speak(browser)[-1]["take"]["id"]
    clip = uploaded(browser, tmp_path).json()["id"]
    choice = {"kind": "clip", "clip": clip, "continues": True, "words": "What it says."}
    assert browser.post("/page/voices", json={"name": "anna", "take": take}).status_code == 200
    kept = browser.post("/page/voices", json={"name": "Bert", "voice": choice}).json()
    assert kept == {"name": "Bert", "notes": []}
    listed = browser.get("/page/voices").json()
    assert [(voice["name"], voice["words"]) for voice in listed] == [
        ("anna", "Hello there."),
        ("Bert", "What it says."),
    ]
    assert browser.get("/page/voices/anna/sound").content[:4] == b"RIFF"
    assert browser.patch("/page/voices/anna", json={"name": "Anna"}).json() == {"name": "Anna"}
    saved = {"kind": "saved", "voice": "Anna"}
    assert speak(browser, voice=saved)[-1]["take"]["voice_label"] == "Anna"
    field, message = error_of(browser.patch("/page/voices/Anna", json={"name": "bert"}))
    assert field == "name" and "already" in message
    assert browser.delete("/page/voices/Anna").status_code == 200
    assert [voice["name"] for voice in browser.get("/page/voices").json()] == ["Bert"]
    error_of(browser.delete("/page/voices/Anna"))


def test_a_voice_is_not_kept_under_a_name_that_is_taken_or_a_path(browser):
    take = speak(browser)[-1]["take"]["id"]
    assert browser.post("/page/voices", json={"name": "anna", "take": take}).status_code == 200
    for name in ("ANNA", "", "../x", "a.safetensors"):
        field, _ = error_of(browser.post("/page/voices", json={"name": name, "take": take}))
        assert field == "name"
    error_of(browser.post("/page/voices", json={"name": "bert", "take": "none"}), 404)
    error_of(browser.post("/page/voices", json={"name": "bert", "voice": {"kind": "any"}}))


def test_a_damaged_voice_is_listed_without_being_offered(browser, voice_folder):
    voice_folder.mkdir(parents=True)
    (voice_folder / "broken.safetensors").write_bytes(b"nothing")
    (voice,) = browser.get("/page/voices").json()
    assert voice["name"] == "broken" and voice["error"]


def test_a_page_with_a_password_opens_only_with_it(speaker, monkeypatch, voice_folder):
    monkeypatch.setattr("mlx_voxcpm2.app.protection.WRONG_PASSWORD_DELAY", 0)
    password = Password("open sesame")
    page = PageRoutes(speaker, OPTIONS, "released", password)
    app = page_application(page, Access(), password)
    with TestClient(app, HOST) as client:
        login = client.get("/")
        assert login.url.path == "/login" and "password" in login.text
        for path in ("/page/about", "/page/takes", "/static/main.js"):
            error_of(client.get(path), 401)
        wrong = client.post("/login", json={"password": "sesame"})
        assert error_of(wrong, 401)[0] == "password"
        assert client.post("/login", json={"password": "open sesame"}).status_code == 200
        assert "composer" in client.get("/").text
        assert client.get("/page/takes").json() == []


# Attacks: requests as an ASGI server hands them over, whose clients misbehave.


class Client:
    """A client of the application, with the cookie of a visitor."""

    def __init__(self, app, cookie):
        self.app, self.cookie = app, cookie

    async def request(self, method, path, body=b"", receive=None, send=None):
        """The status of the answer. receive, send: of a client that behaves differently."""
        sent = []

        async def note(message):
            sent.append(message)

        bodies = [{"type": "http.request", "body": body, "more_body": False}]

        async def give():
            if bodies:
                return bodies.pop()
            await asyncio.sleep(3600)

        headers = {"host": "127.0.0.1", "cookie": self.cookie, "content-type": "application/json"}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self.app(scope, receive or give, send or note)
        return sent[0]["status"] if sent else None

    def speech(self, **given):
        return self.request("POST", "/page/speech", LONG_REQUEST, **given)


LONG_REQUEST = json.dumps(
    {"text": "Word " * 50, "voice": {"kind": "any"}, "settings": {"min_tokens": "300"}}
).encode()


@pytest.fixture
def new_client(app):
    """Function that opens the page for another visitor."""

    def make() -> Client:
        with TestClient(app, HOST) as client:
            client.get("/")
            cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        return Client(app, cookies)

    return make


async def never(*_):
    await asyncio.sleep(3600)


async def until(condition):
    """Wait for a condition."""
    while not condition():
        await asyncio.sleep(0.01)


def test_thirty_nine_streams_that_nobody_reads_do_not_block_the_page(new_client, page, speaker):
    clients = [new_client() for _ in range(39)]

    async def attack():
        stalled = [asyncio.ensure_future(each.speech(send=never)) for each in clients]
        await until(lambda: page.visitors.jobs == visitors.MOST_JOBS_IN_ALL)
        assert await clients[0].request("GET", "/page/takes") == 200
        assert await clients[0].speech() == 503  # it is told at once that there is no place
        for each in stalled:
            each.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        await until(lambda: speaker.thread.unfinished == page.visitors.jobs == 0)

    asyncio.run(asyncio.wait_for(attack(), 60))


def test_a_reader_that_stalls_is_cut_off(new_client, page, speaker, monkeypatch):
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.05)

    async def attack():
        await new_client().speech(send=never)
        await until(lambda: speaker.thread.unfinished == 0)
        assert page.visitors.jobs == 0

    asyncio.run(asyncio.wait_for(attack(), 60))


def test_one_visitor_has_few_streams_and_leaving_frees_their_places(new_client, page, speaker):
    client = new_client()

    async def visit():
        has_left = asyncio.Event()

        def listener():
            messages = [{"type": "http.request", "body": LONG_REQUEST, "more_body": False}]

            async def receive():
                if messages:
                    return messages.pop()
                await has_left.wait()
                return {"type": "http.disconnect"}

            return receive

        streams = [asyncio.ensure_future(client.speech(receive=listener())) for _ in range(2)]
        await until(lambda: page.visitors.jobs == 2)
        assert await client.speech() == 503
        has_left.set()
        await asyncio.gather(*streams)
        await until(lambda: speaker.thread.unfinished == 0)
        assert page.visitors.jobs == 0

    asyncio.run(asyncio.wait_for(visit(), 60))


def test_a_sender_that_stalls_is_cut_off(new_client, page, monkeypatch):
    monkeypatch.setattr(page.bodies._clips, "seconds", 0.05)
    client = new_client()
    assert asyncio.run(client.request("POST", "/page/clips", receive=never)) == 408
