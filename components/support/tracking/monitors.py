"""What MLflow reads of a machine: CPU, memory, disk, network, GPUs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol


class SystemMonitor(Protocol):
    """A monitor of MLflow's: it collects readings and gives their means by name."""

    def collect_metrics(self) -> None:
        """Reads once."""
        ...

    def aggregate_metrics(self) -> dict[str, float]:
        """The mean of what was read, by metric."""
        ...

    def clear_metrics(self) -> None:
        """Forgets what was read."""
        ...


def system_monitors() -> list[SystemMonitor]:
    """The monitors of this machine; the GPUs' only where there is a driver.

    Raises:
        ImportError: a package that they need is not installed.
    """
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    kinds: list[Callable[[], SystemMonitor]] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    monitors = [kind() for kind in kinds]
    with suppress(ImportError, RuntimeError):  # no NVIDIA driver, or no nvidia-ml-py
        gpu: Callable[[], SystemMonitor] = GPUMonitor
        monitors.append(gpu())
    return monitors
