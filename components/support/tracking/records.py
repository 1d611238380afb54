"""What the registry answers with."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes:
        name: the model's. version: the number, as text.
        run_id: the run that it came from; empty: none.
    """

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A model in the server's own format: its id, and the URI of its files."""

    model_id: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDataset:
    """Data that a run used.

    Attributes:
        name: of the data. context: what for, as in "training".
        data_hash: content hash of what it was made from; MLflow shows its beginning.
        rows: how many.
    """

    name: str
    context: str
    data_hash: str
    rows: int

    @property
    def digest(self) -> str:
        """The hash's beginning: MLflow holds 36 characters."""
        return self.data_hash[:12]
