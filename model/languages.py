"""Languages and the scripts they are written in: shared by the corpus's cleaning and by serving.

The scripts' letters are Unicode's, the languages' scripts those in use today. A language that is not listed, and whose
code names no script (as ``rus_Cyrl`` does), is not judged by its script: no guess is better than a wrong one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# A script's name, its ISO 15924 code, its letters for use inside a character class, and the languages written in it. A
# further language is a word here; one with several scripts stands in several lines. Kana and Chinese characters, which
# write Japanese together, are a script of their own.
_TABLE = (
    (
        "Latin",
        "Latn",
        "A-Za-zªºÀ-ÖØ-öø-\u02ffᴀ-ᴥᴬ-ᵜᵢ-ᵥᵫ-ᵷᵹ-ᶾḀ-ỿⁱⁿₐ-ₜ\u212a\u212bℲⅎↃↄⱠ-ⱿꜢ-ꞇꞋ-ꟿꬰ-ꭚꭜ-ꭤꭦ-ꭩﬀ-ﬆＡ-Ｚａ-ｚ",
        "aa ace af ak an ast ay az ban bem bi bjn bm br bs bug ca ceb ch cnr co crh cs csb cy da de dsb dyu ee en "
        "eo es et eu ff fi fil fj fo fon fr frp fur fuv fy ga gag gd gl gn gsw gv ha hak haw hmn ho hr hsb ht hu "
        "hz ia id ie ig ik ilo io is it iu jv kaa kab kac kam kbp kea kg ki kj kk kl kmb kmr kr ku kw lad la lb "
        "lg li lij lmo ln lt ltg lu lua luo lus lv mg mh mi min mos ms mt mwl na nan nap nb nd nds ng nl nn no nr "
        "nso nus nv ny oc om pag pam pap pcd pcm pl pms pt qu rm rn ro rom rup rw sc scn sco se sg sh shi sk sl "
        "sm smn sn so sq sr srn ss st su sv sw szl taq tet tk tl tly tn to tpi tr ts tt tum tw ty tzm ug umb uz "
        "ve vec vep vi vls vo vro wa war wo xh yo za zgh zu zza",
    ),
    (
        "Cyrillic",
        "Cyrl",
        "Ѐ-ԯᲀ-ᲈᴫᵸ\u2de0-\u2dffꙀ-\ua69f\ufe2e\ufe2f",
        "ab abq ady alt av az ba be bg bs bua ce chm cnr crh cu cv dar evn gag inh kaa kbd kjh kk koi kpv krc kum "
        "kv ky lbe lez mdf mhr mk mn mrj myv nog os ro ru rue sah sh sr tab tg tk tly tt tyv udm ug uk uz xal",
    ),
    ("Greek", "Grek", "Ͱ-Ͽᴦ-ᴪᵝ-ᵡᵦ-ᵪᶿἀ-ῼ\u2126ꭥ", "el grc pnt"),
    ("Armenian", "Armn", "Ա-ֈﬓ-ﬗ", "hy hyw"),
    ("Georgian", "Geor", "Ⴀ-ჿᲐ-Ჿⴀ-ⴭ", "ka sva xmf"),
    ("Hebrew", "Hebr", "\u0591-\u05f2\ufb1d-\ufb4f", "he iw jpr lad yi"),
    (
        "Arabic",
        "Arab",
        "\u0610-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufefc",
        "acm acq aeb apc ar arq ars ary arz az azb bal ckb fa glk ha kk kmr ks ku ky lrc ms mzn pa pbt pnb prs ps "
        "sd sdh skr tg tk tly ug ur uz",
    ),
    ("Syriac", "Syrc", "\u0710-\u074f\u0860-\u086a", "aii arc syc syr"),
    ("Thaana", "Thaa", "\u0780-\u07b1", "dv"),
    ("Nko", "Nkoo", "\u07ca-\u07fd", "bm dyu nqo"),
    (
        "Devanagari",
        "Deva",
        "\u0900-ॿ\ua8e0-\ua8ff",
        "anp awa bgc bho brx doi gom hi hne kok ks mag mai mr ne new pi sa sat sd",
    ),
    ("Bengali", "Beng", "ঀ-\u09fe", "as bn bpy mni syl"),
    ("Gurmukhi", "Guru", "\u0a01-\u0a75", "pa"),
    ("Gujarati", "Gujr", "\u0a81-\u0aff", "gu"),
    ("Oriya", "Orya", "\u0b01-ୱ", "or"),
    ("Tamil", "Taml", "\u0b82-\u0bd7", "ta"),
    ("Telugu", "Telu", "\u0c00-\u0c63", "te"),
    ("Kannada", "Knda", "ಀ-ೲ", "kn tcy"),
    ("Malayalam", "Mlym", "\u0d00-ൿ", "ml"),
    ("Sinhala", "Sinh", "\u0d81-\u0df3", "si"),
    ("Thai", "Thai", "ก-\u0e4e", "nod th"),
    ("Lao", "Laoo", "ກ-ໟ", "lo"),
    ("Tibetan", "Tibt", "ༀ-\u0fc6", "bo dz"),
    ("Myanmar", "Mymr", "က-\u109dꧠ-ꧾꩠ-ꩿ", "ksw mnw my shn"),
    ("Khmer", "Khmr", "ក-\u17dd", "km"),
    ("Ethiopic", "Ethi", "ሀ-ᎏⶀ-ⷞꬁ-ꬮ", "am gez ti tig"),
    ("Cherokee", "Cher", "Ꭰ-ᏽꭰ-ꮿ", "chr"),
    ("Canadian_Aboriginal", "Cans", "ᐁ-ᙿᢰ-ᣵ", "cr iu oj"),
    ("Mongolian", "Mong", "\u180b-ᢪ", "mn mnc"),
    ("Tifinagh", "Tfng", "ⴰ-\u2d7f", "shi taq tzm zgh"),
    ("Ol_Chiki", "Olck", "ᱚ-ᱽ", "sat"),
    ("Meetei_Mayek", "Mtei", "ꫠ-\uaaf6ꯀ-\uabed", "mni"),
    ("Adlam", "Adlm", "\U0001e900-\U0001e94b", "ff fuv"),
    ("Yi", "Yiii", "ꀀ-ꒌ", "ii"),
    ("Hangul", "Hang", "ᄀ-ᇿ\u302e\u302fㄱ-ㆎꥠ-ꥼ가-ퟻﾠ-ￜ", "ko"),
    ("Han", "Hani", "々-〇〻㐀-鿿\uf900-\ufad9\U00020000-\U000323af", "cdo gan hak hsn lzh nan wuu yue zh"),
    ("Japanese", "Jpan", "々-〇〻ぁ-ゖゝ-ヿㇰ-ㇿ㐀-鿿\uf900-\ufad9ｦ-ｯｱ-ﾝ\U00020000-\U000323af", "ja"),
)
SCRIPTS = {name: letters for name, _, letters, _ in _TABLE}
_BY_SUBTAG = {code.lower(): name for name, code, _, _ in _TABLE}
_BY_SUBTAG |= {"hans": "Han", "hant": "Han", "kore": "Hangul", "hira": "Japanese", "kana": "Japanese"}
_BY_LANGUAGE: dict[str, tuple[str, ...]] = {}
for _name, _, _, _codes in _TABLE:
    for _code in _codes.split():
        _BY_LANGUAGE[_code] = (*_BY_LANGUAGE.get(_code, ()), _name)

# A letter of an alphabet is 1, a syllable's sign 2, a Chinese character 3: in the translations of Django, Sphinx and
# WTForms Chinese has 0.35 characters for one of English, Korean 0.55, Japanese 0.57, every one of 70 alphabetic
# languages 0.76 to 1.32.
_SYLLABLES = "ぁ-ヿㇰ-ㇿｦ-ﾟ" + "".join(
    SCRIPTS[name] for name in ("Hangul", "Ethiopic", "Yi", "Cherokee", "Canadian_Aboriginal")
)
_DENSE = re.compile(f"([{_SYLLABLES}]+)|([{SCRIPTS['Han']}]+)")
_PERHAPS_DENSE = re.compile("[\u1100-\U0010ffff]")  # quick to tell that most texts have nothing to weigh


def scripts(code: str) -> tuple[str, ...]:
    """Names of the scripts of a language code such as ``ru``, ``pt-BR`` or ``sr_Latn``; none when it is not known."""
    language, *subtags = re.split("[-_]", code.lower())
    named = [_BY_SUBTAG[subtag] for subtag in subtags if subtag in _BY_SUBTAG]
    return tuple(named) or _BY_LANGUAGE.get(language, ())


def length(text: str) -> int:
    """The text's length in letters of an alphabet, whatever script it is in: signs that say more count for more."""
    if not _PERHAPS_DENSE.search(text):
        return len(text)
    return len(text) + sum(len(syllables) + 2 * len(chinese) for syllables, chinese in _DENSE.findall(text))


def language_of(text: str, languages: Sequence[str]) -> str | None:
    """Which of the languages a text is written in, by its letters.

    None when they cannot tell: a language's script is not known, the text has no letter of any of them, or as many of
    one as of another, as where two share the script that it is written in.
    """
    written = [scripts(code) for code in languages]
    if not all(written):
        return None
    # A language that has several scripts uses one at a time.
    letters = [max(sum(map(len, _letters(name).findall(text))) for name in names) for names in written]
    best = max(letters)
    return languages[letters.index(best)] if best and letters.count(best) == 1 else None


def script_of(text: str) -> str:
    """Name of the script that most of the text's letters are in, or "no script"."""
    letters = {name: sum(map(len, _letters(name).findall(text))) for name in SCRIPTS}
    best = max(letters, key=lambda name: letters[name])  # the first of equals: Chinese before Japanese
    return best if letters[best] else "no script"


@functools.cache
def _letters(script: str) -> re.Pattern[str]:
    return re.compile(f"[{SCRIPTS[script]}]+")
