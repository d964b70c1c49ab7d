"""The commands of ``fastcheck``, one file each; ``fastcheck.cli`` parses and dispatches."""
