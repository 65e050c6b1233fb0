"""The rules that leave rows out of a corpus, in words, and the settings that change them.

Apart from what applies them: a page of results names them, and reads no corpus.
"""

# What to change where a reason takes too many rows.
_SETTINGS = {
    "too_long": "corpus.max_chars",
    "length_ratio": "corpus.max_length_ratio",
    "script": "corpus.min_script_ratio",
    "swapped": "corpus.languages",
    "language": "corpus.max_foreign",
    "malformed": "corpus.max_malformed",
    "heldout_side": "corpus.heldout_rows",
    "held_out_rest": "corpus.heldout_rows, corpus.valid_rows",
    "near_heldout": "corpus.leaks",
    "near_test_set": "corpus.leaks",
    "same_form": "corpus.duplicates",
    "near_duplicate": "corpus.duplicates",
}

# What each rule leaves out, for people.
RULES = {
    "empty": "A side has no text.",
    "too_long": "A side is too long.",
    "length_ratio": "The sides differ too much in length to be translations of each other.",
    "identical": "Both sides are the same.",
    "script": "Too few letters are in the scripts of the language.",
    "swapped": "Each side is in the other's script.",
    "language": "A side is in another language.",
    "malformed": "The row could not be read.",
    "header": "The row names the columns.",
    "test_set": "A side, or a long line, is in a test set.",
    "near_test_set": "A side is near to one in a test set.",
    "heldout_side": "A side is held out.",
    "near_heldout": "A side is near to one that is held out.",
    "held_out_rest": "It stands at the end of a file, where more is held out than was asked for.",
    "duplicates": "The row is there already.",
    "same_form": "A row with the same normal form is there: case, punctuation, ё and numbers may differ.",
    "near_duplicate": "A row that it is near to is there.",
}


def setting_of(rule: str) -> str:
    """The name of the setting that changes how many rows a rule takes; empty where there is none."""
    return _SETTINGS.get(rule, "")
