"""PlatformIO: the project's layout, builds without its registry, `pio test`."""
