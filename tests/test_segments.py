"""Long texts are split where a reader would breathe."""

import pytest

from mlx_voxcpm2.text import words
from mlx_voxcpm2.text.segments import Segment, is_one_segment, split_text, spoken_length
from mlx_voxcpm2.text.sentences import sentences


def texts(text: str, *settings, **named) -> list[str]:
    return [segment.text for segment in split_text(text, *settings, **named)]


def letters(text: str) -> str:
    return "".join(each for each in text if each.isalnum())


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Roe left at 3.5 p.m. today. Who?", ["Dr. Roe left at 3.5 p.m. today.", "Who?"]),
        ("你好。今天天气很好！你呢？", ["你好。", "今天天气很好！", "你呢？"]),
        ("こんにちは。元気ですか？はい。", ["こんにちは。", "元気ですか？", "はい。"]),
        ("안녕하세요. 잘 지내세요?", ["안녕하세요.", "잘 지내세요?"]),
        ("नमस्ते। आप कैसे हैं? मैं ठीक हूँ।", ["नमस्ते। आप कैसे हैं?", "मैं ठीक हूँ।"]),
        ("مرحبا بكم. كيف حالك اليوم؟ أنا بخير.", ["مرحبا بكم.", "كيف حالك اليوم؟", "أنا بخير."]),
        ("Вот И. С. Тургенев. Как дела сейчас?", ["Вот И. С. Тургенев.", "Как дела сейчас?"]),
        ("Τι κάνεις σήμερα; Καλά ευχαριστώ.", ["Τι κάνεις σήμερα;", "Καλά ευχαριστώ."]),
        ("သူသွားသည်။ ကျွန်တော်လာသည်။", ["သူသွားသည်။", "ကျွန်တော်လာသည်။"]),
        ("ជំរាបសួរលោក។ សុខសប្បាយជាទេ?", ["ជំរាបសួរលោក។", "សុខសប្បាយជាទេ?"]),
    ],
    ids="English Chinese Japanese Korean Hindi Arabic Russian Greek Burmese Khmer".split(),
)
def test_sentence_ends_are_found_in_many_scripts(text, sentences):
    longest = max(map(spoken_length, sentences))
    assert texts(text, longest) == sentences


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "en",
            "I met Ms. Lee, Gen. Ray, Mr. Roe vs. Mr. Poe, e.g. Al, at 5 p.m. Eastern on Jan. 5.",
        ),
        ("de", "Hr. Dr. Roth, Fr. Meier und z. B. Prof. Lenz, d.h. Gäste, lasen Nr. 5 und Abb. 3."),
        ("fr", "M. Dupont, Mme. Roux et Mlle. Petit, p. ex. Anne, virent l'art. 5 av. J.-C. là."),
        ("es", "El Sr. Ruiz, la Sra. Paz, Dña. Ana y Ud. Lola, p. ej. Eva, leyeron la pág. 5."),
        ("it", "Il Sig. Rossi, il Dott. Verdi e l'Avv. Neri, ad es. Anna, lessero a pag. 5."),
        ("pt", "O Sr. Silva, a Dra. Costa e o Exmo. Reis, p. ex. Ana, leram a pág. 5."),
        ("nl", "Dhr. Jansen, mevr. Visser en dr. Smit, bijv. Anna, lazen blz. 5."),
        ("pl", "Pan dr. Nowak, inż. Lis i ks. Wilk, np. Anna, czytali str. 5 na ul. Długiej."),
        ("sv", "Hr. Berg, dr. Ek och t.ex. Anna läste kap. 5 kl. 7."),
        ("ru", "Вот г. Орёл, ул. Ленина, проф. Иванов, т. е. Пётр, на стр. 5."),
        ("tr", "Dr. Kaya, Sn. Demir ve Av. Can, örn. Ali, No. 5 ve s. 7."),
        ("el", "Ο κ. Νίκος, ο Δρ. Παπάς, π.χ. Άννα, στη σελ. 5."),
    ],
    ids=lambda value: value if len(value) == 2 else "",
)
def test_no_sentence_ends_at_an_abbreviation(language, text):
    found = sentences(f"{text} {text}", language)
    assert [each.strip() for each in found] == [text, text]


