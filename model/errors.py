"""What an error says for itself."""


class ProjectError(Exception):
    """Base of what is raised on purpose: the message is a sentence for people, who can do something about it."""


def reason(error: BaseException) -> str:
    """The error's type and words on one line; some errors have no words of their own, as a time-out has not."""
    words = " ".join((str(error).strip() or str(error.__cause__ or "")).split())
    return f"{type(error).__name__}: {words}" if words else f"{type(error).__name__}, which gives no reason"
