"""One run, from the source to the package: the same story for every family."""

import heapq
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import AgentError, BadModel, NotAsGood
from agent.registry.layout import storage, write_atomically
from tools.quantize import auto, html, memory, terminal
from tools.quantize.family import Artifact, Family, LayerError, Recipe, Score
from tools.quantize.goal import Goal, no_recipe
from tools.quantize.machine import machine
from tools.quantize.measure import measure
from tools.quantize.package import Draft, check_identity, check_place, write_package
from tools.quantize.progress import Display
from tools.quantize.report import Figures, Outcome, Report, to_json
from tools.quantize.work import WorkDirectory

MOST_TRIED = 24  # models that `--auto` builds and judges


def quantize(family: Family, goal: Goal, source: str, kind: str) -> Report:
    """Build, judge, report and package. Arguments and errors are those of `prepared`."""
    return prepared(lambda _display: nullcontext(family), goal, source, kind)


def prepared(
    prepare: Callable[[Display], AbstractContextManager[Family]],
    goal: Goal,
    source: str,
    kind: str,
) -> Report:
    """The same, of a family that takes long to make, or that holds something for as long as it is used.

    Args:
        prepare: makes the family, the source and all that its kind of model needs; what takes long,
            an export, is a step of the display that it is given.
        goal: the common options.
        source: what is quantized, as errors and the report call it.
        kind: the family's name, for the report.

    Raises:
        TooLarge: it would not fit into memory.
        BadManifest: the agent would not accept the package's name or version.
        BadRequest: there is no such recipe.
        StorageFailed: the report has no place.
        BadModel: the source is not a model of the family, or a recipe cannot be applied.
        NotAsGood: nothing passed; the report is written, the package is not.
    """
    if goal.out:
        check_place(goal.out)
        check_identity(goal.identity(source))
    if goal.report:
        with storage(goal.report):
            goal.report.mkdir(parents=True, exist_ok=True)
    with Display() as display, ExitStack() as held:
        family = held.enter_context(prepare(display))
        _named(family.recipes(), goal.recipe)
        memory.make_room(family.needs_bytes(), source, display.say)
        work = held.enter_context(WorkDirectory(goal.work, family.key).held())
        if goal.fresh:
            work = work.emptied()
        bench = _Bench(family, work, display, goal.rounds)
        trial = _Trial(bench, goal)
        outcomes = trial.auto() if goal.auto else trial.one()
        report = _report(bench, goal, outcomes, source, kind)
        if goal.out and report.result:
            _package(bench, goal, report, source)
    _publish(report, goal)
    return report


@dataclass(slots=True)
class _Built:
    """A model with the recipe that made it."""

    recipe: Recipe
    artifact: Artifact


#: Size class, place in the family's order, model: the smallest first, then the family's preference.
_Ranked = tuple[int, int, _Built]


@dataclass(slots=True)
class _Bench:
    """Where models are built and judged, each step once."""

    family: Family
    work: WorkDirectory
    display: Display
    rounds: int
    original: Artifact = field(init=False)
    weights: int = field(init=False)
    before: Outcome | None = field(init=False)

    def __post_init__(self) -> None:
        with self.display.step("Reading the original") as progress:
            self.original = self.work.artifact(
                "original", lambda place: self.family.original(place, progress)
            )
        self.weights = self.family.parameters(self.original)
        scores = self.scores("original", self.original) if self.family.comparable else ()
        self.before = (
            Outcome("original", "as it was given", Figures(self.original.size), scores)
            if self.family.comparable
            else None
        )

    def build(self, recipe: Recipe) -> _Built:
        """The recipe's model. Raises BadModel."""
        with self.display.step(f"Building {recipe.name}") as progress:
            artifact = self.work.artifact(
                recipe.name, lambda place: recipe.build(self.original, place, progress)
            )
        return _Built(recipe, artifact)

    def scores(self, name: str, artifact: Artifact) -> tuple[Score, ...]:
        """The metrics by slice."""
        with self.display.step(f"Evaluating {name}") as progress:
            made = self.work.value(
                f"{name}.scores",
                list[Score],
                lambda: list(self.family.evaluate(self.original, artifact, progress)),
            )
        return tuple(made)

    def layers(self, built: _Built) -> tuple[LayerError, ...]:
        """Layers by quantization error."""
        if not self.family.comparable:
            return ()
        with self.display.step(f"Comparing layers of {built.recipe.name}"):
            made = self.work.value(
                f"{built.recipe.name}.layers",
                list[LayerError],
                lambda: list(self.family.worst_layers(self.original, built.artifact)),
            )
        return tuple(made)

    def timed(self, built: _Built) -> tuple[Figures | None, Figures]:
        """What the original, if it is a float model, and the built model cost, measured in turns."""
        models = {"original": self.original} if self.before else {}
        models[built.recipe.name] = built.artifact
        with self.display.step(f"Timing {built.recipe.name}") as progress:
            found = measure(
                {name: (a, self.family.probe(a), self.weights) for name, a in models.items()},
                progress,
                rounds=self.rounds,
            )
        return found.get("original"), found[built.recipe.name]

    def outcome(self, built: _Built) -> Outcome:
        """The built model, evaluated; not timed yet."""
        return Outcome(
            built.recipe.name,
            built.recipe.summary,
            Figures(built.artifact.size, self.weights),
            self.scores(built.recipe.name, built.artifact),
            self.layers(built),
            built.artifact.notes,
        )


