"""Greedy or a beam search: how the bundle to publish generates where a request does not say.

Beams become its default where they gain ``gate.min_beam_gain`` chrF as a mean over all test sets and directions, and
where all rows together, in a paired bootstrap (evaluation.paired), are better beyond luck. What they cost stands beside
it: texts per second in the same sets.
"""

from evaluation.figures import decimal, texts_per_second
from evaluation.results import Evaluation, Generation
from model.config import GateConfig

LUCK = 0.05  # a difference is no luck where the chance of that is lower


def generation(evaluation: Evaluation, config: GateConfig) -> Generation:
    """The choice for a bundle that was measured, and why."""
    if config.default_beams:
        return Generation(beams=config.default_beams, why="set by gate.default_beams")
    if evaluation.is_text:
        return Generation()
    search = evaluation.search
    if search is None:
        who = evaluation.variant
        return Generation(why=f"no beams of {who} were measured (evaluation.beams, evaluation.beam_variants)")
    gain, p, wide = search.gain, search.p, f"{search.beams} beams"
    if gain is None or p is None or search.chrf is None or search.plain_chrf is None:
        return Generation(why=f"chrF of {wide} is missing or NaN")
    told = f"{wide} gain {gain:+.2f} chrF as a mean of {len(search.scores)}, p = {p:.3f}{_cost(evaluation)}"
    if gain < config.min_beam_gain - 1e-9:  # met when reached, as the gates' thresholds are
        return Generation(why=f"{told}: less than {config.min_beam_gain:g} (gate.min_beam_gain)")
    if p >= LUCK or search.chrf <= search.plain_chrf:
        return Generation(why=f"{told}: it may be luck")
    return Generation(beams=search.beams, why=told)


def _cost(evaluation: Evaluation) -> str:
    """What a search takes beside greedy, after the sets were translated by both."""
    searched = texts_per_second(evaluation.search.scores if evaluation.search else ())
    greedy = texts_per_second(evaluation.scores)
    if greedy is None or searched is None:
        return ""
    return f"; {decimal(searched)} texts a second, {decimal(greedy)} greedily ({greedy / searched:.1f} times the time)"
