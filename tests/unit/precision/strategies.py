"""Any policy, any request, any gates and pools."""

from hypothesis import strategies as st

from precision.decision import Features, GateState, PriorityClass, TaskSource
from precision.policy import Brownout, ClientRights, Excess, Match, Policy, Rule, Spill
from precision.policy.document import LANGUAGES
from precision.policy.glob import Glob
from precision.profile import Precision
from precision.tasks import Sensitivity, Task
from tests.unit.precision.requests import pool

tasks = st.sampled_from(Task)
precisions = st.sampled_from(Precision)
languages = st.sampled_from(LANGUAGES)
teams = st.sampled_from(["risk", "risk-eu", "chat"])
task_sets = st.frozensets(tasks, max_size=8)

features = st.builds(
    Features,
    tasks,
    st.sampled_from(TaskSource),
    st.floats(0, 1),
    st.integers(0, 20_000),
    st.none() | precisions,
    st.none() | precisions,
    st.none() | st.floats(0, 1),
    model=st.sampled_from(["m", "n"]),
    labels=st.dictionaries(st.just("team"), teams),
    priority=st.sampled_from(PriorityClass),
    language=languages,
)

matches = st.builds(
    Match,
    st.none() | st.frozensets(tasks, min_size=1),
    st.none() | st.frozensets(st.sampled_from(Sensitivity), min_size=1),
    st.none() | st.frozensets(st.sampled_from(["m", "n"]), min_size=1),
    st.none() | st.integers(0, 10_000),
    st.none() | st.integers(5_000, 20_000),
    st.just(()) | st.tuples(st.tuples(st.just("team"), st.sampled_from(["*", "risk*", "*a*"]).map(Glob))),
    st.none() | st.frozensets(st.sampled_from(PriorityClass), min_size=1),
    st.none() | st.frozensets(languages, min_size=1),
)


def rules(number: int) -> st.SearchStrategy[Rule]:
    name = st.just(f"r{number}")
    # Many rules match everything, so that their effects meet.
    match = st.just(Match()) | matches
    return (
        st.builds(Rule, name, match, use=precisions)
        | st.builds(Rule, name, match, at_least=precisions)
        | st.builds(Rule, name, match, forbid=st.frozensets(precisions, min_size=1, max_size=2))
    )


policies = st.builds(
    Policy,
    default_map=st.dictionaries(tasks, precisions),
    rules=st.integers(0, 4).flatmap(lambda count: st.tuples(*(rules(i) for i in range(count)))),
    never_below_fp8=task_sets,
    confidence_threshold=st.floats(0, 1),
    risk_threshold=st.floats(0, 1),
    long_context_tokens=st.integers(1, 20_000),
    allow_uncalibrated_fp4=st.booleans(),
    spill=st.none() | st.builds(Spill, st.floats(0.01, 10), st.integers(1, 2), st.none() | task_sets),
    brownout=st.none() | st.builds(Brownout, task_sets, st.floats(0.01, 10), st.floats(0.01, 10), st.integers(1, 2)),
    client=st.builds(ClientRights, st.booleans(), st.frozensets(precisions), st.sampled_from(Excess)),
)
gates = st.dictionaries(tasks, st.sampled_from(GateState))
pools = st.lists(
    st.builds(pool, precisions, workers=st.integers(0, 2), waiting=st.integers(0, 200), calibrated=st.booleans()),
    unique_by=lambda view: view.precision,
).map(lambda views: {view.precision: view for view in views})
