"""puffer_il: fast imitation learning on PufferLib vector environments."""

__version__ = "0.1.0"
