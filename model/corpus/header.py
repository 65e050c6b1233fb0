"""Whether the first row of a .tsv names its columns: then it is no pair, and may say that their order is another."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What columns are called whatever the languages.
_COLUMNS = """
source target src tgt trg text texts sentence sentences segment phrase string original translation translated
input output lang language quelle ziel satz übersetzung traduction traducción traduzione tradução исходный
оригинал перевод текст источник предложение язык 原文 译文 譯文 訳文 翻译 翻譯 翻訳
"""
# Languages' names in English and in themselves, as CLDR has them.
_NAMES = """
af:afrikaans am:amharic,አማርኛ ar:arabic,العربية,عربي az:azerbaijani,azərbaycan,azərbaycanca ba:bashkir,башҡорт,башҡортса
be:belarusian,беларуская bg:bulgarian,български bn:bangla,bengali,বাংলা bs:bosnian,bosanski ca:catalan,català
cs:czech,čeština,česky cv:chuvash,чӑваш,чӑвашла cy:welsh,cymraeg da:danish,dansk de:german,deutsch el:greek,ελληνικά
en:english eo:esperanto es:spanish,español,castellano et:estonian,eesti eu:basque,euskara fa:persian,farsi,فارسی
fi:finnish,suomi fr:french,français ga:irish,gaeilge gl:galician,galego gu:gujarati,ગુજરાતી he:hebrew,עברית
hi:hindi,हिन्दी,हिंदी hr:croatian,hrvatski hu:hungarian,magyar hy:armenian,հայերեն id:indonesian,indonesia
is:icelandic,íslenska it:italian,italiano ja:japanese,日本語 ka:georgian,ქართული kk:kazakh,қазақ,қазақша km:khmer,ខ្មែរ
kn:kannada,ಕನ್ನಡ ko:korean,한국어 ku:kurdish,kurdî ky:kyrgyz,кыргызча la:latin,latina lo:lao,ລາວ lt:lithuanian,lietuvių
lv:latvian,latviešu mk:macedonian,македонски ml:malayalam,മലയാളം mn:mongolian,монгол mr:marathi,मराठी ms:malay,melayu
mt:maltese,malti my:burmese,မြန်မာ ne:nepali,नेपाली nl:dutch,nederlands no:norwegian,norsk os:ossetic,ossetian,ирон
pa:punjabi,ਪੰਜਾਬੀ pl:polish,polski ps:pashto,پښتو pt:portuguese,português ro:romanian,română ru:russian,русский
sa:sanskrit si:sinhala,සිංහල sk:slovak,slovenčina sl:slovenian,slovene,slovenščina so:somali,soomaali sq:albanian,shqip
sr:serbian,српски,srpski sv:swedish,svenska sw:swahili,kiswahili ta:tamil,தமிழ் te:telugu,తెలుగు tg:tajik,тоҷикӣ
th:thai,ไทย tk:turkmen,türkmen tl:tagalog,filipino tr:turkish,türkçe tt:tatar,татар,татарча ug:uyghur,ئۇيغۇرچە
uk:ukrainian,українська ur:urdu,اردو uz:uzbek,o‘zbek,oʻzbek,o'zbek vi:vietnamese yi:yiddish,ייִדיש
zh:chinese,中文,汉语,漢語 zu:zulu,isizulu
"""
# English in other languages: the one that another's speakers name most.
_ENGLISH = """
engels እንግሊዝኛ الإنجليزية ingilis инглиз англійская английски ইংরেজি engleski anglès angličtina saesneg engelsk
englisch αγγλικά angla inglés inglise ingelesa انگلیسی englanti anglais béarla અંગ્રેજી אנגלית अंग्रेज़ी angol
անգլերեն inggris enska inglese 英語 ინგლისური ağılşın ағылшынша ಇಂಗ್ಲಿಷ್ 영어 îngilîzî англисче anglica anglų
angļu англиски ഇംഗ്ലീഷ് англи इंग्रजी inggeris ingliż angielski انګليسي inglês engleză английский angleščina
ingiriisi anglisht енглески engelska kiingereza ஆங்கிலம் ఇంగ్లీష్ англисӣ อังกฤษ ingilizce i̇ngilizce
англійська انگریزی inglizcha ענגליש 英语 英文
"""
_BY_CODE = {code: set(names.split(",")) for code, _, names in (entry.partition(":") for entry in _NAMES.split())}
_BY_CODE["en"].update(_ENGLISH.split())
_SPLIT = re.compile(r"[\s_\-.:;,/#\"()\[\]{}<>]+")


def header(sides: Sequence[str], languages: Sequence[str]) -> str:
    """ "own" for a row that names its columns, "swapped" where it names the languages the other way round, or ""."""
    words = [_SPLIT.split(side.strip(' \t\r"#([<{_').rstrip(' \t\r")]>}_.:').casefold()) for side in sides]
    if any(not 1 <= len(cell) <= 3 for cell in words) or len(languages) != len(sides):
        return ""
    codes = [re.split("[-_]", code.casefold()) for code in languages]
    names = [{*parts, *_BY_CODE.get(parts[0], ())} for parts in codes]
    own = [not names[i].isdisjoint(cell) for i, cell in enumerate(words)]
    if all(not names[1 - i].isdisjoint(cell) for i, cell in enumerate(words)) and not any(own):
        return "swapped"
    known = set(_COLUMNS.split()).union(*names)
    if all(known.issuperset(cell) for cell in words):
        return "own"
    # A name of the column's own language beside one word: the other language's name in a third, as a rule.
    return "own" if any(own) and all(len(cell) == 1 and cell[0].isalpha() for cell in words) else ""
