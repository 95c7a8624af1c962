"""Cleans texts of what may identify somebody (PS3.15 E.3.5, Clean Descriptors).

Two things are known: the identities of the object at hand, and the words of ``vocabulary.txt``, which say what is
photographed, from where and how. From a text that is to be cleaned the identities and everything that reads as a
date are taken out. Of the rest a sentence stays only if *every* word of it is in the vocabulary or is a short
number: a word nobody knows may be a name. A text that is kept as it is, because the profile says so, loses the
identities alone.

Words are compared without case, accents, vowel signs, width and signs that show nothing, in every script; Hiragana
and Katakana are the same. A name that is also a word of the vocabulary (Hand, Nagel) is taken out where it is this
object's; another person's cannot be told from the word.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property, lru_cache
from importlib.resources import files

MIN_NAME = 3
MIN_WITHIN = 6
MAX_DIGITS = 5
_SHORT = 128

STANDARD_WORDS = frozenset(
    """abdomen anonymous arm axial back black blue body breast chest color colour date default derived digital
    ear elbow eye face female finger foot front full green hand head hip image index knee left leg lossless
    lossy male mixed modified monochrome monochrome1 monochrome2 mouth name neck none nose one original other
    palette palm patient pelvis photo photograph picture primary profile red removed rgb right scalp secondary
    shoulder skin study test thigh thumb time toe trunk unknown unspecified white wrist ybr yes
    zero""".split()  # noqa: SIM905  a list would take sixty lines
)
"""Words that stand in every other object; as a name or a remark they prove nothing."""

_TOKEN = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_WORD = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]{2,}"
)
"""Words of scripts in which a name runs into what follows it: Thai, Lao, Burmese, Khmer, Han, Kana, Hangul."""
_SENTENCE = re.compile(r"([;\r\n]+|[.!?](?=\s|$))")
_PUNCTUATION = frozenset(" ,.;:-/()+&%°'\"×–_|!?\t")
_NUMBER = re.compile(
    r"\d{1,3}|\d{1,2}[.,]\d{1,2}|\d{1,4}(?:mm|cm|nm|x|st|nd|rd|th|h|d|w|min|s|ms|px)|[fx]\d{1,2}"
)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)")


def folded(text: str) -> str:
    """``text`` for comparison: without case, accents and width, every script's digits as 0 to 9.

    Nor does it have what is not seen (soft hyphens, zero-width joiners, marks of direction) or not always written
    (Arabic and Hebrew vowel signs, hamza, tatweel); Katakana is Hiragana, and all apostrophes are one.
    """
    if text.isascii():
        return text.casefold()
    return _folded(text) if len(text) <= _SHORT else _folded.__wrapped__(text)


@lru_cache(4096)
def _folded(text: str) -> str:
    return _unaccented(unicodedata.normalize("NFKC", text).casefold())


def _unaccented(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text).replace("и\u0306", "й")  # a letter of its own, not an accent
    return unicodedata.normalize("NFC", "".join(map(_plain, apart)).translate(_SAME))


def _plain(sign: str) -> str:
    category = unicodedata.category(sign)
    if category == "Cf" or (category == "Mn" and _MARK.match(sign)):
        return ""
    return str(unicodedata.decimal(sign)) if sign.isdecimal() else sign


_MARK = re.compile(r"[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")
"""Accents of Latin, Greek and Cyrillic letters, and the signs that Hebrew and Arabic writing may leave out."""
_SAME = {0x2019: "'", 0x0640: None, **{kana: kana - 0x60 for kana in range(0x30A1, 0x30F7)}}


def _seen(text: str) -> str:
    """``text`` with its signs composed, and without those that split a word for a search but not for a reader."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(
        s for s in composed if unicodedata.category(s) != "Cf" and not _MARK.match(s) and s != "\u0640"
    )


