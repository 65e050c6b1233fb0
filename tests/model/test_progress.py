"""Progress lines: few, the last one always, with the time left or with the pace."""

import re

from model.progress import Progress


def test_work_of_a_known_total_tells_its_share_and_its_end(capsys):
    progress = Progress("evaluate", 10, every=3600)
    for done in (1, 4, 9, 10):
        progress.advance(done - progress.done, f"{done} of 10")
    assert capsys.readouterr().out == "evaluate: 10 of 10, 100% done, about 0 s left\n"
    often = Progress("evaluate", 10, every=0)
    often.advance(0, "nothing yet")
    often.advance(5, "half")
    often.advance(1, "more")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "evaluate: half, 50% done"  # a first estimate would be wild
    assert re.fullmatch(r"evaluate: more, 60% done, about \d+ s left", second)


def test_work_of_an_unknown_total_tells_its_pace(capsys):
    progress = Progress("corpus", unit="rows", every=3600)
    progress.advance(1000, "1,000 rows read")
    assert capsys.readouterr().out == ""
    progress.tell("1,000 rows read")
    assert re.fullmatch(r"corpus: 1,000 rows read, [\d,]+ rows/s\n", capsys.readouterr().out)