@pytest.mark.parametrize(
    "text",
    [
        "Der 1. FC Köln gewann am 3. Mai.| Es war das 19. Jahrhundert.| Ich habe 3.| Du hast 4.",
        "He lives on Elm St.| She left.| St. Ives is on Elm St. near us.",
        "Foi no séc. XX.| Depois veio o séc. XXI.| D. Pedro II.| Morreu em 1891.",
        "1. Do this.| 2. Do that.",
        "Dne 1. května.| To je 20. století a ne jindy.",
        "Il sig. Rossi è a pag. 5 con gli altri.| Poi va.",
        "Dhr. Jansen is er niet.| Hij zag bijv. een huis van de buren.",
    ],
)
def test_the_language_of_a_text_tells_its_sentence_ends(text):
    found = sentences(text.replace("|", ""))
    assert [each.strip() for each in found] == [each.strip() for each in text.split("|")]


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        (
            "母のために野菜を買って市場へ行ったので体調が悪くて",
            "母のために|野菜を|買って|市場へ|行ったので|体調が|悪くて",
        ),
        ("និងផ្លែឈើស្រស់ៗសម្រាប់", "និង|ផ្លែ|ឈើ|ស្រស់ៗ|សម្រាប់"),
    ],
)
def test_endings_and_repetition_marks_stay_with_their_words(text, cuts):
    assert words.words_of(text) == cuts.split("|")


def test_an_abbreviation_may_end_a_sentence():
    text = "She left at 5 p.m. He stayed, ate, etc. They left. No. They didn't."
    assert texts(text, 24) == [
        "She left at 5 p.m.",
        "He stayed, ate, etc.",
        "They left. No.",
        "They didn't.",
    ]


THAI = ["ภาษา", "ไทย", "ไม่มี", "ช่อง", "ว่าง", "ระหว่าง", "คำ"]
LAO = ["ສະບາຍດີ", "ປະເທດ", "ລາວ"]
KHMER = ["ខ្ញុំ", "ស្រលាញ់", "ភាសា", "ខ្មែរ"]
BURMESE = ["မြန်မာ", "နိုင်ငံ", "သည်", "အရှေ့", "တောင်", "အာရှ", "တွင်"]
CHINESE = ["今天", "天气", "很", "好", "我们", "去", "公园"]
JAPANESE = ["私", "は", "学生", "です", "東京", "に"]


@pytest.mark.parametrize("words", [THAI, LAO, KHMER, BURMESE, CHINESE, JAPANESE])
def test_scripts_without_spaces_are_never_cut_inside_a_word(words):
    """Words as a reader knows them; a cut may only be where one of them ends."""
    text = "".join(words) * 12
    for limit in (30, 45, 70):
        ends, place = set(), 0
        for word in words * 12:
            place += len(word)
            ends.add(place)
        place = 0
        for part in texts(text, limit):
            place += len(part)
            assert place in ends, part
            assert spoken_length(part) <= limit


def test_characters_outside_the_first_plane_do_not_shift_the_cuts():
    assert "".join(texts("𠮷野家と😀ภาษาไทย" * 20, 40)) == "𠮷野家と😀ภาษาไทย" * 20
    assert texts("😀" + "ภาษา" * 12, 24) == ["😀" + "ภาษา" * 4, "ภาษา" * 4, "ภาษา" * 4]


