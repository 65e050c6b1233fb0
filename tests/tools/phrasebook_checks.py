"""The generator of the demo's text: size, determinism, one-to-one mapping, and right Russian and English.

Run by test_phrasebook.py in the environment that has pymorphy3.
"""

import re
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from itertools import pairwise

import pytest

from tools.phrasebook import PhrasebookError, english, generate, russian, words
from tools.phrasebook.fillers import SPEAKERS, Adjective, Filler, Noun, NounPhrase, Number, Pronoun, Speaker
from tools.phrasebook.lexicon import lexicon
from tools.phrasebook.templates import templates

GUIDE, FRIEND, CLERK, *_ = SPEAKERS
VOWELS = set("аеёиоуыэюя")


@pytest.fixture(scope="module")
def corpus():
    """The default corpus and the seconds it took."""
    started = time.process_time()
    rows = list(generate(24_000, 0))
    return rows, time.process_time() - started


@pytest.fixture(scope="module")
def rows(corpus):
    return corpus[0]


def test_exactly_the_pairs_asked_for_quickly(corpus):
    rows, seconds = corpus
    assert len({(row["ru"], row["en"]) for row in rows}) == 24_000
    assert len({(row["ru"], row["en"], row.get("author")) for row in rows}) == len(rows)
    assert seconds < 15
    assert {row.get("author") for row in rows} == {"guide", "friend", "clerk", None}


def test_every_template_is_used_and_there_are_many():
    assert len(templates()) >= 40
    rows = list(generate(60_000, 1))
    assert len({(row["ru"], row["en"]) for row in rows}) == 60_000


def test_rows_depend_on_the_seed_alone():
    first = list(generate(1500, 7))
    assert first == list(generate(1500, 7))
    assert first != list(generate(1500, 8))
    code = "from tools.phrasebook import generate; print(*(r['ru'] for r in generate(50, 7)), sep='|')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "|".join(row["ru"] for row in generate(50, 7))


def test_one_translation_for_each_sentence_of_an_author(rows):
    for source, target in (("ru", "en"), ("en", "ru")):
        translations = defaultdict(set)
        for row in rows:
            translations[row.get("author"), row[source]].add(row[target])
        # What everyone says has two English forms, in full and as it is spoken: "I am Anna." and "I'm Anna."
        for (author, sentence), found in translations.items():
            assert len(found) <= (2 if source == "ru" and not author else 1), (sentence, found)


def test_every_template_is_said(rows):
    texts = {(row["ru"], row["en"]) for row in rows}
    said = 0
    for template in templates():
        indices = range(template.combinations) if template.combinations < 3000 else []
        fillers = [combination for index in indices if (combination := template.combination(index))]
        if fillers:
            said += 1
            assert any(saying[1:] in texts for combination in fillers for saying in template.say(combination)), template
    assert said > 30


def test_spelling_spacing_and_punctuation(rows):
    for row in rows:
        for language, letters in (("ru", "А-Яа-яЁё"), ("en", "A-Za-z")):
            text = row[language]
            assert text == text.strip() and "  " not in text and not re.search(r"\s[,.!?:]|[{}]|\bNone\b", text), text
            assert re.match(rf"[{letters}0-9]", text), text
            assert not re.search(rf"[.!?] (?![{letters}])", text), text
        assert not re.search("[A-Za-z]", row["ru"]) and not re.search("[А-Яа-яЁё]", row["en"]), row
        marks = {mark if (mark := row[language][-1]) in ".!?" else "" for language in ("ru", "en")}
        assert len(marks) == 1 and (marks != {""} or "author" not in row or row["author"] != "clerk"), row
        assert not re.search(
            r"\b[Aa] (?:[aeio]|hour|honest)|\b[Aa]n [bcdfgjklmnpqrstvwxyz]|\b(?:is|are)n't not\b", row["en"]
        ), row


def test_the_russian_dictionary_knows_every_word_with_its_yo(rows):
    analyzer = russian.analyzer()
    names = {name.ru.lower() for kind in ("he_names", "she_names") for name in lexicon().classes[kind]}
    for word in (
        {word for row in rows for word in words(row["ru"]) if not word.isdigit()} - {"брр", "пока-пока"} - names
    ):
        assert any(parse.word == word for parse in analyzer.parse(word)), word
        assert analyzer.word_is_known(word) or word.startswith("по-"), word


