"""One TOML per experiment: <env>/<algo>.toml over base.toml. Installed as puffer_il.configs."""
