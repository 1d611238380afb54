"""What the tests of evaluate share."""

from support.gate_world import bundle, registry, splits

__all__ = ["bundle", "registry", "splits"]