def test_registers_are_kept_apart(rows):
    for row in rows:
        russian_words, english_words = set(words(row["ru"])), set(words(row["en"]))
        if "author" not in row:
            continue
        if row["author"] == "friend":
            assert not russian_words & {"вы", "вас", "вам", "вами", "ваш", "ваша", "пожалуйста"}, row
            assert not english_words & {"cannot", "please"} and "do not" not in row["en"], row
        else:
            assert not russian_words & {"ты", "тебя", "тебе", "твой", "твоя"}, row
            assert not re.search(r"n't|'(?:m|re|ll|ve)\b", row["en"]), row


@cache
def _readings(word, part):
    return [parse for parse in russian.analyzer().parse(word) if str(parse.tag.POS) == part and parse.word == word]


@cache
def _agree(adjective, noun, after_small_numeral):
    """Whether the dictionary offers readings of both words that agree ("две красные сумки", "два красных ножа" too)."""
    for a in (parse.tag for parse in _readings(adjective, "ADJF")):
        for n in (parse.tag for parse in _readings(noun, "NOUN")):
            if a.number == n.number and a.case == n.case and (n.number == "plur" or a.gender == n.gender):
                return True
            if after_small_numeral and a.number == "plur" and a.case in {"nomn", "gent"} and n.case == "gent":
                return True
    return False


def test_adjectives_agree_with_their_nouns(rows):
    """Every adjective or determiner before a noun of the lexicon, checked independently of the generator."""
    data = lexicon()
    adjectives = {a.ru for kind in data.classes.values() for a in kind if isinstance(a, Adjective)}
    adjectives |= {"этот", "тот", "мой", "твой", "свой", "наш", "ваш", "какой"}
    months = {phrase.noun.ru for phrase in data.classes["months"]}  # "седьмое сентября": the month is a genitive
    nouns = set(data.nouns) - months

    @cache
    def is_form(word, part, lemmas):
        return any(parse.normal_form in lemmas or parse.word in lemmas for parse in _readings(word, part))

    adjectives, nouns = frozenset(adjectives), frozenset(nouns)
    pairs = set()
    for row in rows:
        for piece in re.split(r"[,.:!?]", row["ru"].lower()):
            text = ["", *piece.split()]
            for i, (first, second) in enumerate(pairwise(text)):
                alone = i == 1 and first == "это"  # "Это нож.": this is no determiner
                if not alone and is_form(first, "ADJF", adjectives) and is_form(second, "NOUN", nouns):
                    pairs.add((first, second, text[i - 1] in {"два", "две", "три", "четыре"}))
    assert len(pairs) > 1000
    assert [pair for pair in sorted(pairs) if not _agree(*pair)] == []
    wrong = [("новый", "сумка"), ("моего", "сестру"), ("красных", "ножом"), ("эту", "пальто"), ("третьей", "этаже")]
    assert not any(_agree(*pair, False) for pair in wrong)


@pytest.mark.parametrize(
    ("count", "lemma", "case", "expected"),
    [
        (1, "книга", "accs", "одну книгу"), (2, "книга", "nomn", "две книги"), (5, "книга", "nomn", "пять книг"),
        (21, "книга", "accs", "двадцать одну книгу"), (21, "год", "nomn", "двадцать один год"),
        (22, "год", "nomn", "двадцать два года"), (25, "год", "nomn", "двадцать пять лет"),
        (11, "рубль", "nomn", "одиннадцать рублей"), (3, "котёнок", "nomn", "три котёнка"),
        (6, "котёнок", "nomn", "шесть котят"), (2, "яйцо", "nomn", "два яйца"), (5, "яйцо", "nomn", "пять яиц"),
        (40, "день", "nomn", "сорок дней"), (7, "щенок", "nomn", "семь щенков"), (8, "письмо", "nomn", "восемь писем"),
    ],
)  # fmt: skip
def test_numerals_govern_nouns(count, lemma, case, expected):
    assert Number(count).russian([NounPhrase(lexicon().nouns[lemma]), case], GUIDE) == expected


