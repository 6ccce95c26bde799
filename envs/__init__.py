"""The environments that come with puffer_il, a folder each; csrc/env.h says how to write one."""
