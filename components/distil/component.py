"""Step 3b, only where there is a teacher: its translations take the place of the text's own, to be learned."""

from kfp import dsl

from components.image import component


@component
def distil(
    corpus: dsl.Input[dsl.Dataset],
    teacher: str,
    config: dict,
    code: str,
    taught: dsl.Output[dsl.Dataset],
    bundle: dsl.Input[dsl.Model] = None,  # Kubeflow's way to say that it may be left out
):
    """Have a teacher translate both sides of every row, through the serving engine.

    Args:
        corpus: The train split; the teacher sees no other.
        teacher: What preflight found of a bundle that is given; empty: the one that this run has trained.
        config: The profile's distillation section (model.config.DistillationConfig), of which beams and keep_original.
        code: Hash of the step's code; part of the cache's key.
        bundle: The bundle that this run has trained; left out where one is given.

    Returns:
        taught: The same rows in the same order, each with its answers, and the corpus card.
    """
    from components.step import step

    with step("distil", code, taught=taught.path):
        from evaluation.distillation import teach
        from evaluation.teacher import opened
        from model.config import DistillationConfig, from_dict

        with opened(teacher, bundle.path if bundle else "") as (there, name):
            card = teach(there, corpus.path, taught.path, from_dict(DistillationConfig, config), name)
        taught.metadata.update(kind=card["kind"], counts=card["counts"])