def test_without_the_library_cuts_are_between_syllables(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words._warn.cache_clear()
    for syllables in (["ကျွန်", "တော်", "သည်"], ["ไม่", "มี", "เขา"], ["ខ្ញុំ", "ស្រ", "លាញ់"]):
        parts = texts("".join(syllables) * 20, 30)
        starts = tuple(each[:2] for each in syllables)
        assert "".join(parts) == "".join(syllables) * 20
        assert all(part.startswith(starts) for part in parts)
    assert caplog.text.count("mlx-voxcpm2[normalize]") == 1


def test_sentences_are_joined_as_evenly_as_possible():
    """The model speaks single words worst, such as the last one of a text."""
    text = "One two three. Four five six. Seven eight. Nine."
    assert texts(text, 44) == ["One two three. Four five six.", "Seven eight. Nine."]


def test_neither_of_two_segments_is_very_short():
    sentence = "a" * 29 + "."
    for count, expected in ((4, [2, 2]), (5, [2, 3]), (6, [3, 3])):
        segments = split_text(" ".join([sentence] * count), 100)
        assert sorted(each.sentences for each in segments) == expected


def test_a_long_sentence_is_split_after_commas_then_words_then_characters():
    text = "When it rains, as it does here, nobody goes out. Yes."
    assert texts(text, 33) == ["When it rains, as it does here,", "nobody goes out. Yes."]
    for part in texts("the " * 200, 40):
        assert 30 <= len(part) <= 40 and set(part.split()) == {"the"}
    assert "".join(texts("小雨" * 90, 60)) == "小雨" * 90
    assert all(spoken_length(part) <= 60 for part in texts("小雨" * 90, 60))
    marked = "न\u093e" * 50
    assert all(part[0] == "न" for part in texts(marked, 15)), "no vowel loses its consonant"


def test_a_word_is_split_as_seldom_as_can_be():
    """Three full segments would split the long word twice."""
    text = f"{'a' * 29} {'b' * 60} {'c' * 30}"
    assert [each.text for each in split_text(text, 40)] == ["a" * 29, "b" * 30, "b" * 30, "c" * 30]


@pytest.mark.parametrize("limit", [1, 7, 60, 1000])
def test_no_word_is_lost_and_no_segment_too_long(limit):
    text = "It was the best, the worst; of times! And 小雨很好，来了。 Dr. No?\nNext… (so) – " * 5
    found = split_text(text, limit)
    assert letters("".join(part.text for part in found)) == letters(text)
    assert sum(part.text.count("worst") for part in found) == (5 if limit > 1 else 0)
    assert all(spoken_length(part.text) <= max(limit, 3) for part in found)


def test_paragraphs_and_marks_make_pauses():
    text = "[pause: 1]Hello. [PAUSE:0.8s] World.\n\n[pause:2]\n\nNext\nline."
    text += "\n\n* * *\n\nEnd.[pause:.5]\n"
    assert split_text(text, paragraph_pause=0.3) == [
        Segment("", 1.0),
        Segment("Hello.", 0.8, 1),
        Segment("World.", 2.0, 1),
        Segment("Next line.", 0.3, 1),
        Segment("End.", 0.5, 1),
    ]
    assert split_text("One.\n\nTwo.\n\n") == [Segment("One.", 0.5, 1), Segment("Two.", 0.0, 1)]
    assert split_text("One.[pause:1][pause:2]Two.")[0].pause == 3


def test_a_short_text_is_one_segment():
    assert is_one_segment("a" * 300) and not is_one_segment("a" * 301)
    assert is_one_segment("你" * 100) and not is_one_segment("你" * 101)
    assert is_one_segment("a" * 9999, 0)
    assert is_one_segment("One.\n\nTwo.") and not is_one_segment("One.[pause:1] Two.")


@pytest.mark.parametrize(
    "mark", ["[pause:]", "[pause:long]", "[pause:-1]", "[pause:61]", "[pause:nan]"]
)
def test_an_invalid_pause_is_refused(mark):
    with pytest.raises(ValueError, match=r"is no pause; give seconds from 0 to 60"):
        split_text(f"Hello. {mark}")


def test_a_text_without_words_is_refused():
    for text in ("", " \n\n", "* * *", "[pause:1]"):
        with pytest.raises(ValueError, match="text is empty"):
            split_text(text)


def test_a_book_without_sentence_ends_is_split_quickly():
    assert 67 <= len(split_text("the " * 5000)) <= 72
