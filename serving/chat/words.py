"""What the terminal says, in English and in Russian."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.chat.refusals import in_russian


@dataclass(frozen=True)
class Words:
    """The sentences of one language; ``refusal`` makes one of the service's, which are English."""

    refusal: Callable[[str], str]
    translates: str
    continues: str
    help: str
    leave: str
    unknown: str
    error: str
    stopped: str
    cut: str
    stats: str
    stats_on: str
    stats_off: str
    nothing_set: str
    into: str
    into_other: str
    no_history: str


ENGLISH = Words(
    refusal=str,
    translates="Type a text in {languages}, and it is translated. /help tells more; exit or Ctrl-D leaves.",
    continues="Type the beginning of a text, and the model goes on. /help tells more; exit or Ctrl-D leaves.",
    help="""\
/to en                  translate into en; /to alone: into the other language of the text
/set temperature 0.8    set a parameter; /set temperature: its default again; /set alone: what is set
/stats                  tokens and seconds after each answer, or no longer
/help                   this
exit                    leave, as does Ctrl-D; Ctrl-C stops an answer
Pasted lines are one text. A text that begins with / wants a space before it.
Parameters: {parameters}""",
    leave="exit or Ctrl-D leaves",
    unknown="no such command; /help lists them. A text that begins with / wants a space before it",
    error="error: {sentence}",
    stopped="(stopped)",
    cut="(cut: the translation was longer than it may be, see /set max_tokens)",
    stats="{tokens} tokens, {seconds:.2f} s, {speed:,.0f} tokens per second",
    stats_on="figures after each answer: on",
    stats_off="figures after each answer: off",
    nothing_set="nothing is set: all parameters have their defaults",
    into="translates into {language}",
    into_other="translates into the other language of the text",
    no_history="what is typed is not kept: {reason}",
)
RUSSIAN = Words(
    refusal=in_russian,
    translates="Введите текст ({languages}), и модель его переведёт. Справка: /help; выход: Ctrl-D или слово «выход».",
    continues="Введите начало текста, и модель его продолжит. Справка: /help; выход: Ctrl-D или слово «выход».",
    help="""\
/to en                  переводить на en; /to без языка: на другой язык модели, не на язык текста
/set temperature 0.8    задать параметр; /set temperature: снова по умолчанию; /set: что задано
/stats                  показывать после ответа токены и секунды или больше не показывать
/help                   эта справка
выход                   выйти, как и Ctrl-D; Ctrl-C прерывает ответ
Вставленные строки считаются одним текстом. Перед текстом, который начинается с /, поставьте пробел.
Параметры: {parameters}""",
    leave="выйти: Ctrl-D или слово «выход»",
    unknown="нет такой команды; список: /help. Перед текстом, который начинается с /, поставьте пробел",
    error="ошибка: {sentence}",
    stopped="(прервано)",
    cut="(обрезано: перевод длиннее, чем разрешено, см. /set max_tokens)",
    stats="токенов: {tokens}, секунд: {seconds:.2f}, токенов в секунду: {speed:,.0f}",
    stats_on="цифры после ответа: да",
    stats_off="цифры после ответа: нет",
    nothing_set="ничего не задано: все параметры по умолчанию",
    into="перевод на {language}",
    into_other="перевод на другой язык модели, не на язык текста",
    no_history="введённое не сохраняется: {reason}",
)


def words(environment: Mapping[str, str]) -> Words:
    """The language that a person has chosen for messages: Russian, or English for every other."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((value for name in names if (value := environment.get(name))), "")
    return RUSSIAN if chosen.lower().startswith("ru") else ENGLISH
