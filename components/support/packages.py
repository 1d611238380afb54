"""What is installed: the environment that a stage ran in, to be kept with what it made."""

from importlib import metadata


def installed_packages() -> dict[str, str]:
    """Installed distributions with their versions, by normalised name, sorted."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return dict(sorted(found.items()))
