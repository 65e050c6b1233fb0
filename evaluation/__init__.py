"""Measuring variants through the serving engine, judging them, and telling people: evaluate, gate, report.

    from evaluation.evaluate import evaluate_bundle
    from evaluation.gate import choose, gate
    from evaluation.report.page import render_report

Nothing is re-exported here, so that the gates and the report import without the engine and without sacrebleu.
"""

from model import environment as environment  # before any library is loaded