@dataclass(slots=True)
class _Trial:
    """Which models are judged, and in which order."""

    bench: _Bench
    goal: Goal

    def one(self) -> list[Outcome]:
        """The recipe that was asked for, whatever its speed."""
        built = self.bench.build(_named(self.bench.family.recipes(), self.goal.recipe))
        return [self._judged(built, tolerate_slower=True)]

    def auto(self) -> list[Outcome]:
        """By size, the smallest first, until one passes; layers that hurt are spared."""
        waiting, outcomes = self._all_built()
        while waiting and len(outcomes) < MOST_TRIED:
            _, place, built = heapq.heappop(waiting)
            outcomes.append(self._judged(built, tolerate_slower=False))
            if not outcomes[-1].rejected:
                break
            if self._lost(outcomes[-1]):
                self._push_sparing(waiting, place, built, outcomes[-1])
        return outcomes

    def _all_built(self) -> tuple[list[_Ranked], list[Outcome]]:
        waiting: list[_Ranked] = []
        refused: list[Outcome] = []
        for place, recipe in enumerate(self.bench.family.recipes()):
            try:
                built = self.bench.build(recipe)
            except BadModel as error:  # another recipe may do
                refused.append(_impossible(recipe, error))
            else:
                heapq.heappush(waiting, (auto.size_class(built.artifact.size), place, built))
        return waiting, refused

    def _push_sparing(
        self, waiting: list[_Ranked], place: int, built: _Built, outcome: Outcome
    ) -> None:
        recipe = built.recipe.sparing(outcome.layers)
        if recipe is not None:
            milder = self.bench.build(recipe)
            heapq.heappush(waiting, (auto.size_class(milder.artifact.size), place, milder))

    def _judged(self, built: _Built, *, tolerate_slower: bool) -> Outcome:
        outcome = self.bench.outcome(built)
        lost = self._lost(outcome)
        if lost and not tolerate_slower:
            return replace(outcome, rejected=lost)  # not worth timing
        before, after = self.bench.timed(built)
        if before and self.bench.before:
            self.bench.before = replace(self.bench.before, figures=before)
        slow = auto.slower(before, after) if before and not tolerate_slower else ""
        return replace(outcome, figures=after, rejected=lost or slow)

    def _lost(self, outcome: Outcome) -> str:
        if self.bench.before is None:
            return ""
        goal = self.goal
        return auto.loss(
            self.bench.before.scores, outcome.scores, goal.max_drop, goal.max_slice_drop
        )


def _named(recipes: Sequence[Recipe], name: str) -> Recipe:
    if not name:
        return recipes[0]
    for recipe in recipes:
        if recipe.name == name:
            return recipe
    raise no_recipe(name, [recipe.name for recipe in recipes])


def _impossible(recipe: Recipe, error: AgentError) -> Outcome:
    return Outcome(recipe.name, recipe.summary, Figures(0), rejected=f"not possible: {error}")


def _report(
    bench: _Bench, goal: Goal, outcomes: Sequence[Outcome], source: str, kind: str
) -> Report:
    passed = [outcome for outcome in outcomes if not outcome.rejected]
    chosen = passed[-1] if passed else None
    probe = bench.family.probe(bench.original)
    return Report(
        source=Path(source).name,
        family=kind,
        machine=machine(),
        data=bench.family.describe(bench.original).data,
        unit=probe.unit,
        original=bench.before,
        tried=tuple(outcomes),
        chosen=chosen.recipe if chosen else "",
        max_drop=str(goal.max_drop) if goal.max_drop else "",
        max_slice_drop=str(goal.max_slice_drop) if goal.max_slice_drop else "",
        warnings=tuple(_warnings(bench.before, chosen)),
    )


def _warnings(before: Outcome | None, chosen: Outcome | None) -> Sequence[str]:
    if before is None:
        return ["Only a quantized model was given: there is no float model to compare it with"]
    if chosen is None:
        return []
    slow = auto.slower(before.figures, chosen.figures)
    return [f"{chosen.recipe} is {slow}"] if slow else []


def _package(bench: _Bench, goal: Goal, report: Report, source: str) -> None:
    outcome = report.result
    assert outcome is not None
    assert goal.out is not None
    artifact = bench.work.kept(outcome.recipe)
    with bench.display.step("Writing the package"):
        draft = Draft(
            goal.identity(source, outcome.summary),
            artifact,
            bench.family.describe(artifact),
            outcome.scores,
            max(1, memory.mib(outcome.figures.peak_memory)),
        )
        manifest = write_package(goal.out, draft)
    bench.display.say(f"{manifest.ref} is in {goal.out}. Sign it: edge-fleet publish {goal.out}")


def _publish(report: Report, goal: Goal) -> None:
    terminal.show(report)
    if goal.report:
        write_atomically(goal.report / "report.json", to_json(report))
        write_atomically(goal.report / "report.html", html.page(report).encode())
        print(f"The report is in {goal.report / 'report.html'}")
    if not report.chosen:
        last = report.tried[-1]
        hint = "Allow more" if goal.auto else "Take another --recipe, allow more, or use --auto"
        raise NotAsGood(last.rejected, where=last.recipe, hint=f"Nothing was packaged. {hint}")
