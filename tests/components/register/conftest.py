"""What the tests of register share."""

from support.gate_world import bundle, registry, splits

__all__ = ["bundle", "registry", "splits"]
