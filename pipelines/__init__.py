"""The pipelines' wiring, and the slipway command."""

from slipway.components.support.libraries.imports import without

# kfp loads the client of Kubernetes, and this, where it can, a schema validator with all its formats.
with without("rfc3987_syntax"):
    import kfp  # noqa: F401