_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar jänner janvier janv enero ene gennaio gen",
            "february feb februar février fevrier fév febrero febbraio",
            "march mar märz maerz mrz mars marzo",
            "april apr avril avr abril abr aprile",
            "may mai mayo maggio mag",
            "june jun juni juin junio giugno giu",
            "july jul juli juillet juil julio luglio lug",
            "august aug août aout agosto ago",
            "september sep sept septembre septiembre settembre set",
            "october oct oktober okt octobre octubre ottobre ott",
            "november nov novembre noviembre",
            "december dec dezember dez décembre decembre déc diciembre dic dicembre",
        ),
        start=1,
    )
    for word in names.split()
    for name in (word, _unaccented(word))
}
_NAMED = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911}
_DATE = re.compile(
    rf"""
    (?<!\d)(?P<era>{"|".join(_ERAS)})\s*(?P<ey>\d{{1,2}}|元)\s*年\s*(?P<em>\d{{1,2}})\s*月\s*(?P<ed>\d{{1,2}})\s*日?
  | (?<!\d)(?P<kd>\d{{4}})\s*[年년]\s*(?P<km>\d{{1,2}})\s*[月월]\s*(?P<kx>\d{{1,2}})\s*[日일]?
  | (?<![\d.])(?P<a>\d{{1,4}})(?P<s>\s?[.\-/_:]\s?|\s)(?P<b>\d{{1,2}})(?P=s)(?P<c>\d{{4}}|\d{{1,2}})(?!\.?\d)
  | (?<!\d)(?P<compact>\d{{8}}|\d{{6}})(?:\d{{2}}|\d{{4}}|\d{{6}})?(?!\d)
  | (?<!\w)(?P<d1>\d{{1,2}})(?:st|nd|rd|th|er|\.)?[\s\-.]*(?:of|de|di)?\s*(?P<n1>{_NAMED})\b[.,]?
    (?:[\s\-]*(?:de|del)?\s*['’]?(?P<y1>\d{{4}}|\d{{2}}))?(?!\d)
  | (?<!\w)(?P<n2>{_NAMED})\b\.?\s*(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s*['’]?(?P<y2>\d{{4}}|\d{{2}}))?(?!\d)
  | (?<!\d)(?P<y3>\d{{4}})[\s\-./]*(?P<n3>{_NAMED})\b(?:[\s\-./]*(?P<d3>\d{{1,2}}))?(?!\d)
  | (?<!\w)(?P<n4>{_NAMED})\b[\s\-./]*(?P<y4>\d{{4}})(?!\d)
    """,
    re.VERBOSE,
)


@cache
def vocabulary() -> frozenset[str]:
    """The words that may stay in a cleaned text, :func:`folded`; read once."""
    lines = files("gateway").joinpath("vocabulary.txt").read_text("utf-8").splitlines()
    return frozenset(folded(word) for line in lines if not line.startswith("#") for word in line.split())


