"""A pipeline whose parameters are declared apart from its steps is one to KFP like any other."""

from typing import Any

import pytest
from kfp import dsl

from slipway.pipelines.interface import Channels, pipeline_function

TEXTS = """Adds.

Args:
    left: One number.
    flags: What else
        there is.
"""


@dsl.component(base_image="none", install_kfp_package=False)
def add(left: int, flags: dict) -> int:
    return left


def test_types_defaults_and_texts_arrive_where_a_written_function_has_them() -> None:
    def wire(given: Channels) -> None:
        add(left=given.left, flags=given.flags)

    function = pipeline_function(
        {"left": int, "flags": dict}, TEXTS, {"left": 3, "flags": {}}, wire
    )
    made = dsl.pipeline(name="adding")(function)

    @dsl.pipeline(name="adding")
    def written(left: int = 3, flags: dict = {}) -> None:  # noqa: B006
        """Adds.

        Args:
            left: One number.
            flags: What else
                there is.
        """
        add(left=left, flags=flags)

    assert made.pipeline_spec == written.pipeline_spec
    inputs: Any = made.pipeline_spec.root.input_definitions.parameters
    assert inputs["left"].description == "One number."


def test_a_step_that_asks_for_no_parameter_of_the_pipeline_says_so() -> None:
    def wire(given: Channels) -> None:
        add(left=given.right, flags=given.flags)

    function = pipeline_function(
        {"left": int, "flags": dict}, TEXTS, {"left": 3, "flags": {}}, wire
    )
    with pytest.raises(AttributeError, match="The pipeline has no parameter right"):
        dsl.pipeline(name="adding")(function)