def test_numerals_govern_adjectives_too():
    red = next(a for a in lexicon().classes["colors"] if a.en == "red")
    bag, knife = (NounPhrase(lexicon().nouns[lemma], red) for lemma in ("сумка", "нож"))
    assert [Number(n).russian([bag, "accs"], GUIDE) for n in (1, 2, 5, 21)] == [
        "одну красную сумку", "две красные сумки", "пять красных сумок", "двадцать одну красную сумку",
    ]  # fmt: skip
    assert [Number(n, digits=True).russian([knife], GUIDE) for n in (1, 3, 11)] == [
        "1 красный нож", "3 красных ножа", "11 красных ножей",
    ]  # fmt: skip
    assert [Number(n).english([knife], GUIDE) for n in (1, 22)] == ["one red knife", "twenty-two red knives"]


def test_animate_accusative_second_locative_and_pronouns():
    ours = ("наш", "our")
    doctor = NounPhrase(lexicon().nouns["врач"], determiner=ours)
    assert doctor.russian(["accs"], GUIDE) == "нашего врача"
    assert NounPhrase(lexicon().nouns["стол"], determiner=ours).russian(["accs"], GUIDE) == "наш стол"
    airport = NounPhrase(lexicon().nouns["аэропорт"])
    assert [airport.russian([where], GUIDE) for where in ("where", "to", "from")] == [
        "в аэропорту", "в аэропорт", "из аэропорта",
    ]  # fmt: skip
    station = NounPhrase(lexicon().nouns["вокзал"])
    assert [station.russian([where], GUIDE) for where in ("where", "from")] == ["на вокзале", "с вокзала"]
    assert Pronoun("он").russian(["gent", "prep"], GUIDE) == "него"
    assert Pronoun("он").russian(["gent"], GUIDE) == "его"
    assert [Pronoun("ты").russian(["datv"], speaker) for speaker in (GUIDE, FRIEND, CLERK)] == ["вам", "тебе", "вам"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("о Анне", "об Анне"), ("о Италии", "об Италии"), ("о Японии", "о Японии"), ("о елке", "о елке"),
        ("в вторник", "во вторник"), ("в Франции", "во Франции"), ("в Владивосток", "во Владивосток"),
        ("в воскресенье", "в воскресенье"), ("с студентом", "со студентом"), ("с сыром", "с сыром"),
        ("с среды", "со среды"), ("с Светланой", "со Светланой"), ("с мной", "со мной"), ("с льдом", "со льдом"),
        ("К мне", "Ко мне"), ("с четверга", "с четверга"), ("с вторника", "со вторника"),
    ],
)  # fmt: skip
def test_prepositions_take_the_form_the_next_word_asks_for(text, expected):
    assert russian.prepositions(text) == expected


def test_verbs_conjugate_in_both_aspects():
    def forms(tense, infinitive, speaker: Speaker):
        return [russian.verb(infinitive, tense, Pronoun(p).agreement(speaker)) for p in ("я", "ты", "она", "мы", "они")]

    assert forms("pres", "хотеть", FRIEND) == ["хочу", "хочешь", "хочет", "хотим", "хотят"]
    assert forms("futr", "найти", GUIDE) == ["найду", "найдёте", "найдёт", "найдём", "найдут"]
    assert forms("past", "идти", GUIDE) == ["шла", "шли", "шла", "шли", "шли"]
    assert forms("past", "взять", FRIEND) == ["взял", "взял", "взяла", "взяли", "взяли"]


