"""The model: a bundle in memory, ready to answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from slipway.components.contracts.bundle import MISSING_TIME, ONNX, Bundle, bundle_hash, read_bundle
from slipway.components.contracts.signing.policy import TrustPolicy, Vouched
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.serving.fetch import bundle_folder
from slipway.serving.protocol.rows import RowReader, Rows
from slipway.serving.settings import PredictorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A loaded bundle.

    Attributes:
        name: the served name. version: the served version. model_hash: the bundle's hash.
        bundle: its signature. label: what its answers mean. reader: reads requests for it.
    """

    name: str
    version: str
    model_hash: str
    bundle: Bundle
    label: LabelType
    reader: RowReader
    session: ort.InferenceSession
    inputs: tuple[str, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """What a request may ask for."""
        return tuple(output.name for output in self.label.outputs)

    def predict(self, rows: Rows) -> np.ndarray:
        """The answers: float32 [N] or [N, W], as the kind of label has them."""
        feed: dict[str, np.ndarray] = {}
        for name in self.inputs:
            if name == "numeric":
                feed[name] = rows.numeric.astype(np.float32, order="C")
            elif name == "categorical":
                feed[name] = rows.categorical
            else:
                feed[name] = rows.time
        output, shape = self.bundle.output
        result: np.ndarray = self.session.run([output], feed)[0]
        return result.reshape(-1, *shape)


def load_model(settings: PredictorSettings) -> Model:
    """Loads the bundle that the settings name and asks it one row of missing values.

    Raises:
        SlipwayError: it cannot be fetched, nobody whom the settings trust signed it, it is no bundle,
            its graph cannot be loaded, has other inputs than its signature says, or does not answer as
            its kind of label does.
    """
    policy = TrustPolicy.parse(settings.model_public_keys, settings.model_signers)
    vouched = Vouched(model_hash=settings.model_hash, signed_by=settings.signed_by)
    with bundle_folder(settings) as folder:
        vouched.let_in(folder, policy)
        return _load(folder, settings)


def _load(folder: Path, settings: PredictorSettings) -> Model:
    bundle = read_bundle(folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that spins while it waits would burn a core between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(folder / ONNX), options, providers=_providers())
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise SlipwayError(f"{folder / ONNX} cannot be loaded: {_first_line(error)}") from error
    inputs = tuple(node.name for node in session.get_inputs())
    expected = {
        name
        for name, columns in (
            ("numeric", bundle.numeric),
            ("categorical", bundle.categorical),
            ("time", bundle.time),
        )
        if columns
    }
    output = bundle.output[0]
    if set(inputs) != expected or output not in [node.name for node in session.get_outputs()]:
        raise SlipwayError(
            f"{folder / ONNX} takes {', '.join(inputs)}; its signature asks for"
            f" {', '.join(sorted(expected))} and the output {output}. Train the model again."
        )
    model_hash = bundle_hash(folder)
    model = Model(
        name=settings.model_name or bundle.name,
        version=settings.model_version or model_hash[:12],
        model_hash=model_hash,
        bundle=bundle,
        label=label_type_of(bundle),
        reader=RowReader(
            bundle,
            max_rows=settings.max_rows,
            missing_as_null=settings.missing_features == "null",
        ),
        session=session,
        inputs=inputs,
    )
    _ask(model, folder)
    return model


def _providers() -> list[str]:
    """The GPU first, where this build of onnxruntime and the machine have one."""
    found = set(ort.get_available_providers())
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in found]


def _ask(model: Model, folder: Path) -> None:
    """One row without any value must get a sound answer: the graph handles what is missing."""
    rows = Rows(
        1,
        np.full((1, len(model.bundle.numeric)), np.nan),
        np.full((1, len(model.bundle.categorical)), "", object),
        np.full((1, len(model.bundle.time)), MISSING_TIME, np.int64),
    )
    try:
        answer = model.predict(rows)
    except Exception as error:  # as above
        raise SlipwayError(f"{folder / ONNX} cannot be run: {_first_line(error)}") from error
    if answer.shape != (1, *model.bundle.output[1]) or not model.label.is_sound(answer).all():
        raise SlipwayError(f"{folder / ONNX} answers {answer} to a row of missing values.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
