"""Change of product while the station runs: the new engine is loaded, proved and warmed beside the old one, then takes over.

Who may ask: the PLC by its word `recipe`, a small file with the number in it, and whoever calls :meth:`RecipeBook.change`. What
happens to the parts meanwhile is told in docs/recipes.md. A new threshold of the bundle that runs is taken in the same way,
between two parts (:mod:`edgead.runtime.products.applied`), and so
is one that the PLC gives (:mod:`edgead.runtime.products.wished`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgead.decision import Rule
from edgead.errors import BadInput, EdgeadError, EngineError
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.selfcheck import SelfCheck
from edgead.runtime.products.applied import WHOLE
from edgead.runtime.products.wished import Wish, Word
from edgead.runtime.threads import Supervised
from edgead.words import told

POLL_S = 0.05
"""How often the PLC's word and the file are looked at."""

RETRY_S = 30.0
"""A recipe that was refused and is still asked for by the PLC is tried again so often: it may have been repaired."""

_log = logging.getLogger("edgead.recipes")


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A recipe's engines, loaded and proved on this device.

    Attributes:
        number: the recipe's.
        main, fallback, check: for :meth:`edgead.runtime.loop.station.Station.change`.
        close: releases the engines; called once, when no part needs them any more.
        asked: what was asked for of its bundle (:func:`edgead.runtime.products.applied.asked`) before it was opened.
    """

    number: int
    main: Answerer
    fallback: Answerer | None = None
    check: SelfCheck | None = None
    close: Callable[[], None] = lambda: None
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Applying:
    """How a :class:`RecipeBook` takes new thresholds (:mod:`edgead.runtime.products.applied`).

    Attributes:
        asked: what is asked for of a recipe's bundle: a text that begins with the digest; "" when nothing is.
        load: of a recipe, the product with the same engines and the bundle's present threshold, which must have that digest; the
            product that runs is given. Raises EdgeadError.
        note: told who judged before and who does from now on.
        take: as `load`, of a bundle that may be another model.
    """

    asked: Callable[[int], str]
    load: Callable[[int, str, Product], Product]
    note: Callable[[Answerer, Answerer], None] = lambda before, after: None
    take: Callable[[int, str, Product], Product] | None = None


@dataclass(frozen=True, slots=True)
class Wishing:
    """How a :class:`RecipeBook` follows the threshold that a PLC gives (:mod:`edgead.runtime.products.wished`).

    Attributes:
        least, most: bounds, raw model units.
        asked: the number that stands there now and whose it is, "the PLC at 10.0.0.9:502"; None: nobody knows.
        load: the running product with this threshold (None: the bundle's own), checked as at a start. Raises EdgeadError.
        note: told who judged before, who does from now on, and who wished it.
    """

    least: float
    most: float
    asked: Callable[[], tuple[float, str] | None]
    load: Callable[[float | None, Product], Product]
    note: Callable[[Answerer, Answerer, str], None] = lambda before, after, who: None


class Changeable(Protocol):
    """What the book works on: a :class:`edgead.runtime.loop.station.Station`."""

    def change(
        self, main: Answerer, fallback: Answerer | None, *, check: SelfCheck | None, retired: Callable[[], None]
    ) -> None: ...

    def notice(self, name: str, text: str) -> None: ...


class Asking(Protocol):
    """A device that may ask for a recipe: a :class:`edgead.runtime.plc.device.PlcDevice`."""

    @property
    def recipe_request(self) -> int: ...

    def set_recipe(self, recipe: int) -> None: ...

    def refuse_recipe(self) -> None: ...


class RecipeBook:
    """Changes the recipe of one station, one change at a time, on a thread of its own between `start` and `close`.

    A change that fails leaves everything as it was, and is told: in the log, by the station's notice "recipe", to the PLC by an
    error, and to whoever called `change`.

    Args:
        station: is changed.
        load: gives a recipe's engines, proved on this device; raises EdgeadError.
        numbers: the recipes that there are, each from 1 to 65535.
        running: what the station runs now; the book closes it when it is replaced, or at the end.
        plc: may ask; as long as it names a recipe (not 0), its word is the only one that counts.
        file: is looked at for a number, when it changes.
        applying: how new thresholds of the running recipe's bundle are taken; None: at the next start.
        wishing: how the PLC's threshold is followed; None: it gives none.

    Raises:
        BadInput: a number that is none.
    """

    def __init__(
        self,
        station: Changeable,
        load: Callable[[int], Product],
        numbers: Collection[int],
        running: Product,
        *,
        plc: Asking | None = None,
        file: Path | None = None,
        applying: Applying | None = None,
        wishing: Wishing | None = None,
    ) -> None:
        alone = set(numbers) == {0} and applying is not None  # one bundle only: there is nothing to change to
        if not alone and not all(1 <= number <= 0xFFFF for number in numbers):
            raise BadInput(f"recipe numbers {sorted(numbers)} are not all in 1..65535")
        self._station, self._load, self._numbers, self._plc, self._file = station, load, frozenset(numbers), plc, file
        self._running = running
        self._old: list[Product] = []  # replaced, but a part may still need them
        self._unused: list[Product] = []
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # one change at a time
        self._refused: tuple[int, int] = (0, 0)  # the PLC's request that failed, and the looks since
        self._seen_file = self._look_at_file()
        self._applying = applying
        self._applied = running.asked
        self._wishing, self._word, self._wished = (
            wishing,
            None if wishing is None else Word(wishing.least, wishing.most),
            "",
        )  # in words: the PLC's threshold that is in force
        self._granted: tuple[str, float] | None = None  # the same, exactly: who gave it, and the number
        self._end = threading.Event()
        self._thread: Supervised | None = None
        if plc is not None:
            plc.set_recipe(running.number)

    @property
    def running(self) -> int:
        """Number of the recipe that answers parts that come now."""
        return self._running.number

    @property
    def product(self) -> Product:
        """What answers parts that come now."""
        return self._running

    def change(self, number: int) -> None:
        """Change to a recipe, or load the running one again (its bundle has changed), in the calling thread.

        Raises:
            BadInput: there is no such recipe, or the PLC asks for another one.
            EdgeadError: it cannot be loaded, or answers otherwise than the trained model. The one before goes on.
        """
        with self._changing:
            self._change(number)

    def start(self) -> RecipeBook:
        """Follow the PLC and the file."""
        self._thread = Supervised("recipes", self._follow, kind=EngineError)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop following and release all engines; the station must not run any more. May be called twice."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            left, self._old, self._unused = [*self._unused, *self._old], [], []
            if self._running not in left:
                left.append(self._running)
        for product in left:
            product.close()

    def __enter__(self) -> RecipeBook:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _change(self, number: int) -> None:
        """Raises EdgeadError; then nothing has changed."""
        try:
            self._check(number)
            product = self._load(number)
            self._take_over(product)
            self._applied = product.asked
        except BaseException as error:
            self._station.notice("recipe", f"recipe {number} was refused, {self.running} goes on: {told(error)}")
            if isinstance(error, EdgeadError):
                raise
            raise EngineError(f"recipe {number} does not load: {error!r}") from error
        self._station.notice("recipe", "")
        if self._plc is not None:
            self._plc.set_recipe(number)
        _log.info("recipe %d runs: %s", number, product.main.name)

    def _check(self, number: int) -> None:
        if number not in self._numbers:
            known = ", ".join(map(str, sorted(self._numbers)))
            raise BadInput(f"there is no recipe {number}", hint=f"there are: {known}")
        wanted = self._plc.recipe_request if self._plc is not None else 0
        if wanted not in (0, number):
            raise BadInput(f"the PLC asks for recipe {wanted}", hint="let it ask for this one, or for none (0)")

    def _take_over(self, product: Product) -> None:
        old = self._running
        with self._lock:
            self._old.append(old)
        try:
            self._station.change(product.main, product.fallback, check=product.check, retired=lambda: self._retire(old))
        except BaseException:
            with self._lock:
                self._old.remove(old)
            product.close()
            raise
        self._running = product

    def _apply(self, applying: Applying) -> None:
        """Take the running recipe's new threshold or bundle, when asked for. A refusal is told, and the one before goes on."""
        with self._changing:
            before, asked = self._running, applying.asked(self.running)
            if asked == self._applied:
                return
            self._applied = asked
            if not asked:
                return
            digest, *more = asked.split()
            whole = WHOLE in more and applying.take is not None
            what, load = (WHOLE, applying.take) if whole else ("threshold", applying.load)
            if whole and digest == before.main.bundle:
                self._station.notice(what, "")
                return
            if self._wished:
                self._refuse(f"{self._wished}, and that decides; let it give 0 for the bundle's own", what)
                return
            try:
                assert load is not None
                product = load(before.number, digest, before)
                self._take_over(product)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the line goes on as it was
                self._refuse(told(error), what)
                return
            self._took(before, product, what)
            applying.note(before.main, product.main)

    def _refuse(self, why: str, what: str = "threshold") -> None:
        level = Rule.of(self._running.main.rule).describe()
        self._station.notice(what, f"a new {what} was refused, the one before goes on ({level}): {why}")

    def _took(self, before: Product, product: Product, what: str = "threshold") -> None:
        self._station.notice(what, "")
        _log.warning(
            "%s",
            f"{product.main.name}: {Rule.of(product.main.rule).describe()} from now on; it was: "
            f"{Rule.of(before.main.rule).describe()}",
        )

    def _follow_word(self, wishing: Wishing) -> None:
        """Take the PLC's threshold, when there is another one to take. A refusal is told, and the one before goes on."""
        assert self._word is not None
        asked = wishing.asked()
        if asked is None or (wish := self._word.look(asked[0])) is None:
            return
        with self._changing:
            self._grant(wishing, wish, asked[1])

    def _grant(self, wishing: Wishing, wish: Wish, who: str) -> None:
        before = self._running
        wished = "" if wish.threshold is None else f"{who} gives the threshold {wish.threshold:g}"
        if wish.fault:
            self._refuse(f"that of {who}: {wish.fault}")
            return
        granted = None if wish.threshold is None else (who, wish.threshold)
        if granted == self._granted:
            self._station.notice("threshold", "")
            return
        try:
            product = wishing.load(wish.threshold, before)
            self._take_over(product)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the line goes on as it was
            self._refuse(f"that of {who}: {told(error)}")
            return
        self._wished, self._granted = wished, granted
        self._took(before, product)
        wishing.note(before.main, product.main, who)

    def _retire(self, product: Product) -> None:
        """By the station's loop: it must not wait."""
        with self._lock:
            self._old.remove(product)
            self._unused.append(product)

    def _follow(self) -> None:
        while not self._end.wait(POLL_S):
            try:
                self._release()
                self._follow_plc()
                self._follow_file()
                if self._applying is not None:
                    self._apply(self._applying)
                if self._wishing is not None:
                    self._follow_word(self._wishing)
            except Exception:  # noqa: BLE001 - without its thread no recipe would ever be changed again
                _log.exception("internal error while changing the recipe")

    def _release(self) -> None:
        with self._lock:
            unused, self._unused = self._unused, []
        for product in unused:
            product.close()

    def _follow_plc(self) -> None:
        if self._plc is None:
            return
        wanted = self._plc.recipe_request
        if wanted in (0, self.running):
            if self._refused[0]:
                self._station.notice("recipe", "")
            self._refused = (0, 0)
            return
        refused, looks = self._refused
        if wanted == refused and looks * POLL_S < RETRY_S:
            self._refused = (refused, looks + 1)
            return
        try:
            with self._changing:
                self._change(wanted)
            self._refused = (0, 0)
        except EdgeadError:  # it is told already
            if wanted != refused:
                self._plc.refuse_recipe()
            self._refused = (wanted, 0)

    def _follow_file(self) -> None:
        if self._file is None or (found := self._look_at_file()) == self._seen_file:
            return
        self._seen_file = found
        if not found:
            return
        try:
            number = number_in(found, self._file)
        except BadInput as error:
            self._station.notice("recipe", f"{told(error)}; {self.running} goes on")
            return
        with suppress(EdgeadError):  # it is told already
            self.change(number)

    def _look_at_file(self) -> str:
        """What stands in it; "" when it is not there."""
        if self._file is None:
            return ""
        try:
            return self._file.read_text("utf-8", "replace")[:100].strip()
        except OSError:
            return ""


def number_in(text: str, file: Path) -> int:
    """The recipe number that a file holds. Raises BadInput."""
    if not (text.isascii() and text.isdecimal()):
        raise BadInput(f"{file} holds {text[:20]!r}, not the number of a recipe", hint="write a number into it, e.g. 2")
    return int(text)