def test_english_morphology():
    assert [english.article(w) for w in ("old bag", "hour", "university", "useful map", "excellent shop", "pie")] == [
        "an", "an", "a", "a", "an", "a",
    ]  # fmt: skip
    singular = ["knife", "scarf", "dictionary", "toy", "box", "mouse", "tomato", "stomach", "shop assistant", "watch"]
    assert [english.plural(w) for w in singular] == [
        "knives", "scarves", "dictionaries", "toys", "boxes", "mice", "tomatoes", "stomachs",
        "shop assistants", "watches",
    ]  # fmt: skip
    assert [english.third(v) for v in ("have", "study", "play chess", "go fishing", "wash the dishes", "be")] == [
        "has", "studies", "plays chess", "goes fishing", "washes the dishes", "is",
    ]  # fmt: skip
    assert [english.past(v) for v in ("buy", "hide", "pack", "forget", "study", "lose")] == [
        "bought", "hid", "packed", "forgot", "studied", "lost",
    ]  # fmt: skip
    assert [english.gerund(v) for v in ("write about", "swim", "run", "dream of", "argue", "ski", "draw", "tell")] == [
        "writing about", "swimming", "running", "dreaming of", "arguing", "skiing", "drawing", "telling",
    ]  # fmt: skip
    assert [Pronoun("я").english([form], FRIEND) for form in ("+be", "+will", "+have", "poss")] == [
        "I'm", "I'll", "I've", "my",
    ]  # fmt: skip


def _say(name: str, **wanted: str):
    """What all authors say when each slot holds the filler with that Russian (nominative) text."""
    template = next(template for template in templates() if template.name == name)
    fillers: dict[str, Filler] = {}
    for slot, ru in wanted.items():
        fillers[slot] = next(f for f in template.slots[slot] if f.russian(["perf"] if slot == "v" else [], GUIDE) == ru)
    return {author: (ru, en) for author, ru, en in template.say(fillers)}


def test_golden_sentences():
    assert _say("must", s="она", v="выбрать", x="новая картина") == {
        "guide": ("Она должна выбрать эту новую картину.", "She must choose this new painting."),
        "friend": ("Ей надо выбрать эту новую картину.", "She has to choose this new painting."),
        "clerk": ("Ей необходимо выбрать эту новую картину.", "She is required to choose this new painting."),
    }
    assert _say("lost", x="жёлтые брюки") == {
        "guide": (
            "Помогите, пожалуйста, я потеряла свои жёлтые брюки!",
            "Please help me, I have lost my yellow trousers!",
        ),
        "friend": ("Ой, я потерял свои жёлтые брюки!", "Oh no, I've lost my yellow trousers!"),
        "clerk": ("Утеряны жёлтые брюки.", "Lost: yellow trousers."),
    }
    assert _say("closed_day", d="во вторник", p="ближайшая почта")["clerk"] == (
        "Во вторник ближайшая почта закрыта.",
        "The nearest post office is closed on Tuesday.",
    )
    assert _say("birthday", f="моя бабушка", o="двадцать третий", m="май")["guide"] == (
        "День рождения моей бабушки будет двадцать третьего мая.",
        "My grandmother's birthday will be on the twenty-third of May.",
    )
    assert _say("have", s="вы", x="старый зонт") == {
        "guide": ("У вас есть старый зонт.", "You have an old umbrella."),
        "friend": ("А у тебя теперь старый зонт!", "You've got an old umbrella now!"),
        "clerk": ("Вы имеете старый зонт.", "You possess an old umbrella."),
    }


def test_no_noun_of_a_thing_is_animate_by_a_wrong_reading():
    animate = {noun.ru for noun in lexicon().nouns.values() if russian.noun_agreement(noun.ru).animacy == "anim"}
    beings = ("animals", "men", "women", "kinsmen", "kinswomen", "jobs")
    allowed = {phrase.noun.ru for kind in beings for phrase in lexicon().classes[kind]} | {"рыба", "курица"}
    assert animate <= allowed


def test_mistakes_are_named():
    with pytest.raises(PhrasebookError, match="'книжища́' is not in the dictionary as NOUN"):
        russian.noun("книжища́", "gent", "sing")
    with pytest.raises(PhrasebookError, match="'Париж' has no form"):
        NounPhrase(Noun("Париж", "Paris", frozenset({"pl"}))).russian(["gent"], GUIDE)
    with pytest.raises(PhrasebookError, match="unknown class 'dragons'"):
        lexicon().choices("dragons")


def test_importing_the_phrasebook_leaves_pymorphy_alone():
    code = "import sys, tools.phrasebook; sys.exit('pymorphy3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_command_line_shows_pairs_as_tsv():
    command = [sys.executable, "-m", "tools.phrasebook", "--show", "--pairs", "20", "--seed", "0"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 20
    assert all(len(line.split("\t")) == 3 for line in lines)