def name_parts(name: str) -> Iterator[str]:
    """A person's name (PS3.5 6.2.1) as it may be found: the whole, its components, their words.

    Family and given name are also found run together, in either order, and where one of them is short, side by side.
    """
    whole = name.rstrip("^= ")
    if len(whole) > MIN_NAME:
        yield whole
    for part in re.split(r"[\^=]", whole):
        if len(part.strip()) >= MIN_NAME:
            yield part.strip()
        if len(part) > MIN_NAME and (" " in part or "-" in part):
            yield "".join(_WORD.findall(part))  # van der Berg, vanderBerg
        for word in _LETTERS.findall(part):
            pieces = re.split("['’]", word)
            yield from (piece for piece in {word, "".join(pieces), *pieces} if len(piece) >= MIN_NAME)
        # An ideographic name has two or three signs and no more.
        if not part.isascii() and len(part.strip()) == 2:
            yield part.strip()
    for group in whole.split("="):
        family, given, *_ = ("".join(_WORD.findall(part)) for part in (group + "^").split("^"))
        if family and given and (len(family + given) > MIN_NAME or is_unspaced(family + given)):
            yield from (family + given, given + family)
            if min(len(family), len(given)) < MIN_NAME:
                yield from (f"{family} {given}", f"{given} {family}")


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script that sets no space behind it, so that it may stand within a longer one."""
    return _UNSPACED.fullmatch(word) is not None


def dates_in(text: str) -> Iterator[tuple[int, int, frozenset[date]]]:
    """Everything in a :func:`folded` text that reads as a date: where it begins and ends, and which days it may mean.

    Days are written in every order, with every usual separator or none, with two or four digits for the year, with
    names of months in six languages, in Chinese, Japanese and Korean, and by Japanese eras.
    """
    for match in _DATE.finditer(text):
        readings = frozenset(_readings(match))
        # Three numbers may be anything; they are a date if they can be one.
        if readings or not (match["a"] or match["compact"]):
            yield match.start(), match.end(), readings


def _readings(match: re.Match[str]) -> Iterator[date]:
    found = match.groupdict()
    if found["era"]:
        year = 1 if found["ey"] == "元" else int(found["ey"])
        yield from _days(str(_ERAS[found["era"]] + year), found["em"], found["ed"])
    elif found["kd"]:
        yield from _days(found["kd"], found["km"], found["kx"])
    elif found["a"]:
        yield from _orders(found["a"], found["b"], found["c"])
    elif found["compact"]:
        digits = found["compact"]
        if len(digits) == 8:
            yield from _days(digits[:4], digits[4:6], digits[6:])
            yield from _orders(digits[:2], digits[2:4], digits[4:])
        else:
            yield from _orders(digits[:2], digits[2:4], digits[4:])
    for number in "123":
        name, day, year_ = found[f"n{number}"], found[f"d{number}"], found[f"y{number}"]
        if name and day and year_:
            yield from _days(year_, str(_MONTHS[name]), day)


def _orders(a: str, b: str, c: str) -> Iterator[date]:
    if len(a) != 3:
        yield from _days(a, b, c)
    if len(a) <= 2:
        yield from _days(c, b, a)
        yield from _days(c, a, b)


def _days(year: str, month: str, day: str) -> Iterator[date]:
    if len(year) not in {2, 4} or len(day) > 2:
        return
    for full in (int(year),) if len(year) == 4 else (1900 + int(year), 2000 + int(year)):
        try:
            found = date(full, int(month), int(day))
        except ValueError:
            continue
        if 1850 <= full <= 2150:
            yield found


@dataclass(frozen=True)
class Identities:
    """What is known to identify somebody in one object.

    Attributes
    ----------
    words
        :func:`folded` words and whole values.
    dates
        The object's own days that may not be told.
    """

    words: frozenset[str]
    dates: frozenset[date] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str], values: Iterable[str], dates: Iterable[date] = ()) -> "Identities":
        """From names of persons and other identifying values; a value counts as a whole and by its words."""
        parts = {folded(part) for name in names for part in name_parts(name)}
        for value in values:
            whole = folded(value.strip())
            parts.add(whole)
            parts.update(_TOKEN.findall(whole))
        parts.discard("")
        return cls(frozenset(parts), frozenset(dates))

    def without(self, text: str) -> str:
        """``text`` that is kept: the same, unless an identity stands in it, which is taken out.

        Words of :data:`STANDARD_WORDS` and words of one or two letters stay; they prove nothing. A word in which a long
        name stands goes as a whole.
        """
        plain = folded(text)
        named = {token for token in _TOKEN.findall(plain) if self._names(token)}
        dated = self.dates and any(readings & self.dates for _, _, readings in dates_in(plain))
        if not named and not dated:
            return text
        if not text.isascii():
            text = _seen(text)
        taken = [(m.start(), m.end()) for m in _TOKEN.finditer(text) if folded(m[0]) in named]
        if dated:
            taken += [
                (start, end) for start, end, readings in dates_in(text.casefold()) if readings & self.dates
            ]
        left = _tidy(_cut(text, taken))
        return left if not any(readings & self.dates for _, _, readings in dates_in(folded(left))) else ""

    def _names(self, token: str) -> bool:
        if token in STANDARD_WORDS:
            return False
        if token in self.words and len(token) >= MIN_NAME:
            return True
        if token.isascii() and len(token) <= MIN_WITHIN:
            return False
        return any(word in token for word in self._within)

    @cached_property
    def _within(self) -> frozenset[str]:
        """Words that name somebody within a longer one as well: in scripts without spaces, and long ones of letters."""
        return frozenset(
            word
            for word in self.words - STANDARD_WORDS
            if is_unspaced(word) or (len(word) >= MIN_WITHIN and word.isalpha())
        )


def cleaned(text: str, identities: Identities, words: frozenset[str] = frozenset()) -> str:
    """What of ``text`` is certain to identify nobody; empty where nothing is.

    Parameters
    ----------
    text
        As it stands in the object.
    identities
        Those of the object.
    words
        Further words that may stay, :func:`folded`.
    """
    text = unicodedata.normalize("NFKC", text)
    plain = text.casefold()
    if len(plain) != len(text):  # some letters fold to two, and places would not agree
        text = plain
    text = _cut(text, [(start, end) for start, end, _ in dates_in(plain)])
    known = vocabulary() | words if words else vocabulary()
    parts = _SENTENCE.split(text)
    kept = [
        sentence + mark
        for part, mark in zip(parts[::2], [*parts[1::2], ""], strict=True)
        if (sentence := _certain(part, identities, known))
    ]
    return _tidy(" ".join(kept) if "\n" not in text else "".join(kept))


def _certain(sentence: str, identities: Identities, known: frozenset[str]) -> str:
    if folded(sentence.strip()) in identities.words:
        return ""
    tokens = list(_TOKEN.finditer(sentence))
    taken = [(t.start(), t.end()) for t in tokens if folded(t[0]) in identities.words]
    left = _cut(sentence, taken)
    rest = [folded(token) for token in _TOKEN.findall(left)]
    if not any(token in known for token in rest) or not all(_is_certain(token, known) for token in rest):
        return ""
    if sum(sign.isdigit() for sign in left) > MAX_DIGITS:
        return ""
    if any(not sign.isalnum() and sign not in _PUNCTUATION for sign in left):
        return ""
    return _tidy(left)


def _is_certain(token: str, known: frozenset[str]) -> bool:
    if token in known or _NUMBER.fullmatch(token):
        return True
    parts = re.split(r"['’.\-]", token)
    return len(parts) > 1 and all(_is_certain(part, known) for part in parts)


def _cut(text: str, spans: Iterable[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]} {text[end:]}"
    return text


def _tidy(text: str) -> str:
    text = _EMPTY_BRACKETS.sub(" ", text)
    lines = (" ".join(line.split()).strip(" ,:-/&+_|") for line in text.splitlines())
    return "\n".join(line for line in lines if line)
