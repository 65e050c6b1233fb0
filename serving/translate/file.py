"""A file translated into another: whole or not at all, and from where it stopped if it was stopped."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from model.documents import DocumentError, Part, Segment, format_of, read, write
from model.files import sha256_file, write_blocks
from model.progress import Progress
from serving.parameters import AUTO
from serving.translate.journal import Journal
from serving.translate.order import in_order, whole_batches
from serving.translate.texts import Translator

VERSION = 1  # of how a text is translated: another one begins all journals anew


class FileTranslation:
    """A file to be translated.

    Args:
        path: the file; its ending says what it is.
        out: what to write, replaced if it is there; "" is ``guide.en.md`` beside ``guide.md``, which must not be there.
        how: what the translations depend on beside file and bundle: "to", "from", "fields" and whatever else.

    Raises:
        DocumentError: for a type that is not translated, and when the file to write is there.
        OSError: when the file cannot be read.
    """

    def __init__(self, path: Path, out: str, how: dict[str, Any]) -> None:
        format_of(path.name)
        self.path, self.out = path, Path(out) if out else path.with_suffix(f".{how['to']}{path.suffix}")
        if not out and self.out.exists():
            raise DocumentError(f"{self.out}: is there already; remove it, or name the file to write")
        self._how = how
        self._sha256 = sha256_file(path)

    def run(self, translator: Translator) -> None:
        """Translate what is left to do, and write the file in one step; progress is printed.

        Raises:
            DocumentError: when the file is broken, which is found out before anything is translated, and when it has
                been changed meanwhile.
            Busy: when another process does the same.
        """
        sizes = sum(1 for _ in self._texts(translator)), sum(map(len, self._texts(translator)))
        bundle = translator.engine.bundle.identity["sha256"]
        key = {"version": VERSION, "file": self._sha256, "bundle": bundle, **self._how}
        journal = Journal(self.out.with_name(f".{self.out.name}.journal"), key)
        done = False
        try:
            self._translate(translator, journal, *sizes)
            if sha256_file(self.path) != self._sha256:
                raise DocumentError(f"{self.path}: has been changed while it was translated; translate it again")
            write_blocks(self.out, self._blocks(translator, journal))
            done = True
        finally:
            journal.close(done=done)

    def _translate(self, translator: Translator, journal: Journal, count: int, chars: int) -> None:
        progress = Progress("translate", total=chars, every=2.0)
        if journal.count:
            print(f"translate: going on after {journal.count:,} of {count:,} texts, done before", flush=True)
        texts = self._texts(translator)
        progress.skip(sum(len(next(texts)) for _ in range(journal.count)))
        batches = ((batch, sum(map(len, batch))) for batch in whole_batches(texts, len))
        with closing(in_order(batches, lambda batch: (translator(batch[0]), batch[1]))) as results:
            for translations, size in results:
                journal.append(translations)
                progress.advance(size, f"{journal.count:,} of {count:,} texts")

    def _texts(self, translator: Translator) -> Iterator[str]:
        with self.path.open("rb") as stream:
            yield from (part.text for part in self._parts(stream, translator) if isinstance(part, Segment))

    def _blocks(self, translator: Translator, journal: Journal) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            yield from write(self._parts(stream, translator), journal)

    def _parts(self, stream: IO[bytes], translator: Translator) -> Iterator[Part]:
        source = "" if self._how["from"] == AUTO else self._how["from"]
        known, fields = translator.languages, self._how["fields"]
        return read(stream, str(self.path), target=self._how["to"], source=source, languages=known, fields=fields)
