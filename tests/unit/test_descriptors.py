"""Cleaned texts: what identifies goes, in any order, script and notation; what is certain stays; the rest goes too."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.descriptors import Identities, cleaned, dates_in, folded, vocabulary

KNOWN = Identities.of(
    ["Zweifelsfrei^Adelheid^Maria", "Müller^Jürgen", "山田^太郎", "Hand^Peter"],
    ["PID-7731-QX", "Klinikum Oberammerthal", "ACC 55102"],
    [date(2024, 3, 12), date(1951, 4, 17)],
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Face, frontal", "Face, frontal"),
        ("LEFT FOREARM", "LEFT FOREARM"),
        ("Photo of Zweifelsfrei", "Photo of"),
        ("left forearm, ADELHEID ZWEIFELSFREI", "left forearm"),
        ("Zweifelsfrei, Adelheid Maria: scalp", "scalp"),
        ("Close-up of the nose (Adelheid)", "Close-up of the nose"),
        ("Muller J\u0308urgen left cheek", ""),  # part of the name is not recognised, so nothing is certain
        ("Mu\u0308ller left cheek", "left cheek"),  # the same letters, composed otherwise
        ("Ｍａｒｉａ left arm", "left arm"),  # full width
        ("山田 太郎 left arm", "left arm"),
        ("山田太郎の左前腕", ""),
        ("PID-7731-QX left arm", "left arm"),
        ("PID 7731 QX left arm", ""),
        ("left arm 12.03.2024", "left arm"),
        ("left arm March 12, 2024", "left arm"),
        ("left arm, 3 months after", "left arm, 3 months after"),
        ("Verlaufskontrolle 3 Monate, re. Wange", "Verlaufskontrolle 3 Monate, re. Wange"),
        ("Linker Unterarm, Frau Schulz", ""),
        ("Dr Fox", ""),
        ("Seen by Dr Fox. Left knee.", "Left knee."),
        ("left hand", "left"),  # the patient is called so
        ("030 123 456 face", ""),
        ("face 4711", ""),
        ("http://hospital.example/face", ""),
        ("face@hospital", ""),
        ("^^", ""),
        ("", ""),
        ("Protocol 5", "Protocol 5"),
        ("dermoscopy 10x polarized", "dermoscopy 10x polarized"),
    ],
)
def test_what_stays_of_a_text(text: str, left: str) -> None:
    assert cleaned(text, KNOWN) == left


def test_lines_of_a_long_text_are_judged_one_by_one() -> None:
    assert cleaned("left arm\r\nDr Fox called\nscar, healed", KNOWN) == "left arm\nscar, healed"


def test_words_of_the_site_may_stay() -> None:
    assert cleaned("Zebra 3 face", KNOWN) == ""
    assert cleaned("Zebra 3 face", KNOWN, frozenset({"zebra"})) == "Zebra 3 face"


@given(st.text(max_size=60))
def test_every_word_of_a_cleaned_text_is_known_or_a_number(text: str) -> None:
    left = cleaned(text, KNOWN)
    assert cleaned(left, KNOWN) == left or left == ""
    for word in folded(left).replace("-", " ").replace("'", " ").split():
        plain = word.strip(".,;:/()+&%°\"×–_|!?'’")
        parts = [part for part in plain.replace("/", " ").replace(".", " ").split() if part]
        assert all(any(w in part or part[:1].isdigit() for w in vocabulary()) for part in parts)


@given(
    st.sampled_from(
        ["Zweifelsfrei", "adelheid", "MARIA", "Müller", "JÜRGEN", "太郎", "PID-7731-QX", "Oberammerthal"]
    ),
    st.lists(st.sampled_from(sorted(vocabulary() - {"klinikum", "hand"})), max_size=4),
    st.lists(st.sampled_from(["left", "arm", "3", "x", ","]), max_size=3),
)
def test_an_identity_among_known_words_never_stays(
    identity: str, before: list[str], after: list[str]
) -> None:
    left = folded(cleaned(" ".join([*before, identity, *after]), KNOWN))
    assert folded(identity) not in left


@pytest.mark.parametrize(
    "text",
    ["2024-03-12", "20240312", "12.03.2024", "12.3.24", "03/12/2024", "12/03/24", "12 Mar 2024", "March 12th, 2024",
     "12. März 2024", "12 marzo 2024", "12 de marzo de 2024", "12-MAR-24", "2024 Mar 12", "2024:03:12 10:15:30",
     "20240312101530", "120324", "2024年3月12日", "2024년 3월 12일", "令和6年3月12日", "２０２４/０３/１２",
     "٢٠٢٤-٠٣-١٢", "2024_03_12", "2024 03 12", "12 mars 2024"],
)  # fmt: skip
def test_a_day_is_read_in_every_usual_notation(text: str) -> None:
    assert any(date(2024, 3, 12) in readings for _, _, readings in dates_in(folded(f"left {text} arm")))
    assert KNOWN.without(f"Studio {text} camera").replace("10:15:30 ", "") in {"Studio camera", ""}


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.sampled_from(["%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d"]),
)
def test_every_day_is_read(day: date, written: str) -> None:
    assert any(day in readings for _, _, readings in dates_in(day.strftime(written)))


@pytest.mark.parametrize(
    "text", ["Canon EOS 5D Mark IV", "v1.2.3", "Camera Works", "D 500", "Skin of Hand", "1.0.2017"]
)
def test_a_kept_text_without_identity_is_not_touched(text: str) -> None:
    assert KNOWN.without(text) == text


@pytest.mark.parametrize("text", ["Studio Zweifelsfrei", "zweifelsfrei studio", "ZWEIFELSFREI"])
def test_a_kept_text_loses_an_identity(text: str) -> None:
    assert "zweifelsfrei" not in KNOWN.without(text).lower()


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎 camera", "camera"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "太郎 camera", "camera"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田のカメラ", ""),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "TarouYamada camera", "camera"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍길동의 camera", "camera"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "洪吉洞 camera", "camera"),
        ("O'Brien^Seán", "O'Briens OBrien O Brien", "O'Briens O"),
        ("Zweifelsfrei^Adelheid", "AdelheidZweifelsfrei zweifelsfrei01 Adelheids", ""),
        ("Zweifelsfrei^Adelheid", "Zweifel and Adele", "Zweifel and Adele"),
        ("Nagel^Hans", "Nagelneu Hanseatic", "Nagelneu Hanseatic"),
        ("van der Berg^Anna", "vanderBerg camera", "camera"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ヤマダ camera", "camera"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ﾔﾏﾀﾞﾀﾛｳ camera", "camera"),
        ("Zweifelsfrei^Adelheid", "Zwei\u00adfels\u200bfrei \u202ecamera", "camera"),
        ("Zweifelsfrei^Adelheid", "soft\u00adware 1", "soft\u00adware 1"),
        ("Müller^Jürgen", "Mu\u0308ller camera", "camera"),
        ("O'Brien^Seán", "O’Brien camera", "camera"),
        ("محمد^علي", "مُحَمَّد محـمد camera", "camera"),
        ("أحمد^علي", "احمد camera", "camera"),
        ("כהן^דוד", "כֹּהֵן camera", "camera"),
    ],
)
def test_a_kept_text_loses_a_name_run_together_with_what_stands_beside_it(
    name: str, text: str, left: str
) -> None:
    assert Identities.of([name], []).without(text) == left


def test_the_vocabulary_is_words_in_lower_case_and_no_title() -> None:
    assert len(vocabulary()) > 1000
    assert vocabulary().isdisjoint(
        {"dr", "mr", "mrs", "frau", "herr", "prof", "klinikum", "hospital", "smith", "muller"}
    )
    assert all(word == folded(word) and " " not in word for word in vocabulary())
