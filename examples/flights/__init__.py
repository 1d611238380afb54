"""The flights example: a project file, its schemas, and the script that lays out the lake."""
