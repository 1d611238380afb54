"""The event loop's own histogram, with prometheus_client's as the oracle."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from slipway.serving.metrics import Distribution

# Where PROMETHEUS_MULTIPROC_DIR is set, as Feast sets it, the library's values outlive their histogram:
# the next one of that name goes on from them.
NUMBERS = itertools.count()
BOUNDS = (0.001, 0.5, 1, 2, 256)


def page(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode().splitlines()
    return [line for line in text if "_created" not in line]


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0, 300) | st.sampled_from(BOUNDS), max_size=30))
def test_it_shows_what_the_library_shows(values: list[float]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    name = f"seconds_{next(NUMBERS)}"
    library = Histogram(name, "text", ["model"], buckets=BOUNDS, registry=theirs).labels("m")
    own = Distribution(name, "text", BOUNDS, {"model": "m"})
    ours.register(own)
    for value in values:
        library.observe(value)
        own.observe(value)
    assert page(ours) == page(theirs)
