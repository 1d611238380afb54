"""The commands that need a cluster, and those that prepare one."""
