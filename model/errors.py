"""What an error says for itself."""


class ProjectError(Exception):
    """Base of what is raised on purpose: the message is a sentence for people, who can do something about it."""


class Terminated(SystemExit):
    """The end of a process that was asked by SIGTERM to end, and has saved what it had to lose.

    Its exit status, 143, is that of one which was ended by the signal: whoever tries again after that does so here.
    """

    def __init__(self, told: str) -> None:
        super().__init__(143)
        self.told = told

    def __str__(self) -> str:
        return self.told


def reason(error: BaseException) -> str:
    """The error's type and words on one line; some errors have no words of their own, as a time-out has not."""
    words = " ".join((str(error).strip() or str(error.__cause__ or "")).split())
    return f"{type(error).__name__}: {words}" if words else f"{type(error).__name__}, which gives no reason"
