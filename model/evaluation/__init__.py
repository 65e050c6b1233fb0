"""Measuring variants through the serving engine, judging them, and telling people: evaluate, gate, report.

    from model.evaluation.evaluate import evaluate_bundle
    from model.evaluation.gate import gate, choose
    from model.evaluation.report import render_report, result_table

Nothing is re-exported here, so that the gates and the report import without the engine and without sacrebleu.
"""
